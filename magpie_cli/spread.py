"""Several servers as one engine: each dialogue goes to the least busy, and stays with it.

A server that dies gives its dialogues to the others, which go on where they were: what a dialogue
has so far is sent along, as after a crash.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

from magpie_cli.engine import DialogueRequest, Engine, ServerLost
from magpie_cli.pace.gate import Gate
from magpie_cli.records import Dialogue, Utterance

_E = TypeVar("_E")
_T = TypeVar("_T")


@dataclass(slots=True, eq=False)
class Server(Generic[_E]):
    """One of them, as an Engine or a ChatModel.

    `in_flight` counts its dialogues, each of which has one request at a time.
    """

    engine: _E
    gate: Gate
    in_flight: int = 0

    def reluctance(self, lost: "Collection[Server[Any]]") -> tuple[bool, bool, int]:
        """The one with the least takes the dialogue, not one of those that have `lost` it."""
        return not self.gate.is_open, self in lost, self.in_flight


class Servers(Generic[_E]):
    """The same model on one server or on several."""

    def __init__(self, servers: Sequence[Server[_E]]) -> None:
        self.first = servers[0].engine
        self._servers = servers
        for server in servers:
            server.gate.is_needed = partial(self._is_needed, server)

    async def at_one(self, request: Callable[[Server[_E]], Awaitable[_T]]) -> _T:
        """What the least busy one makes of it, or where that is lost, another.

        `request` may be called again: it remembers how far it came.
        """
        lost: list[Server[_E]] = []
        while True:
            server = min(self._servers, key=lambda server: server.reluctance(lost))
            server.in_flight += 1
            try:
                return await request(server)
            except ServerLost:
                lost = [server]  # it may be well again by the time that the next one is lost
            finally:
                server.in_flight -= 1

    def _is_needed(self, server: Server[_E]) -> bool:
        """Whether its gate is worth waiting at while it is closed: no other is open."""
        return not any(other.gate.is_open for other in self._servers if other is not server)


class SpreadEngine:
    """An Engine made of the same model on several servers."""

    def __init__(self, servers: Sequence[Server[Engine]]) -> None:
        self._servers = Servers(servers)
        self.name = self._servers.first.name
        self.model = self._servers.first.model

    async def dialogue(self, request: DialogueRequest) -> Dialogue:
        """As Engine.dialogue, begun at one server and perhaps ended at another."""
        utterances = [*request.utterances]

        def heard(utterance: Utterance) -> None:
            utterances.append(utterance)
            request.on_utterance(utterance)

        async def go_on(server: Server[Engine]) -> Dialogue:
            so_far = replace(request, utterances=tuple(utterances), on_utterance=heard)
            return await server.engine.dialogue(so_far)

        return await self._servers.at_one(go_on)
