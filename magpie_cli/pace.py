"""How hard we push. Nothing else in the house waits on purpose or tries again.

A retry waits with full jitter: uniform over 0 to min(60 s, 0.5 s x 2^n), after
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ ; 2 s for 0.5 s when the
server is throttling, and then what it asks for in Retry-After is never undercut.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from magpie_cli.engine import (
    ChatModel,
    Completion,
    DialogueRequest,
    Engine,
    EngineError,
    Message,
    PairRefused,
    Queueing,
    Sampling,
    Throttled,
    Transient,
)
from magpie_cli.errors import NotFinished
from magpie_cli.records import Dialogue

ATTEMPTS = 6
BACKOFF_BASE = 0.5  # seconds, as all below
BACKOFF_CAP = 60.0
THROTTLED_BASE = 2.0
LONGEST_RETRY_AFTER = 120.0
PATIENCE = 30 * 60.0
LONGEST_DATE = 366 * 24 * 3600.0  # that is worth naming

_T = TypeVar("_T")
RetryListener = Callable[[EngineError, float], None]


def ignore_retry(error: EngineError, delay: float) -> None:
    """For a pace that nobody watches."""


class Pace:
    """The one gate in front of every request of a run.

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
        self._pauses: set[asyncio.Timeout] = set()
        self._stopped = False
        self.queues: list[Queueing] = []

    def stop(self) -> None:
        """The run is to end: what only waits, here or in a queue, raises NotFinished."""
        self._stopped = True
        for pause in self._pauses:
            pause.reschedule(asyncio.get_running_loop().time())
        for queue in self.queues:
            queue.close_queue(_stopped())

    async def attempt(self, request: Callable[[], Awaitable[_T]]) -> _T:
        """What `request()` returns, after as many tries as it takes.

        Raises its last Transient after 6 attempts; PairRefused and EngineRefused at once;
        NotFinished when the server asks for more patience than a run has, or the run is stopped.
        """
        failed = refused = 0
        waited = 0.0
        while True:
            began = self._clock()
            try:
                return await request()
            except Transient as error:
                refused, waited = 0, 0.0
                failed += 1
                error.attempts = failed
                if failed == ATTEMPTS:
                    raise
                delay = self._jitter(BACKOFF_BASE, failed)
                self._on_retry(error, delay)
                await self._sleep(delay)
            except PairRefused as error:
                error.attempts = failed + 1
                raise
            except Throttled as error:
                refused += 1
                # A try that was long in coming to a refusal did more than to be refused.
                waited += min(self._clock() - began, BACKOFF_CAP)
                left = self._patience - waited
                delay = min(self._delay(error, refused), left)
                if left <= 0 or (error.retry_after or 0.0) > left:
                    raise NotFinished(
                        f"{error.message}: given up after {_duration(self._patience)}",
                        "run the same command again later (what is done stays done), or wait "
                        "longer with --give-up-after",
                    ) from error
                waited += delay
                self._on_retry(error, delay)
                await self._pause(delay)

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

    def _delay(self, error: Throttled, refused: int) -> float:
        """Seconds to wait after the `refused`-th refusal of one request."""
        asked = error.retry_after or 0.0
        if asked > LONGEST_RETRY_AFTER:
            again = datetime.now(UTC).astimezone() + timedelta(seconds=min(asked, LONGEST_DATE))
            raise NotFinished(
                f"{error.message}: the server asks to wait {asked:.0f} s",
                f"run the same command again after {again:%Y-%m-%d %H:%M:%S}",
            ) from error
        return asked + self._jitter(THROTTLED_BASE, refused)

    def _jitter(self, base: float, tries: int) -> float:
        # 2**tries of a large number of refusals would overflow long before the cap is compared.
        return self._uniform(0.0, min(BACKOFF_CAP, base * 2 ** min(tries, 10)))


def _stopped() -> NotFinished:
    return NotFinished("the run was stopped before its turn")


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.3g} minutes" if seconds >= 120 else f"{seconds:g} s"


class PacedChatModel:
    """A ChatModel whose every completion goes through the gate."""

    def __init__(self, chat: ChatModel, pace: Pace) -> None:
        self.name = chat.name
        self.model = chat.model
        self._chat = chat
        self._pace = pace

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """As ChatModel.complete, with retries."""
        return await self._pace.attempt(lambda: self._chat.complete(messages, sampling))


class PacedEngine:
    """An Engine whose every dialogue goes through the gate, as one request."""

    def __init__(self, engine: Engine, pace: Pace) -> None:
        self.name = engine.name
        self.model = engine.model
        self._engine = engine
        self._pace = pace

    async def dialogue(self, request: DialogueRequest) -> Dialogue:
        """As Engine.dialogue, with retries."""
        return await self._pace.attempt(lambda: self._engine.dialogue(request))
