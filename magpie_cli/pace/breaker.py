"""A server that fails is left alone for a while, then tried with a few requests."""

from collections.abc import Callable
from enum import Enum, auto

from magpie_cli.pace.window import Window

WINDOW = 60  # seconds
FEWEST = 20  # outcomes that say anything
SHARE = 0.5  # of them that failed
SHORTEST_REST = 30.0  # seconds
LONGEST_REST = 300.0  # seconds
PROBES = 3
LOOK_SECONDS = 1.0  # while the probes are out


class _State(Enum):
    CLOSED = auto()  # as a circuit: requests pass
    OPEN = auto()
    PROBING = auto()


class Breaker:
    """Opens when half of the last minute's outcomes failed, of at least 20, or the last 20 all did.

    Closes when all probes come back; each time that one fails, it rests twice as long. What was
    sent before it opened says nothing any more.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._good = Window(WINDOW, clock)
        self._bad = Window(WINDOW, clock)
        self._state = _State.CLOSED
        self._rest = SHORTEST_REST
        self._until = 0.0
        self._opened_at = 0.0
        self._sent = self._back = 0
        self._failed_in_a_row = 0
        self.epoch = 0  # how often it has opened

    @property
    def is_closed(self) -> bool:
        """Whether requests pass."""
        return self._state is _State.CLOSED

    @property
    def is_due(self) -> bool:
        """Whether a probe is to be sent."""
        if self._state is _State.OPEN:
            return self._clock() >= self._until
        return self._state is _State.PROBING and self._sent < PROBES

    @property
    def out_for(self) -> float:
        """Seconds since requests passed, 0 where they do."""
        return 0.0 if self.is_closed else self._clock() - self._opened_at

    def wait(self) -> float:
        """Seconds until it is worth asking again; 0 lets one request through."""
        if self._state is _State.OPEN:
            if (left := self._until - self._clock()) > 0:
                return left
            self._state = _State.PROBING
            self._sent = self._back = 0
        if self._state is _State.PROBING:
            if self._sent == PROBES:
                return LOOK_SECONDS
            self._sent += 1
        return 0.0

    def answered(self, epoch: int) -> None:
        """A request that was let through in that epoch came back well."""
        if epoch != self.epoch:  # of before an outage
            return
        if self._state is _State.PROBING:
            self._back += 1
            if self._back == PROBES:
                self._state = _State.CLOSED
                self._rest = SHORTEST_REST
                self._good.clear()
                self._bad.clear()
        self._failed_in_a_row = 0
        self._good.add()

    def failed(self, epoch: int) -> None:
        """A request that was let through in that epoch did not."""
        if epoch != self.epoch:
            return
        self._bad.add()
        self._failed_in_a_row += 1
        if self._state is _State.PROBING:
            self._rest = min(LONGEST_REST, self._rest * 2)
            self._open()
        elif self.is_closed and self._is_too_much():
            self._opened_at = self._clock()
            self._open()

    def undecided(self, epoch: int) -> None:
        """A request that was let through says nothing of it: another may be sent in its place."""
        if self._state is _State.PROBING and epoch == self.epoch:
            self._sent = max(0, self._sent - 1)

    def _is_too_much(self) -> bool:
        bad = self._bad.total
        outcomes = bad + self._good.total
        if self._failed_in_a_row >= FEWEST:
            return True
        return outcomes >= FEWEST and bad >= SHARE * outcomes

    def _open(self) -> None:
        self.epoch += 1
        self._state = _State.OPEN
        self._until = self._clock() + self._rest
