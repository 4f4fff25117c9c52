"""Through proxies of every kind: what each of them sees, and what it never does."""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from traceback import format_exception

import pytest
import trustme

from magpie_cli.engines.http_answer import Reply
from magpie_cli.engines.http_client import HttpClient, ProxyError
from tests.raw_server import CALM, Peer, Play, answers, ends, nothing_left, open_files, raw_server

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
NAME = "server.example"  # which only the proxy knows
KEY = "a-key-of-mine"
LOGIN = "me:p%40ss%3Aw%C3%B6rd@"
CREDENTIALS = b"Proxy-Authorization: Basic " + b64encode("me:p@ss:w\xf6rd".encode())


@dataclass
class Seen:
    """What a proxy was told, and the bytes that it carried."""

    told: list[bytes] = field(default_factory=list)
    carried: bytearray = field(default_factory=bytearray)


@asynccontextmanager
async def opened(url: str, proxy: str) -> AsyncIterator[HttpClient]:
    """A client that goes through a proxy."""
    client = HttpClient(url, CALM, proxy)
    try:
        yield client
    finally:
        await client.close()


async def asked(client: HttpClient, url: str) -> Reply:
    """The answer to a request with a key."""
    head = client.head("POST", f"{url}/v1/x", {"Authorization": f"Bearer {KEY}"})
    return await client.ask(head, b"{}", 1000)


async def carry(peer: Peer, port: int, seen: Seen) -> None:
    """All bytes to the server on loopback, and back, until one side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                seen.carried += data
                sink.write(data)
        sink.close()

    try:
        await asyncio.gather(copy(peer.reader, writer), copy(reader, peer.writer))
    finally:
        writer.close()


def tunnels(port: int, seen: Seen, answer: bytes = ESTABLISHED) -> Play:
    """A proxy that connects to this port, whatever it was told."""

    async def play(peer: Peer) -> None:
        seen.told.append(await peer.request())
        peer.writer.write(answer)
        await carry(peer, port, seen)

    return play


def speaks_socks5(port: int, seen: Seen, login: bytes = b"") -> Play:
    """RFC 1928, and RFC 1929 where it wants a login."""

    async def play(peer: Peer) -> None:
        read = peer.reader.readexactly
        version, methods = await read(2)
        assert version == 5
        if login:
            assert b"\x02" in await read(methods)
            peer.writer.write(b"\x05\x02")
            assert await read(1) == b"\x01"
            user = await read((await read(1))[0])
            password = await read((await read(1))[0])
            is_good = user + b":" + password == login
            peer.writer.write(b"\x01\x00" if is_good else b"\x01\x01")
            if not is_good:
                return
        else:
            await read(methods)
            peer.writer.write(b"\x05\x00")
        assert await read(3) == b"\x05\x01\x00"
        kind = (await read(1))[0]
        size = {1: 4, 4: 16}.get(kind) or (await read(1))[0]
        seen.told.append(await read(size + 2))
        peer.writer.write(b"\x05\x00\x00\x01" + bytes(6))
        await carry(peer, port, seen)

    return play


def speaks_socks4(port: int, seen: Seen) -> Play:
    """https://www.openssh.com/txt/socks4.protocol and its 4a."""

    async def play(peer: Peer) -> None:
        told = await peer.reader.readexactly(8)
        assert told[:2] == b"\x04\x01"
        told += await peer.reader.readuntil(b"\0")
        if told[4:7] == bytes(3):
            told += await peer.reader.readuntil(b"\0")
        seen.told.append(told)
        peer.writer.write(b"\x00\x5a" + bytes(6))
        await carry(peer, port, seen)

    return play


@pytest.fixture
def tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ssl.SSLContext:
    """That of a server, and of a proxy, that prove themselves by an authority that is trusted."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", NAME).configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    return context


async def test_a_proxy_of_http_is_told_the_whole_address() -> None:
    """It forwards what is not encrypted (RFC 9112, 3.2.2), over one connection that is kept."""
    url = f"http://{NAME}:8000"
    async with (
        raw_server(answers(GOOD, GOOD)) as proxy,
        opened(url, f"http://{LOGIN}127.0.0.1:{proxy.port}") as client,
    ):
        assert (await asked(client, url)).body == b"hi"
        assert (await asked(client, url)).body == b"hi"
    assert proxy.begun == 1
    for request in proxy.asked:
        line, *headers = request.split(b"\r\n")
        assert line == b"POST http://server.example:8000/v1/x HTTP/1.1"
        assert b"Host: server.example:8000" in headers
        assert CREDENTIALS in headers


async def test_a_proxy_without_a_password_is_told_none() -> None:
    """Nor is the server's port, where it is that of its scheme."""
    url = f"http://{NAME}"
    async with (
        raw_server(answers(GOOD)) as proxy,
        opened(url, proxy.url) as client,
    ):
        assert (await asked(client, url)).body == b"hi"
    assert proxy.asked[0].startswith(b"POST http://server.example/v1/x HTTP/1.1\r\nHost: server.ex")
    assert b"Proxy-Authorization" not in proxy.asked[0]


