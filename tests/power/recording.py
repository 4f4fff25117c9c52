"""A disk that remembers each change: stands where `os` does in magpie_cli/store/disk.py.

The real calls are made too, but for the syncs, which are only noted. Time counts the calls.
"""

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

PAGE = 4096  # bytes that reach the disk together, or do not

Image = dict[str, "bytes | Image"]  # what a folder holds


class Version(NamedTuple):
    """What a file held from `time` on; the change touched its pages `first` to `last`."""

    time: int
    data: bytes
    first: int
    last: int


class Inode:
    """A file, whatever its name: `versions` as programs see it, `synced` as it was made durable."""

    def __init__(self, now: int, data: bytes = b"") -> None:
        self.synced: list[tuple[int, bytes]] = [(now, data)]
        self.versions: list[Version] = [Version(now, data, 0, -1)]
        self._is_lossy = False

    @property
    def data(self) -> bytes:
        """What a program reads."""
        return self.versions[-1].data

    def write(self, now: int, data: bytes) -> None:
        """Add at the end."""
        size = len(self.data)
        end = size + len(data)
        self.versions.append(Version(now, self.data + data, size // PAGE, (end - 1) // PAGE))

    def cut(self, now: int, size: int) -> None:
        """Keep the first `size` bytes."""
        last = max(0, len(self.data) - 1) // PAGE
        self.versions.append(Version(now, self.data[:size], size // PAGE, last))

    def sync(self, now: int) -> None:
        """Everything is on the disk, but what a failed sync has dropped and nobody wrote again."""
        data = self.data
        if self._is_lossy:
            since, before = self.synced[-1]
            touched = [version for version in self.versions if version.time > since]
            data = with_pages(before, len(data), dict.fromkeys(pages_of(touched), data))
        self.synced.append((now, data))

    def sync_fails(self, now: int, reached: Callable[[], bool]) -> None:
        """The kernel drops the pages that do not reach the disk, and takes all for clean."""
        since, before = self.synced[-1]
        touched = [version for version in self.versions if version.time > since]
        some = {page: self.data for page in pages_of(touched) if reached()}
        self.synced.append((now, with_pages(before, len(self.data), some)))
        self._is_lossy = True


class Folder:
    """Names: `versions` as programs see them, `synced` the times of its syncs."""

    def __init__(self, now: int, names: "dict[str, Inode | Folder] | None" = None) -> None:
        self.versions: list[tuple[int, dict[str, Inode | Folder]]] = [(now, names or {})]
        self.synced = [now]

    @property
    def names(self) -> "dict[str, Inode | Folder]":
        """What a program finds."""
        return self.versions[-1][1]

    def change(self, now: int, names: "dict[str, Inode | Folder]") -> None:
        """Other names from now on."""
        self.versions.append((now, names))


def pages_of(versions: list[Version]) -> list[int]:
    """The pages that these changes touched."""
    return sorted({page for one in versions for page in range(one.first, one.last + 1)})


def with_pages(before: bytes, size: int, pages: dict[int, bytes]) -> bytes:
    """`before` in `size` bytes, with some pages as they are in other data; zeros where is none."""
    data = bytearray(before[:size].ljust(size, b"\0"))
    for page, source in pages.items():
        start, end = page * PAGE, min(size, page * PAGE + PAGE)
        if start < end:
            data[start:end] = source[start:end].ljust(end - start, b"\0")
    return bytes(data)


@dataclass(slots=True)
class Faults:
    """Which write finds no room, and which sync of a .jsonl fails; counted down, -1 for none."""

    full_in: int = -1
    broken_in: int = -1


@dataclass
class Recording:
    """Changes below the folder `root`, whose contents are those of `image`.

    `busy` are the moments at which a file that is appended to was changed.

    `on_sync` hears the name and the contents of each file that was made durable. `chance` is a
    number from 0 to 1, another one each time.
    """

    root: Path
    image: Image
    chance: Callable[[], float]
    on_sync: Callable[[str, bytes], None] = lambda *_: None
    faults: Faults = field(default_factory=Faults)
    now: int = 0
    busy: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._folders: dict[str, Folder] = {}
        self._open: dict[int, Inode | Folder] = {}
        self._appended: set[Inode] = set()
        self.tree = self._begin(str(self.root), self.image)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: str | Path, flags: int, mode: int = 0o777) -> int:
        """A file, or a folder to be synced."""
        if not flags & os.O_CREAT:
            fd = -1 - len(self._open)
            self._open[fd] = self._folders[str(path)]
            return fd
        folder, name = self._find(path)
        inode = folder.names.get(name)
        fd = os.open(path, flags, mode)
        if inode is None:
            inode = Inode(self._tick())
            folder.change(self.now, {**folder.names, name: inode})
        assert isinstance(inode, Inode)
        if flags & os.O_TRUNC and inode.data:
            inode.cut(self._tick(), 0)
        self._open[fd] = inode
        if flags & os.O_APPEND:
            self._appended.add(inode)
        return fd

    def close(self, fd: int) -> None:
        """Of no account to a disk."""
        del self._open[fd]
        if fd >= 0:
            os.close(fd)

    def write(self, fd: int, data: memoryview) -> int:
        """Now and then only a part of it."""
        inode = self._open[fd]
        assert isinstance(inode, Inode)
        self.faults.full_in -= 1
        if self.faults.full_in == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        is_short = self.faults.full_in == 1 or self.chance() < 0.02
        part = bytes(data[: max(1, int(len(data) * self.chance()))] if is_short else data)
        os.write(fd, part)
        inode.write(self._tick(), part)
        if inode in self._appended:
            self.busy.append(self.now)
        return len(part)

    def ftruncate(self, fd: int, size: int) -> None:
        """Keep the first `size` bytes."""
        inode = self._open[fd]
        assert isinstance(inode, Inode)
        os.ftruncate(fd, size)
        inode.cut(self._tick(), size)
        self.busy.append(self.now)

    def fsync(self, fd: int) -> None:
        """Of a file or of a folder."""
        node = self._open[fd]
        if isinstance(node, Folder):
            node.synced.append(self._tick())
            return
        name = self._name(node)
        is_ours = name.endswith(".jsonl")
        self.faults.broken_in -= is_ours
        if is_ours and self.faults.broken_in == 0:
            node.sync_fails(self._tick(), lambda: self.chance() < 0.5)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        node.sync(self._tick())
        self.on_sync(name, node.synced[-1][1])

    fdatasync = fsync

    def rename(self, path: Path, new: Path) -> None:
        """In the same folder."""
        os.rename(path, new)  # noqa: PTH104 - as disk.py does
        folder, name = self._find(path)
        names = dict(folder.names)
        names[new.name] = names.pop(name)
        folder.change(self._tick(), names)

    def unlink(self, path: Path) -> None:
        """Raises FileNotFoundError."""
        os.unlink(path)  # noqa: PTH108 - as disk.py does
        folder, name = self._find(path)
        folder.change(self._tick(), {key: folder.names[key] for key in folder.names if key != name})

    def mkdir(self, path: Path) -> None:
        """Raises FileExistsError."""
        os.mkdir(path)  # noqa: PTH102 - as disk.py does
        folder, name = self._find(path)
        new = self._folders[str(path)] = Folder(self._tick())
        folder.change(self.now, {**folder.names, name: new})

    def _tick(self) -> int:
        self.now += 1
        return self.now

    def _find(self, path: str | Path) -> tuple[Folder, str]:
        folder, _, name = str(path).rpartition("/")
        return self._folders[folder], name

    def _name(self, inode: Inode) -> str:
        for folder in self._folders.values():
            for name, node in folder.names.items():
                if node is inode:
                    return name
        return ""

    def _begin(self, path: str, image: Image) -> Folder:
        names = {
            name: Inode(0, node) if isinstance(node, bytes) else self._begin(f"{path}/{name}", node)
            for name, node in image.items()
        }
        folder = self._folders[path] = Folder(0, names)
        return folder


def put(image: Image, root: Path) -> None:
    """Make `root` hold `image`, and nothing else."""
    _clear(str(root))
    _put(image, str(root))


def _put(image: Image, folder: str) -> None:
    for name, node in image.items():
        path = f"{folder}/{name}"
        if isinstance(node, bytes):
            fd = os.open(path, os.O_WRONLY | os.O_CREAT)
            os.write(fd, node)
            os.close(fd)
        else:
            os.mkdir(path)  # noqa: PTH102 - thousands a second
            _put(node, path)


def _clear(folder: str) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if stat.S_ISDIR(entry.stat(follow_symlinks=False).st_mode):
                _clear(entry.path)
                os.rmdir(entry.path)  # noqa: PTH106 - thousands a second
            else:
                os.unlink(entry.path)  # noqa: PTH108 - thousands a second
