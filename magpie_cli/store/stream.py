"""Rows to standard output, a pipe or a device: nothing to lock, nothing to come back to."""

import asyncio
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from magpie_cli.errors import MagpieError, OutputClosed
from magpie_cli.ids import IdSet
from magpie_cli.records import Outcome, Record
from magpie_cli.store.append_file import AppendFile

STDOUT = 1

# JSON escapes the control characters below U+0020 itself; these would reach a terminal.
_TERMINAL_CONTROLS = re.compile(b"\x7f|\xc2[\x80-\x9f]")


class StreamStore:
    """Whole lines, one after another. `failures` go to a file if one is named.

    Writing waits in a thread, so that a slow reader never stalls the requests in flight.
    """

    def __init__(self, fd: int, failures: AppendFile | None) -> None:
        self.done = IdSet()
        self._fd = fd
        self._failures = failures
        self._turn = asyncio.Lock()
        self._escape = os.isatty(fd)
        self._waits = not stat.S_ISREG(os.fstat(fd).st_mode)

    @classmethod
    @contextmanager
    def open(cls, output: str, failures: str | None) -> Iterator["StreamStore"]:
        """The stream `output`, `-` being standard output."""
        fd = STDOUT if output == "-" else os.open(output, os.O_WRONLY | os.O_APPEND)
        file = AppendFile(Path(failures)) if failures else None
        try:
            yield cls(fd, file)
        finally:
            if fd != STDOUT:
                os.close(fd)
            if file:
                file.close()

    async def write(self, outcome: Outcome) -> None:
        """Write one row. Raises OutputClosed where the reader has gone away."""
        if not isinstance(outcome, Record):
            if self._failures:
                self._failures.append(outcome.to_json())
            return
        line = outcome.to_json()
        if self._escape:
            line = _TERMINAL_CONTROLS.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), line)
        if self._waits:
            async with self._turn:
                await asyncio.to_thread(_write_all, self._fd, line)
        else:
            _write_all(self._fd, line)

    def finish(self, expected: int) -> None:
        """Nothing to settle."""


def _write_all(fd: int, line: bytes) -> None:
    rest = memoryview(line)
    try:
        while rest:
            rest = rest[os.write(fd, rest) :]
    except BrokenPipeError as error:
        raise OutputClosed("the reader of the output has gone away") from error
    except OSError as error:
        raise MagpieError(f"the output cannot be written: {error.strerror}") from error