@pytest.mark.parametrize("is_encrypted", [False, True], ids=["http", "https"])
async def test_a_tunnel_carries_only_what_is_encrypted(
    tls: ssl.SSLContext, *, is_encrypted: bool
) -> None:
    """The proxy learns where to, with its own password alone; the server never hears of it."""
    seen = Seen()
    scheme = "https" if is_encrypted else "http"
    async with raw_server(answers(GOOD, GOOD), tls=tls) as server:
        url = f"https://{NAME}:{server.port}"
        before = open_files()
        async with (
            raw_server(tunnels(server.port, seen), tls=tls if is_encrypted else None) as proxy,
            opened(url, f"{scheme}://{LOGIN}127.0.0.1:{proxy.port}") as client,
        ):
            assert (await asked(client, url)).body == b"hi"
            assert (await asked(client, url)).body == b"hi"
            await client.close()
            await nothing_left(server, before + 1)  # that of the proxy
    host = f"{NAME}:{server.port}".encode()
    connect = b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n\r\n" % (host, host, CREDENTIALS)
    assert seen.told == [connect]
    assert seen.carried
    assert not any(word in seen.carried for word in (KEY.encode(), b"POST", b"Authorization"))
    for request in server.asked:
        assert request.startswith(b"POST /v1/x HTTP/1.1\r\nHost: " + host)
        assert b"Proxy-Authorization" not in request
    assert len(server.asked) == 2


async def test_pieces_come_through_a_tunnel(tls: ssl.SSLContext) -> None:
    """As they come without one."""
    pieces = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    async with raw_server(answers(pieces), tls=tls) as server:
        url = f"https://{NAME}:{server.port}"
        async with (
            raw_server(tunnels(server.port, Seen())) as proxy,
            opened(url, proxy.url) as client,
            client.open(client.head("POST", url, {}), b"{}") as answer,
        ):
            assert not isinstance(answer, Reply)
            assert b"".join([piece async for piece in answer]) == b"hi"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n", id="HTTP/1.0"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", id="a length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", id="a length that is none"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", id="chunks"),
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", id="close"),
        pytest.param(b"HTTP/1.1 299 Fine\r\n\r\n", id="another good status"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", id="behind 100"),
    ],
)
async def test_a_tunnel_is_one_whatever_is_said_beside_it(
    tls: ssl.SSLContext, answer: bytes
) -> None:
    """A good status is all that counts (RFC 9110, 9.3.6)."""
    async with raw_server(answers(GOOD), tls=tls) as server:
        url = f"https://{NAME}:{server.port}"
        async with (
            raw_server(tunnels(server.port, Seen(), answer)) as proxy,
            opened(url, proxy.url) as client,
        ):
            assert (await asked(client, url)).body == b"hi"


REFUSES: dict[str, tuple[bytes, str]] = {
    "407": (b"HTTP/1.1 407 P\r\nContent-Length: 2\r\n\r\nno", "answered 407: it wants a user"),
    "407 without an end": (b"HTTP/1.1 407 P\r\n\r\n", "answered 407: it wants a user"),
    "502": (b"HTTP/1.1 502 B\r\nContent-Length: 2\r\n\r\nno", "the proxy answered 502"),
    "502 to the end": (b"HTTP/1.0 502 B\r\n\r\nno", "the proxy answered 502"),
    "a redirect": (b"HTTP/1.1 302 F\r\nContent-Length: 0\r\n\r\n", "the proxy answered 302"),
    "nothing": (b"", "closed"),
    "no HTTP": (b"\x05\x00\x00\x00", "no HTTP"),
    "no TLS": (ESTABLISHED + b"hello", "closed the connection"),
    "the end": (ESTABLISHED, ""),
}


@pytest.mark.parametrize("name", REFUSES)
async def test_a_proxy_that_refuses_is_named(name: str) -> None:
    """With what it says, and without the password; nothing of it is left."""
    answer, words = REFUSES[name]
    url = f"https://{NAME}"
    async with raw_server(ends(answer)) as proxy:
        before = open_files()
        async with opened(url, f"http://{LOGIN}127.0.0.1:{proxy.port}") as client:
            with pytest.raises(OSError, match=words) as caught:
                await asked(client, url)
            await nothing_left(proxy, before)
    assert not isinstance(caught.value, TimeoutError)
    assert "p@ss" not in str(caught.value)
    assert "p%40ss" not in str(caught.value)
    assert proxy.begun == 1


