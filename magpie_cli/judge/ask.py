"""One dialogue before a judge: asked until the answer is whole, through the pace of the run."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from magpie_cli.engine import (
    SCHEMA_REFUSED,
    ChatModel,
    Completion,
    Message,
    PairRefused,
    Sampling,
    Transient,
)
from magpie_cli.judge.prompt import JudgePrompt
from magpie_cli.judge.scores import (
    MALFORMED,
    SCHEMA,
    Answer,
    ScoredRecord,
    malformed,
    read_answer,
)
from magpie_cli.pace import Pace
from magpie_cli.pace.gate import Gate
from magpie_cli.records import NO_TOKENS, Usage
from magpie_cli.source import RecordLine


class Judge:
    """A chat model that gives scores. `heard` is called with each of its answers.

    A server that takes no schema is asked without one from then on, and `say` hears that once.
    """

    def __init__(  # noqa: PLR0913 - the parts that it is made of
        self,
        chat: ChatModel,
        sampling: Sampling,
        prompt: JudgePrompt,
        pace: Pace,
        gate: Gate,
        *,
        say: Callable[[str], None],
        heard: Callable[[str, Usage], None],
    ) -> None:
        self._chat = chat
        self._sampling = replace(sampling, schema=SCHEMA)
        self._prompt = prompt
        self._pace = pace
        self._gate = gate
        self._say = say
        self._heard = heard

    async def scored(self, row: RecordLine, seed: int | None) -> ScoredRecord:
        """The row with its scores. Raises EngineError.

        An answer with a rating that is none is asked for again, like one that is malformed
        altogether, with the next seed. When all attempts are used up, the best of them counts, with
        null for what is wrong, if it has any rating at all.
        """
        messages = self._prompt.messages(row.record)
        usage = NO_TOKENS
        answers = 0
        best: Answer | None = None

        async def ask() -> Answer:
            nonlocal usage, answers, best
            completion = await self._complete(messages, None if seed is None else seed + answers)
            answers += 1
            usage += completion.usage
            self._heard(completion.text, completion.usage)
            answer = read_answer(completion.text)
            if answer.wrong:
                best = answer if best is None or answer.given > best.given else best
                raise malformed(f"has a rating that is none: {', '.join(answer.wrong)}")
            return answer

        try:
            answer = await self._pace.attempt(ask, self._gate)
        except Transient as error:
            if error.kind != MALFORMED or best is None or not best.given:
                raise
            answer = best
        return ScoredRecord(row, answer, self._chat.model, usage)

    async def _complete(self, messages: Sequence[Message], seed: int | None) -> Completion:
        sampling = replace(self._sampling, seed=seed)
        try:
            return await self._chat.complete(messages, sampling)
        except PairRefused as error:
            if error.kind != SCHEMA_REFUSED:
                raise
            if self._sampling.schema:  # others may have been out with it at the same time
                self._say(f"{error.message}: asked without a response_format from now on")
                self._sampling = replace(self._sampling, schema=None)
        return await self._chat.complete(messages, replace(sampling, schema=None))
