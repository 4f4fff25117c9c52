"""A server that answers with JSON, whole or in pieces: one base URL, one key, one session."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
from aiohttp.http_exceptions import LineTooLong

from magpie_cli.address import find_proxy
from magpie_cli.credentials import SHORTEST_SECRET
from magpie_cli.engine import EngineError, StatusMeaning, Transient
from magpie_cli.engines.http_errors import classify, error_in_reply, server_words
from magpie_cli.engines.http_reply import json_object, read_body, read_words, reason

CONNECT_TIMEOUT = 5.0  # seconds
MAX_REPLY_BYTES = 8 * 1024 * 1024
MAX_WORDS_BYTES = 64 * 1024  # of an error, or of a reply that is not looked at

# Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html
_DATA, _DONE = b"data: ", b"data: [DONE]"


@asynccontextmanager
async def open_session(
    url: str, limits: aiohttp.ClientTimeout, *, keep: bool = True
) -> AsyncIterator[aiohttp.ClientSession]:
    """Connections to `url`, through the environment's proxy if it is not on loopback.

    Without `keep`, each request has its own. Raises UsageError where the proxy is no address.
    """
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=not keep),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=limits,
        proxy=find_proxy(url),
    ) as session:
        yield session


class HttpServer:
    """One base URL: asks it, and says what went wrong in words that never hold the key.

    The key goes into `key_header`, in OpenAI's way where that is Authorization; `no_key` is what to
    type where it wants one and has none. `statuses` says what some mean on this server; no answer
    that is read whole may be larger than `most_bytes`.
    """

    def __init__(  # noqa: PLR0913 - all that there is to know of a server
        self,
        session: aiohttp.ClientSession,
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
        self._session = session
        self._key = key
        self._most_bytes = most_bytes
        # Not the session's: aiohttp shows a session's headers to the proxy, unencrypted.
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key:
            self._headers[key_header] = f"Bearer {key}" if key_header == "Authorization" else key

    async def ask(
        self, method: str, path: str, body: object = None, seconds: float | None = None
    ) -> dict[str, Any]:
        """The JSON object that it answers with. Raises EngineError."""
        options: dict[str, Any] = {}
        if seconds:
            options["timeout"] = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_TIMEOUT)
        data = orjson.dumps(body) if body else None
        url = self.base_url + path
        async with self._answer(method, url, data, options) as response:
            return self._without_error(await read_body(response, self._most_bytes), url)

    async def send(self, path: str, body: object) -> None:
        """Post it, whatever a good answer may say, if it is no page. Raises EngineError."""
        url = self.base_url + path
        async with self._answer("POST", url, orjson.dumps(body), {}) as response:
            await read_words(response, MAX_WORDS_BYTES)
            if response.content_type == "text/html":  # of whoever stands in between
                raise Transient("bad_reply", f"{url} answered with an HTML page")

    async def stream(self, path: str, body: object) -> AsyncIterator[dict[str, Any]]:
        """Each JSON object of an answer that comes in pieces. Raises EngineError."""
        url = self.base_url + path
        async with self._answer("POST", url, orjson.dumps(body), {}) as response:
            while line := await _line(response):
                if line.startswith(_DATA) and not line.startswith(_DONE):
                    yield self._without_error(line.removeprefix(_DATA), url)

    def _without_error(self, reply: bytes, url: str) -> dict[str, Any]:
        answer = json_object(reply, url)
        if answer.get("error"):  # some servers send their errors with status 200
            raise error_in_reply(reply, url, self.hide, self._statuses)
        return answer

    @asynccontextmanager
    async def _answer(
        self, method: str, url: str, data: bytes | None, options: Mapping[str, Any]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A good answer, to be read. Raises EngineError, also where the reading breaks off.

        What is raised while it is read never holds the key either.
        """
        try:
            async with self._session.request(
                method, url, data=data, headers=self._headers, allow_redirects=False, **options
            ) as response:
                if not 200 <= response.status < 300:
                    reply = await read_words(response, MAX_WORDS_BYTES)
                    words = server_words(reply, self.hide)
                    error = classify(response.status, words, response.headers, url, self._statuses)
                    if response.status == 401 and not self._key and self._no_key:
                        error.hint = self._no_key
                    raise error
                yield response
        except TimeoutError as error:
            raise Transient("timeout", self.hide(f"no answer in time from {url}")) from error
        except (aiohttp.ClientError, OSError) as error:
            raise Transient("connection", self.hide(f"{url}: {reason(error)}")) from error
        except EngineError as error:
            error.message = self.hide(error.message)
            error.hint = error.hint and self.hide(error.hint)
            error.args = (error.message,)
            raise

    def hide(self, text: str) -> str:
        """Without the key: some servers quote the one that they refuse."""
        secret = self._key or ""
        return text.replace(secret, "***") if len(secret) >= SHORTEST_SECRET else text


async def _line(response: aiohttp.ClientResponse) -> bytes:
    try:
        return await response.content.readline()
    except (ValueError, LineTooLong) as error:  # longer than aiohttp's buffer
        raise Transient("bad_reply", f"a piece of the answer is too long: {error}") from error
