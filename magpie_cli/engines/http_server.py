"""A server that answers with JSON, whole or in pieces: one base URL, one key, one client."""

import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import orjson

from magpie_cli.credentials import SHORTEST_SECRET
from magpie_cli.engine import EngineError, EngineRefused, StatusMeaning, Transient
from magpie_cli.engines.http_answer import MAX_WORDS_BYTES, Reply
from magpie_cli.engines.http_client import HttpClient, ProxyError
from magpie_cli.engines.http_errors import HEADERS, classify, error_in_reply, server_words
from magpie_cli.engines.http_reply import json_object, read_lines, reason

MAX_REPLY_BYTES = 8 * 1024 * 1024

# Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html
_DATA, _DONE = b"data: ", b"data: [DONE]"

_PROXY = "check HTTP_PROXY and HTTPS_PROXY, or put the server's name into NO_PROXY"
_TRUST = "export SSL_CERT_FILE=/path/to/the/authority.pem, if you trust whoever answers there"


class HttpServer:
    """One base URL: asks it, and says what went wrong in words that never hold the key.

    The key goes into `key_header`, in OpenAI's way where that is Authorization; `no_key` is what to
    type where it wants one and has none. `statuses` says what some mean on this server; no answer
    that is read whole may be larger than `most_bytes`.
    """

    def __init__(  # noqa: PLR0913 - all that there is to know of a server
        self,
        client: HttpClient,
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
        self._heads: dict[tuple[str, str], bytes] = {}  # of requests: all of a kind have the same

    async def ask(
        self, method: str, path: str, body: object = None, seconds: float | None = None
    ) -> dict[str, Any]:
        """The JSON object that it answers with. Raises EngineError."""
        url = self.base_url + path
        reply = await self._asked(method, path, body, self._most_bytes, seconds)
        self._check_status(reply, url)
        if reply.is_cut:  # a server gone mad must not fill the memory
            raise Transient("reply_too_large", f"a reply of more than {self._most_bytes:,} bytes")
        return self._without_error(reply.body, url)

    async def send(self, path: str, body: object) -> None:
        """Post it, whatever a good answer may say, if it is no page. Raises EngineError."""
        url = self.base_url + path
        reply = await self._asked("POST", path, body, MAX_WORDS_BYTES)
        self._check_status(reply, url)
        kind = reply.header("Content-Type") or ""
        if kind.startswith("text/html"):  # of whoever stands in between
            raise Transient("bad_reply", f"{url} answered with an HTML page")

    async def stream(self, path: str, body: object) -> AsyncGenerator[dict[str, Any]]:
        """Each JSON object of an answer that comes in pieces. Raises EngineError."""
        url = self.base_url + path
        try:
            async with self._client.open(self._head("POST", path), orjson.dumps(body)) as answer:
                if isinstance(answer, Reply):
                    self._check_status(answer, url)
                    return
                async with aclosing(read_lines(answer)) as lines:
                    async for line in lines:
                        if line.startswith(_DATA) and not line.startswith(_DONE):
                            yield self._without_error(line.removeprefix(_DATA), url)
        except OSError as error:
            raise self._broken_off(error, url) from error

    def hide(self, text: str) -> str:
        """Without the key: some servers quote the one that they refuse."""
        secret = self._key or ""
        return text.replace(secret, "***") if len(secret) >= SHORTEST_SECRET else text

    async def _asked(
        self, method: str, path: str, body: object, most: int, seconds: float | None = None
    ) -> Reply:
        data = orjson.dumps(body) if body else None
        try:
            return await self._client.ask(self._head(method, path), data, most, seconds)
        except OSError as error:
            raise self._broken_off(error, self.base_url + path) from error

    def _head(self, method: str, path: str) -> bytes:
        head = self._heads.get((method, path))
        if head is None:
            head = self._client.head(method, self.base_url + path, self._headers)
            self._heads[method, path] = head
        return head

    def _check_status(self, reply: Reply, url: str) -> None:
        """Raises the EngineError of a status that is not good."""
        if reply.is_good:
            return
        words = server_words(reply.body, self.hide)
        found = ((name, reply.header(name)) for name in HEADERS)
        headers = {name: self.hide(value) for name, value in found if value is not None}
        error = classify(reply.status, words, headers, url, self._statuses)
        if reply.status == 401 and not self._key and self._no_key:
            error.hint = self._no_key
        raise self._hidden(error)

    def _without_error(self, reply: bytes, url: str) -> dict[str, Any]:
        answer = json_object(reply, url)
        if answer.get("error"):  # some servers send their errors with status 200
            raise error_in_reply(reply, url, self.hide, self._statuses)
        return answer

    def _broken_off(self, error: OSError, url: str) -> EngineError:
        """What it means that no whole answer came."""
        if isinstance(error, TimeoutError):
            return Transient("timeout", self.hide(f"no answer in time from {url}"))
        words = self.hide(f"{url}: {reason(error)}")
        if isinstance(error, ssl.SSLCertVerificationError):
            return EngineRefused("certificate", f"{words}: its certificate is not trusted", _TRUST)
        broken = Transient("connection", words)
        if isinstance(error, ProxyError):
            broken.hint = _PROXY
        return broken

    def _hidden(self, error: EngineError) -> EngineError:
        error.message = self.hide(error.message)
        error.hint = error.hint and self.hide(error.hint)
        error.args = (error.message,)
        return error
