"""One pair on a chat model: prompts -> completion -> utterance, until the dialogue is whole.

What can be mended in an utterance is, then it is checked; one with a hard finding is sampled again.
"""

from dataclasses import dataclass, replace

from magpie_cli.checks import CHECKS, CUT_AT_OTHER, findings, hard, repaired
from magpie_cli.checks.manner import is_truncated
from magpie_cli.checks.spoken import Scene, Spoken
from magpie_cli.engine import (
    ECHO,
    ChatModel,
    Completion,
    DialogueRequest,
    Engine,
    EngineError,
    PairRefused,
    Sampling,
    Transient,
)
from magpie_cli.prompts import Prompts, Views
from magpie_cli.records import NO_TOKENS, Dialogue, PersonaPair, Utterance
from magpie_cli.settings import MAX_TURNS


@dataclass(frozen=True, slots=True)
class Demands:
    """What is done about hard findings: samples beyond the first, and whether the pair then fails.

    `is_settled`: another try says the same, as at temperature 0. Unless it `looks`, nothing is
    checked or mended: only what no one else can know is named, that the server cut an utterance.
    """

    resample: int = 0
    fails: bool = False
    is_settled: bool = False
    looks: bool = True


class ChatEngine:
    """An Engine made of any ChatModel."""

    def __init__(
        self,
        chat: ChatModel,
        sampling: Sampling,
        prompts: Prompts,
        demands: Demands = Demands(),
    ) -> None:
        self.name = chat.name
        self.model = chat.model
        self._chat = chat
        self._sampling = sampling
        self._prompts = prompts
        self._demands = demands
        self._looks = demands.looks and chat.model != ECHO

    async def dialogue(self, request: DialogueRequest) -> Dialogue:
        """Ask for each utterance that the request does not have already, or oftener.

        Raises EngineError.
        """
        views = Views(self._prompts, request.pair, request.num_turns)
        utterances = [*request.utterances]
        scene = _scene(request.pair)
        views.replay(utterance.text for utterance in utterances)
        for utterance in utterances:
            scene.say(utterance.text)
        while len(utterances) < request.length:
            utterance = await self._next(views, scene, request.seed)
            views.say(utterance.text)
            if self._looks:  # else nobody asks for what was said before
                scene.say(utterance.text)
            utterances.append(utterance)
            request.on_utterance(utterance)
        return Dialogue.from_utterances(utterances, self.model, end=request.end)

    async def _next(self, views: Views, scene: Scene, seed: int | None) -> Utterance:
        """Of as many samples as it takes the first without a hard finding, or the one with fewest.

        Raises EngineError, also where the last is not good enough.
        """
        position = len(views.utterances)
        samples: list[Utterance] = []
        for number in range(1 + self._demands.resample):
            sampling = self._sampling_at(position, number, seed)
            completion = await self._chat.complete(views.next_speaker, sampling)
            samples.append(self._heard(completion, scene))
            if not hard(samples[-1].findings):
                break
        best = min(samples, key=lambda sample: len(hard(sample.findings)))
        if self._demands.fails and (found := hard(best.findings)):
            is_settled = self._demands.is_settled or seed is not None
            raise _failed(found[0], position, len(samples), is_settled=is_settled)
        if len(samples) == 1:
            return best
        usage = sum((sample.usage for sample in samples), NO_TOKENS)
        return replace(best, usage=usage, discarded=len(samples) - 1)

    def _heard(self, completion: Completion, scene: Scene) -> Utterance:
        """An answer as an utterance, mended and checked."""
        text, usage, reasoning = completion.text, completion.usage, completion.reasoning
        if not self._looks:
            cut = is_truncated(Spoken(text, finish_reason=completion.finish_reason))
            return Utterance(text, usage, ("truncated",) if cut else (), reasoning)
        text, repairs = repaired(text, scene.speaker)
        # Where the other's words came off, so did the end that the limit of tokens cut.
        finish_reason = None if CUT_AT_OTHER in repairs else completion.finish_reason
        found = findings(scene.spoken(text, finish_reason))
        return Utterance(text, usage, (*repairs, *found), reasoning)

    def _sampling_at(self, position: int, number: int, seed: int | None) -> Sampling:
        """The run's sampling, with a seed of its own for each sample of each utterance."""
        if seed is None:
            return self._sampling
        return replace(self._sampling, seed=seed + position + number * 2 * MAX_TURNS)


class CheckedEngine:
    """An Engine of whole dialogues, each checked once it is there: no word of it can be mended."""

    def __init__(self, engine: Engine, demands: Demands) -> None:
        self.name = engine.name
        self.model = engine.model
        self._engine = engine
        self._demands = demands

    async def dialogue(self, request: DialogueRequest) -> Dialogue:
        """As Engine.dialogue, with what was found in it."""
        dialogue = await self._engine.dialogue(request)
        if dialogue.model == ECHO or not self._demands.looks:
            return dialogue
        names = dict.fromkeys(dialogue.findings)
        scene = _scene(request.pair)
        for position, text in enumerate(dialogue.utterances):
            found = findings(scene.spoken(text))
            scene.say(text)
            if self._demands.fails and (faults := hard(found)):
                raise _failed(faults[0], position, 1, is_settled=False)
            names.update(dict.fromkeys(found))
        return replace(dialogue, findings=tuple(names))


def _scene(pair: PersonaPair) -> Scene:
    return Scene.of(pair.instructor_persona, pair.responding_persona, pair.metadata)


def _failed(name: str, position: int, samples: int, *, is_settled: bool) -> EngineError:
    """Why a pair fails: the check, which names the kind, and where it found something."""
    speaker = "responder" if position % 2 else "instructor"
    each = f", in each of {samples} samples" if samples > 1 else ""
    message = f"utterance {position + 1}, the {speaker}'s: {CHECKS[name].reason}{each}"
    error: EngineError = (
        PairRefused(name, message) if is_settled else Transient(name, message, of_server=False)
    )
    error.attempts = samples
    return error
