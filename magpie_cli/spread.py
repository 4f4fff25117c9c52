"""Several servers as one engine: each dialogue goes to the least busy, and stays with it.

A server that dies gives its dialogues to the others, which go on where they were: what a dialogue
has so far is sent along, as after a crash.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from magpie_cli.engine import DialogueRequest, Engine, ServerLost
from magpie_cli.pace.gate import Gate
from magpie_cli.records import Dialogue, Usage


@dataclass(slots=True)
class Server:
    """One of them. `in_flight` counts its dialogues, each of which has one request at a time."""

    engine: Engine
    gate: Gate
    in_flight: int = 0

    @property
    def reluctance(self) -> tuple[bool, int]:
        """The one with the least takes the next dialogue."""
        return not self.gate.breaker.is_closed, self.in_flight


class SpreadEngine:
    """An Engine made of the same model on several servers."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.name = servers[0].engine.name
        self.model = servers[0].engine.model
        self._servers = servers
        for server in servers:
            server.gate.is_needed = self._is_needed

    async def dialogue(self, request: DialogueRequest) -> Dialogue:
        """As Engine.dialogue, begun at one server and perhaps ended at another."""
        utterances, spent = [*request.utterances], request.usage

        def heard(text: str, usage: Usage) -> None:
            nonlocal spent
            utterances.append(text)
            spent += usage
            request.on_utterance(text, usage)

        while True:
            server = min(self._servers, key=lambda server: server.reluctance)
            server.in_flight += 1
            so_far = tuple(utterances)
            try:
                return await server.engine.dialogue(
                    replace(request, utterances=so_far, usage=spent, on_utterance=heard)
                )
            except ServerLost:
                continue
            finally:
                server.in_flight -= 1

    def _is_needed(self) -> bool:
        """Whether a closed gate is worth waiting at: no other is open."""
        return not any(server.gate.breaker.is_closed for server in self._servers)
