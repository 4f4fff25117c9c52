"""README's promise to a fresh machine: one command runs the main job.

That one passes the tests is what CI runs: the very command, with all of them.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import clean_environment, rows_of
from tests.test_readme import ROOT, _block

pytestmark = pytest.mark.fresh


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of this checkout with nothing installed or built in it."""
    copy = tmp_path / "magpie"
    leave = shutil.ignore_patterns(".git", ".venv*", ".*_cache", "__pycache__", "dist", "build")
    shutil.copytree(ROOT, copy, ignore=leave)
    return copy


def _run(command: str, folder: Path) -> None:
    """Run it as a newcomer's shell would, outside this virtual environment."""
    outside = clean_environment()
    here = outside.pop("VIRTUAL_ENV", None)
    path = outside["PATH"].split(os.pathsep)
    if here:
        path = [entry for entry in path if not entry.startswith(here)]
    outside["PATH"] = os.pathsep.join(path)
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=outside,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


def test_one_command_installs_and_runs_the_main_job(checkout: Path) -> None:
    """README's first command, literally: `out.jsonl` holds a dialogue for each example pair."""
    _run(_block("setup: run"), checkout)
    rows = rows_of(checkout / "out.jsonl")
    assert len({row["id"] for row in rows}) == 12