async def test_a_server_behind_a_proxy_must_prove_itself(tls: ssl.SSLContext) -> None:
    """One with another name is not asked."""
    async with raw_server(answers(GOOD), tls=tls) as server:
        url = f"https://another.example:{server.port}"
        async with (
            raw_server(tunnels(server.port, Seen())) as proxy,
            opened(url, proxy.url) as client,
        ):
            with pytest.raises(ssl.SSLCertVerificationError):
                await asked(client, url)
    assert server.asked == []


async def test_a_proxy_must_prove_itself_too(tls: ssl.SSLContext) -> None:
    """Where it is asked over TLS, one with another name does not get the password."""
    async with raw_server(answers(GOOD), tls=tls) as proxy:
        url = f"http://{NAME}"
        async with opened(url, f"https://{LOGIN}localhost:{proxy.port}") as client:
            with pytest.raises(ssl.SSLCertVerificationError):
                await asked(client, url)
    assert proxy.asked == []


async def test_an_encrypted_proxy_forwards_too(tls: ssl.SSLContext) -> None:
    """What is for a server without TLS goes to it in TLS."""
    async with raw_server(answers(GOOD), tls=tls) as proxy:
        url = f"http://{NAME}"
        async with opened(url, f"https://127.0.0.1:{proxy.port}") as client:
            assert (await asked(client, url)).body == b"hi"
    assert proxy.asked[0].startswith(b"POST http://server.example/v1/x HTTP/1.1\r\n")


async def test_a_proxy_that_cannot_be_reached_is_named() -> None:
    """Also where it is no connection that is refused, but a way that there is none of."""
    for scheme in ("http", "https", "socks5"):
        for url in ("http://a.example", "https://a.example"):
            async with opened(url, f"{scheme}://255.255.255.255:1") as client:
                with pytest.raises(ProxyError, match=r"^the proxy: "):
                    await asked(client, url)


async def test_nobody_listens_where_the_proxy_should_be() -> None:
    """That is said of it, and not of the server."""
    async with raw_server(ends()) as gone:
        pass
    for scheme in ("http", "socks5"):
        for url in ("http://a.example", "https://a.example"):
            async with opened(url, f"{scheme}://{LOGIN}127.0.0.1:{gone.port}") as client:
                with pytest.raises(OSError, match=r"^the proxy: Connection refused$"):
                    await asked(client, url)


Socks = Callable[[int, Seen], Play]


def _port(port: int) -> bytes:
    return port.to_bytes(2, "big")


@pytest.mark.parametrize("is_encrypted", [False, True], ids=["http", "https"])
@pytest.mark.parametrize(
    ("scheme", "host", "told", "proxies"),
    [
        pytest.param("socks5", "localhost", b"\x7f\0\0\1%b", speaks_socks5, id="socks5"),
        pytest.param("socks5", "127.0.0.1", b"\x7f\0\0\1%b", speaks_socks5, id="socks5, address"),
        pytest.param("socks5h", NAME, NAME.encode() + b"%b", speaks_socks5, id="socks5h"),
        pytest.param("socks4", "127.0.0.1", b"\4\1%b\x7f\0\0\1\0", speaks_socks4, id="socks4"),
        pytest.param(
            "socks4a", NAME, b"\4\1%b\0\0\0\1\0server.example\0", speaks_socks4, id="socks4a"
        ),
    ],
)
async def test_a_socks_proxy_is_told_where_to(
    tls: ssl.SSLContext,
    *,
    scheme: str,
    host: str,
    told: bytes,
    proxies: Socks,
    is_encrypted: bool,
) -> None:
    """An address, or with an h or a at its end the name; one connection for many requests."""
    if host == "localhost" and is_encrypted:
        host = "127.0.0.1"  # which the certificate names
    seen = Seen()
    async with raw_server(answers(GOOD, GOOD), tls=tls if is_encrypted else None) as server:
        url = f"{'https' if is_encrypted else 'http'}://{host}:{server.port}"
        before = open_files()
        async with (
            raw_server(proxies(server.port, seen)) as proxy,
            opened(url, f"{scheme}://127.0.0.1:{proxy.port}") as client,
        ):
            assert (await asked(client, url)).body == b"hi"
            assert (await asked(client, url)).body == b"hi"
            await client.close()
            await nothing_left(server, before + 1)
    assert seen.told == [told % _port(server.port)]
    assert len(server.asked) == 2
    assert server.asked[0].startswith(b"POST /v1/x HTTP/1.1\r\n")
    assert (KEY.encode() in seen.carried) == (not is_encrypted)


