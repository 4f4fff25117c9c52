"""How hard we push: nothing else sends a request to an engine again, or waits before it does.

__init__.py  one request: what is tried again, how often, and after how long
paced.py     an engine, or a model, whose every request goes that way
gate.py      the way to one server
limit.py     how many requests it gets at a time
trial.py     whether it refuses because of their number
breaker.py   a server that fails is left alone for a while
budget.py    retries are a small part of all requests
window.py    a count over the last seconds
watchdog.py  a word where nothing comes any more

A retry waits with full jitter: uniform over 0 to min(60 s, 0.5 s x 2^n), after
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ ; 2 s for 0.5 s when the
server is throttling. Where it asks for a time in Retry-After, that is never undercut, and an eighth
of it stands for the 2 s.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from magpie_cli.engine import (
    EngineError,
    PairRefused,
    Queueing,
    ServerLost,
    Throttled,
    Transient,
)
from magpie_cli.errors import NotFinished
from magpie_cli.pace.budget import SHARE, WINDOW, Budget
from magpie_cli.pace.gate import Gate

ATTEMPTS = 6
BACKOFF_BASE = 0.5  # seconds, as all below
BACKOFF_CAP = 60.0
THROTTLED_BASE = 2.0
SPREAD = 0.125  # of what a server asks for, for THROTTLED_BASE
LONGEST_PAUSE = 15 * 60.0  # of a whole server, unless the user has more patience than usual
BUDGET_SECONDS = 1.0  # between two looks at the budget of retries
PATIENCE = 30 * 60.0
LONGEST_DATE = 366 * 24 * 3600.0  # that is worth naming

_T = TypeVar("_T")
RetryListener = Callable[[EngineError, float], None]


def ignore_retry(error: EngineError, delay: float) -> None:
    """For a pace that nobody watches."""


class Pace:
    """The one way of every request of a run.

    `on_retry` hears each error that will be tried again, and the delay in seconds. A request that
    is only asked to wait is given up after `patience` seconds. Clock, sleep and random are given
    from outside, so that time can be simulated.
    """

    def __init__(
        self,
        on_retry: RetryListener = ignore_retry,
        *,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._on_retry = on_retry
        self._patience = patience
        self._clock = clock
        self._sleep = sleep
        self._uniform = uniform
        self._budget = Budget(clock)
        self._budget_told_until = clock()
        self._in_flight: dict[asyncio.Task[Any] | None, tuple[str, float]] = {}
        self._heard_at = clock()
        self._pauses: set[asyncio.Timeout] = set()
        self._stopped = False
        self.queues: list[Queueing] = []

    def stop(self) -> None:
        """The run is to end: what only waits, here or in a queue, raises NotFinished."""
        if self._stopped:
            return
        self._stopped = True
        for pause in self._pauses:
            pause.reschedule(asyncio.get_running_loop().time())
        for queue in self.queues:
            queue.close_queue(_stopped())

    def new_gate(self, ceiling: int) -> Gate:
        """The way to one server, which gets at most `ceiling` requests at a time."""
        return Gate(ceiling, self._clock)

    @property
    def oldest(self) -> tuple[str, float] | None:
        """The request that has been out for longest: its name, and for how many seconds."""
        name, began = next(iter(self._in_flight.values()), ("", None))
        return None if began is None else (name, self._clock() - began)

    @property
    def quiet_for(self) -> float:
        """Seconds since the latest answer, good or bad."""
        return self._clock() - self._heard_at

    async def attempt(self, request: Callable[[], Awaitable[_T]], gate: Gate | None = None) -> _T:
        """What `request()` returns, after as many tries as it takes, each through the gate.

        Raises its last Transient after 6 attempts; PairRefused and EngineRefused at once;
        NotFinished when the server asks for more patience than a run has, or the run is stopped.
        ServerLost where the gate is closed, and another server does.
        """
        failed = refused = 0
        waited = 0.0
        while True:
            epoch = await self._enter(gate) if gate else 0
            began = self._clock()
            # Where the server as a whole is in trouble, that is no pair's fault.
            counts = gate is None or gate.breaker.is_closed
            try:
                return await self._send(request, gate, epoch)
            except Transient as error:
                refused, waited = 0, 0.0
                if counts:
                    failed += 1
                error.attempts = failed
                if failed == ATTEMPTS:
                    if gate and error.of_server and not gate.is_needed():
                        raise _lost(error.message) from error
                    raise
                await self._try_again(error, self._jitter(BACKOFF_BASE, failed), gate)
            except PairRefused as error:
                error.attempts = failed + 1
                raise
            except Throttled as error:
                if gate and not gate.is_open and not gate.is_needed():
                    raise _lost(error.message) from error
                refused += 1
                # A try that was long in coming to a refusal did more than to be refused.
                waited += min(self._clock() - began, BACKOFF_CAP)
                delay = self._delay(error, refused, self._patience - waited)
                waited += delay
                self._on_retry(error, delay)
                await self._pause(delay)

    async def _enter(self, gate: Gate) -> int:
        """Wait until the gate lets this request through; the breaker's epoch by then."""
        while True:
            while (wait := gate.wait()) > 0:
                others = "" if gate.is_needed() else "; the other servers go on"
                left = self._patience - gate.breaker.out_for
                if left <= 0 and not others:
                    raise _no_more_patience(gate.trouble, self._patience)
                if gate.is_news():
                    words = f"{gate.trouble}: left alone for {wait:.0f} s, then tried again{others}"
                    self._on_retry(Throttled("server_fails", words), wait)
                if others:
                    raise _lost(gate.trouble)
                await self._pause(min(wait, left))
            epoch = gate.breaker.epoch
            await gate.limit.take()
            if epoch == gate.breaker.epoch:
                self._budget.sent()
                return epoch
            gate.limit.give_back()  # it opened while this waited for its place

    async def _send(
        self, request: Callable[[], Awaitable[_T]], gate: Gate | None, epoch: int
    ) -> _T:
        """Once; the gate hears what became of it, and its place is free."""
        task = asyncio.current_task()
        self._in_flight[task] = (task.get_name() if task else "", self._clock())
        try:
            answer = await request()
        except EngineError as error:
            _tell(gate, error, epoch)
            raise
        else:
            if gate:
                gate.answered(epoch)
            return answer
        finally:
            del self._in_flight[task]
            self._heard_at = self._clock()
            if gate:
                gate.limit.give_back()

    async def _try_again(self, error: Transient, delay: float, gate: Gate | None) -> None:
        self._on_retry(error, delay)
        await self._sleep(delay)
        if not error.of_server:  # it is well, and may be asked for a better answer
            return
        while gate and gate.breaker.is_closed and not self._budget.take():
            if self._clock() >= self._budget_told_until:
                self._budget_told_until = self._clock() + WINDOW
                words = (
                    f"{error.message}; {SHARE:.0%} of all requests may be retries: the rest waits"
                )
                self._on_retry(Throttled("retry_budget", words), BUDGET_SECONDS)
            await self._pause(BUDGET_SECONDS)

    async def _pause(self, delay: float) -> None:
        """Sleep, but raise NotFinished once the run is stopped."""
        if self._stopped:
            raise _stopped()
        pause = asyncio.timeout(None)
        try:
            async with pause:
                self._pauses.add(pause)
                await self._sleep(delay)
        except TimeoutError:
            raise _stopped() from None
        finally:
            self._pauses.discard(pause)

    def _delay(self, error: Throttled, refused: int, left: float) -> float:
        """Seconds to wait after the `refused`-th refusal of one request, with so many left to wait.

        Raises NotFinished where they are too few.
        """
        asked = error.retry_after or 0.0
        if asked > (LONGEST_PAUSE if self._patience <= PATIENCE else self._patience):
            again = datetime.now(UTC).astimezone() + timedelta(seconds=min(asked, LONGEST_DATE))
            raise NotFinished(
                f"{error.message}: the server asks to wait {asked:.0f} s",
                f"run the same command again after {again:%Y-%m-%d %H:%M:%S}, or wait longer with "
                "--give-up-after",
            ) from error
        if left <= 0 or asked > left:
            asks = f": it asks to wait {asked:.0f} s" if asked else ""
            raise _no_more_patience(f"{error.message}{asks}", self._patience) from error
        # Who names a time is to be believed; only should not all come back in the same moment.
        base = asked * SPREAD if asked else THROTTLED_BASE
        return min(asked + self._jitter(base, refused), left)

    def _jitter(self, base: float, tries: int) -> float:
        # 2**tries of a large number of refusals would overflow long before the cap is compared.
        return self._uniform(0.0, min(BACKOFF_CAP, base * 2 ** min(tries, 10)))


def _tell(gate: Gate | None, error: EngineError, epoch: int) -> None:
    """The gate hears what became of a request."""
    if gate is None:
        return
    if isinstance(error, Transient):
        gate.failed(error, epoch)
    elif isinstance(error, Throttled):
        gate.throttled(error, epoch)
    else:
        gate.answered(epoch)


def _lost(why: str) -> ServerLost:
    return ServerLost("server_lost", why)


def _no_more_patience(message: str, patience: float) -> NotFinished:
    return NotFinished(
        f"{message}: given up after {_duration(patience)}",
        "run the same command again later (what is done stays done), or wait "
        "longer with --give-up-after",
    )


def _stopped() -> NotFinished:
    return NotFinished("the run was stopped before its turn")


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.3g} minutes" if seconds >= 120 else f"{seconds:g} s"
