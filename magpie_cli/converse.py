"""One pair on a chat model: prompts -> completion -> utterance, until the dialogue is whole."""

from dataclasses import replace

from magpie_cli.checks.manner import is_truncated
from magpie_cli.checks.spoken import Spoken
from magpie_cli.engine import ChatModel, Completion, DialogueRequest, Sampling
from magpie_cli.prompts import Prompts, Views
from magpie_cli.records import Dialogue, Utterance


class ChatEngine:
    """An Engine made of any ChatModel."""

    def __init__(self, chat: ChatModel, sampling: Sampling, prompts: Prompts) -> None:
        self.name = chat.name
        self.model = chat.model
        self._chat = chat
        self._sampling = sampling
        self._prompts = prompts

    async def dialogue(self, request: DialogueRequest) -> Dialogue:
        """Ask for each utterance that the request does not have already. Raises EngineError."""
        views = Views(self._prompts, request.pair, request.num_turns)
        utterances = [*request.utterances]
        views.replay(utterance.text for utterance in utterances)
        for position in range(len(utterances), request.length):
            completion = await self._chat.complete(
                views.next_speaker, self._sampling_at(position, request.seed)
            )
            utterance = Utterance(
                completion.text, completion.usage, _found(completion), completion.reasoning
            )
            views.say(utterance.text)
            utterances.append(utterance)
            request.on_utterance(utterance)
        return Dialogue.from_utterances(utterances, self.model, end=request.end)

    def _sampling_at(self, position: int, seed: int | None) -> Sampling:
        """The run's sampling, with a seed of its own for each utterance."""
        return self._sampling if seed is None else replace(self._sampling, seed=seed + position)


def _found(completion: Completion) -> tuple[str, ...]:
    """What only the server could tell; all else is for `magpie filter`."""
    spoken = Spoken(completion.text, finish_reason=completion.finish_reason)
    return ("truncated",) if is_truncated(spoken) else ()
