"""Rows to standard output, a pipe or a device: nothing to lock, nothing to come back to."""

import asyncio
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from magpie_cli.errors import UsageError
from magpie_cli.ids import IdSet
from magpie_cli.records import Failure, Outcome, PersonaPair, Utterance
from magpie_cli.store.append_file import AppendFile, disk_errors
from magpie_cli.store.disk import write_all
from magpie_cli.store.failures import FailedBefore
from magpie_cli.store.scan import read_ids
from magpie_cli.store.turn_log import Begun
from magpie_cli.terminal import for_terminal

STDOUT = 1


class StreamStore:
    """Whole lines, one after another. `failures` go to a file if one is named.

    Writing waits in a thread, so that a slow reader never stalls the requests in flight.
    """

    def __init__(
        self, fd: int, failures: AppendFile | None, redact: Callable[[bytes], bytes]
    ) -> None:
        self.set_aside = None
        self.done = IdSet()
        self.failed = FailedBefore()
        self._fd = fd
        self._failures = failures
        self._redact = redact
        self._turn = asyncio.Lock()
        self._is_terminal = os.isatty(fd)
        self._is_file = stat.S_ISREG(os.fstat(fd).st_mode)

    @classmethod
    @contextmanager
    def open(
        cls, output: str, failures: str | None, redact: Callable[[bytes], bytes] = bytes
    ) -> Iterator["StreamStore"]:
        """The stream `output`, `-` being standard output."""
        with ExitStack() as stack:
            file = None
            if failures:
                _refuse_foreign(Path(failures))
                stack.enter_context(disk_errors(failures))
                file = AppendFile(Path(failures))
                stack.callback(file.close)
            fd = STDOUT
            if output != "-":
                with disk_errors(output):
                    fd = os.open(output, os.O_WRONLY | os.O_APPEND)
                stack.callback(os.close, fd)
            yield cls(fd, file, redact)

    def begin(
        self,
        id_: str,  # noqa: ARG002
        pair: PersonaPair,  # noqa: ARG002
        num_turns: int,  # noqa: ARG002
        columns: Iterable[object] = (),  # noqa: ARG002
    ) -> Begun:
        """Nothing: a stream cannot be come back to."""
        return Begun(0)

    def heard(self, id_: str, utterance: Utterance) -> None:
        """Nothing is kept but whole rows."""

    async def write(self, outcome: Outcome) -> None:
        """Write one row. Raises OutputClosed where the reader has gone away."""
        line = self._redact(outcome.to_json())
        if isinstance(outcome, Failure):
            if self._failures:
                with disk_errors(self._failures.path):
                    self._failures.append(line)
            return
        if self._is_terminal:
            line = for_terminal(line)
        with disk_errors("the output"):
            if self._is_file:
                _append(self._fd, line)
            else:
                async with self._turn:
                    await asyncio.to_thread(write_all, self._fd, line)

    def finish(self, expected: int, tried: IdSet, passed_over: IdSet) -> None:
        """Nothing to settle."""


def _refuse_foreign(failures: Path) -> None:
    """Raise where the file holds what are no failures; a torn last line is for whoever made it."""
    last = b"\n"
    if failures.exists() and failures.stat().st_size:
        with failures.open("rb") as lines:
            lines.seek(-1, os.SEEK_END)
            last = lines.read()
    if last != b"\n":
        raise UsageError(f"{failures} does not end in a whole line", "name another --failures")
    for _ in read_ids(failures):
        return


def _append(fd: int, line: bytes) -> None:
    """Add a whole line to a file that a shell opened for us, or nothing of it."""
    before = os.fstat(fd).st_size
    try:
        write_all(fd, line)
    except OSError:
        os.ftruncate(fd, before)
        os.lseek(fd, before, os.SEEK_SET)  # the shell writes on from there
        raise
