"""The three calls of the Dria Network's RPC, over one client that keeps its connections.

GET  /rpc/get_alive_peers   heartbeats of the nodes
POST /rpc/task              a task for a node
GET  /rpc/results           the answers since the last call: reading takes them away
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from magpie_cli.engine import EngineRefused, PairRefused, Throttled, Transient
from magpie_cli.engines.http_client import HttpClient
from magpie_cli.engines.http_server import HttpServer

CALL_TIMEOUT = 60.0  # seconds
MAX_REPLY_BYTES = 256 * 1024 * 1024  # thousands of answers may have waited
FAILURES_OF_AN_OUTAGE = 3  # of one call in a row
REFUSALS_OF_A_STRANGER = 3  # tasks, before one was taken
REFUSALS_OF_A_NETWORK = 20  # tasks in a row: no longer the fault of each pair
_NOT_A_TASK = ("http_400", "http_422")  # kinds; 413 may be one pair's

_HINTS = {
    "http_401": "DRIA_RPC_TOKEN is wrong or has expired: export DRIA_RPC_TOKEN=...",
    "http_403": "DRIA_RPC_TOKEN has no right to this: export DRIA_RPC_TOKEN=...",
    "http_404": "no Dria RPC answers there: check --rpc-url",
}


class Rpc:
    """One network, with one token. Each call raises EngineError: Throttled while it is out."""

    def __init__(self, client: HttpClient, base_url: str, token: str) -> None:
        self._server = HttpServer(
            client, base_url, token, {}, key_header="x-api-key", most_bytes=MAX_REPLY_BYTES
        )
        self._failures: Counter[str] = Counter()
        self._refused = 0
        self._has_accepted = False

    def hide(self, text: str) -> str:
        """Without the token."""
        return self._server.hide(text)

    async def heartbeats(self) -> list[str]:
        """One of each node that is there."""
        return await self._list("get_alive_peers")

    async def answers(self) -> list[str]:
        """Those that came since the last call."""
        return await self._list("results")

    async def publish(self, payload: str) -> None:
        """Send a task."""
        try:
            with self._watched("task"):
                await self._server.send("/rpc/task", {"value": {"payload": payload}})
        except PairRefused as error:
            self._refused += 1
            is_stranger = error.kind in _NOT_A_TASK and not self._has_accepted
            most = REFUSALS_OF_A_STRANGER if is_stranger else REFUSALS_OF_A_NETWORK
            if self._refused < most:
                raise
            raise EngineRefused(
                error.kind,
                f"this network takes no tasks of the Dria SDK 0.0.124: {error.message}",
                "--engine dria-inference speaks to the Dria Network of today",
            ) from error
        self._refused = 0
        self._has_accepted = True

    async def _list(self, name: str) -> list[str]:
        with self._watched(name):
            return _results(await self._server.ask("GET", f"/rpc/{name}"))

    @contextmanager
    def _watched(self, name: str) -> Iterator[None]:
        """Tell an outage from a hiccup: of each call, for one may fail while the others work."""
        try:
            yield
        except PairRefused:
            self._failures[name] = 0  # it answers
            raise
        except EngineRefused as error:
            error.hint = _HINTS.get(error.kind, "check --rpc-url")
            raise
        except Transient as error:
            self._failures[name] += 1
            if self._failures[name] >= FAILURES_OF_AN_OUTAGE:
                raise Throttled("rpc_down", f"the Dria RPC is down: {error.message}") from error
            raise
        self._failures[name] = 0


def _results(reply: dict[str, Any]) -> list[str]:
    """The strings in `{"data": {"results": [...]}}`; what is no string is passed over."""
    data = reply.get("data")
    results = data.get("results") if isinstance(data, dict) else None
    if not isinstance(results, list):
        raise Transient("bad_reply", 'the Dria RPC answered without "data"."results"')
    return [result for result in results if isinstance(result, str)]
