"""Real `magpie` processes in a few milliseconds: forked from one that has imported everything.

The process that forks has one thread and no file of a run open. `python -m tests.crash.nursery FD`
is that process; FD is its end of a socket pair.
"""

import gc
import io
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from tests.conftest import clean_environment
from tests.crash.calls import Fault, stand_between

PATIENCE = 60  # seconds, until a process that hangs dies by SIGALRM

_MODULES = (
    "asyncio",
    "aiohttp",
    "magpie_cli.cli",
    "magpie_cli.generate",
    "magpie_cli.display.text",
    "magpie_cli.engines.echo",
    "magpie_cli.engines.openai",
    "magpie_cli.preview",
)


@dataclass(frozen=True, slots=True)
class Order:
    """`magpie ARGUMENTS` in `folder`. No file may grow above `room` bytes, if that is given.

    Each system call of the write path is named in the file `log`, and `fault` befalls one of them.
    """

    folder: str
    arguments: Sequence[str]
    room: int | None = None
    log: str | None = None
    fault: Fault | None = None


class Child:
    """One process. `code` is its exit code, negative for a signal, once `wait` has returned."""

    def __init__(self, control: socket.socket, order: Order) -> None:
        self._control = control
        reader, writer = os.pipe()
        socket.send_fds(control, [json.dumps(asdict(order)).encode()], [writer])
        os.close(writer)
        self.pid = int(control.recv(64))
        self.code: int | None = None
        self._heard: list[bytes] = []
        self._reader = threading.Thread(target=self._read, args=(reader,), daemon=True)
        self._reader.start()

    @property
    def said(self) -> str:
        """What stood on stdout and stderr so far."""
        return b"".join(self._heard).decode()

    def kill(self) -> None:
        """SIGKILL; without effect on one that has ended and is not waited for yet."""
        os.kill(self.pid, signal.SIGKILL)

    def has_ended(self) -> bool:
        """Whether nothing of it runs any more, waited for or not."""
        return not self._reader.is_alive()

    def wait(self) -> int:
        """Return its exit code when it has ended."""
        self._control.send(json.dumps(self.pid).encode())
        self.code = int(self._control.recv(64))
        self._reader.join(PATIENCE)
        return self.code

    def _read(self, pipe: int) -> None:
        while piece := os.read(pipe, 64 * 1024):
            self._heard.append(piece)
        os.close(pipe)


class Nursery:
    """Starts `magpie` processes, any number at once."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control

    def start(self, order: Order) -> Child:
        """The process runs when this returns."""
        return Child(self._control, order)

    def run(self, order: Order) -> Child:
        """The process has ended when this returns."""
        child = self.start(order)
        child.wait()
        return child


@contextmanager
def open_nursery() -> Iterator[Nursery]:
    """A nursery, and at the end none of its processes is left but those that nobody waited for."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.nursery", str(theirs.fileno())],
            cwd=Path(__file__).parents[2],
            env=clean_environment(),
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        try:
            ours.recv(64)  # it is warm
            yield Nursery(ours)
        finally:
            ours.close()
            process.wait(PATIENCE)


def _serve(control: socket.socket) -> None:
    """Fork for each order, wait for each process that is asked for, until the other end closes."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1024 * 1024, 1)
        if not message:
            return
        order = json.loads(message)
        if isinstance(order, int):
            _, status = os.waitpid(order, 0)
            control.send(str(os.waitstatus_to_exitcode(status)).encode())
            continue
        pid = os.fork()
        if not pid:
            control.close()
            fault = order.pop("fault")
            _live(Order(**order, fault=Fault(**fault) if fault else None), descriptors[0])
        os.close(descriptors[0])
        control.send(str(pid).encode())


def _live(order: Order, said: int) -> NoReturn:
    """Be `magpie`, to the end."""
    from magpie_cli.cli import main

    signal.alarm(PATIENCE)
    os.chdir(order.folder)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, number in ((nothing, 0), (said, 1), (said, 2)):
        os.dup2(descriptor, number)
    if order.room is not None:
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (order.room, most))
    if order.log:
        stand_between(order.log, order.fault)
    sys.argv = ["magpie", *order.arguments]
    code: object = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0)  # to take down all that is imported is slow


def _warm() -> None:
    """Import all, and let Typer make what it makes of the options of `generate`."""
    from magpie_cli.cli import app

    for module in _MODULES:
        import_module(module)
    example = Path(__file__).parents[2] / "personas.example.jsonl"
    asked = ["generate", str(example), "--engine", "echo", "--dry-run"]
    with redirect_stdout(io.StringIO()), suppress(SystemExit):
        app(asked, prog_name="magpie")


if __name__ == "__main__":
    _warm()
    gc.freeze()
    ours = socket.socket(fileno=int(sys.argv[1]))
    ours.send(b"warm")
    _serve(ours)
