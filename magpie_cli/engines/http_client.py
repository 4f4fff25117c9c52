"""Connections to one server, kept from request to request: straight, or through a proxy."""

import asyncio
import os
import ssl
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import ExitStack, aclosing, asynccontextmanager
from urllib.parse import SplitResult, quote, unquote, urlsplit

from magpie_cli.address import find_proxy
from magpie_cli.engines.http_answer import Reply
from magpie_cli.engines.http_connection import Connection, Patience
from magpie_cli.engines.http_reach import reach
from magpie_cli.engines.http_reply import reason
from magpie_cli.errors import UsageError

CONNECT_TIMEOUT = 5.0  # seconds, as all below
KEPT_FOR = 30.0  # idle; what stands between may forget a connection without a word
PORTS = {"http": 80, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}

_IN_A_PATH = "/%:@!$&'()*+,;=~"  # what RFC 3986 lets stand there as it is


class ProxyError(ConnectionError):
    """It is the proxy that has failed, or has refused."""


class HttpClient:
    """One origin. `patience` is that of a request which names none of its own."""

    def __init__(self, url: str, patience: Patience, proxy: str | None = None) -> None:
        self.patience = patience
        self._url = urlsplit(url)
        self._proxy = urlsplit(proxy) if proxy else None
        self._is_tls = self._url.scheme == "https"
        self._trust: ssl.SSLContext | None = None
        self._idle: list[Connection] = []
        # To a proxy of HTTP, an address that is not encrypted is named in full (RFC 9112, 3.2.2).
        is_http = self._proxy is not None and self._proxy.scheme.startswith("http")
        self._is_forwarded = is_http and not self._is_tls

    def head(self, method: str, url: str, headers: Mapping[str, str]) -> bytes:
        """The beginning of each such request, without the length of its body.

        Raises ValueError where a header holds what none may: a line break, say.
        """
        target = quote(urlsplit(url).path, safe=_IN_A_PATH) or "/"
        lines = {"Host": _netloc(self._url), "User-Agent": "magpie-cli", **headers}
        if self._proxy and self._is_forwarded:
            target = f"http://{lines['Host']}{target}"
            lines |= _credentials(self._proxy)
        return _head(f"{method} {target} HTTP/1.1", lines)

    async def ask(
        self, head: bytes, body: bytes | None, most: int, seconds: float | None = None
    ) -> Reply:
        """The whole answer, of which no more than `most` bytes are read. Raises OSError."""
        request = _request(head, body)
        patience = Patience(seconds, seconds) if seconds else self.patience
        kept = self._kept()
        connection = kept or await self._connect()
        while True:
            try:
                return await connection.ask(request, most, patience)
            except ConnectionError:
                if connection is not kept or connection.has_heard:
                    raise
            finally:
                if connection.rest():
                    self._idle.append(connection)
            connection = await self._connect()  # it was closed before, as may be (RFC 9112, 9.5)

    @asynccontextmanager
    async def open(
        self, head: bytes, body: bytes | None
    ) -> AsyncIterator[Reply | AsyncGenerator[bytes]]:
        """The pieces of a good answer as they come, or the whole of another. Raises OSError.

        Its connection is not kept: llama.cpp closes one after an answer in pieces, without saying
        so before.
        """
        connection = await self._connect()
        try:
            reply = await connection.open(_request(head, body), self.patience)
            if reply:
                yield reply
            else:
                async with aclosing(connection.pieces()) as pieces:
                    yield pieces
        finally:
            connection.abort()

    async def close(self) -> None:
        """Let go of all connections."""
        for connection in self._idle:
            connection.abort()
        self._idle.clear()
        await asyncio.sleep(0)  # until the loop has closed them

    def _kept(self) -> Connection | None:
        """One that has had an answer before."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable(KEPT_FOR):
                return connection
            connection.abort()
        return None

    async def _connect(self) -> Connection:
        async with asyncio.timeout(min(CONNECT_TIMEOUT, self.patience.total)):
            return await self._connected()

    async def _connected(self) -> Connection:
        proxy, tls = self._proxy, self._trusted() if self._is_tls else None
        if proxy is None:
            return await reach(self._url.hostname or "", _port(self._url), tls)
        if not proxy.scheme.startswith("http"):
            return await self._through_socks(proxy, tls)
        connection = await self._reach_proxy(proxy)
        if not self._is_forwarded:
            with ExitStack() as unless_done:
                unless_done.callback(connection.abort)
                await self._through(connection, proxy)
                unless_done.pop_all()
        return connection

    async def _reach_proxy(self, proxy: SplitResult) -> Connection:
        tls = self._trusted() if proxy.scheme == "https" else None
        try:
            return await reach(proxy.hostname or "", _port(proxy), tls)
        except ssl.SSLCertVerificationError:  # which has a hint of its own
            raise
        except OSError as error:
            raise ProxyError(f"the proxy: {reason(error)}") from error

    async def _through(self, connection: Connection, proxy: SplitResult) -> None:
        """Have the proxy connect to the server (RFC 9110, 9.3.6), and encrypt from there on."""
        host = f"{_host(self._url)}:{_port(self._url)}"
        lines = {"Host": host, **_credentials(proxy)}
        request = _request(_head(f"CONNECT {host} HTTP/1.1", lines), None)
        reply = await connection.tunnel(request, self.patience)
        if not reply.is_good:
            why = ": it wants a user and a password" if reply.status == 407 else ""
            raise ProxyError(f"the proxy answered {reply.status}{why}")
        if not connection.rest():
            raise ProxyError("the proxy closed the connection")
        transport = await asyncio.get_running_loop().start_tls(
            connection.transport, connection, self._trusted(), server_hostname=self._url.hostname
        )
        if transport is None:
            raise ProxyError("the proxy closed the connection")
        connection.connection_made(transport)

    async def _through_socks(self, proxy: SplitResult, tls: ssl.SSLContext | None) -> Connection:
        from python_socks import ProxyConnectionError, ProxyType
        from python_socks import ProxyError as SocksError
        from python_socks.async_.asyncio import Proxy

        kind = ProxyType.SOCKS5 if proxy.scheme.startswith("socks5") else ProxyType.SOCKS4
        remote = proxy.scheme in ("socks4a", "socks5h")  # who looks up the name
        login = unquote(proxy.username or ""), unquote(proxy.password or "")
        way = Proxy(kind, proxy.hostname or "", _port(proxy), *login, rdns=remote)
        try:
            socket = await way.connect(self._url.hostname or "", _port(self._url))
        except ProxyConnectionError as error:
            raise ProxyError(f"the proxy: {reason(error)}") from error
        except SocksError as error:
            raise ProxyError(f"the proxy: {error}") from error
        except ValueError:  # which would quote the password
            raise ProxyError("the proxy: a password it cannot be sent") from None
        host = self._url.hostname if tls else None
        loop = asyncio.get_running_loop()
        made = await loop.create_connection(Connection, sock=socket, ssl=tls, server_hostname=host)
        return made[1]

    def _trusted(self) -> ssl.SSLContext:
        """Whom the system trusts, or SSL_CERT_FILE and SSL_CERT_DIR name: read once.

        Raises UsageError where that file is none, which OpenSSL would not say.
        """
        if self._trust is None:
            self._trust = ssl.create_default_context()
            if path := os.environ.get("SSL_CERT_FILE"):
                try:
                    self._trust.load_verify_locations(path)
                except OSError as error:
                    raise UsageError(
                        f"SSL_CERT_FILE {path!a} holds no certificate: {reason(error)}",
                        "name a file of certificates (PEM), or unset it",
                    ) from error
        return self._trust


@asynccontextmanager
async def open_client(
    url: str, seconds: float, *, silence: float | None = None
) -> AsyncIterator[HttpClient]:
    """Connections to `url`, through the environment's proxy if it is not on loopback.

    An answer may take so many `seconds`, and be silent for `silence` of them; connecting before it
    has CONNECT_TIMEOUT of its own. Raises UsageError where the proxy is no address.
    """
    patience = Patience(seconds, min(silence or seconds, seconds))
    client = HttpClient(url, patience, find_proxy(url))
    try:
        yield client
    finally:
        await client.close()


def _head(first: str, headers: Mapping[str, str]) -> bytes:
    lines = [first, *(f"{name}: {value}" for name, value in headers.items())]
    if not all(line.isprintable() for line in lines):
        raise ValueError("a line of a request with a character that cannot be printed")
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


def _request(head: bytes, body: bytes | None) -> bytes:
    return (
        head + b"\r\n"
        if body is None
        else b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
    )


def _credentials(proxy: SplitResult) -> dict[str, str]:
    """The header that a proxy with a password wants."""
    if proxy.username is None:
        return {}
    login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(login.encode()).decode()}"}


def _host(url: SplitResult) -> str:
    """As it stands in an address: an IPv6 address in brackets, a name in ASCII."""
    host = url.hostname or ""
    return f"[{host}]" if ":" in host else host.encode("idna").decode()


def _netloc(url: SplitResult) -> str:
    return _host(url) if url.port is None else f"{_host(url)}:{url.port}"


def _port(url: SplitResult) -> int:
    return url.port or PORTS[url.scheme]
