"""Requests over connections that are kept, closed, reset, given up and late."""

import asyncio
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
import trustme
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from magpie_cli.engines import http_client
from magpie_cli.engines.http_answer import MAX_WORDS_BYTES, Reply
from magpie_cli.engines.http_client import HttpClient
from magpie_cli.engines.http_connection import Patience
from tests.raw_server import (
    CALM,
    Peer,
    Play,
    RawServer,
    answers,
    ends,
    nothing_left,
    open_files,
    raw_server,
    until,
)

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
CLOSE = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
MOST = 1_000_000


@asynccontextmanager
async def opened(url: str, patience: Patience = CALM) -> AsyncIterator[HttpClient]:
    """A client that is closed at the end."""
    client = HttpClient(url, patience)
    try:
        yield client
    finally:
        await client.close()


async def asked(client: HttpClient, server: RawServer, most: int = MOST) -> Reply:
    """The answer to a request with a body."""
    return await client.ask(client.head("POST", f"{server.url}/x", {}), b"{}", most)


async def streamed(client: HttpClient, server: RawServer) -> bytes:
    """All of an answer in pieces."""
    async with client.open(client.head("POST", f"{server.url}/x", {}), b"{}") as answer:
        assert not isinstance(answer, Reply)
        return b"".join([piece async for piece in answer])


async def test_a_request_is_what_http_wants() -> None:
    """One line, the host, who asks, the headers, the length of the body, and the body."""
    async with raw_server(answers(GOOD, GOOD)) as server, opened(server.url) as client:
        head = client.head("POST", f"{server.url}/v1/x", {"Authorization": "Bearer key"})
        await client.ask(head, b"{}", MOST)
        await client.ask(client.head("GET", server.url, {}), None, MOST)
    host = f"Host: 127.0.0.1:{server.port}\r\nUser-Agent: magpie-cli\r\n"
    post = (
        f"POST /v1/x HTTP/1.1\r\n{host}Authorization: Bearer key\r\nContent-Length: 2\r\n\r\n{{}}"
    )
    assert server.asked == [post.encode(), f"GET / HTTP/1.1\r\n{host}\r\n".encode()]


async def test_a_connection_serves_many_requests() -> None:
    """One after the other: none is opened where one is idle."""
    plays = [GOOD, b"HTTP/1.1 204 No\r\n\r\n", b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"]
    plays += [CHUNKED + b"2\r\nhi\r\n0\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" + GOOD]
    async with raw_server(answers(*plays * 4)) as server, opened(server.url) as client:
        replies = [await asked(client, server) for _ in range(20)]
    assert [reply.status for reply in replies] == [200, 204, 500, 200, 200] * 4
    assert [reply.body for reply in replies] == [b"hi", b"", b"no", b"hi", b"hi"] * 4
    assert server.begun == 1


async def test_requests_at_a_time_have_connections_of_their_own() -> None:
    """As many as there are, which are kept for those that come next."""
    async with raw_server(answers(*[GOOD] * 9)) as server, opened(server.url) as client:
        for _ in range(3):
            replies = await asyncio.gather(*(asked(client, server) for _ in range(5)))
            assert {reply.body for reply in replies} == {b"hi"}
    assert server.begun == 5


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(CLOSE, id="Connection: close"),
        pytest.param(CLOSE.replace(b"close", b"Close"), id="Connection: Close"),
        pytest.param(GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"), id="HTTP/1.0"),
        pytest.param(GOOD + b"garbage", id="garbage behind it"),
        pytest.param(GOOD + GOOD, id="another behind it"),
    ],
)
async def test_a_connection_is_not_kept(answer: bytes) -> None:
    """Where the server says that it is the last, or sends more than was asked for."""
    async with raw_server(answers(answer, answer)) as server, opened(server.url) as client:
        for _ in range(2):
            assert (await asked(client, server)).body == b"hi"
            await until(lambda: server.ended == server.begun, "it was closed")
    assert server.begun == len(server.asked) == 2


async def test_a_body_may_end_with_its_connection() -> None:
    """Where nothing else says where it ends (RFC 9112, 6.3)."""
    bodies = ends(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 300_000)
    async with raw_server(bodies) as server, opened(server.url) as client:
        assert (await asked(client, server)).body == b"x" * 300_000
        assert await streamed(client, server) == b"x" * 300_000


async def test_a_connection_that_was_closed_before_is_not_asked() -> None:
    """The server closed it while it was idle: the next request finds that out and opens one."""
    async with raw_server(ends(GOOD)) as server, opened(server.url) as client:
        for _ in range(3):
            assert (await asked(client, server)).body == b"hi"
            await until(lambda: not client._idle[0].is_usable(60), "it was closed")
    assert server.begun == len(server.asked) == 3


