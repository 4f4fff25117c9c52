"""One writer per output: a lock on the file itself, whatever name leads to it."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from magpie_cli.errors import NotFinished
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
    with path.open("rb") as file:
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
    manifest = Manifest.read(paths.manifest)
    return NotFinished(
        f"another magpie is writing to {path}" + (f" (process {manifest.pid})" if manifest else ""),
        "wait for it (--wait-lock 10m), or name another file with -o",
    )
