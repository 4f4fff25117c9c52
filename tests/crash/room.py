"""Part 3: full disks, by RLIMIT_FSIZE and as a file system that really is full."""

import errno
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.nursery import PATIENCE, Child, Nursery
from tests.crash.scene import OUTPUT, Scene, differences, pairs, quiet_run, stage, whole_lines

_OPTIONS = ("--engine", "echo", "--turns", "2", "-j", "4")
SCENE = Scene(pairs(40), _OPTIONS)
ON_TMPFS = Scene(pairs(40, (30_000, 0, 9_000)), _OPTIONS)
# Their utterances take more room in the turn log than in the rows.
LONG_DIALOGUES = Scene(pairs(4), ("--engine", "echo", "--turns", "40", "-j", "4"))

NO_WAIT = ("--disk-wait", "0")
PAGE = 4096


@dataclass(slots=True)
class Full:
    """How many runs ended for want of room, and what was not as it must be."""

    tried: int = 0
    full: int = 0
    wrong: list[str] = field(default_factory=list)


def fill_by_limit(nursery: Nursery, sizes: int, scene: Scene = SCENE) -> Full:
    """No file may pass a size, from nothing to all of the output; then there is no limit (I4)."""
    found = Full()
    with stage("room") as folder:
        quiet = quiet_run(nursery, scene, folder / "quiet")
        most = (folder / "quiet" / OUTPUT).stat().st_size
        for number in range(sizes):
            life = scene.prepare(folder / "life")
            room = most * number // sizes
            child = nursery.run(scene.order(life, room=room, options=NO_WAIT))
            found.wrong += [f"{room} bytes: {wrong}" for wrong in _check(child, found)]
            kept = whole_lines(life / OUTPUT)
            last = nursery.run(scene.order(life))
            if not (life / OUTPUT).read_bytes().startswith(kept):
                found.wrong.append(f"{room} bytes: I3: rows are gone that were there")
            found.wrong += [f"{room} bytes: {wrong}" for wrong in differences(life, quiet, last)]
            shutil.rmtree(life)
    return found


def why_no_tmpfs() -> str:
    """Why no file system can be mounted here, empty if it can."""
    with stage("tmpfs") as folder, tmpfs(folder, 16 * PAGE) as error:
        return error


def fill_tmpfs(nursery: Nursery, sizes: int, scene: Scene = ON_TMPFS) -> Full:
    """All files of a run share so many pages; then there are more (I4)."""
    found = Full()
    with stage("tmpfs") as folder:
        quiet = quiet_run(nursery, scene, folder / "quiet")
        files = (path for path in (folder / "quiet").rglob("*") if path.is_file())
        needed = sum(path.stat().st_size for path in files)
        first = sum(map(len, scene.lines)) + PAGE
        for number in range(sizes):
            size = first + (needed - first) * number // sizes
            mounted = folder / "mounted"
            mounted.mkdir()
            with tmpfs(mounted, size) as error:
                if error:
                    raise OSError(error)
                life = scene.prepare(mounted / "life")
                child = nursery.run(scene.order(life, options=NO_WAIT))
                found.wrong += [f"{size} bytes: {wrong}" for wrong in _check(child, found)]
                _mount("remount,size=64m", mounted)
                last = nursery.run(scene.order(life))
                found.wrong += [
                    f"{size} bytes: {wrong}" for wrong in differences(life, quiet, last)
                ]
            mounted.rmdir()
    return found


def make_room_later(nursery: Nursery) -> list[str]:
    """A run that waits goes on by itself when room comes; what was not as it must be."""
    with stage("later") as folder:
        quiet = quiet_run(nursery, SCENE, folder / "quiet")
        life = SCENE.prepare(folder / "life")
        room = (folder / "quiet" / OUTPUT).stat().st_size // 2
        child = nursery.start(SCENE.order(life, room=room, options=("--disk-wait", "60")))
        waits = _until(lambda: "waiting: no room" in child.said)
        none = resource.RLIM_INFINITY
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (none, none))
        child.wait()
        wrong = list(differences(life, quiet, child))
    return wrong if waits else [*wrong, f"it did not wait: {child.said}"]


def fill_turn_log(nursery: Nursery) -> list[str]:
    """There is room for all rows, and not for all utterances; what was not as it must be."""
    with stage("turns") as folder:
        quiet = quiet_run(nursery, LONG_DIALOGUES, folder / "quiet")
        rows = (folder / "quiet" / OUTPUT).stat().st_size
        life = LONG_DIALOGUES.prepare(folder / "life")
        child = nursery.start(
            LONG_DIALOGUES.order(life, room=rows, options=(*NO_WAIT, "--echo-delay", "0.003"))
        )
        most = 0
        while not child.has_ended():
            with suppress(FileNotFoundError):
                most = max(most, (life / f"{OUTPUT}.magpie" / "turns.log").stat().st_size)
        child.wait()
        wrong = list(differences(life, quiet, child))
    return wrong if most > 0.9 * rows else [*wrong, f"the turn log had only {most} bytes"]


@contextmanager
def tmpfs(folder: Path, size: int) -> Iterator[str]:
    """A file system of `size` bytes on `folder`; why there is none, if there is none."""
    error = _mount(f"size={-(-size // PAGE) * PAGE}", folder)
    try:
        yield error
    finally:
        if not error:
            subprocess.run(["umount", str(folder)], check=True)


def _mount(options: str, folder: Path) -> str:
    if not shutil.which("mount"):
        return os.strerror(errno.ENOENT)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "magpie", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr.strip() or "it failed" if done.returncode else ""


def _check(child: Child, found: Full) -> Iterator[str]:
    """What a run may not do that finds no room."""
    found.tried += 1
    found.full += child.code == 1
    if "Traceback" in child.said:
        yield f"a traceback: {child.said}"
    if child.code == 1 and not ("cannot be written" in child.said and "hint: " in child.said):
        yield f"it does not say what to do: {child.said}"
    if child.code not in (1, 3):
        yield f"exit {child.code}: {child.said}"


def _until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE / 2
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()
