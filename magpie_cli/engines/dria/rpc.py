"""The three calls of the Dria Network's RPC, over one session that keeps its connections.

GET  /rpc/get_alive_peers   heartbeats of the nodes
POST /rpc/task              a task for a node
GET  /rpc/results           the answers since the last call: reading takes them away
"""

from typing import Any

import aiohttp
import orjson

from magpie_cli.engine import EngineError, EngineRefused, PairRefused, Throttled, Transient
from magpie_cli.engines.http_errors import classify, server_words
from magpie_cli.engines.http_reply import json_object, read_body, reason

CONNECT_TIMEOUT = 5.0  # seconds, as below
CALL_TIMEOUT = 60.0
MAX_REPLY_BYTES = 256 * 1024 * 1024  # thousands of answers may have waited
FAILURES_OF_AN_OUTAGE = 3  # calls in a row, whichever they were

_HINTS = {
    401: "DRIA_RPC_TOKEN is wrong or has expired: export DRIA_RPC_TOKEN=...",
    403: "DRIA_RPC_TOKEN has no right to this: export DRIA_RPC_TOKEN=...",
}
_NOT_A_TASK = ("http_400", "http_422")  # kinds


class Rpc:
    """One network, with one token."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str, token: str) -> None:
        self.base_url = base_url
        self._session = session
        self._token = token
        self._headers = {
            "x-api-key": token,
            "Accept": "application/json",
            "Content-Type": "application/json",
        }
        self._failures = 0
        self._has_accepted = False

    @property
    def is_out(self) -> bool:
        """Whether nothing has come through lately: what is lost now is not a node's fault."""
        return self._failures >= FAILURES_OF_AN_OUTAGE

    async def heartbeats(self) -> list[str]:
        """One of each node that is there. Raises EngineError."""
        return _results(await self._call("GET", "get_alive_peers"), self.base_url)

    async def answers(self) -> list[str]:
        """Those that came since the last call. Raises EngineError."""
        return _results(await self._call("GET", "results"), self.base_url)

    async def publish(self, payload: str) -> None:
        """Send a task. Raises EngineError: Throttled while the network is out."""
        try:
            await self._call("POST", "task", {"value": {"payload": payload}})
        except PairRefused as error:
            if self._has_accepted or error.kind not in _NOT_A_TASK:
                raise
            raise EngineRefused(
                error.kind,
                f"this network takes no tasks of the Dria SDK 0.0.124: {error.message}",
                "--engine dria-inference speaks to the Dria Network of today",
            ) from error
        self._has_accepted = True

    async def _call(self, method: str, name: str, body: object = None) -> bytes:
        url = f"{self.base_url}/rpc/{name}"
        try:
            reply = await self._ask(method, url, body)
        except Transient as error:
            self._failures += 1
            if error.kind == "connection" or self.is_out:
                raise Throttled("rpc_down", f"the Dria RPC is down: {error.message}") from error
            raise
        self._failures = 0
        return reply

    async def _ask(self, method: str, url: str, body: object) -> bytes:
        data: dict[str, Any] = {"data": orjson.dumps(body)} if body else {}
        try:
            async with self._session.request(
                method, url, headers=self._headers, allow_redirects=False, **data
            ) as response:
                reply = await read_body(response, MAX_REPLY_BYTES)
                if not 200 <= response.status < 300:
                    raise self._error(response, reply, url)
        except TimeoutError as error:
            raise Transient("timeout", f"no answer in time from {url}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Transient("connection", f"{url}: {reason(error)}") from error
        return reply

    def _error(self, response: aiohttp.ClientResponse, reply: bytes, url: str) -> EngineError:
        words = server_words(reply, lambda text: text.replace(self._token, "***"))
        error = classify(response.status, words, response.headers, url)
        if isinstance(error, EngineRefused):
            error.hint = _HINTS.get(response.status, "check --rpc-url")
        return error


def _results(reply: bytes, url: str) -> list[str]:
    """The strings in `{"data": {"results": [...]}}`; what is no string is passed over."""
    data = json_object(reply, url).get("data")
    results = data.get("results") if isinstance(data, dict) else None
    if not isinstance(results, list):
        raise Transient("bad_reply", f'{url} answered without "data"."results"')
    return [result for result in results if isinstance(result, str)]
