"""A server that answers with JSON, whole or in pieces: one base URL, one key, one client.

The client is reqwest's, of Rust, through pyreqwest: a request costs it less than half of what
aiohttp takes, and its import a tenth (benchmarks/peers.py, benchmarks/startup.py).
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import orjson
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import PyreqwestError
from pyreqwest.http import Url
from pyreqwest.proxy import ProxyBuilder
from pyreqwest.request import StreamRequest
from pyreqwest.response import Response

from magpie_cli.address import find_proxy, no_proxy_there
from magpie_cli.credentials import SHORTEST_SECRET
from magpie_cli.engine import EngineError, EngineRefused, StatusMeaning, Transient
from magpie_cli.engines.http_errors import HEADERS, classify, error_in_reply, server_words
from magpie_cli.engines.http_reply import (
    header,
    json_object,
    read_body,
    read_lines,
    read_words,
    reason,
)
from magpie_cli.errors import UsageError

CONNECT_TIMEOUT = 5.0  # seconds
MAX_REPLY_BYTES = 8 * 1024 * 1024
MAX_WORDS_BYTES = 64 * 1024  # of an error, or of a reply that is not looked at

# Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html
_DATA, _DONE = b"data: ", b"data: [DONE]"

_BAD_CERTIFICATE = "invalid peer certificate"  # as rustls says it
_TRUST = "export SSL_CERT_FILE=/path/to/the/authority.pem, if you trust whoever answers there"


@asynccontextmanager
async def open_client(
    url: str, seconds: float, *, silence: float | None = None, keep: bool = True
) -> AsyncIterator[Client]:
    """Connections to `url`, through the environment's proxy if it is not on loopback.

    A request may take so many `seconds`, and be silent for `silence` of them. Without `keep`, each
    request has its own connection. Raises UsageError where it or the proxy is no address.
    """
    try:
        Url(url)
    except ValueError as error:
        raise UsageError(
            f"--base-url {url!a} is no address: {error.args[0]}",
            "--base-url http://localhost:8000/v1",
        ) from error
    proxy = find_proxy(url)
    builder = ClientBuilder().no_proxy().follow_redirects(enable=False).referer(enable=False)
    if proxy:
        try:
            builder = builder.proxy(ProxyBuilder.all(proxy))
        except ValueError:  # which may quote it
            raise no_proxy_there(urlsplit(url).scheme) from None
    if not keep:
        builder = builder.pool_max_idle_per_host(0)
    builder = builder.connect_timeout(timedelta(seconds=min(CONNECT_TIMEOUT, seconds)))
    builder = builder.timeout(timedelta(seconds=seconds))
    builder = builder.read_timeout(timedelta(seconds=min(silence or seconds, seconds)))
    async with builder.build() as client:
        yield client


class HttpServer:
    """One base URL: asks it, and says what went wrong in words that never hold the key.

    The key goes into `key_header`, in OpenAI's way where that is Authorization; `no_key` is what to
    type where it wants one and has none. `statuses` says what some mean on this server; no answer
    that is read whole may be larger than `most_bytes`.
    """

    def __init__(  # noqa: PLR0913 - all that there is to know of a server
        self,
        client: Client,
        base_url: str,
        key: str | None,
        statuses: Mapping[int, StatusMeaning],
        *,
        key_header: str = "Authorization",
        no_key: str = "",
        most_bytes: int = MAX_REPLY_BYTES,
    ) -> None:
        self.base_url = base_url
        self._statuses = statuses
        self._no_key = no_key
        self._client = client
        self._key = key
        self._most_bytes = most_bytes
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key:
            self._headers[key_header] = f"Bearer {key}" if key_header == "Authorization" else key

    async def ask(
        self, method: str, path: str, body: object = None, seconds: float | None = None
    ) -> dict[str, Any]:
        """The JSON object that it answers with. Raises EngineError."""
        url = self.base_url + path
        try:
            async with self._request(method, url, body, seconds) as response:
                await self._check_status(response, url)
                return self._without_error(await read_body(response, self._most_bytes), url)
        except PyreqwestError as error:
            raise self._broken_off(error, url) from error

    async def send(self, path: str, body: object) -> None:
        """Post it, whatever a good answer may say, if it is no page. Raises EngineError."""
        url = self.base_url + path
        try:
            async with self._request("POST", url, body) as response:
                await self._check_status(response, url)
                await read_words(response, MAX_WORDS_BYTES)
                kind = header(response, "Content-Type") or ""
        except PyreqwestError as error:
            raise self._broken_off(error, url) from error
        if kind.startswith("text/html"):  # of whoever stands in between
            raise Transient("bad_reply", f"{url} answered with an HTML page")

    async def stream(self, path: str, body: object) -> AsyncGenerator[dict[str, Any]]:
        """Each JSON object of an answer that comes in pieces. Raises EngineError."""
        url = self.base_url + path
        try:
            async with self._request("POST", url, body) as response:
                await self._check_status(response, url)
                async with aclosing(read_lines(response)) as lines:
                    async for line in lines:
                        if line.startswith(_DATA) and not line.startswith(_DONE):
                            yield self._without_error(line.removeprefix(_DATA), url)
        except PyreqwestError as error:
            raise self._broken_off(error, url) from error

    def hide(self, text: str) -> str:
        """Without the key: some servers quote the one that they refuse."""
        secret = self._key or ""
        return text.replace(secret, "***") if len(secret) >= SHORTEST_SECRET else text

    def _request(
        self, method: str, url: str, body: object, seconds: float | None = None
    ) -> StreamRequest:
        request = self._client.request(method, url).headers(self._headers)
        if body:
            request = request.body_bytes(orjson.dumps(body))
        if seconds:
            request = request.timeout(timedelta(seconds=seconds))
        return request.build_streamed()

    async def _check_status(self, response: Response, url: str) -> None:
        """Raises the EngineError of a status that is not good."""
        if 200 <= response.status < 300:
            return
        words = server_words(await read_words(response, MAX_WORDS_BYTES), self.hide)
        found = ((name, header(response, name)) for name in HEADERS)
        headers = {name: self.hide(value) for name, value in found if value is not None}
        error = classify(response.status, words, headers, url, self._statuses)
        if response.status == 401 and not self._key and self._no_key:
            error.hint = self._no_key
        raise self._hidden(error)

    def _without_error(self, reply: bytes, url: str) -> dict[str, Any]:
        answer = json_object(reply, url)
        if answer.get("error"):  # some servers send their errors with status 200
            raise error_in_reply(reply, url, self.hide, self._statuses)
        return answer

    def _broken_off(self, error: PyreqwestError, url: str) -> EngineError:
        """What it means that no whole answer came."""
        if isinstance(error, TimeoutError):
            return Transient("timeout", self.hide(f"no answer in time from {url}"))
        words = reason(error)
        if _BAD_CERTIFICATE in words:
            return EngineRefused("certificate", self.hide(f"{url}: {words}"), _TRUST)
        return Transient("connection", self.hide(f"{url}: {words}"))

    def _hidden(self, error: EngineError) -> EngineError:
        error.message = self.hide(error.message)
        error.hint = error.hint and self.hide(error.hint)
        error.args = (error.message,)
        return error
