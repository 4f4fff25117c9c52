"""How long a server that asks to wait is waited for, and what a person hears of it."""

import io
import json
from collections.abc import Callable
from itertools import repeat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magpie_cli.display.json_log import JsonLog
from magpie_cli.display.text import LOG_SECONDS, Quiet, TextLog
from magpie_cli.engine import EngineError, EngineRefused, PairRefused, Throttled, Transient
from magpie_cli.errors import NotFinished
from magpie_cli.tally import Tally
from tests.chat_server import ChatServer, refuses
from tests.conftest import Magpie
from tests.test_pace import MODERATE, Script, World, throttled, transient
from tests.test_safe import HOSTILE, dangerous

Pairs = Callable[..., Path]

BUSY = "waiting: the server answered 429\n"


async def given_up(world: World, asked: float | None = None) -> NotFinished:
    """What ends a request that is always refused."""
    with pytest.raises(NotFinished) as caught:
        await world.pace.attempt(Script(*(throttled(asked) for _ in range(5000))))
    return caught.value


@pytest.mark.parametrize("asked", [None, 1.0, 50.0])
@pytest.mark.parametrize("patience", [120.0, 600.0, 7200.0])
async def test_patience_is_as_long_as_it_is_given(patience: float, asked: float | None) -> None:
    """A refused request is tried until no more waiting would help, and no longer."""
    world = World(patience=patience)
    error = await given_up(world, asked)
    left = patience - (world.now - 1000)
    assert 0 <= left <= (asked or 0)
    assert error.exit_code == 75
    assert isinstance(error.__cause__, Throttled)


@pytest.mark.parametrize(
    ("patience", "words"),
    [
        (0.5, "0.5 s"),
        (1, "1 s"),
        (90, "90 s"),
        (119.5, "119.5 s"),
        (120, "2 minutes"),
        (150, "2.5 minutes"),
        (1800, "30 minutes"),
        (7200, "120 minutes"),
    ],
)
async def test_an_end_of_patience_says_how_long_it_was(patience: float, words: str) -> None:
    """What the server said, for how long it was asked, and the option that asks longer."""
    error = await given_up(World(patience=patience))
    assert error.message == f"the server answered 429: given up after {words}"
    assert "run the same command again later" in (error.hint or "")
    assert "--give-up-after" in (error.hint or "")


async def test_a_wait_beyond_patience_is_not_begun() -> None:
    """Nobody sleeps, or hears of a retry, where the server will not answer in time anyway."""
    world = World(patience=5)
    await given_up(world, asked=6.0)
    assert (world.slept, world.heard) == ([], [])


async def test_the_last_wait_ends_with_patience() -> None:
    """Where the dice ask for more than is left, one more try comes when patience is over."""
    world, script = World(patience=5), Script(throttled(), throttled(3.0))
    with pytest.raises(NotFinished):
        await world.pace.attempt(script)
    assert world.slept == [4]
    world, script = World(patience=8), Script(throttled(), throttled(3.0))
    assert await world.pace.attempt(script) == "done"
    assert world.slept == [4, 4]


async def test_a_wait_of_all_patience_is_waited() -> None:
    """A server that asks for exactly as long as there is gets it."""
    world = World(luck=0, patience=5)
    assert await world.pace.attempt(Script(throttled(5.0))) == "done"
    assert world.slept == [5.0]


async def test_each_request_has_patience_of_its_own() -> None:
    """What one request waited is not missing from the next."""
    world = World(luck=0, patience=100)
    for _ in range(5):
        assert await world.pace.attempt(Script(throttled(90.0))) == "done"
    assert world.now - 1000 == 450


async def test_patience_is_not_for_faults() -> None:
    """A transient fault has its six attempts, however little patience there is."""
    world, script = World(patience=0.001), Script(*(transient() for _ in range(6)))
    with pytest.raises(Transient):
        await world.pace.attempt(script)
    assert script.tries == 6


@MODERATE
@given(
    st.lists(st.floats(0, 120), max_size=12),
    st.floats(0.001, 600),
    st.floats(0, 1),
)
async def test_no_request_waits_beyond_its_patience(
    waits: list[float], patience: float, luck: float
) -> None:
    """However the dice fall, it is done or given up in time, and no Retry-After is undercut."""
    world, script = World(luck, patience), Script(*map(throttled, waits))
    try:
        assert await world.pace.attempt(script) == "done"
    except NotFinished:
        assert script.tries <= len(waits)
    else:
        assert script.tries == len(waits) + 1
    assert world.now - 1000 <= patience + 1e-6
    assert all(slept >= asked for slept, asked in zip(world.slept, waits, strict=False))