@pytest.mark.parametrize("last", ["ends", "resets"])
async def test_a_connection_that_closes_on_the_next_request_is_replaced(last: str) -> None:
    """The request is sent once more on a new one, where nothing was heard on the old."""

    async def play(peer: Peer) -> None:
        await answers_once(peer)
        await peer.request()
        if last == "resets":
            peer.reset()

    async with raw_server(play) as server, opened(server.url) as client:
        assert (await asked(client, server)).body == b"hi"
        assert (await asked(client, server)).body == b"hi"
    assert server.begun == 2
    assert len(server.asked) == 3


async def answers_once(peer: Peer) -> None:
    """A good answer to one request."""
    await peer.request()
    peer.writer.write(GOOD)


async def takes(peer: Peer) -> None:
    """Drop the connection once it was asked."""
    await peer.request()
    peer.reset()


async def test_a_request_is_sent_again_only_once() -> None:
    """Where the new connection is dropped too, that is an error."""

    async def play(peer: Peer) -> None:
        await answers_once(peer)
        await takes(peer)

    async with raw_server(play, takes) as server, opened(server.url) as client:
        assert (await asked(client, server)).body == b"hi"
        with pytest.raises(ConnectionError):
            await asked(client, server)
    assert server.begun == 2
    assert len(server.asked) == 3


async def test_an_answer_that_had_begun_is_not_asked_for_again() -> None:
    """Something was heard on the kept connection: the server has worked on the request."""

    async def play(peer: Peer) -> None:
        await answers_once(peer)
        await peer.request()
        peer.writer.write(GOOD[:-1])

    async with raw_server(play) as server, opened(server.url) as client:
        assert (await asked(client, server)).body == b"hi"
        with pytest.raises(ConnectionResetError):
            await asked(client, server)
    assert server.begun == 1


@pytest.mark.parametrize("play", [takes, ends(b"")], ids=["reset", "closed"])
async def test_a_new_connection_that_is_dropped_is_an_error(play: Play) -> None:
    """It is not asked again: that is for those above, who wait before."""
    async with raw_server(play) as server, opened(server.url) as client:
        with pytest.raises(ConnectionError):
            await asked(client, server)
        with pytest.raises(ConnectionError):
            await streamed(client, server)
    assert server.begun == len(server.asked) == 2


async def test_bytes_that_nobody_asked_for_close_an_idle_connection() -> None:
    """They are never taken for the next answer."""
    go = asyncio.Event()

    async def play(peer: Peer) -> None:
        await answers_once(peer)
        await go.wait()
        peer.writer.write(GOOD.replace(b"hi", b"no"))
        await peer.until_closed()

    async with raw_server(play) as server, opened(server.url) as client:
        assert (await asked(client, server)).body == b"hi"
        go.set()
        await until(lambda: server.ended == 1, "it was closed")
        assert (await asked(client, server)).body == b"hi"
    assert server.begun == 2


