"""The least that makes the same dialogues and keeps them: a loop around aiohttp, in one file.

    python benchmarks/bare.py PROMPTS OUT --base-url URL -j N --turns N

PROMPTS are lines of `id`, `instructor`, `responder` and `opener`: the messages themselves. Workers
share them; each row is written the moment it is there, and is durable about a tenth of a second
later; the same command again makes what is missing. What fails is tried again after what
Retry-After says, or an ever longer while. On uvloop where it is installed.
"""

import argparse
import asyncio
import contextlib
import os
import random
from collections.abc import Awaitable, Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aiohttp
import orjson

SYNC_SECONDS = 0.1
TRIES = 8
TIMEOUT = 120.0

Messages = list[dict[str, str]]
Ask = Callable[[Messages], Awaitable[str]]


def lines_left(prompts: Path, out: Path) -> Iterator[dict[str, str]]:
    """The prompts that have no row yet; a torn last row is cut off."""
    done, end = set(), 0
    if out.exists():
        with out.open("rb") as rows:
            for row in rows:
                if row.endswith(b"\n"):
                    done.add(orjson.loads(row)["id"])
                    end += len(row)
        os.truncate(out, end)
    with prompts.open("rb") as lines:
        for line in lines:
            prompt = orjson.loads(line)
            if prompt["id"] not in done:
                yield prompt


def asking(session: aiohttp.ClientSession, url: str) -> Ask:
    """One completion, after as many tries as it takes."""

    async def once(body: bytes) -> tuple[int, str | None, bytes]:
        async with session.post(url, data=body) as response:
            return response.status, response.headers.get("Retry-After"), await response.read()

    async def ask(messages: Messages) -> str:
        body = orjson.dumps({"model": "mock", "messages": messages})
        for n in range(TRIES):
            delay = 0.1 * 2**n
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                status, retry_after, answer = await once(body)
                if status == 200:
                    text: str = orjson.loads(answer)["choices"][0]["message"]["content"]
                    return text
                delay = float(retry_after or delay)
            await asyncio.sleep(delay * random.uniform(0.75, 1.25))  # noqa: S311 - only a pause
        raise SystemExit(f"{url}: given up after {TRIES} tries")

    return ask


async def dialogue(prompt: dict[str, str], turns: int, ask: Ask) -> dict[str, Any]:
    """The row of one dialogue."""
    instructor = [
        {"role": "system", "content": prompt["instructor"]},
        {"role": "user", "content": prompt["opener"]},
    ]
    responder = [{"role": "system", "content": prompt["responder"]}]
    utterances = []
    for _ in range(turns):
        for speaker, listener in ((instructor, responder), (responder, instructor)):
            text = await ask(speaker)
            speaker.append({"role": "assistant", "content": text})
            listener.append({"role": "user", "content": text})
            utterances.append(text)
    return {"id": prompt["id"], "turns": utterances}


async def sync_for_ever(out: int) -> None:
    """Make durable what was written since the last time."""
    size = 0
    while True:
        await asyncio.sleep(SYNC_SECONDS)
        if size != (size := os.fstat(out).st_size):
            await asyncio.to_thread(os.fdatasync, out)


async def work(arguments: argparse.Namespace) -> None:
    """Make every row that is missing."""
    left = lines_left(arguments.prompts, arguments.out)
    out = os.open(arguments.out, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=TIMEOUT),
        headers={"Content-Type": "application/json"},
    ) as session:
        ask = asking(session, f"{arguments.base_url}/chat/completions")

        async def worker() -> None:
            for prompt in left:
                row = await dialogue(prompt, arguments.turns, ask)
                os.write(out, orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))

        syncing = asyncio.create_task(sync_for_ever(out))
        await asyncio.gather(*(worker() for _ in range(arguments.j)))
        syncing.cancel()
    os.fsync(out)


def main() -> None:
    """Run it on the faster loop, if it is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompts", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("-j", type=int, default=64)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--asyncio", action="store_true", help="asyncio's own loop in any case")
    arguments = parser.parse_args()
    fast = find_spec("uvloop") and not arguments.asyncio
    factory = import_module("uvloop").new_event_loop if fast else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(work(arguments))


if __name__ == "__main__":
    main()
