"""How many requests a server gets at a time: more while all is well, fewer when it refuses.

Doubles each clean round until the first refusal; from then on one more a clean round, and a tenth
less after a refusal, at most once a second (additive increase, multiplicative decrease, as TCP's
congestion control has it: RFC 5681 section 3.1). A round is as many answers as the limit. Up to the
number that was refused last it takes four clean rounds: on a small server one too many is a large
part of all requests. Refusals that do not depend on the number (trial.py) change nothing.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable

from magpie_cli.pace.trial import CUTS_IN_VAIN, SHARE, Trial

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
        self._in_vain = 0  # cuts since the size was last what it had been before one
        self._trial = Trial(clock)
        self._after_trial = 0.0
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
        if self._trial.is_on or self._trial.is_usual:
            self._watch(refused=False)
            if self._trial.is_on:
                return
        self._clean += 1
        is_risky = int(self.size) + 1 >= self._refused_at
        if self._clean >= self.size * (CAREFUL_ROUNDS if is_risky else 1):
            self._clean = 0
            if is_risky:
                self._refused_at = math.inf
                self._in_vain = 0
            self._resize(self.size * 2 if self._doubles else self.size + 1)

    def refused(self) -> None:
        """The server asked for fewer."""
        if self._trial.is_on or self._trial.is_usual:
            self._watch(refused=True)
            return
        self._doubles = False
        self._clean = 0
        if self._clock() - self._cut_at >= CUT_SECONDS:
            self._cut()
            if self._in_vain >= CUTS_IN_VAIN and self._trial.is_due:
                self._trial.begin()
                self._after_trial = self.size
                self.size = max(1.0, self.size * SHARE)

    def _cut(self) -> None:
        self._cut_at = self._clock()
        self._refused_at = int(self.size)
        self._in_vain += 1
        self.size = max(1.0, min(self.size * CUT, self.size - 1))

    def _watch(self, *, refused: bool) -> None:
        """What becomes of requests in a trial, or while refusals are known to be usual."""
        was_on = self._trial.is_on
        if was_on and self.in_flight > self.size:  # sent before it began
            return
        if not self._trial.heard(refused=refused):
            return
        self._clean = self._in_vain = 0
        self._doubles = was_on and self._trial.is_usual
        if was_on:
            self._refused_at = math.inf if self._trial.is_usual else self._refused_at
            self._resize(self._after_trial)
        else:
            self._cut()

    def _resize(self, size: float) -> None:
        self.size = min(float(self._ceiling), size)
        self._hand_out()

    def _hand_out(self) -> None:
        while self._waiting and self.in_flight < int(self.size):
            turn = self._waiting.popleft()
            if not turn.done():
                self.in_flight += 1
                turn.set_result(None)