async def test_a_socks_proxy_gets_its_password() -> None:
    """Decoded from the address; without a good one, that is said without it."""
    async with raw_server(answers(GOOD)) as server:
        url = f"http://{NAME}:{server.port}"
        async with raw_server(speaks_socks5(server.port, Seen(), b"me:p@ss:word")) as proxy:
            place = f"127.0.0.1:{proxy.port}"
            async with opened(url, f"socks5h://me:p%40ss%3Aword@{place}") as client:
                assert (await asked(client, url)).body == b"hi"
            before = open_files()
            async with opened(url, f"socks5h://me:canary@{place}") as client:
                with pytest.raises(ProxyError, match=r"the proxy: .*password") as caught:
                    await asked(client, url)
                await nothing_left(proxy, before)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("login", ["me:w%C3%B6rd@", "me:" + "x" * 300 + "@"])
async def test_a_login_that_socks_cannot_send_is_said(login: str) -> None:
    """It is an OSError as any other, and does not repeat it."""
    async with raw_server(speaks_socks5(1, Seen(), b"x:y")) as proxy:
        before = open_files()
        url = f"http://{NAME}"
        async with opened(url, f"socks5h://{login}127.0.0.1:{proxy.port}") as client:
            with pytest.raises(ProxyError, match="the proxy: a password") as caught:
                await asked(client, url)
            await nothing_left(proxy, before)
    shown = "".join(format_exception(caught.value))
    assert "codec" not in shown  # of UnicodeEncodeError
    assert "w\xf6rd" not in shown
    assert "xxx" not in shown


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        pytest.param(b"\x05\xff", "No acceptable authentication", id="wants a password"),
        pytest.param(b"\x05\x00\x05\x05\x00", "refused", id="the server refuses"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", "the proxy: ", id="HTTP"),
        pytest.param(b"\x05\x00\x05\x00\x00\x09\0\0\0\0\0\0", "the proxy: ", id="no address"),
        pytest.param(b"", "the proxy: ", id="nothing"),
    ],
)
async def test_a_socks_proxy_that_refuses_is_named(greeting: bytes, words: str) -> None:
    """With what it says; nothing of it is left."""

    async def play(peer: Peer) -> None:
        await peer.reader.read(2)
        peer.writer.write(greeting)
        await peer.reader.read(65536)

    async with raw_server(play) as proxy:
        before = open_files()
        url = f"http://{NAME}"
        async with opened(url, f"socks5h://127.0.0.1:{proxy.port}") as client:
            with pytest.raises(ProxyError, match=words):
                await asked(client, url)
            await nothing_left(proxy, before)


@pytest.mark.parametrize("scheme", ["http", "socks5h", "socks4a"])
@pytest.mark.parametrize("greeting", [b"", ESTABLISHED, b"\x05\x00", b"\x00\x5a" + bytes(6)])
async def test_a_silent_proxy_may_be_given_up(scheme: str, greeting: bytes) -> None:
    """Before it has answered, and behind that: it sees the end at once, and nothing is left."""

    async def play(peer: Peer) -> None:
        await peer.reader.read(1)
        peer.writer.write(greeting)
        await peer.until_closed()

    async with raw_server(play) as proxy:
        before = open_files()
        url = f"https://{NAME}"
        async with opened(url, f"{scheme}://127.0.0.1:{proxy.port}") as client:
            task = asyncio.create_task(asked(client, url))
            await asyncio.wait([task], timeout=1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await nothing_left(proxy, before)


@pytest.mark.parametrize("scheme", ["http", "https", "socks5h"])
async def test_connecting_through_a_proxy_may_be_given_up_at_any_moment(
    tls: ssl.SSLContext, scheme: str
) -> None:
    """After whatever number of turns of the loop, no connection, task or timer is left."""
    async with raw_server(answers(GOOD), tls=tls) as server:
        url = f"https://{NAME}:{server.port}"
        play = (speaks_socks5 if scheme == "socks5h" else tunnels)(server.port, Seen())
        async with raw_server(play, tls=tls if scheme == "https" else None) as proxy:
            before = open_files()
            for turns in range(0, 60, 2):
                async with opened(url, f"{scheme}://127.0.0.1:{proxy.port}") as client:
                    task = asyncio.create_task(asked(client, url))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    task.cancel()
                    await asyncio.wait([task])
                await nothing_left(proxy, before)
