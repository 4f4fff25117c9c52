"""The tests of the store see what they are there for; python -m tests.power.defects tries all."""

from pathlib import Path

import pytest

from tests.power.defects import ROOT, is_seen
from tests.power.seeded import DEFECTS, SCAN, STORE, TURNS, Defect

pytestmark = pytest.mark.crash

QUICK = [defect for defect in DEFECTS if defect.test.startswith((STORE, SCAN, TURNS))]


@pytest.mark.parametrize("defect", QUICK[::3], ids=lambda defect: str(defect.name))
def test_a_defect_that_is_built_in_is_seen(tmp_path: Path, defect: Defect) -> None:
    """A harness that finds nothing when the code is broken proves nothing."""
    assert is_seen(defect, tmp_path)


def test_every_defect_can_still_be_built_in() -> None:
    """The text that each of them changes stands in the store, once; there are twenty or more."""
    assert len(DEFECTS) >= 20
    for defect in DEFECTS:
        assert (ROOT / "magpie_cli" / defect.file).read_text().count(defect.old) == 1, defect.name
