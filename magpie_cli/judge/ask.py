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
from magpie_cli.records import NO_TOKENS, Usage
from magpie_cli.source import RecordLine
from magpie_cli.spread import Server, Servers


class Judge:
    """A chat model, on one server or several, that gives scores.

    `spend` hears what each of its answers took. A server that takes no schema is asked without one
    from then on, and `say` hears that once.
    """

    def __init__(  # noqa: PLR0913 - the parts that it is made of
        self,
        servers: Servers[ChatModel],
        sampling: Sampling,
        prompt: JudgePrompt,
        pace: Pace,
        *,
        say: Callable[[str], None],
        spend: Callable[[Usage], None],
    ) -> None:
        self.name = servers.first.name
        self.model = servers.first.model
        self._servers = servers
        self._sampling = replace(sampling, schema=SCHEMA)
        self._prompt = prompt
        self._pace = pace
        self._say = say
        self._spend = spend

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

        async def ask(chat: ChatModel) -> Answer:
            nonlocal usage, answers, best
            own_seed = None if seed is None else seed + answers
            completion = await self._complete(chat, messages, own_seed)
            answers += 1
            usage += completion.usage
            self._spend(completion.usage)
            answer = read_answer(completion.text)
            if answer.wrong:
                best = answer if best is None or answer.given > best.given else best
                raise malformed(f"has a rating that is none: {', '.join(answer.wrong)}")
            return answer

        async def insist(server: Server[ChatModel]) -> Answer:
            return await self._pace.attempt(lambda: ask(server.engine), server.gate)

        try:
            answer = await self._servers.at_one(insist)
        except Transient as error:
            if error.kind != MALFORMED or best is None or not best.given:
                raise
            answer = best
        return ScoredRecord(row, answer, self.model, usage)

    async def _complete(
        self, chat: ChatModel, messages: Sequence[Message], seed: int | None
    ) -> Completion:
        sampling = replace(self._sampling, seed=seed)
        try:
            return await chat.complete(messages, sampling)
        except PairRefused as error:
            if error.kind != SCHEMA_REFUSED:
                raise
            if self._sampling.schema:  # others may have been out with it at the same time
                self._say(f"{error.message}: asked without a response_format from now on")
                self._sampling = replace(self._sampling, schema=None)
        return await chat.complete(messages, replace(sampling, schema=None))
