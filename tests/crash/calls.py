"""What stands between disk.py and the system in a process that is to be disturbed.

It counts each call that changes a file, names it in a log, and lets a fault befall the k-th. This
replaces disk.py's `os`, no code of ours: the calls below it are the system's own.
"""

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from magpie_cli.store import disk

Where = Literal["before", "middle", "after"]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Fault:
    """Befalls the call `number`, counted from 1 over those of `kind` on files called `name`.

    Empty words mean any. SIGKILL comes before or after the call, or in the middle of a write, half
    of whose bytes are then in the file. With `error`, the call raises that instead, and takes half
    of a write first where `where` is the middle.
    """

    number: int
    where: Where = "before"
    kind: str = ""
    name: str = ""
    error: int = 0


class Call(NamedTuple):
    """A line of the log: `file` is the name and, behind a #, which opening of it."""

    kind: str
    file: str
    has_fault: bool

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.file.partition("#")[0]


def read_log(path: Path) -> list[Call]:
    """The calls of one process, in their order."""
    rows = [line.split() for line in path.read_text().splitlines()]
    return [Call(kind, file, mark == "!") for mark, kind, file in rows]


def stand_between(log: str, fault: Fault | None) -> None:
    """From now on every call of disk.py in this process comes by here."""
    disk.os = _Calls(log, fault)  # type: ignore[assignment,attr-defined] # a stand-in


class _Calls:
    """As the module `os`."""

    def __init__(self, log: str, fault: Fault | None) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._fault = fault
        self._count = 0
        self._opened = 0
        self._files: dict[int, str] = {}
        self._turn = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        """Counts where it may make a file."""
        self._opened += 1
        file = f"{path.name or '.'}#{self._opened}"

        def call() -> int:
            return os.open(path, flags, mode)

        descriptor = self._call("open", file, call) if flags & os.O_CREAT else call()
        self._files[descriptor] = file
        return descriptor

    def write(self, fd: int, data: memoryview) -> int:
        """Can be cut in its middle."""

        def half() -> int:
            return os.write(fd, data[: len(data) // 2])

        return self._call("write", self._files[fd], lambda: os.write(fd, data), half)

    def fsync(self, fd: int) -> None:
        """Counts."""
        self._call("fsync", self._files[fd], lambda: os.fsync(fd))

    def fdatasync(self, fd: int) -> None:
        """Counts."""
        self._call("fdatasync", self._files[fd], lambda: os.fdatasync(fd))

    def ftruncate(self, fd: int, size: int) -> None:
        """Counts."""
        self._call("ftruncate", self._files[fd], lambda: os.ftruncate(fd, size))

    def rename(self, path: Path, new: Path) -> None:
        """Counts."""
        self._call("rename", path.name, lambda: path.rename(new))

    def unlink(self, path: Path) -> None:
        """Counts."""
        self._call("unlink", path.name, path.unlink)

    def mkdir(self, path: Path) -> None:
        """Counts."""
        self._call("mkdir", path.name, path.mkdir)

    def _call(
        self, kind: str, file: str, call: Callable[[], _T], half: Callable[[], _T] | None = None
    ) -> _T:
        fault = self._befalling(kind, file)
        os.write(self._log, f"{'!' if fault else '.'} {kind} {file}\n".encode())
        if fault is None:
            return call()
        if half and fault.where == "middle":
            half()
        if fault.error:
            raise OSError(fault.error, os.strerror(fault.error))
        if fault.where == "after":
            call()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError  # never: nobody survives that

    def _befalling(self, kind: str, file: str) -> Fault | None:
        fault = self._fault
        if fault is None or (fault.kind or kind) != kind:
            return None
        if fault.name and file.partition("#")[0] != fault.name:
            return None
        with self._turn:
            self._count += 1
            return fault if self._count == fault.number else None
