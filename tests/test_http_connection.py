"""How long an answer may take, and be silent: by a clock that only waiting moves."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from magpie_cli.engines.http_answer import Reply
from magpie_cli.engines.http_connection import Connection, Patience
from tests.virtual_time import run_virtually

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECE, END = b"2\r\nhi\r\n", b"0\r\n\r\n"


class Wire(asyncio.Transport):
    """Where a connection writes: what it wrote, and when it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed_at: float | None = None

    def write(self, data: Any) -> None:
        """Keep it."""
        self.written += data

    def abort(self) -> None:
        """Remember when."""
        if self.closed_at is None:
            self.closed_at = asyncio.get_running_loop().time()


def dripping(
    patience: Patience, every: float, *pieces: bytes, flows: bool = False
) -> tuple[bytes | str, float, float | None]:
    """What comes of an answer with so many seconds before each piece, and when, and its end."""
    return run_virtually(_dripping(patience, every, pieces, flows=flows))


async def _dripping(
    patience: Patience, every: float, pieces: tuple[bytes, ...], *, flows: bool
) -> tuple[bytes | str, float, float | None]:
    connection, wire = Connection(), Wire()
    connection.connection_made(wire)

    async def drip() -> None:
        for piece in pieces:
            await asyncio.sleep(every)
            connection.data_received(piece)

    dripper = asyncio.create_task(drip())
    got = b""
    ask: Coroutine[Any, Any, bytes] = (
        _streamed(connection, patience) if flows else _asked(connection, patience)
    )
    try:
        got = await ask
    except TimeoutError as error:
        came: bytes | str = str(error)
    else:
        came = got
    finally:
        connection.rest()
        dripper.cancel()
    assert wire.written == b"request"
    return came, asyncio.get_running_loop().time(), wire.closed_at


async def _asked(connection: Connection, patience: Patience) -> bytes:
    return (await connection.ask(b"request", 1000, patience)).body


async def _streamed(connection: Connection, patience: Patience) -> bytes:
    reply = await connection.open(b"request", patience)
    assert not isinstance(reply, Reply)
    return b"".join([piece async for piece in connection.pieces()])


BOTH = pytest.mark.parametrize("flows", [False, True], ids=["whole", "in pieces"])


@BOTH
def test_an_answer_may_drip_until_its_time_is_up(*, flows: bool) -> None:
    """It is never silent for long, and is late all the same."""
    came = dripping(Patience(60, 10), 7, HEAD, *[PIECE] * 20, flows=flows)
    assert came == ("no answer in time", 60, 60)


@BOTH
def test_an_answer_may_be_silent_for_so_long(*, flows: bool) -> None:
    """Counted from what was heard last, or from the request."""
    assert dripping(Patience(60, 10), 7, HEAD, PIECE, flows=flows) == ("no answer in time", 24, 24)
    assert dripping(Patience(60, 10), 11, HEAD, flows=flows) == ("no answer in time", 10, 10)


@BOTH
def test_an_answer_that_takes_its_time_is_waited_for(*, flows: bool) -> None:
    """As long as neither is exceeded; whole, it leaves the connection open."""
    came = dripping(Patience(60, 10), 9, HEAD, *[PIECE] * 4, END, flows=flows)
    assert came == (b"hi" * 4, 54, None)


def test_no_timer_is_left_of_an_answer() -> None:
    """A hundred answers have one between them, and a connection that is closed has none."""

    async def asks() -> int:
        loop = asyncio.get_running_loop()
        connection = Connection()
        connection.connection_made(Wire())
        for _ in range(100):
            loop.call_soon(connection.data_received, HEAD + PIECE + END)
            assert await _asked(connection, Patience(60, 60)) == b"hi"
            assert connection.rest()
        assert sum(not timer.cancelled() for timer in vars(loop)["_scheduled"]) == 1
        asking = asyncio.create_task(_asked(connection, Patience(60, 60)))
        await asyncio.sleep(0)
        connection.abort()
        asking.cancel()
        return sum(not timer.cancelled() for timer in vars(loop)["_scheduled"])

    assert run_virtually(asks()) == 0


@pytest.mark.parametrize(("idle", "is_usable"), [(29.0, True), (30.0, False)])
def test_a_connection_is_usable_for_a_while(*, idle: float, is_usable: bool) -> None:
    """Counted from its last answer; one that was closed is not."""

    async def rests() -> bool:
        connection = Connection()
        connection.connection_made(Wire())
        await asyncio.sleep(100)
        asyncio.get_running_loop().call_soon(connection.data_received, HEAD + END)
        await _asked(connection, Patience(60, 60))
        assert connection.rest()
        await asyncio.sleep(idle)
        found = connection.is_usable(30)
        connection.connection_lost(None)
        assert not connection.is_usable(30)
        return found

    assert run_virtually(rests()) == is_usable
