"""Several servers as one engine: each dialogue goes to the least busy, and stays with it.

A server that dies gives its dialogues to the others, which go on where they were: what a dialogue
has so far is sent along, as after a crash.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial

from magpie_cli.engine import DialogueRequest, Engine, ServerLost
from magpie_cli.pace.gate import Gate
from magpie_cli.records import Dialogue, Utterance


@dataclass(slots=True, eq=False)
class Server:
    """One of them. `in_flight` counts its dialogues, each of which has one request at a time."""

    engine: Engine
    gate: Gate
    in_flight: int = 0

    def reluctance(self, lost: "Collection[Server]") -> tuple[bool, bool, int]:
        """The one with the least takes the dialogue, not one of those that have `lost` it."""
        return not self.gate.is_open, self in lost, self.in_flight


class SpreadEngine:
    """An Engine made of the same model on several servers."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.name = servers[0].engine.name
        self.model = servers[0].engine.model
        self._servers = servers
        for server in servers:
            server.gate.is_needed = partial(self._is_needed, server)

    async def dialogue(self, request: DialogueRequest) -> Dialogue:
        """As Engine.dialogue, begun at one server and perhaps ended at another."""
        utterances = [*request.utterances]

        def heard(utterance: Utterance) -> None:
            utterances.append(utterance)
            request.on_utterance(utterance)

        lost: list[Server] = []
        while True:
            server = min(self._servers, key=lambda server: server.reluctance(lost))
            server.in_flight += 1
            so_far = replace(request, utterances=tuple(utterances), on_utterance=heard)
            try:
                return await server.engine.dialogue(so_far)
            except ServerLost:
                lost = [server]  # it may be well again by the time that the next one is lost
            finally:
                server.in_flight -= 1

    def _is_needed(self, server: Server) -> bool:
        """Whether its gate is worth waiting at while it is closed: no other is open."""
        return not any(other.gate.is_open for other in self._servers if other is not server)
