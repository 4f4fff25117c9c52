"""Where the Dria SDK is not installed, everything else works, and `dria` says what to do."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PAIR, clean_environment

HIDDEN = """
import sys
for name in ("dria", "dria_workflows", "coincurve", "ecies", "Crypto"):
    sys.modules[name] = None  # an import of it fails, as if it were not there
from magpie_cli.cli import main
main()
"""


def without_sdk(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`magpie ARGUMENTS` in `folder`, on a machine without the SDK and what comes with it."""
    (folder / "pairs.jsonl").write_text(json.dumps(PAIR) + "\n")
    return subprocess.run(
        [sys.executable, "-c", HIDDEN, *arguments],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "pairs.jsonl", "--engine", "dria"),
        ("generate", "pairs.jsonl", "--devnet", "-o", "out.jsonl"),
        ("devnet", "--port", "0"),
    ],
    ids=" ".join,
)
def test_what_needs_it_says_so_in_one_sentence(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """The sentence names the Python versions, the hint a way out; nothing is created."""
    done = without_sdk(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    error, hint = done.stderr.splitlines()
    assert "needs the Dria SDK" in error
    assert "does not install on Python 3.12 and later" in error
    assert "--engine dria-inference" in hint
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.jsonl"]


def test_everything_else_works(tmp_path: Path) -> None:
    """Other engines make rows, and doctor says of dria alone that its package is missing."""
    made = without_sdk(tmp_path, "generate", "pairs.jsonl", "--engine", "echo")
    assert made.returncode == 0
    assert json.loads(made.stdout)["engine"] == "echo"
    examined = without_sdk(tmp_path, "doctor", "--json")
    lacks = {each["engine"]: each["lacks"] for each in json.loads(examined.stdout)["engines"]}
    assert "dria is not installed" in lacks["dria"]
    assert lacks["echo"] is None
