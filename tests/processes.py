"""A magpie that runs while a test looks on, and is stopped at the end in any case."""

import fcntl
import os
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGKILL

import pytest

from tests.conftest import clean_environment

MAGPIE = (sys.executable, "-m", "magpie_cli")
PATIENCE = 20.0  # seconds, until a test gives up


@contextmanager
def started(
    folder: Path, *arguments: str | Path, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """`magpie ARGUMENTS` in `folder`, with an open pipe for each of its three streams."""
    with command_started(folder, *MAGPIE, *arguments, **environment) as process:
        yield process


@contextmanager
def command_started(
    folder: Path, *command: str | Path, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """As `started`, for any command."""
    with subprocess.Popen(
        [*map(str, command)],
        cwd=folder,
        env=clean_environment() | environment,
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Return once `condition()` is true; the test fails where that takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited in vain until {what}")
        time.sleep(0.01)


def wait_for_row(output: Path) -> None:
    """Return once the output has a whole row."""
    wait_until(lambda: output.exists() and b"\n" in output.read_bytes(), f"{output} has a row")


def killed_at(size: int, folder: Path, *command: str) -> bool:
    """Run until the output has `size` bytes, and kill it there; whether it was still running."""
    output = folder / "out.jsonl"
    with started(folder, *command) as process:
        wait_until(
            lambda: (
                process.poll() is not None or (output.exists() and output.stat().st_size >= size)
            ),
            f"the output has {size} bytes, or all of them",
        )
        process.kill()
        return process.wait(PATIENCE) == -SIGKILL


def feed(process: subprocess.Popen[bytes], text: str | bytes) -> None:
    """Write to standard input, and return once all of it has been read."""
    assert process.stdin
    pipe = process.stdin.fileno()
    process.stdin.write(text.encode() if isinstance(text, str) else text)
    wait_until(lambda: not waiting_in(pipe), "standard input is read")


def waiting_in(pipe: int) -> int:
    """How many bytes of a pipe nobody has read yet."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def wait_for_words(process: subprocess.Popen[bytes], words: str) -> None:
    """Return once `words` stood on stderr."""
    assert process.stderr
    descriptor = process.stderr.fileno()
    said = b""

    def heard() -> bool:
        nonlocal said
        if select.select([descriptor], [], [], 0)[0]:
            said += os.read(descriptor, 64 * 1024)
        return words.encode() in said

    wait_until(heard, f"it says {words!r}")


def end(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """The exit code and what is left on stderr, with standard input still open."""
    code = process.wait(PATIENCE)
    assert process.stderr
    return code, process.stderr.read().decode()
