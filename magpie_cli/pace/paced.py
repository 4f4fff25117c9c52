"""A ChatModel or an Engine whose every request goes through the pace."""

from collections.abc import Sequence

from magpie_cli.engine import ChatModel, Completion, DialogueRequest, Engine, Message, Sampling
from magpie_cli.pace import Pace
from magpie_cli.pace.gate import Gate
from magpie_cli.records import Dialogue


class PacedChatModel:
    """A ChatModel whose every completion goes through the gate of its server."""

    def __init__(self, chat: ChatModel, pace: Pace, gate: Gate) -> None:
        self.name = chat.name
        self.model = chat.model
        self._chat = chat
        self._pace = pace
        self._gate = gate

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """As ChatModel.complete, with retries."""
        return await self._pace.attempt(lambda: self._chat.complete(messages, sampling), self._gate)


class PacedEngine:
    """An Engine whose every dialogue is tried again as one request.

    It has no gate: which of its nodes or servers is in trouble, it knows itself.
    """

    def __init__(self, engine: Engine, pace: Pace) -> None:
        self.name = engine.name
        self.model = engine.model
        self._engine = engine
        self._pace = pace

    async def dialogue(self, request: DialogueRequest) -> Dialogue:
        """As Engine.dialogue, with retries."""
        return await self._pace.attempt(lambda: self._engine.dialogue(request))