async def test_idle_connections_are_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands between may have forgotten them without a word."""
    async with raw_server(answers(GOOD, GOOD)) as server, opened(server.url) as client:
        await asked(client, server)
        monkeypatch.setattr(http_client, "KEPT_FOR", 0.0)
        await asked(client, server)
        await until(lambda: server.ended == 1, "the first was closed")
    assert server.begun == 2


async def test_a_client_that_is_closed_lets_go_of_all() -> None:
    """No connection, no timer and no file is left."""
    async with raw_server(answers(GOOD)) as server:
        before = open_files()
        async with opened(server.url) as client:
            await asyncio.gather(*(asked(client, server) for _ in range(5)))
            assert open_files() > before
        await nothing_left(server, before)


@pytest.mark.parametrize("status", [200, 500])
async def test_a_flood_is_cut_off(status: int) -> None:
    """No more is read than was asked for, and of an error no more than its words."""
    sent = 0

    async def play(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        peer.writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 1073741824\r\n\r\n" % status)
        while True:
            peer.writer.write(b"x" * 65536)
            await peer.writer.drain()
            sent += 65536

    async with raw_server(play) as server, opened(server.url) as client:
        reply = await asked(client, server)
        await until(lambda: server.ended == 1, "it was closed")
    most = MOST if status == 200 else MAX_WORDS_BYTES
    assert (reply.status, len(reply.body), reply.is_cut) == (status, most, True)
    assert sent < 2**26  # what the system holds between the two, and no gigabyte


async def test_an_error_does_not_flow() -> None:
    """Where pieces were asked for, it is whole, with its headers."""
    error = b"HTTP/1.1 429 Slow\r\nRetry-After: 3\r\nContent-Length: 2\r\n\r\nno"
    async with raw_server(answers(error)) as server, opened(server.url) as client:
        async with client.open(client.head("POST", server.url, {}), b"{}") as answer:
            assert isinstance(answer, Reply)
            assert (answer.status, answer.header("retry-after"), answer.body) == (429, "3", b"no")
        await until(lambda: server.ended == 1, "it was closed")


async def test_pieces_come_as_they_are_sent() -> None:
    """Each is there before the next is sent, and the connection is closed behind the last."""
    taken = asyncio.Event()

    async def play(peer: Peer) -> None:
        await peer.request()
        peer.writer.write(CHUNKED)
        for _ in range(3):
            taken.clear()
            peer.writer.write(b"2\r\nhi\r\n")
            await taken.wait()
        peer.writer.write(b"0\r\n\r\n")
        await peer.until_closed()

    async with raw_server(play) as server, opened(server.url) as client:
        async with client.open(client.head("POST", server.url, {}), b"{}") as answer:
            assert not isinstance(answer, Reply)
            async for piece in answer:
                assert piece == b"hi"
                taken.set()
        await until(lambda: server.ended == 1, "it was closed")


async def test_a_stream_that_breaks_off_is_an_error() -> None:
    """What came before it is handed out first."""
    async with raw_server(ends(CHUNKED + b"2\r\nhi\r\n")) as server, opened(server.url) as client:
        got = b""
        with pytest.raises(ConnectionResetError):  # noqa: PT012 - the pieces come first
            async with client.open(client.head("POST", server.url, {}), b"{}") as answer:
                assert not isinstance(answer, Reply)
                async for piece in answer:
                    got += piece
        assert got == b"hi"


async def _silent(peer: Peer) -> None:
    await peer.request()
    await peer.until_closed()


async def _half(peer: Peer) -> None:
    await peer.request()
    peer.writer.write(GOOD[:-1])
    await peer.until_closed()


async def _trickles(peer: Peer) -> None:
    await peer.request()
    peer.writer.write(CHUNKED + b"2\r\nhi\r\n")
    await peer.until_closed()


@pytest.mark.parametrize("ask", [asked, streamed])
@pytest.mark.parametrize("play", [_silent, _half, _trickles])
async def test_a_request_that_is_given_up_closes_its_connection(play: Play, ask: object) -> None:
    """Before the headers, in the body or between pieces: the server sees the end at once."""
    assert callable(ask)
    async with raw_server(play) as server, opened(server.url) as client:
        before = open_files()
        task = asyncio.create_task(ask(client, server))
        await until(lambda: server.asked, "it was asked")
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await nothing_left(server, before)


@pytest.mark.parametrize("ask", [asked, streamed])
async def test_a_request_may_be_given_up_at_any_moment(ask: object) -> None:
    """After whatever number of turns of the loop, nothing of it is left."""
    assert callable(ask)
    answer = b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED + b"2\r\nhi\r\n0\r\n\r\n"
    given_up = 0
    async with raw_server(answers(answer)) as server:
        before = open_files()
        for turns in range(40):
            async with opened(server.url) as client:
                task = asyncio.create_task(ask(client, server))
                for _ in range(turns):
                    await asyncio.sleep(0)
                given_up += task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            await nothing_left(server, before)
    assert given_up > 5


async def test_a_stream_may_be_given_up_half_way() -> None:
    """Whoever leaves it early closes its connection."""
    async with raw_server(_trickles) as server, opened(server.url) as client:
        before = open_files()
        async with client.open(client.head("POST", server.url, {}), b"{}") as answer:
            assert not isinstance(answer, Reply)
            async with aclosing(answer) as pieces:
                assert await anext(pieces) == b"hi"
        await nothing_left(server, before)


async def given_up_and_late(
    task: asyncio.Task[Reply],
    client: HttpClient,
    server: RawServer,
    before: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A request that is connecting is given up, and a second takes too long: nothing is left."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await nothing_left(server, before)
    monkeypatch.setattr(http_client, "CONNECT_TIMEOUT", 1.0)
    with pytest.raises(TimeoutError):
        await asked(client, server)
    await nothing_left(server, before)


async def test_a_greeting_in_tls_may_be_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that accepts and says nothing is left where that takes too long, or is given up."""
    async with raw_server(Peer.until_closed) as server:
        url = server.url.replace("http", "https")
        async with opened(url) as client:
            before = open_files()
            task = asyncio.create_task(asked(client, server))
            await until(lambda: server.begun, "it was connected to")
            await given_up_and_late(task, client, server, before, monkeypatch)


