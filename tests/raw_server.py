"""A server of bytes on loopback: each connection to it is played as a test says."""

import asyncio
import gc
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from magpie_cli.engines.http_connection import Patience
from tests.processes import PATIENCE

CALM = Patience(60, 60)


@dataclass
class RawServer:
    """What has come to it: all requests, and how many connections began and ended."""

    port: int = 0
    asked: list[bytes] = field(default_factory=list)
    begun: int = 0
    ended: int = 0

    @property
    def url(self) -> str:
        """Its address over HTTP."""
        return f"http://127.0.0.1:{self.port}"


@dataclass
class Peer:
    """One connection, as the server sees it."""

    server: RawServer
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> bytes:
        """The next one, its body with it. Raises IncompleteReadError where no more come."""
        asked = await self.reader.readuntil(b"\r\n\r\n")
        _, found, length = asked.lower().partition(b"\r\ncontent-length: ")
        if found:
            asked += await self.reader.readexactly(int(length.split(b"\r\n")[0]))
        self.server.asked.append(asked)
        return asked

    async def until_closed(self) -> None:
        """Return once the other side has closed it."""
        while await self.reader.read(65536):
            pass

    def reset(self) -> None:
        """Drop it, as a server that crashed."""
        self.writer.transport.abort()


Play = Callable[[Peer], Awaitable[object]]


def answers(*raw: bytes) -> Play:
    """To each request the next of these, and then nothing until the other side closes."""

    async def play(peer: Peer) -> None:
        await ends(*raw)(peer)
        await peer.until_closed()

    return play


def ends(*raw: bytes) -> Play:
    """To each request the next of these, and then the end of the connection."""

    async def play(peer: Peer) -> None:
        for answer in raw:
            await peer.request()
            peer.writer.write(answer)

    return play


@asynccontextmanager
async def raw_server(
    *plays: Play, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """Its connections are played in turn by these, the last one for ever."""
    seen = RawServer()
    tasks: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        play = plays[min(seen.begun, len(plays) - 1)]
        seen.begun += 1
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await play(Peer(seen, reader, writer))
        finally:
            seen.ended += 1
            writer.close()

    def start(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.get_running_loop().create_task(serve(reader, writer)))

    server = await asyncio.start_server(start, host, port, ssl=tls)
    seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)
        await asyncio.sleep(0)  # until the loop has closed its connections


async def until(condition: Callable[[], object], what: str) -> None:
    """Return once `condition()` is true; the test fails where that takes too long."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    while not condition():
        assert loop.time() < deadline, f"waited in vain until {what}"
        await asyncio.sleep(0.01)


def open_files() -> int:
    """How many this process has."""
    return len(os.listdir("/dev/fd"))  # noqa: PTH208 - names are all it takes


async def nothing_left(server: RawServer, files: int) -> None:
    """All connections of the client are closed at once, and no task, timer or file is left."""
    await until(lambda: server.ended == server.begun, "the server has seen the end")
    await until(lambda: open_files() <= files, "no file is left")
    await until(lambda: len(asyncio.all_tasks()) == 1, "no task is left")
    gc.collect()  # a socket that nobody closed warns, and a warning fails the test
    assert _timers() == []


def _timers() -> list[asyncio.TimerHandle]:
    """What the loop would still do later."""
    scheduled = vars(asyncio.get_running_loop())["_scheduled"]
    return [handle for handle in scheduled if not handle.cancelled()]
