"""The pace of a whole run against servers that change, in virtual time, with many seeds."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from magpie_cli.engine import Throttled, Transient
from magpie_cli.errors import NotFinished
from magpie_cli.pace import ATTEMPTS, SPREAD, Pace
from magpie_cli.pace.budget import FLOOR, SHARE, WINDOW
from tests.virtual_time import run_virtually

SEEDS = range(100)
WORKERS = 32
LATENCY = 0.5  # seconds, on average
ASKED = 1.0  # seconds, by a server that refuses at random


@dataclass
class Server:
    """Does `capacity(now)` requests at a time, refuses more, and fails a share of them.

    A share `fussy` of all it refuses however few there are, and asks for ASKED seconds.
    """

    random: random.Random
    capacity: Callable[[float], int]
    failing: Callable[[float], float] = lambda _: 0.0
    fussy: float = 0.0
    in_service: int = 0
    asked: int = 0
    refused: int = 0
    failed: int = 0
    answered: int = 0
    most: int = 0
    retried_at: list[float] = field(default_factory=list)

    async def __call__(self) -> str:
        """One request."""
        now = asyncio.get_running_loop().time()
        self.asked += 1
        self.most = max(self.most, self.in_service + 1)
        if self.fussy and self.random.random() < self.fussy:
            self.refused += 1
            raise Throttled("http_429", "not now", ASKED)
        if self.in_service >= self.capacity(now):
            self.refused += 1
            raise Throttled("http_429", "busy")
        self.in_service += 1
        try:
            await asyncio.sleep(self.random.uniform(0.5, 1.5) * LATENCY)
        finally:
            self.in_service -= 1
        if self.random.random() < self.failing(now):
            self.failed += 1
            raise Transient("http_500", "out of order")
        self.answered += 1
        return "done"


def dice(seed: int) -> random.Random:
    """The same world for the same seed."""
    return random.Random(seed)  # noqa: S311 - a simulation


@dataclass
class Ended:
    """What became of a run: its outcomes, and how long it took in virtual seconds."""

    server: Server
    outcomes: list[str]
    seconds: float
    retries: list[float]


async def work(
    server: Server, pairs: int, *, until: float = 1e9, patience: float = 1800.0
) -> Ended:
    """Workers that share so many pairs, each one request long, or as many as come `until` then."""
    loop = asyncio.get_running_loop()
    retries: list[float] = []

    def on_retry(error: Exception, _: float) -> None:
        if isinstance(error, Transient):
            retries.append(loop.time())

    pace = Pace(
        on_retry,
        patience=patience,
        clock=loop.time,
        uniform=server.random.uniform,
    )
    gate = pace.new_gate(WORKERS)
    feed = iter(range(pairs))
    outcomes: list[str] = []

    async def worker() -> None:
        for _ in feed:
            if loop.time() >= until:
                return
            try:
                outcomes.append(await pace.attempt(server, gate))
            except (Transient, NotFinished) as error:
                outcomes.append(type(error).__name__)

    async with asyncio.TaskGroup() as workers:
        for _ in range(WORKERS):
            workers.create_task(worker())
    return Ended(server, outcomes, loop.time(), retries)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_capacity_that_drops_to_a_quarter_and_comes_back_is_used(seed: int) -> None:
    """At least 90 % of what the server could do, with under 3 % of the requests refused."""
    full, drop, back, end = 24, 60.0, 120.0, 240.0

    def capacity(now: float) -> int:
        return full // 4 if drop <= now < back else full

    server = Server(dice(seed), capacity)
    ended = run_virtually(work(server, 10**6, until=end))
    ideal = (full * (drop + end - back) + full / 4 * (back - drop)) / LATENCY
    assert set(ended.outcomes) == {"done"}
    assert server.answered >= 0.9 * ideal
    assert server.refused < 0.03 * server.asked


@pytest.mark.parametrize("seed", SEEDS[:20])
@pytest.mark.parametrize("capacity", [WORKERS, WORKERS // 2])
def test_refusals_that_come_in_any_case_do_not_make_it_small(seed: int, capacity: int) -> None:
    """One in twenty is refused whatever the load is: 65 % of the ideal, where it was 30 %."""
    fussy, end = 0.05, 240.0
    server = Server(dice(seed), lambda _: capacity, fussy=fussy)
    ended = run_virtually(work(server, 10**6, until=end))
    waited = fussy / (1 - fussy) * ASKED * (1 + SPREAD)
    ideal = end * min(capacity / LATENCY, WORKERS / (LATENCY + waited))
    assert set(ended.outcomes) == {"done"}
    assert server.answered >= 0.65 * ideal
    assert server.refused < 0.15 * server.asked


@pytest.mark.parametrize("seed", SEEDS)
def test_no_pair_is_lost_where_a_twentieth_of_the_answers_fails(seed: int) -> None:
    """Every pair has its outcome, failures have six attempts behind them, and retries stay few."""
    server = Server(dice(seed), lambda _: WORKERS, lambda _: 0.05)
    ended = run_virtually(work(server, 600))
    assert len(ended.outcomes) == 600
    assert ended.outcomes.count("Transient") <= 600 * 0.05**ATTEMPTS + 1
    assert server.asked == 600 + len(ended.retries)


@pytest.mark.parametrize("seed", SEEDS[:30])
def test_retries_are_a_tenth_of_all_requests_however_many_fail(seed: int) -> None:
    """In any two minutes they stay in the budget, and all pairs are made in the end."""
    server = Server(dice(seed), lambda _: WORKERS, lambda _: 0.3)
    asked: list[float] = []
    ended = run_virtually(noting(server, asked, work(server, 400)))
    assert len(ended.outcomes) == 400
    for end in ended.retries:
        retries = sum(end - WINDOW < at <= end for at in ended.retries)
        requests = sum(end - WINDOW < at <= end for at in asked)
        # Those that wait have been told, and a window is exact to the second.
        assert retries <= 1.1 * max(FLOOR, SHARE * requests) + WORKERS


async def noting(server: Server, asked: list[float], running: Coroutine[Any, Any, Ended]) -> Ended:
    """Note when each request is sent."""
    loop = asyncio.get_running_loop()
    capacity = server.capacity

    def counted(now: float) -> int:
        asked.append(loop.time())
        return capacity(now)

    server.capacity = counted
    return await running


@pytest.mark.parametrize("seed", SEEDS[:50])
def test_an_outage_fails_no_pair_and_is_asked_little(seed: int) -> None:
    """Five minutes in which all requests fail: the breaker opens, few probes go, all is made."""
    began, ends = 20.0, 320.0
    dead = Server(dice(seed), lambda _: WORKERS, lambda now: began <= now < ends)
    ended = run_virtually(work(dead, 5000))
    assert ended.outcomes == ["done"] * 5000
    assert dead.failed < 3 * WORKERS
    assert ended.seconds < ends + 300 + 5000 * LATENCY / WORKERS * 1.5


@pytest.mark.parametrize("seed", SEEDS[:20])
def test_an_outage_without_end_ends_the_run(seed: int) -> None:
    """After so long it is given up, with no pair failed for it."""
    dead = Server(dice(seed), lambda _: WORKERS, lambda now: now >= 20)
    ended = run_virtually(work(dead, 5000, patience=1800))
    assert set(ended.outcomes) == {"done", "NotFinished"}
    assert 1800 < ended.seconds < 20 + 1800 + 400 + WORKERS


def test_one_that_asks_for_ten_minutes_gets_them() -> None:
    """A Retry-After of over two minutes is for all requests; of over fifteen, it ends the run."""

    async def asked_for(seconds: float) -> tuple[str, float]:
        loop = asyncio.get_running_loop()
        pace = Pace(clock=loop.time)
        gate = pace.new_gate(8)
        errors = [Throttled("http_429", "busy", seconds)]

        async def request() -> str:
            if errors:
                raise errors.pop()
            return "done"

        first = asyncio.create_task(pace.attempt(request, gate))
        await asyncio.sleep(0.1)
        await pace.attempt(request, gate)
        return await first, loop.time()

    answer, seconds = run_virtually(asked_for(600))
    assert (answer, seconds >= 600) == ("done", True)
    with pytest.raises(NotFinished, match="asks to wait 901 s"):
        run_virtually(asked_for(901))