@pytest.mark.skipif(sys.platform != "linux", reason="what a full queue does is Linux's")
async def test_a_server_that_does_not_accept_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue is full: connecting takes too long, or is given up, and leaves nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        with socket.create_connection(address):
            async with opened(f"http://127.0.0.1:{address[1]}") as client:
                server = RawServer(address[1])
                before = open_files()
                task = asyncio.create_task(asked(client, server))
                await until(lambda: open_files() > before, "it connects")
                await given_up_and_late(task, client, server, before, monkeypatch)


@pytest.mark.parametrize("ask", [asked, streamed])
@pytest.mark.parametrize("play", [_silent, _half, _trickles])
async def test_a_late_answer_closes_its_connection(play: Play, ask: object) -> None:
    """The server sees the end, and nothing is left."""
    assert callable(ask)
    async with raw_server(play) as server, opened(server.url, Patience(1, 1)) as client:
        before = open_files()
        with pytest.raises(TimeoutError):
            await ask(client, server)
        await nothing_left(server, before)


async def test_nobody_listens() -> None:
    """That is said, and leaves nothing."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    before = open_files()
    async with opened(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(ConnectionRefusedError):
            await asked(client, RawServer(port))
        await nothing_left(RawServer(port), before)


async def test_a_name_may_have_an_address_where_nobody_listens() -> None:
    """The next one is tried: localhost is ::1 too, where most servers do not listen."""
    async with (
        raw_server(answers(GOOD)) as server,
        opened(f"http://localhost:{server.port}") as client,
    ):
        assert (await asked(client, server)).body == b"hi"
    assert b"\r\nHost: localhost:" in server.asked[0]


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not _has_ipv6(), reason="no IPv6 here")
async def test_an_address_may_be_one_of_ipv6() -> None:
    """In brackets, in the request too."""
    async with (
        raw_server(answers(GOOD), host="::1") as server,
        opened(f"http://[::1]:{server.port}") as client,
    ):
        assert (await asked(client, server)).body == b"hi"
    assert f"\r\nHost: [::1]:{server.port}\r\n".encode() in server.asked[0]


async def test_an_encrypted_connection_is_kept_and_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As one that is not: one for many requests, and one that is given up is closed."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusted = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(str(trusted))
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    async with (
        raw_server(answers(GOOD, GOOD, GOOD[:-1]), tls=context) as server,
        opened(server.url.replace("http", "https")) as client,
    ):
        before = open_files()
        assert (await asked(client, server)).body == b"hi"
        assert (await asked(client, server)).body == b"hi"
        assert server.begun == 1
        task = asyncio.create_task(asked(client, server))
        await until(lambda: len(server.asked) == 3, "it was asked")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await nothing_left(server, before)


TARGET = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(TARGET)
@example_settings(deadline=None, max_examples=200)
def test_no_path_adds_to_a_request(path: str) -> None:
    """Whatever stands in it, one line names it, in ASCII and without a space."""
    head = HttpClient("http://a:1", CALM).head("GET", f"http://a:1/{path}", {}).decode("ascii")
    first, *others = head.split("\r\n")
    assert others == ["Host: a:1", "User-Agent: magpie-cli", ""]
    assert first.startswith("GET /")
    assert first.endswith(" HTTP/1.1")
    assert first.count(" ") == 2
    assert first.isprintable()


def test_a_path_is_encoded_once() -> None:
    """Spaces and letters beyond ASCII are; what is encoded already stays."""
    head = HttpClient("http://a", CALM).head("GET", "http://a/v1/gr\xfc\xdfe b%20c", {})
    assert head.startswith(b"GET /v1/gr%C3%BC%C3%9Fe%20b%20c HTTP/1.1\r\nHost: a\r\n")


def test_a_name_beyond_ascii_is_asked_for_in_ascii() -> None:
    """As the certificate and the name servers know it (RFC 5890)."""
    head = HttpClient("http://b\xfccher.example:8000", CALM).head("GET", "", {})
    assert b"\r\nHost: xn--bcher-kva.example:8000\r\n" in head


@pytest.mark.parametrize("bad", ["a\r\nX: y", "a\nX: y", "a\rb", "a\0b", "\u20ac", "a\x85b"])
def test_no_header_adds_to_a_request(bad: str) -> None:
    """A key with a line break in it is a mistake of ours, and is never sent."""
    with pytest.raises(ValueError, match=r"request|encode"):
        HttpClient("http://a", CALM).head("GET", "", {"Authorization": f"Bearer {bad}"})
