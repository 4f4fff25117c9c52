"""A judge that answers poorly, refuses schemas or fails: what is asked for again, and how often."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from magpie_cli.engine import (
    SCHEMA_REFUSED,
    ChatModel,
    Completion,
    EngineError,
    Message,
    PairRefused,
    Sampling,
    Transient,
)
from magpie_cli.judge.ask import Judge
from magpie_cli.judge.prompt import JudgePrompt
from magpie_cli.judge.scores import MALFORMED
from magpie_cli.pace import ATTEMPTS, Pace
from magpie_cli.records import Usage
from magpie_cli.source import RecordLine
from magpie_cli.spread import Server, Servers
from tests.test_scores import GOOD, RECORD, answered

LINE = RECORD.to_json().strip()
ROW = RecordLine(LINE, RECORD, orjson.loads(LINE))


class Scripted:
    """A ChatModel that says or raises one thing after another, and remembers how it was asked."""

    name = "scripted"
    model = "tiny"

    def __init__(self, *script: str | EngineError) -> None:
        self._script = iter(script)
        self.asked: list[Sampling] = []

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """The next of the script; a refusal of schemas only to who sends one."""
        assert messages
        self.asked.append(sampling)
        await asyncio.sleep(0)
        if sampling.schema and isinstance(self, WithoutSchemas):
            raise PairRefused(SCHEMA_REFUSED, "no response_format here")
        said = next(self._script)
        if isinstance(said, EngineError):
            raise said
        return Completion(said, "stop", Usage(10, 5))


class WithoutSchemas(Scripted):
    """One that takes no schema."""


async def _at_once(_: float) -> None:
    await asyncio.sleep(0)


class Court:
    """A judge, and what it said and heard."""

    def __init__(self, chat: Scripted) -> None:
        self.said: list[str] = []
        self.heard: list[Usage] = []
        pace = Pace(sleep=_at_once)
        servers: Servers[ChatModel] = Servers([Server(chat, pace.new_gate(8))])
        self.judge = Judge(
            *(servers, Sampling(temperature=0.5), JudgePrompt.read(None), pace),
            say=self.said.append,
            spend=self.heard.append,
        )

    async def scores(self, seed: int | None = None) -> dict[str, Any]:
        """Those of one row."""
        line = (await self.judge.scored(ROW, seed)).to_json()
        found: dict[str, Any] = json.loads(line)["scores"]
        return found


async def test_a_good_answer_is_asked_for_once() -> None:
    """With the run's sampling, the schema and the row's seed."""
    chat = Scripted(answered())
    court = Court(chat)
    assert {key: value for key, value in (await court.scores(7)).items() if key in GOOD} == GOOD
    assert [(asked.temperature, asked.seed) for asked in chat.asked] == [(0.5, 7)]
    assert chat.asked[0].schema
    assert court.heard == [Usage(10, 5)]


async def test_every_answer_has_its_own_seed() -> None:
    """A poor answer moves the seed on; a lost one does not, for nobody has seen it."""
    chat = Scripted("no", Transient("timeout", "late"), answered(quality=0), answered())
    scores = await Court(chat).scores(7)
    assert [asked.seed for asked in chat.asked] == [7, 8, 8, 9]
    assert scores["quality"] == GOOD["quality"]
    assert scores["usage"] == {"prompt_tokens": 30, "completion_tokens": 15}


async def test_the_best_of_all_attempts_counts() -> None:
    """With null for the ratings that are none: those that are good are not thrown away."""
    worse, better = answered(quality=0, category="Science"), answered(category="Science")
    chat = Scripted(worse, "no", better, worse, answered(category="Art", quality=5), "no")
    scores = await Court(chat).scores()
    assert len(chat.asked) == ATTEMPTS
    assert {key: scores[key] for key in GOOD} == {**GOOD, "category": None}
    assert scores["usage"] == {"prompt_tokens": 60, "completion_tokens": 30}


@pytest.mark.parametrize(
    "script",
    [["no"] * ATTEMPTS, ['{"explanation": "So."}'] * ATTEMPTS, ["no", "[]", "4", "{}", "{", "no"]],
    ids=["prose", "no rating at all", "one after another"],
)
async def test_no_rating_at_all_is_a_failure(script: list[str]) -> None:
    """After six attempts; the server is well, and another run may try again."""
    with pytest.raises(Transient) as raised:
        await Court(Scripted(*script)).scores()
    assert (raised.value.kind, raised.value.attempts) == (MALFORMED, ATTEMPTS)


async def test_a_server_that_fails_is_no_reason_for_null() -> None:
    """Where the last attempt was lost, the row is tried again later for the sake of its nulls."""
    lost = Transient("timeout", "late")
    with pytest.raises(Transient) as raised:
        await Court(Scripted(answered(quality=0), *[lost] * (ATTEMPTS - 1))).scores()
    assert raised.value.kind == "timeout"


async def test_a_row_that_is_refused_is_not_asked_for_again() -> None:
    """What the server refuses for its own sake passes at no other try."""
    chat = Scripted(PairRefused("http_400", "too long"))
    with pytest.raises(PairRefused, match="too long"):
        await Court(chat).scores()
    assert len(chat.asked) == 1


async def test_schemas_are_given_up_once_for_all() -> None:
    """However many requests were out with one: one sentence, and none is sent again."""
    chat = WithoutSchemas(*[answered()] * 9)
    court = Court(chat)
    found = await asyncio.gather(*(court.scores(seed) for seed in range(5)))
    assert [scores["quality"] for scores in found] == [GOOD["quality"]] * 5
    assert len(court.said) == 1
    assert "without a response_format" in court.said[0]
    await court.scores(9)
    assert (chat.asked[-1].schema, chat.asked[-1].seed) == (None, 9)
    assert sum(asked.schema is not None for asked in chat.asked) == 5
