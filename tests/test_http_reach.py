"""A host with several addresses: which of them is connected to, and what is left of the others."""

import asyncio
import socket
import sys
from collections.abc import Iterator

import pytest

from magpie_cli.engines.http_connection import Connection
from magpie_cli.engines.http_reach import reach
from tests.raw_server import Peer, RawServer, nothing_left, open_files, raw_server

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 and full queues")


def names(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> str:
    """A name with these addresses, in this order."""

    async def getaddrinfo(_: str, port: int, **__: object) -> list[tuple[object, ...]]:
        families = (socket.AF_INET6 if ":" in each else socket.AF_INET for each in addresses)
        return [
            (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
            for family, address in zip(families, addresses, strict=True)
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    return "some.example"


async def connected(host: str, server: RawServer) -> tuple[str, Connection]:
    """Its address, and what was connected to it."""
    connection = await reach(host, server.port, None)
    return connection.transport.get_extra_info("peername")[0], connection


@pytest.mark.parametrize(
    "addresses",
    [
        pytest.param(["127.0.0.1"], id="one"),
        pytest.param(["127.0.0.1", "127.0.0.1"], id="the same"),
        pytest.param(["::1", "127.0.0.1"], id="another first"),
        pytest.param(["127.0.0.1", "::1"], id="another behind it"),
        pytest.param(["::1", "127.0.0.2", "127.0.0.1"], id="two others first", marks=ON_LINUX),
    ],
)
async def test_the_first_that_takes_it(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    """Where nobody listens at an address, the next is tried at once."""
    async with raw_server(Peer.until_closed) as server:
        before = open_files()
        address, connection = await connected(names(monkeypatch, *addresses), server)
        assert address == "127.0.0.1"
        connection.abort()
        await nothing_left(server, before)
    assert server.begun == 1


@pytest.fixture
def deaf() -> Iterator[int]:
    """The port of a server at 127.0.0.2 that takes no connection, as its queue is full."""
    with socket.create_server(("127.0.0.2", 0), backlog=0) as full:
        address = full.getsockname()
        with socket.create_connection(address):
            yield address[1]


@ON_LINUX
async def test_an_address_that_does_not_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, deaf: int
) -> None:
    """The next is tried beside it, and nothing is left of the first."""
    async with raw_server(Peer.until_closed, port=deaf) as server:
        before = open_files()
        name = names(monkeypatch, "127.0.0.2", "127.0.0.1")
        address, connection = await connected(name, server)
        assert address == "127.0.0.1"
        connection.abort()
        await nothing_left(server, before)


@ON_LINUX
async def test_several_addresses_that_do_not_answer_are_given_up(
    monkeypatch: pytest.MonkeyPatch, deaf: int
) -> None:
    """Nothing is left of any."""
    before = open_files()
    name = names(monkeypatch, "127.0.0.2", "::1")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await reach(name, deaf, None)
    await nothing_left(RawServer(), before)


async def test_no_address_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the error of all."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    before = open_files()
    with pytest.raises(ConnectionRefusedError):
        await reach(names(monkeypatch, "127.0.0.1", "::1"), port, None)
    await nothing_left(RawServer(), before)


async def test_a_name_that_nobody_knows() -> None:
    """It is an OSError, as all are."""
    with pytest.raises(socket.gaierror):
        await reach("nobody.invalid", 80, None)


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["127.0.0.1", "::1"], ["::1", "127.0.0.1"]])
async def test_connecting_may_be_given_up_at_any_moment(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    """After whatever number of turns of the loop, no socket and no task is left.

    asyncio's race left one, where it was cancelled in the turn in which it had a winner.
    """
    async with raw_server(Peer.until_closed) as server:
        name = names(monkeypatch, *addresses)
        before = open_files()
        for turns in range(20):
            task = asyncio.create_task(connected(name, server))
            for _ in range(turns):
                await asyncio.sleep(0)
            if not task.cancel():
                (await task)[1].abort()
            await asyncio.wait([task])
            await nothing_left(server, before)
