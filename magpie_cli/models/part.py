"""A model that is still coming: a file that one process fills, and others wait for."""

import asyncio
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from magpie_cli.models.cache import (
    Note,
    cache_errors,
    part_note,
    part_path,
    read_part_note,
    write_json,
)
from magpie_cli.store.disk import sync_folder, write_all

LOCK_SECONDS = 0.2  # between two looks at a file that another process fills
BLOCK = 16 * 1024 * 1024  # bytes that are hashed in one go
MAGIC = b"GGUF"


class Part:
    """`path`'s first `size` bytes, locked for this process. Made by `open_part`.

    `name` is what to type to go on with it.
    """

    def __init__(self, path: Path, fd: int, name: str) -> None:
        self.path = path
        self._name = name
        self._part = part_path(path)
        self._fd = fd
        self.size = 0
        self._hash = hashlib.sha256()

    async def take_stock(self, sha256: str | None, size: int | None) -> None:
        """Keep what is there if it is a part of the file with this checksum; else start over.

        A part of more than `size` bytes is none.
        """
        there = self.on_disk
        same = read_part_note(self._part).get("sha256") == sha256 and (sha256 or self.etag)
        if not same or not there or (size is not None and there > size):
            self.empty(sha256)
            return
        while self.size < there:
            self.size += await asyncio.to_thread(self._hash_block, self.size)

    @property
    def on_disk(self) -> int:
        """How many bytes there are before anybody has taken stock."""
        return os.fstat(self._fd).st_size

    @property
    def etag(self) -> str | None:
        """What a server called the file that the bytes are from, where it has no checksum."""
        etag = read_part_note(self._part).get("etag")
        return etag if isinstance(etag, str) else None

    def empty(self, sha256: str | None, etag: str | None = None) -> None:
        """Start over, with a file that is known by one of the two."""
        with cache_errors(self._part):
            os.ftruncate(self._fd, 0)
        self.size = 0
        self._hash = hashlib.sha256()
        words = {"name": self._name, "sha256": sha256, "etag": etag}
        write_json(part_note(self._part), words)

    def append(self, chunk: bytes) -> None:
        """Raises MagpieError where the disk takes no more; what it took stays."""
        with cache_errors(self._part):
            write_all(self._fd, chunk)
        self._hash.update(chunk)
        self.size += len(chunk)

    @property
    def sha256(self) -> str:
        """Of what is there."""
        return self._hash.hexdigest()

    @property
    def head(self) -> bytes:
        """The first four bytes, or as many of them as there are."""
        return os.pread(self._fd, len(MAGIC), 0)

    def discard(self) -> None:
        """Remove it."""
        with cache_errors(self._part):
            # Its words first: as soon as it is gone, another may begin one with words of its own.
            part_note(self._part).unlink(missing_ok=True)
            self._part.unlink(missing_ok=True)

    async def keep(self, note: Note) -> None:
        """Give it its final name, with its note beside it, in a way that survives a power cut."""
        with cache_errors(self._part):
            await asyncio.to_thread(os.fsync, self._fd)
            note.write(self.path)
            self._part.replace(self.path)
            sync_folder(self.path.parent)
            part_note(self._part).unlink(missing_ok=True)

    def _hash_block(self, offset: int) -> int:
        block = os.pread(self._fd, BLOCK, offset)
        self._hash.update(block)
        return len(block)


@asynccontextmanager
async def open_part(
    path: Path,
    name: str,
    sleep: Callable[[float], Awaitable[None]],
    on_wait: Callable[[int], None],
) -> AsyncIterator[Part]:
    """The part of `path`, which `name` leads to, once no other process has it.

    `on_wait` hears how large it is then. The other process may have finished: look at `path`
    before going on.
    """
    part = part_path(path)
    fd = await _lock(part, sleep, on_wait)
    opened = Part(path, fd, name)
    try:
        yield opened
    finally:
        if not opened.on_disk and _is_still(fd, part):
            opened.discard()
        os.close(fd)


async def _lock(
    part: Path, sleep: Callable[[float], Awaitable[None]], on_wait: Callable[[int], None]
) -> int:
    while True:
        with cache_errors(part):
            part.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(part, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            if _locked(fd) and _is_still(fd, part):
                return fd
        size = os.fstat(fd).st_size
        os.close(fd)
        on_wait(size)
        await sleep(LOCK_SECONDS)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(fd: int, part: Path) -> bool:
    """Whether the name leads to the open file: another process may just have renamed it."""
    try:
        return os.path.samestat(os.fstat(fd), part.stat())
    except FileNotFoundError:
        return False