class Heard:
    """A text log, and a clock that only `later` moves (the real one is too slow to matter)."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.stream = io.StringIO()
        self.log = TextLog(self.tally, self.stream, keeps_failures=True)

    def later(self, seconds: float) -> None:
        """Let time pass."""
        self.tally.started -= seconds

    def retrying(self, *errors: EngineError) -> str:
        """All that stands there after these errors."""
        for error in errors:
            self.log.retrying(error, 1.0)
        return self.stream.getvalue()


def test_the_first_wait_is_said() -> None:
    """At the very start of a run, and without a tick, a person reads what asks to wait."""
    assert Heard().retrying(throttled()) == BUSY


def test_many_waits_are_said_once() -> None:
    """A thousand requests that all wait are one line."""
    assert Heard().retrying(*(throttled() for _ in range(1000))) == BUSY


@pytest.mark.parametrize(
    ("seconds", "lines"),
    [(0, 1), (LOG_SECONDS / 2, 1), (LOG_SECONDS + 1, 2), (LOG_SECONDS * 99, 2)],
)
def test_a_wait_is_said_again_after_a_minute(seconds: float, lines: int) -> None:
    """Whoever still waits a minute later says so, once again."""
    heard = Heard()
    heard.retrying(throttled())
    heard.later(seconds)
    assert heard.retrying(*(throttled() for _ in range(9))) == BUSY * lines


def test_a_wait_that_is_not_said_is_not_counted() -> None:
    """The minute runs from the last line, not from the last wait: no silence is long."""
    heard = Heard()
    for _ in range(10):
        heard.retrying(throttled())
        heard.later(LOG_SECONDS / 2 + 1)
    assert heard.stream.getvalue() == BUSY * 5


def test_each_line_says_what_asks_now() -> None:
    """The second line holds the words of its own error."""
    heard = Heard()
    heard.retrying(Throttled("http_429", "busy"))
    heard.later(LOG_SECONDS + 1)
    assert heard.retrying(Throttled("http_503", "no node")) == "waiting: busy\nwaiting: no node\n"


@pytest.mark.parametrize(
    "error", [transient(), PairRefused("http_400", "no"), EngineRefused("http_401", "no")]
)
def test_other_retries_are_only_counted(error: EngineError) -> None:
    """A fault that is tried again within seconds is no line, and silences no wait."""
    heard = Heard()
    assert heard.retrying(error) == ""
    assert heard.retrying(throttled()) == BUSY


@MODERATE
@given(HOSTILE)
def test_a_wait_is_one_safe_line(message: str) -> None:
    """Whatever a server says, it moves no cursor and fakes no line."""
    line = Heard().retrying(Throttled("http_429", message))
    assert not dangerous(line)
    assert line.startswith("waiting: ")
    assert line.index("\n") == len(line) - 1


def test_quiet_says_nothing() -> None:
    """With --quiet nobody hears of a wait."""
    stream = io.StringIO()
    Quiet(stream).retrying(throttled(), 1.0)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("quiet", [True, False])
def test_programs_hear_of_retries(*, quiet: bool) -> None:
    """The JSON log holds an object for each with its delay, one a minute of what asks to wait."""
    stream = io.StringIO()
    log = JsonLog(Tally(), stream, ticks=True, quiet=quiet)
    for error in (throttled(), throttled(), transient()):
        log.retrying(error, 1.23456)
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    kinds = [] if quiet else ["http_429", "http_500"]
    assert [event["kind"] for event in events] == kinds
    assert all((event["event"], event["delay"]) == ("retry", 1.235) for event in events)


def test_the_command_says_that_it_waits(magpie: Magpie, server: ChatServer, pairs: Pairs) -> None:
    """Three pairs that are each asked to wait are one line, and are made in the end."""
    server.faults = iter([refuses(429, "busy")] * 3)
    done = magpie("generate", pairs(3), "-o", "out.jsonl", "--base-url", server.url)
    assert done.returncode == 0
    waiting = [line for line in done.stderr.splitlines() if line.startswith("waiting: ")]
    assert waiting == [f"waiting: {server.url}/chat/completions answered 429: busy"]


def test_the_command_gives_up_after_what_it_is_given(
    magpie: Magpie, server: ChatServer, pairs: Pairs
) -> None:
    """--give-up-after is the patience of the run, and the error that ends it names the option."""
    server.faults = repeat(refuses(429, "busy"))
    command = ("generate", pairs(1), "-o", "out.jsonl", "--base-url", server.url)
    done = magpie(*command, "--give-up-after", "0.001")
    assert done.returncode == 75
    assert "answered 429: busy: given up after 0.001 s" in done.stderr
    assert "--give-up-after" in done.stderr.split("hint: ")[1]
