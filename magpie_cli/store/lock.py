"""One writer per output: a lock on the file itself, whatever name leads to it."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from magpie_cli.errors import MagpieError, NotFinished
from magpie_cli.store import disk
from magpie_cli.store.append_file import AppendFile, disk_errors
from magpie_cli.store.manifest import Manifest
from magpie_cli.store.paths import OutputPaths

LOOK_SECONDS = 0.1


@contextmanager
def locked(path: Path, paths: OutputPaths, wait: float = 0.0) -> Iterator[AppendFile]:
    """`path`, locked for this process. Made where it is missing.

    Raises NotFinished where another run has it for longer than `wait` seconds.
    """
    deadline = time.monotonic() + wait
    while True:
        with disk_errors(path):
            file = AppendFile(path)
        sync = False
        try:
            if not file.lock():
                if time.monotonic() < deadline:
                    time.sleep(LOOK_SECONDS)
                    continue
                raise _busy(path, paths)
            if file.is_still_there():  # and was not set aside while this waited
                sync = True
                yield file
                return
        finally:
            with disk_errors(path):
                file.close(sync=sync)


@contextmanager
def at_rest(path: Path, paths: OutputPaths) -> Iterator[None]:
    """Nobody writes to `path` until the block ends. Raises NotFinished where somebody does."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise MagpieError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _busy(path, paths) from error
        yield


def remove_if_empty(file: AppendFile) -> None:
    """Leave no file behind that says nothing."""
    if file.is_still_there() and not os.fstat(file.fd).st_size:
        disk.remove(file.path)


def _busy(path: Path, paths: OutputPaths) -> NotFinished:
    owner = _owner(path)
    if owner is None and (manifest := Manifest.read(paths.manifest)):
        owner = manifest.pid
    return NotFinished(
        f"another magpie is writing to {path}" + (f" (process {owner})" if owner else ""),
        "wait for it (--wait-lock 10m), or name another file with -o",
    )


def _owner(path: Path) -> int | None:
    """The process that has the lock, as Linux knows it; None on other systems.

    The manifest may not be written yet, name an earlier run, or belong to another link.
    """
    try:
        found = path.stat()
        locks = Path("/proc/locks").read_text()
    except OSError:
        return None
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
    for line in locks.splitlines():
        # 1: FLOCK  ADVISORY  WRITE 4321 fe:00:1234567 0 EOF
        words = line.split()
        if words[1] == "FLOCK" and words[5] == f"{device}:{found.st_ino}" and int(words[4]) > 0:
            return int(words[4])
    return None
