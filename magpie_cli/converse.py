"""One pair on a chat model: prompts -> completion -> utterance, until the dialogue is whole."""

from dataclasses import replace

from magpie_cli.engine import ChatModel, DialogueRequest, Sampling
from magpie_cli.prompts import Prompts, Views
from magpie_cli.records import Dialogue


class ChatEngine:
    """An Engine made of any ChatModel."""

    def __init__(self, chat: ChatModel, sampling: Sampling, prompts: Prompts) -> None:
        self.name = chat.name
        self.model = chat.model
        self._chat = chat
        self._sampling = sampling
        self._prompts = prompts

    async def dialogue(self, request: DialogueRequest) -> Dialogue:
        """Ask 2 x num_turns times, less what the request already has. Raises EngineError."""
        views = Views(self._prompts, request.pair, request.num_turns)
        views.replay(request.utterances)
        usage = request.usage
        for position in range(len(request.utterances), 2 * request.num_turns):
            completion = await self._chat.complete(
                views.next_speaker, self._sampling_at(position, request.seed)
            )
            views.say(completion.text)
            usage += completion.usage
            request.on_utterance(completion.text, completion.usage)
        return Dialogue.from_utterances(views.utterances, self.model, usage)

    def _sampling_at(self, position: int, seed: int | None) -> Sampling:
        """The run's sampling, with a seed of its own for each utterance."""
        return self._sampling if seed is None else replace(self._sampling, seed=seed + position)
