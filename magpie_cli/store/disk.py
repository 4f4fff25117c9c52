"""Every system call that changes a file of the store: each can fail, or be the last.

What is written survives a crash of magpie at once, and a power cut once it is synced: the bytes by
`sync`, a new or renamed file by the sync of its folder.
"""

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # may pass: somebody makes room

_WRITTEN_AT_ONCE = 1024 * 1024  # bytes


def open_append(path: Path) -> int:
    """A descriptor for reading and appending. A file that was not there is made for good."""
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    if not os.fstat(fd).st_size:
        sync_folder(path.parent)
    return fd


def write_all(fd: int, data: bytes) -> None:
    """A nearly full disk takes a part first and says so only at the next write."""
    done = os.write(fd, data)
    while done < len(data):
        done += os.write(fd, memoryview(data)[done:])


def cut(fd: int, size: int) -> None:
    """Keep the first `size` bytes."""
    os.ftruncate(fd, size)


def sync(fd: int) -> None:
    """Make the bytes of a file survive a power cut."""
    getattr(os, "fdatasync", os.fsync)(fd)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` survive a power cut."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(folder: Path) -> None:
    """`folder`, inside one that is there."""
    try:
        os.mkdir(folder)
    except FileExistsError:
        return
    sync_folder(folder.parent)


def replace(path: Path, data: Iterable[bytes]) -> None:
    """Give `path` new contents, whole or not at all.

    Temporary file, sync, rename, sync of the folder.
    """
    new = path.with_name(f"{path.name}.new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    if path.exists():  # who may read it is its owner's choice
        os.fchmod(fd, stat.S_IMODE(path.stat().st_mode))
    waiting = 0
    block: list[bytes] = []
    is_whole = False
    try:
        for piece in data:
            block.append(piece)
            waiting += len(piece)
            if waiting >= _WRITTEN_AT_ONCE:
                write_all(fd, b"".join(block))
                block, waiting = [], 0
        write_all(fd, b"".join(block))
        os.fsync(fd)
        os.rename(new, path)
        is_whole = True
    finally:
        os.close(fd)
        if not is_whole:
            os.unlink(new)
    sync_folder(path.parent)


def rename(path: Path, new: Path) -> None:
    """Another name in the same folder."""
    os.rename(path, new)
    sync_folder(path.parent)


def remove(path: Path) -> None:
    """No file of that name, whether there was one or not."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    sync_folder(path.parent)
