"""Files that are there whole or not at all: written under another name, renamed at the end."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from magpie_cli.errors import UsageError
from magpie_cli.store import disk
from magpie_cli.store.append_file import disk_errors
from magpie_cli.store.lock import locked
from magpie_cli.store.paths import OutputPaths, is_stream
from magpie_cli.store.stream import STDOUT
from magpie_cli.terminal import for_terminal

Write = Callable[[bytes], None]


def refuse_existing(path: str) -> None:
    """Raise UsageError where `path`, or what belongs to an output of that name, is there."""
    if is_stream(path):
        return
    paths = OutputPaths.of(path)
    for there in (paths.output, paths.folder):
        if there.exists():
            raise UsageError(
                f"{there} is there already",
                f"name another file, or set it aside as {there}.1 with --fresh",
            )


@contextmanager
def whole_lines(path: str) -> Iterator[Write]:
    """Writes lines to `path`, which has them once the block has ended without an error.

    What is there then is set aside, never overwritten. A stream (`-` is standard output) gets each
    line at once. Raises NotFinished where another magpie does the same, OutputClosed where nobody
    reads the stream any more, MagpieError.
    """
    if is_stream(path):
        with _stream(path) as write:
            yield write
        return
    paths = OutputPaths.of(path)
    new = paths.output.with_name(f"{paths.output.name}.new")
    with locked(new, paths) as file:
        is_whole = False
        try:
            with disk_errors(new):
                file.cut(0)
                yield file.append
                file.sync()
            is_whole = True
        finally:
            if not is_whole:
                new.unlink(missing_ok=True)
        with disk_errors(paths.output):
            _set_aside(paths)
            disk.rename(new, paths.output)


def _set_aside(paths: OutputPaths) -> None:
    """An output of `generate` goes with all that belongs to it, unless a run is writing to it."""
    if paths.folder.exists() and paths.output.exists():
        with locked(paths.output, paths):
            paths.set_aside()
    elif paths.folder.exists():
        paths.set_aside()
    elif paths.output.exists():
        number = 1
        while (old := Path(f"{paths.output}.{number}")).exists():
            number += 1
        disk.rename(paths.output, old)


@contextmanager
def _stream(path: str) -> Iterator[Write]:
    fd = STDOUT
    with disk_errors("the output"):
        if path != "-":
            fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        is_terminal = os.isatty(fd)
        try:
            yield lambda line: disk.write_all(fd, for_terminal(line) if is_terminal else line)
        finally:
            if fd != STDOUT:
                os.close(fd)
