"""`mock_server.c`, compiled and running: what it is asked, and what it says it was asked."""

import http.client
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_suffix(".c")
PROCESSORS = sorted(os.sched_getaffinity(0))
CLIENT, SERVER = PROCESSORS[0], PROCESSORS[-1]  # so that neither takes time from the other


@dataclass(frozen=True, slots=True)
class Faults:
    """The share of requests that fail in each way; `retry_after` in seconds."""

    errors: float = 0.0
    throttled: float = 0.0
    hung: float = 0.0
    retry_after: float = 1.0


NO_FAULTS = Faults()


@dataclass(frozen=True, slots=True)
class MockServer:
    """One that runs; every run of a contender gets its own."""

    port: int

    @property
    def url(self) -> str:
        """What an OpenAI client takes for its base URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    def stats(self) -> dict[str, Any]:
        """Its counts since it began, and the times of its first request and last answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", "/stats")
        counts: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return counts


def compile_server(folder: Path) -> Path:
    """The program, for `serving`."""
    program = folder / "mock_server"
    subprocess.run(["cc", "-O2", "-o", program, SOURCE], check=True)  # noqa: S607 - where it is
    return program


@contextmanager
def serving(program: Path, latency: float, faults: Faults = NO_FAULTS) -> Iterator[MockServer]:
    """A server that answers after `latency` milliseconds, on a processor of its own."""
    shares = (faults.errors, faults.throttled, faults.hung, faults.retry_after)
    command = [str(program), *map(str, (latency, *shares))]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        os.sched_setaffinity(process.pid, {SERVER})
        assert process.stdout  # noqa: S101 - it was asked for
        try:
            yield MockServer(int(process.stdout.readline()))
        finally:
            process.kill()
