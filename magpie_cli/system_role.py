"""Models whose chat template takes no system message: Gemma 1 and 2, the first Mistrals, o1-mini.

Their servers refuse it, as vLLM does: https://github.com/vllm-project/vllm/issues/2080 . From the
first such refusal on, its text goes in front of the first user message. That moves nothing: each
list still grows at its end alone.
"""

from collections.abc import Callable, Sequence

from magpie_cli.engine import NO_SYSTEM_ROLE, ChatModel, Completion, Message, PairRefused, Sampling


class SystemRole:
    """What is known of a model, for all servers that have it; `say` hears of it once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.is_refused = False
        self._say = say

    def refuse(self) -> None:
        """The model takes none."""
        if not self.is_refused:
            self.is_refused = True
            self._say(
                "the model takes no system message: what it would say goes in front of the first "
                "user message instead"
            )


class FoldingChatModel:
    """A ChatModel whose system message is folded into the next one where the model takes none."""

    def __init__(self, chat: ChatModel, role: SystemRole) -> None:
        self.name = chat.name
        self.model = chat.model
        self._chat = chat
        self._role = role

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """As the model inside; asks once more where that is how the refusal comes to light."""
        if not self._role.is_refused:
            try:
                return await self._chat.complete(messages, sampling)
            except PairRefused as error:
                if error.kind != NO_SYSTEM_ROLE or messages[0]["role"] != "system":
                    raise
                self._role.refuse()
        return await self._chat.complete(folded(messages), sampling)


def folded(messages: Sequence[Message]) -> list[Message]:
    """The messages without a system message, its text in front of the first user's."""
    if messages[0]["role"] != "system":
        return [*messages]
    system, first, *rest = messages
    return [{"role": "user", "content": f"{system['content']}\n\n{first['content']}"}, *rest]
