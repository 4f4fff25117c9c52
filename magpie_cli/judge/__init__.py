"""`magpie judge`: scores for every row of an output.

__init__.py  what the run does with a row
ask.py       one dialogue before a judge
prompt.py    what the judge is told
scores.py    what it says, and a row with that
preview.py   --dry-run
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from magpie_cli.course import Given, Opened, Prepared, follow
from magpie_cli.engine import PairRefused, Sampling, Transient
from magpie_cli.engines import open_chat_models
from magpie_cli.ids import IdSet
from magpie_cli.judge.ask import Judge
from magpie_cli.judge.prompt import JudgePrompt
from magpie_cli.plan import Plan, dialogue_seed
from magpie_cli.records import Outcome
from magpie_cli.rows import refuse_without_rows
from magpie_cli.run import Attempt, failed
from magpie_cli.settings import Settings, TurnRange
from magpie_cli.source import RecordLine, Source
from magpie_cli.store import FailedBefore, Store
from magpie_cli.summary import Summary
from magpie_cli.tally import Tally

OWN_TURNS = 2  # as long as the rubric and the answer are, where a model has to make room


def judge(settings: Settings, prompt: str | None = None) -> Summary:
    """Give scores to every row of the input that has none yet, and show how it goes.

    `prompt` is the path of another one than magpie's own. Whatever ended it, an error or a signal,
    stands in the summary.
    """

    def prepare() -> Prepared:
        refuse_without_rows(settings.input)
        return Prepared(partial(_judging, prompt=JudgePrompt.read(prompt)))

    return follow(settings, prepare, "judged")


def identity(settings: Settings, engine: str, model: str, prompt: JudgePrompt) -> dict[str, object]:
    """What changes the scores; as Settings.identity."""
    return {
        "command": "judge",
        "engine": engine,
        "model": model,
        "prompt": prompt.digest(),
        "temperature": settings.temperature,
        "max_tokens": settings.max_tokens,
        "seed": settings.seed,
    }


def plan_rows(
    source: Source,
    settings: Settings,
    done: IdSet,
    tally: Tally,
    failed: FailedBefore | None = None,
) -> Plan[RecordLine, RecordLine]:
    """Every row of the source that has no scores yet."""
    return Plan(source.rows(), lambda row, _: row, settings, done, tally, failed=failed)


@asynccontextmanager
async def _judging(given: Given, prompt: JudgePrompt) -> AsyncIterator[Opened[RecordLine]]:
    """Rows before a judge."""
    settings, source, pace, tally = given.settings, given.source, given.pace, given.tally
    longest = max(1, source.most_turns) + OWN_TURNS
    room = replace(settings, turns=TurnRange(longest, longest), max_tokens=None)
    async with open_chat_models(given.engine, room, pace, say=given.say) as servers:
        sampling = Sampling(settings.temperature, max_tokens=settings.max_tokens)
        its = Judge(servers, sampling, prompt, pace, say=given.say, spend=tally.spend)

        async def attempt(row: RecordLine) -> Outcome:
            try:
                seed = dialogue_seed(settings.seed, row.id)
                return await its.scored(row, seed)
            except (Transient, PairRefused) as error:
                return failed(error, row.id, "judge", row.line.decode())

        def attempts(_: Store) -> Attempt[RecordLine]:
            return attempt

        yield Opened(
            its.name,
            its.model,
            lambda hide: identity(settings, its.name, hide(its.model), prompt),
            lambda store: plan_rows(source, settings, store.done, tally, store.failed),
            attempts,
        )
