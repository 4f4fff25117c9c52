"""The way to one server: its limit, its breaker, and how long it asked to be left alone."""

from collections.abc import Callable

from magpie_cli.engine import Throttled, Transient
from magpie_cli.pace.breaker import Breaker
from magpie_cli.pace.limit import Limit

LONGEST_RETRY_AFTER = 120.0  # seconds that one request waits for; longer is for all of them


class Gate:
    """In front of every request to one server.

    `is_needed` is false where the dialogues of this server have another to go to.
    """

    def __init__(self, ceiling: int, clock: Callable[[], float]) -> None:
        self.limit = Limit(ceiling, clock)
        self.breaker = Breaker(clock)
        self.is_needed: Callable[[], bool] = lambda: True
        self.trouble = ""  # the latest
        self._clock = clock
        self._told_of = 0
        self._paused_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether a request would be let through now."""
        paused = self._paused_until > self._clock()
        return not paused and (self.breaker.is_closed or self.breaker.is_due)

    def is_news(self) -> bool:
        """Whether this is the first look since the breaker opened."""
        is_news = self._told_of != self.breaker.epoch
        self._told_of = self.breaker.epoch
        return is_news

    def wait(self) -> float:
        """Seconds until it is worth asking again; 0 lets one request through to the limit."""
        left = self._paused_until - self._clock()
        return left if left > 0 else self.breaker.wait()

    def answered(self, epoch: int) -> None:
        """The request was done, or was refused for its own sake."""
        self.limit.answered()
        self.breaker.answered(epoch)

    def failed(self, error: Transient, epoch: int) -> None:
        """The request may have to be sent again."""
        self.trouble = error.message
        if error.of_server:
            self.breaker.failed(epoch)
        else:
            self.answered(epoch)

    def throttled(self, error: Throttled, epoch: int) -> None:
        """The server asked for patience."""
        self.limit.refused()
        self.breaker.undecided(epoch)
        self.trouble = error.message
        asked = error.retry_after or 0.0
        if asked > LONGEST_RETRY_AFTER or (asked and not self.is_needed()):
            self._paused_until = max(self._paused_until, self._clock() + asked)
