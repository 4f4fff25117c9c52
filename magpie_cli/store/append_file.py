"""A file of JSON lines that only grows: whole lines in, or nothing of them."""

import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from magpie_cli.errors import MagpieError, OutputClosed
from magpie_cli.store import disk


class AppendFile:
    """Opened for appending, created where it is missing. `size` and `durable` are offsets in bytes.

    Below `durable` everything survives a power cut. Only `sync` may be called from another thread.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = disk.open_append(path)
        opened = os.fstat(self.fd)
        self.size = opened.st_size
        self.durable = 0
        self._inode = (opened.st_dev, opened.st_ino)
        self._error: OSError | None = None
        self._is_closed = False
        self._turn = threading.Lock()

    def lock(self) -> bool:
        """Take the file for this process, whatever name it was opened by; False if it is taken."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self.size = os.fstat(self.fd).st_size
        return True

    def is_still_there(self) -> bool:
        """Whether the path still leads to the file that was opened."""
        try:
            found = os.stat(self.path)  # noqa: PTH116 - for each row: half of what Path takes
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == self._inode

    def append(self, line: bytes) -> None:
        """Write a whole line. Raises OSError, with nothing of the line left in the file."""
        self.refuse_if_broken()
        try:
            disk.write_all(self.fd, line)
        except OSError as error:
            self._broken_by(error)
            self._cut_back(error)
            raise
        self.size += len(line)

    def cut(self, size: int) -> None:
        """Keep the first `size` bytes, and make that survive a power cut."""
        self.refuse_if_broken()
        disk.cut(self.fd, size)
        self.size = size
        self._sync()

    def sync(self) -> None:
        """Make every line so far survive a power cut.

        After an error, that of a full disk too, there is no second try: the kernel may have dropped
        what it could not write, and would say that all is well (https://lwn.net/Articles/752063/).
        """
        with self._turn:
            if self._is_closed:
                return
            self.refuse_if_broken()
            if self.size != self.durable:
                self._sync()

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`. Raises OSError where they are not there."""
        data = b""
        while len(data) < end - start:  # the system gives 2 GB at most
            piece = os.pread(self.fd, end - start - len(data), start + len(data))
            if not piece:
                raise OSError(errno.EIO, "fewer bytes than there were", str(self.path))
            data += piece
        return data

    @property
    def is_broken(self) -> bool:
        """Whether the disk failed: nothing is written to this file any more."""
        return self._error is not None

    def close(self, *, sync: bool = True) -> None:
        """Sync and close; the lock goes with it."""
        try:
            if sync and not self.is_broken:
                self.sync()
        finally:
            with self._turn:
                self._is_closed = True
                os.close(self.fd)

    def _sync(self) -> None:
        size = self.size
        try:
            disk.sync(self.fd)
        except OSError as error:
            self._error = error
            raise
        self.durable = size

    def _cut_back(self, error: OSError) -> None:
        """To the last whole line; where that fails too, nothing may follow what stands there."""
        try:
            disk.cut(self.fd, self.size)
        except OSError:
            self._error = error

    def _broken_by(self, error: OSError) -> None:
        if error.errno not in disk.FULL and not isinstance(error, BrokenPipeError):
            self._error = error

    def refuse_if_broken(self) -> None:
        """Raise the OSError after which nothing is written to this file any more."""
        if self._error:
            raise self._error


@contextmanager
def disk_errors(path: Path | str) -> Iterator[None]:
    """What the system refuses, as a MagpieError that names the file, or `path` for it."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, path) from error


def disk_error(error: OSError, path: Path | str) -> MagpieError:
    """What `error`, of the file it names or of `path`, is to a user."""
    if isinstance(error, BrokenPipeError):
        return OutputClosed("the reader of the output has gone away")
    return MagpieError(
        f"{error.filename or path} cannot be written: {error.strerror}",
        "mend that and run the same command again; what is done stays done",
    )
