"""llama.cpp as tests want it: in few slots, behind a relay that drops, on a model without end."""

import asyncio
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from magpie_cli.engine import EngineRow
from magpie_cli.engines.http_client import open_client
from magpie_cli.engines.local import LocalModel, tiny
from magpie_cli.engines.local.load import Load, plan_load
from magpie_cli.engines.local.process import LlamaProcess, llama_process
from magpie_cli.settings import Settings

DROPPED = 0
FAULTS = (DROPPED, None, 30, None, None, 400, DROPPED)  # bytes of an answer that come through


@asynccontextmanager
async def loaded(
    path: Path, slots: int = 4, context: int = 4096, faults: Iterable[int | None] = ()
) -> AsyncIterator[tuple[LocalModel, LlamaProcess]]:
    """The model at `path` with `slots` of `context` tokens, and its process.

    Of the answers to its first requests come only so many bytes as `faults` says, None for all.
    """
    load = Load(path, slots, slots * context, threads=1)
    async with llama_process(load) as llama, relay(llama.url, faults) as url:
        llama.url = url
        async with open_client(url, 300) as client:
            yield LocalModel("local", str(path), llama, client), llama


@asynccontextmanager
async def connect(row: EngineRow, settings: Settings) -> AsyncIterator[LocalModel]:
    """The local engine as a row of the table opens it, with FAULTS."""
    assert settings.model
    path = Path(settings.model)
    load = plan_load(path, settings, row.concurrency)
    async with loaded(path, load.slots, load.context // load.slots, FAULTS) as (model, _):
        yield model


@asynccontextmanager
async def relay(url: str, faults: Iterable[int | None]) -> AsyncIterator[str]:
    """The address of a relay to `url` that cuts answers short, one for each of `faults`."""
    host, port = url.removeprefix("http://").split(":")
    left = iter(faults)
    serving: set[asyncio.Task[None] | None] = set()  # or one whose client has gone is collected

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        limit = next(left, None)
        if limit == DROPPED:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection(host, int(port))
        asking = asyncio.create_task(_pump(reader, back, None))
        await _pump(there, writer, limit)
        asking.cancel()
        back.transport.abort()
        serving.discard(asyncio.current_task())

    async with await asyncio.start_server(serve, "127.0.0.1") as server:
        yield "http://127.0.0.1:{1}".format(*server.sockets[0].getsockname())


async def _pump(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, limit: int | None
) -> None:
    """Until the source ends, or `limit` bytes have come: then the connection breaks."""
    with suppress(ConnectionError):
        while data := await source.read(64 * 1024 if limit is None else limit):
            target.write(data)
            await target.drain()
            if limit is not None:
                limit -= len(data)
                if not limit:
                    target.transport.abort()
                    return
    target.close()


def write_endless_model(path: Path, context: int) -> None:
    """A tiny model that never ends an answer by itself, written to `path`."""
    tiny.write_tiny_model(path, context)
    tokens, _ = tiny._vocabulary()
    width = -(-len(tokens) // 32) * 32
    never = struct.pack(f"<{3 * width}e", *[-60_000.0] * (3 * width))
    data = path.read_bytes()
    start = len(data) - 2 * width * len(tokens)  # a row a token, and the first three end things
    path.write_bytes(data[:start] + never + data[start + len(never) :])


def children_of(pid: int) -> list[int]:
    """The processes whose parent is `pid`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(folder.name))
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs (one that nobody has waited for does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
