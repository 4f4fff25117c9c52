"""python -m tests.power.defects [NAME ...]: builds each defect in, and looks who sees it.

A harness that finds nothing when the code is broken proves nothing. Exit 1 if a defect is not seen.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.power.seeded import DEFECTS, Defect

ROOT = Path(__file__).parents[2]


def is_seen(defect: Defect, folder: Path) -> bool:
    """Whether its test fails in `folder`, with a copy of everything that has the defect."""
    for name in ("magpie_cli", "tests"):
        ignore = shutil.ignore_patterns("__pycache__", ".hypothesis")
        shutil.copytree(ROOT / name, folder / name, ignore=ignore, dirs_exist_ok=True)
    shutil.copy(ROOT / "pyproject.toml", folder)
    path = folder / "magpie_cli" / defect.file
    text = path.read_text()
    if text.count(defect.old) != 1:
        raise SystemExit(f"{defect.name}: its text stands {text.count(defect.old)} times in {path}")
    changed = text.replace(defect.old, defect.new)
    compile(changed, path, "exec")
    path.write_text(changed)
    return _fails(folder, defect.test)


def _fails(folder: Path, test: str) -> bool:
    """Whether a test ran and failed; not where it could not even begin."""
    options = ("-x", "-q", "-n", "0", "-p", "no:cacheprovider", "-m", "not fresh")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, test],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode == 1 and re.search(r"\b[1-9]\d* failed", done.stdout) is not None


def main(names: list[str]) -> int:
    """0 where each is seen."""
    seen = True
    for defect in DEFECTS:
        if names and not any(name in defect.name for name in names):
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="defect-") as folder:
            caught = is_seen(defect, Path(folder))
        seen = seen and caught
        verdict = "caught" if caught else "NOT CAUGHT"
        seconds = time.monotonic() - began
        print(f"{verdict:10}  {defect.name}  ({defect.test}, {seconds:.0f} s)", flush=True)  # noqa: T201
    return 0 if seen else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
