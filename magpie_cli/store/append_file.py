"""A file of JSON lines that only grows: whole lines in, a torn end cut off and kept elsewhere."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from magpie_cli.errors import MagpieError, OutputClosed

_ID_FIRST = b'{"id":"'
_BLOCK = 64 * 1024


class AppendFile:
    """Opened for appending, created where it is missing. Not shared between tasks or threads.

    After an error in the middle of a line, the file is cut back to its last whole line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        opened = os.fstat(self._fd)
        self.size = opened.st_size
        self._inode = (opened.st_dev, opened.st_ino)

    def lock(self) -> bool:
        """Take the file for this process, whatever name it was opened by; False if it is taken."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self.size = os.fstat(self._fd).st_size
        return True

    def is_still_there(self) -> bool:
        """Whether the path still leads to the file that was opened."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == self._inode

    def append(self, line: bytes) -> None:
        """Write a whole line. Raises OSError, with nothing of the line left in the file."""
        try:
            write_all(self._fd, line)
        except OSError:
            os.ftruncate(self._fd, self.size)
            raise
        self.size += len(line)

    def heal(self, quarantine: Path) -> None:
        """Cut off what follows the last newline, after copying it to `quarantine`."""
        end = self._last_newline()
        if end == self.size:
            return
        quarantine.mkdir(parents=True, exist_ok=True)
        torn = os.pread(self._fd, self.size - end, end)
        kept = quarantine / f"{self.path.name}.{end}"
        with kept.open("ab") as copy:
            copy.write(torn + b"\n")
            copy.flush()
            os.fsync(copy.fileno())
        os.ftruncate(self._fd, end)
        self.size = end

    def drop(self, is_old: Callable[[str], bool], before: int) -> None:
        """Replace the file by one without the lines in front of `before` whose id is old.

        Removes it if nothing is left. The descriptor then belongs to the old file: only `close`
        may follow.
        """
        new = self.path.with_name(f"{self.path.name}.new")
        offset = 0
        with self.path.open("rb") as lines, new.open("wb") as kept:
            for line in lines:
                if offset >= before or not is_old(id_of(line, str(self.path))):
                    kept.write(line)
                offset += len(line)
            kept.flush()
            os.fsync(kept.fileno())
            left = kept.tell()
        if left:
            new.replace(self.path)
        else:
            new.unlink()
            self.path.unlink()
        sync_folder(self.path.parent)

    def remove_if_empty(self) -> None:
        """Leave no file behind that says nothing."""
        if self.is_still_there() and not os.fstat(self._fd).st_size:
            self.path.unlink()

    def sync(self) -> None:
        """Make every line survive a power cut."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Sync and close; the lock goes with it."""
        try:
            self.sync()
        finally:
            os.close(self._fd)

    def _last_newline(self) -> int:
        """The offset behind the last newline."""
        end = self.size
        while end:
            start = max(0, end - _BLOCK)
            found = os.pread(self._fd, end - start, start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
        return 0


def write_all(fd: int, line: bytes) -> None:
    """A nearly full disk takes a part first and says so only at the next write."""
    rest = memoryview(line)
    while rest:
        rest = rest[os.write(fd, rest) :]


@contextmanager
def disk_errors(path: Path | str) -> Iterator[None]:
    """What the system refuses, as a MagpieError that names the file, or `path` for it."""
    try:
        yield
    except BrokenPipeError as error:
        raise OutputClosed("the reader of the output has gone away") from error
    except OSError as error:
        raise MagpieError(
            f"{error.filename or path} cannot be written: {error.strerror}",
            "mend that and run the same command again; what is done stays done",
        ) from error


def read_ids(path: Path) -> Iterator[str]:
    """The id of each whole line of `path`, by bytes; nothing where there is no such file.

    Raises MagpieError at a line without one.
    """
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    return
                yield id_of(line, f"{path}:{number}")
    except FileNotFoundError:
        return
    except OSError as error:
        raise MagpieError(f"{path} cannot be read: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def id_of(line: bytes, where: str) -> str:
    """The id of a line, read from its first bytes where it stands there as magpie writes it."""
    if line.startswith(_ID_FIRST):
        piece = line[len(_ID_FIRST) : line.find(b'"', len(_ID_FIRST))]
        if b"\\" not in piece:
            return piece.decode("utf-8", "replace")
    try:
        id_ = orjson.loads(line)["id"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise MagpieError(
            f"{where} is not a line of magpie's: it has no id",
            "mend or remove that line, or set the file aside with --fresh",
        ) from error
    return str(id_)
