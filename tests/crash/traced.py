"""Part 2 once more: strace kills the real command, in no way prepared, at each system call."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.conftest import clean_environment
from tests.crash.nursery import PATIENCE, Nursery
from tests.crash.points import UNSYNCED, Points
from tests.crash.scene import FAILURES, OUTPUT, Scene, differences, quiet_run, stage

CALLS = "write,fdatasync,fsync,ftruncate,rename,unlink,mkdir,openat"


def why_not() -> str:
    """Why this cannot be done here, empty if it can."""
    return "" if shutil.which("strace") else "strace is not installed"


def kill_with_strace(nursery: Nursery, scene: Scene = UNSYNCED, every: int = 1) -> Points:
    """Kill the command on entering each call on one of its files, or each `every`-th (I4)."""
    found = Points()
    with stage("traced") as folder:
        quiet = quiet_run(nursery, scene, folder / "quiet")
        for kind, times in _counted(scene, scene.prepare(folder / "counted")).items():
            for number in range(1, times + 1, every):
                life = scene.prepare(folder / "life")
                code = _trace(scene, life, ("-e", f"inject={kind}:signal=KILL:when={number}"))
                if code in (-9, 137):
                    found.kills += 1
                    found.kinds.add(kind)
                last = nursery.run(scene.order(life))
                found.wrong += [
                    f"{kind} {number}: {wrong}" for wrong in differences(life, quiet, last)
                ]
                shutil.rmtree(life)
    return found


def _counted(scene: Scene, folder: Path) -> Counter[str]:
    log = folder.with_name("strace.log")
    _trace(scene, folder, ("-o", str(log)))
    found = re.findall(r"^(?:\d+ +)?(\w+)\(", log.read_text(), re.MULTILINE)
    return Counter(kind for kind in found if kind in CALLS.split(","))


def _trace(scene: Scene, folder: Path, options: Sequence[str]) -> int:
    """The exit code of the command under strace, which sees only its own files."""
    state = folder / f"{OUTPUT}.magpie"
    ours = [folder, folder / OUTPUT, folder / FAILURES, folder / f"{FAILURES}.new", state]
    ours += [state / name for name in ("manifest.json", "manifest.json.new", "turns.log")]
    paths = [word for path in ours for word in ("-P", str(path))]
    silent = () if "-o" in options else ("-o", "/dev/null")
    command = [sys.executable, "-m", "magpie_cli", "generate", "pairs.jsonl"]
    strace = ["strace", "-f", "-qq", *silent, "-e", f"trace={CALLS}", *options, *paths]
    return subprocess.run(
        [*strace, *command, "-o", str(folder / OUTPUT), *scene.options],
        cwd=folder,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    ).returncode
