"""llama.cpp in a process of its own: a crash, an abort or a full memory stays in there."""

import asyncio
import json
import os
import secrets
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from magpie_cli.engines.local.load import Load
from magpie_cli.errors import MagpieError

CHILD = Path(__file__).with_name("child.py")
END_SECONDS = 2.0
DEATH_SECONDS = 0.5
LINES_KEPT = 50  # of its standard error
LONGEST_LINE = 1000  # bytes that are kept of one
BLOCK = 64 * 1024

_OTHERWISE = "or another engine: --base-url URL, --engine ollama"


class LlamaProcess:
    """A running llama.cpp server. `url` and `key` are random, and known to nobody else."""

    def __init__(self, process: asyncio.subprocess.Process, load: Load, key: str) -> None:
        self.url = ""
        self.key = key
        self.load = load
        self._process = process
        self._words: deque[str] = deque(maxlen=LINES_KEPT)
        self._listening = asyncio.create_task(self._listen())

    async def has_died(self) -> bool:
        """Whether it ended by itself; a connection breaks a little sooner than that is known."""
        try:
            async with asyncio.timeout(DEATH_SECONDS):
                await self._process.wait()
        except TimeoutError:
            return False
        return True

    async def ready(self) -> None:
        """Return once it serves. Raises MagpieError with the reason where it cannot."""
        process, load = self._process, self.load
        assert process.stdin  # noqa: S101 - it was asked for
        assert process.stdout  # noqa: S101 - as above
        orders = {
            "path": str(load.path),
            "slots": load.slots,
            "context": load.context,
            "threads": load.threads,
            "key": self.key,
        }
        with suppress(ConnectionError):  # it has died already: the answer will say
            process.stdin.write(json.dumps(orders).encode() + b"\n")
            await process.stdin.drain()
        line = await process.stdout.readline()
        told = json.loads(line) if line else {}
        if "url" not in told:
            await process.wait()
            await self._listening
            raise self.explained(told.get("error", ""), told.get("detail", ""))
        self.url = told["url"]

    def explained(self, error: str = "", detail: str = "") -> MagpieError:
        """Why it ended, and the way out."""
        code, path = self._process.returncode, self.load.path
        if error == "import" and "libgomp" in detail:
            return MagpieError(
                f"the local engine cannot load llama.cpp: {detail}",
                f"apt-get install libgomp1 (or your system's OpenMP library), {_OTHERWISE}",
            )
        if error == "import":
            return MagpieError(
                f"the local engine's package xllamacpp is not here: {detail}",
                f"pip install xllamacpp, {_OTHERWISE}",
            )
        if code == -signal.SIGILL:
            return MagpieError(
                "llama.cpp needs a processor with AVX2, which this one lacks",
                f"use another machine, {_OTHERWISE}",
            )
        if code == -signal.SIGKILL:
            return MagpieError(
                "llama.cpp was killed, most likely because the memory is full",
                f"a smaller --model (magpie models), a smaller -j, {_OTHERWISE}",
            )
        reason = self._reason() or detail or f"exit code {code}"
        if error == "load":
            return MagpieError(
                f"{path} cannot be loaded: {reason}",
                "it may be damaged or no GGUF file: fetch it anew with magpie pull, or name "
                "another --model; where memory is short, a smaller one or a smaller -j",
            )
        return MagpieError(f"llama.cpp ended: {reason}", f"run it again, {_OTHERWISE}")

    async def end(self) -> None:
        """Close its input, which ends it; kill it where it does not."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(END_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._listening

    async def _listen(self) -> None:
        """Keep the last words: without a reader it would stop at a full pipe."""
        assert self._process.stderr  # noqa: S101 - it was asked for
        rest = b""
        while chunk := await self._process.stderr.read(BLOCK):
            *lines, rest = (rest + chunk).split(b"\n")
            rest = rest[:LONGEST_LINE]
            self._words += (line[:LONGEST_LINE].decode("utf-8", "replace") for line in lines)
        self._words.append(rest.decode("utf-8", "replace"))

    def _reason(self) -> str:
        """The first error line, `0.01.234 E llama_model_load: error ...`, or the last words."""
        lines = [line.strip() for line in self._words]
        errors = (line.partition(" E ")[2] for line in lines)
        last_words = next(filter(None, reversed(lines)), "")
        return next(filter(None, errors), "") or last_words


@asynccontextmanager
async def llama_process(load: Load) -> AsyncIterator[LlamaProcess]:
    """llama.cpp, serving on loopback until the block ends. Raises MagpieError where it cannot."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # or its folder would be where it imports from
        str(CHILD),
        str(os.getpid()),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # Threads that spin while they wait make everything else on the machine six times slower.
        env=os.environ | {"OMP_WAIT_POLICY": "passive"},
        start_new_session=True,  # Ctrl-C is for the parent, which ends it in its time
    )
    llama = LlamaProcess(process, load, secrets.token_urlsafe(24))
    try:
        await llama.ready()
        yield llama
    finally:
        await llama.end()
