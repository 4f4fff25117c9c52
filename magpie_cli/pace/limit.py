"""How many requests a server gets at a time: more while all is well, fewer when it refuses.

Doubles each clean round until the first refusal; from then on one more a clean round, and a tenth
less after a refusal, at most once a second (additive increase, multiplicative decrease, as TCP's
congestion control has it: RFC 5681 section 3.1). A round is as many answers as the limit. Up to the
number that was refused last it takes four clean rounds: on a small server one too many is a large
part of all requests.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable

START = 8
CUT = 0.9
CUT_SECONDS = 1.0
CAREFUL_ROUNDS = 4


class Limit:
    """At most `ceiling` at a time, and at most `size`, which adapts itself."""

    def __init__(self, ceiling: int, clock: Callable[[], float], start: int = START) -> None:
        self.size = float(min(start, ceiling))
        self.in_flight = 0
        self._ceiling = ceiling
        self._clock = clock
        self._doubles = True
        self._clean = 0
        self._refused_at = math.inf
        self._cut_at = -CUT_SECONDS
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """A place, in the order of asking. It must be given back."""
        if self._waiting or self.in_flight >= int(self.size):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():  # it was given the place as it left
                    self.give_back()
                raise
        else:
            self.in_flight += 1

    def give_back(self) -> None:
        """One place is free."""
        self.in_flight -= 1
        self._hand_out()

    def answered(self) -> None:
        """The server has done what was asked."""
        self._clean += 1
        is_risky = int(self.size) + 1 >= self._refused_at
        if self._clean >= self.size * (CAREFUL_ROUNDS if is_risky else 1):
            self._clean = 0
            self._refused_at = math.inf if is_risky else self._refused_at
            grown = self.size * 2 if self._doubles else self.size + 1
            self.size = min(float(self._ceiling), grown)
            self._hand_out()

    def refused(self) -> None:
        """The server asked for fewer."""
        self._doubles = False
        self._clean = 0
        if self._clock() - self._cut_at >= CUT_SECONDS:
            self._cut_at = self._clock()
            self._refused_at = int(self.size)
            self.size = max(1.0, min(self.size * CUT, self.size - 1))

    def _hand_out(self) -> None:
        while self._waiting and self.in_flight < int(self.size):
            turn = self._waiting.popleft()
            if not turn.done():
                self.in_flight += 1
                turn.set_result(None)
