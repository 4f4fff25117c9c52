"""How hard we push: what is tried again, how often, and after how long, on a simulated clock."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from magpie_cli.engine import (
    ChatModel,
    Completion,
    DialogueRequest,
    Engine,
    EngineError,
    EngineRefused,
    Message,
    PairRefused,
    Sampling,
    Throttled,
    Transient,
)
from magpie_cli.errors import MagpieError, NotFinished
from magpie_cli.pace import PATIENCE, Pace
from magpie_cli.pace.paced import PacedChatModel, PacedEngine
from magpie_cli.records import NO_TOKENS, Dialogue, PersonaPair, Turn
from tests.processes import PATIENCE as PATIENCE_OF_TESTS

MODERATE = example_settings(deadline=None, max_examples=100)


class World:
    """A clock that only sleeping moves, and a random that draws `luck` of the way up."""

    def __init__(self, luck: float = 1.0, patience: float = PATIENCE) -> None:
        self.now = 1000.0
        self.luck = luck
        self.slept: list[float] = []
        self.drawn: list[tuple[float, float]] = []
        self.heard: list[tuple[EngineError, float]] = []
        self.pace = Pace(
            lambda error, delay: self.heard.append((error, delay)),
            patience=patience,
            clock=lambda: self.now,
            sleep=self.sleep,
            uniform=self.uniform,
        )

    async def sleep(self, seconds: float) -> None:
        """Take no time at all."""
        self.slept.append(seconds)
        self.now += seconds

    def uniform(self, low: float, high: float) -> float:
        """As random.uniform, with the luck that was ordered."""
        self.drawn.append((low, high))
        return low + self.luck * (high - low)


class Script:
    """A request that raises what it is given, one error a try, and then returns "done"."""

    def __init__(self, *errors: MagpieError) -> None:
        self.errors = list(errors)
        self.tries = 0

    async def __call__(self) -> str:
        """One try."""
        self.tries += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def transient() -> Transient:
    """A fault that may pass."""
    return Transient("http_500", "the server answered 500")


def throttled(retry_after: float | None = None) -> Throttled:
    """A request for patience."""
    return Throttled("http_429", "the server answered 429", retry_after)


async def test_a_good_answer_is_passed_on_at_once() -> None:
    """What succeeds at the first try waits for nothing and is not reported."""
    world, script = World(), Script()
    assert await world.pace.attempt(script) == "done"
    assert (script.tries, world.slept, world.drawn, world.heard) == (1, [], [], [])


async def test_a_request_has_six_attempts() -> None:
    """The sixth transient fault is raised, and knows that it was the sixth."""
    world, script = World(), Script(*(transient() for _ in range(10)))
    with pytest.raises(Transient) as caught:
        await world.pace.attempt(script)
    assert caught.value.attempts == 6
    assert script.tries == 6
    assert len(world.slept) == 5


async def test_five_faults_are_survived() -> None:
    """A request that succeeds at its sixth attempt has succeeded."""
    world, script = World(), Script(*(transient() for _ in range(5)))
    assert await world.pace.attempt(script) == "done"
    assert script.tries == 6


async def test_poor_answers_of_a_good_server_have_no_budget() -> None:
    """Half of what a judge says may be malformed: its server is well, and nothing waits."""
    world = World(luck=0)
    gate = world.pace.new_gate(8)
    for _ in range(200):
        poor = Transient("malformed", "no scores", of_server=False)
        assert await world.pace.attempt(Script(poor), gate) == "done"
    assert sum(world.slept) == 0
    for _ in range(200):  # those of a server in trouble still have one
        await world.pace.attempt(Script(), gate)
        await world.pace.attempt(Script(transient()), gate)
    assert sum(world.slept) > 60
    said = [error for error, _ in world.heard if error.kind == "retry_budget"]
    assert 1 <= len(said) <= 1 + sum(world.slept) / 120  # else a run stands still without a word
    assert all(isinstance(error, Throttled) for error in said)
    assert "10% of all requests may be retries: the rest waits" in said[0].message


async def test_each_request_has_attempts_of_its_own() -> None:
    """What one request used up is not missing from the next."""
    world = World()
    for _ in range(3):
        assert await world.pace.attempt(Script(*(transient() for _ in range(5)))) == "done"


async def test_throttled_tries_use_up_no_attempt() -> None:
    """A request that is refused many times still has its six attempts."""
    world = World(luck=0)
    errors = [error for _ in range(7) for error in (throttled(1), throttled(), transient())]
    script = Script(*errors)
    with pytest.raises(Transient) as caught:
        await world.pace.attempt(script)
    assert caught.value.attempts == 6
    assert script.tries == 18


@pytest.mark.parametrize(
    "error", [PairRefused("http_400", "bad request"), EngineRefused("http_401", "wrong key")]
)
@pytest.mark.parametrize("before", [0, 3])
async def test_a_refusal_is_final(error: EngineError, before: int) -> None:
    """What will never pass is raised at once, also after faults that might have passed."""
    world, script = World(), Script(*(transient() for _ in range(before)), error)
    with pytest.raises(type(error)) as caught:
        await world.pace.attempt(script)
    assert caught.value is error
    assert script.tries == len(world.slept) + 1 == before + 1


@pytest.mark.parametrize("luck", [0.0, 0.5, 1.0])
async def test_retries_wait_with_full_jitter(luck: float) -> None:
    """The delay is drawn from 0 to 0.5 s x 2^n, and slept as it was drawn."""
    world = World(luck)
    await world.pace.attempt(Script(*(transient() for _ in range(5))))
    assert world.drawn == [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16)]
    assert world.slept == [luck * high for _, high in world.drawn]


async def test_throttled_retries_wait_longer_up_to_a_minute() -> None:
    """The delay is drawn from 0 to min(60 s, 2 s x 2^n)."""
    world = World(luck=0)
    await world.pace.attempt(Script(*(throttled() for _ in range(2000))))
    bounds = [high for _, high in world.drawn]
    assert bounds == [4, 8, 16, 32] + [60] * 1996
    assert {low for low, _ in world.drawn} == {0}


@MODERATE
@given(
    st.lists(st.floats(0, 120, allow_nan=False), max_size=12),
    st.floats(0, 1, allow_nan=False),
)
async def test_retry_after_is_never_undercut(waits: list[float], luck: float) -> None:
    """However the dice fall, no retry comes before the time that the server asked for."""
    world = World(luck)
    assert await world.pace.attempt(Script(*map(throttled, waits))) == "done"
    assert len(world.slept) == len(waits)
    assert all(slept >= asked for slept, asked in zip(world.slept, waits, strict=True))


@pytest.mark.parametrize("asked", [900.5, 3600.0, 1e9, 1e15, 1e300])
async def test_too_long_a_wait_ends_the_run(asked: float) -> None:
    """A server that asks for more than a quarter of an hour is left alone, to be asked later."""
    world, script = World(), Script(throttled(asked))
    with pytest.raises(NotFinished, match="the server answered 429") as caught:
        await world.pace.attempt(script)
    assert caught.value.exit_code == 75
    assert "run the same command again" in (caught.value.hint or "")
    assert isinstance(caught.value.__cause__, Throttled)
    assert (script.tries, world.slept, world.heard) == (1, [], [])


async def test_two_minutes_are_waited() -> None:
    """A server that asks for 120 seconds gets them."""
    world = World(luck=0)
    assert await world.pace.attempt(Script(throttled(120))) == "done"
    assert world.slept == [120]


@pytest.mark.parametrize("asked", [None, 1.0, 120.0])
@pytest.mark.parametrize("luck", [0.5, 1.0])
async def test_patience_ends_after_half_an_hour(asked: float | None, luck: float) -> None:
    """A server that only refuses ends the run after 30 minutes, not before and not later."""
    world, script = World(luck), Script(*(throttled(asked) for _ in range(2000)))
    with pytest.raises(NotFinished, match="30 minutes") as caught:
        await world.pace.attempt(script)
    assert caught.value.exit_code == 75
    waited = world.now - 1000
    assert 1800 - (asked or 0) <= waited <= 1800


async def test_patience_counts_from_the_first_refusal() -> None:
    """A dialogue that took an hour and is refused once at its end is asked again."""
    world = World()
    script = Script(throttled(1))

    async def long_request() -> str:
        world.now += 3600
        return await script()

    assert await world.pace.attempt(long_request) == "done"


async def test_a_listener_hears_of_each_retry() -> None:
    """It is told each error that is tried again and the delay before, not the last one."""
    world = World()
    errors = [transient(), throttled(3), *(transient() for _ in range(5))]
    with pytest.raises(Transient) as caught:
        await world.pace.attempt(Script(*errors))
    assert [error for error, _ in world.heard] == errors[:-1]
    assert [delay for _, delay in world.heard] == world.slept
    assert caught.value is errors[-1]


@MODERATE
@given(st.lists(st.booleans(), max_size=40))
async def test_fewer_than_six_faults_always_pass(refusals: list[bool]) -> None:
    """Whatever the order of refusals and faults, five faults or fewer end in success."""
    world = World(luck=0)
    faults = [throttled() if refused else transient() for refused in refusals]
    script = Script(*faults)
    if refusals.count(False) < 6:
        assert await world.pace.attempt(script) == "done"
        assert script.tries == len(faults) + 1
    else:
        with pytest.raises(Transient):
            await world.pace.attempt(script)


class FaultyModel:
    """A ChatModel and an Engine that fails twice before it answers."""

    name = "faulty"
    model = "faulty-1b"

    def __init__(self) -> None:
        self.script = Script(transient(), throttled())
        self.asked: list[object] = []

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """One completion."""
        self.asked.append((messages, sampling))
        return Completion(await self.script(), "stop", NO_TOKENS)


class FaultyEngine(FaultyModel):
    """The same for whole dialogues."""

    async def dialogue(self, request: DialogueRequest) -> Dialogue:
        """One dialogue."""
        self.asked.append(request)
        return Dialogue((Turn("Why?", await self.script()),), self.model)


async def test_a_paced_model_is_the_model_with_retries() -> None:
    """It keeps name and model, and each try asks for the same."""
    world, faulty = World(), FaultyModel()
    paced = PacedChatModel(faulty, world.pace, world.pace.new_gate(8))
    assert isinstance(paced, ChatModel)
    assert (paced.name, paced.model) == ("faulty", "faulty-1b")
    messages: list[Message] = [{"role": "user", "content": "Why?"}]
    sampling = Sampling(seed=3)
    assert (await paced.complete(messages, sampling)).text == "done"
    assert faulty.asked == [(messages, sampling)] * 3
    assert len(world.slept) == 2


async def test_a_paced_engine_is_the_engine_with_retries() -> None:
    """It keeps name and model, and each try asks for the same dialogue."""
    world, faulty = World(), FaultyEngine()
    paced = PacedEngine(faulty, world.pace)
    assert isinstance(paced, Engine)
    assert (paced.name, paced.model) == ("faulty", "faulty-1b")
    pair = PersonaPair("a", "A curious scientist", "A careful librarian", None, {}, 1, "{}")
    request = DialogueRequest("a", pair, 1)
    assert (await paced.dialogue(request)).turns == (Turn("Why?", "done"),)
    assert faulty.asked == [request] * 3
    assert len(world.slept) == 2


async def test_a_refusal_after_faults_counts_them() -> None:
    """A pair that is refused at its third try was tried three times."""
    script = Script(transient(), transient(), PairRefused("http_400", "bad request"))
    with pytest.raises(PairRefused) as caught:
        await World().pace.attempt(script)
    assert caught.value.attempts == script.tries == 3


async def test_a_run_that_is_stopped_waits_for_nobody() -> None:
    """Who was asked to wait raises NotFinished at once, and who is asked after that as well."""
    asleep = asyncio.Event()

    async def for_ever(_: float) -> None:
        asleep.set()
        await asyncio.Event().wait()

    pace, script = Pace(sleep=for_ever), Script(throttled())
    waiting = asyncio.create_task(pace.attempt(script))
    await asleep.wait()
    pace.stop()
    with pytest.raises(NotFinished, match="stopped before its turn"):
        await asyncio.wait_for(waiting, PATIENCE_OF_TESTS)
    assert script.tries == 1
    with pytest.raises(NotFinished):
        await asyncio.wait_for(pace.attempt(Script(throttled())), PATIENCE_OF_TESTS)


async def test_a_run_that_is_stopped_still_tries_again() -> None:
    """A fault of a request that is in flight does not end it, and every queue is closed."""
    world, closed = World(), list[NotFinished]()
    world.pace.queues.append(SimpleNamespace(close_queue=closed.append))
    world.pace.stop()
    assert await world.pace.attempt(Script(transient(), transient())) == "done"
    assert [error.exit_code for error in closed] == [75]
