"""Whether a server refuses because it gets too many requests, or however few it gets.

A limit that takes each refusal for a sign of too many ends at a few requests where one in twenty is
refused whatever it does: each round has one. What depends on the number falls with it. So where
cuts have been in vain, half as many are sent for a while: where the server still refuses now and
then, its refusals are usual. For two minutes, only far more of them are a reason to send fewer. (As
BBR holds its window down for a moment to see the path empty: section 4.3.4.4 of
draft-cardwell-iccrg-bbr-congestion-control.)
"""

import math
from collections.abc import Callable

CUTS_IN_VAIN = 3  # one after the other, none of which helped
SHARE = 0.5  # of the size before
OUTCOMES = 80  # of the server, that a trial takes
FEWEST, MOST = 1, 12  # refusals among them that come whatever the number is
STRETCH = 100  # outcomes between two looks afterwards
TOO_MANY = 15  # refusals among them
USUAL_SECONDS = 120.0
SHORTEST_REST = 10.0  # seconds between two trials; twice as long after each that found too many
LONGEST_REST = 300.0


class Trial:
    """`is_on` while fewer are sent; `is_usual` once it is known that refusals come in any case."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.is_on = False
        self.is_usual = False
        self._clock = clock
        self._outcomes = self._refused = 0
        self._began = -math.inf
        self._rest = SHORTEST_REST

    @property
    def is_due(self) -> bool:
        """Whether the last one is long enough ago."""
        return not self.is_on and self._clock() - self._began >= self._rest

    def begin(self) -> None:
        """From now on, fewer are sent."""
        self.is_on = True
        self._began = self._clock()
        self._outcomes = self._refused = 0

    def heard(self, *, refused: bool) -> bool:
        """One more outcome; whether it ends the trial or, afterwards, shows too many refusals."""
        self._outcomes += 1
        self._refused += refused
        return self._ends() if self.is_on else self._are_too_many()

    def _ends(self) -> bool:
        if self._outcomes < OUTCOMES and self._refused <= MOST:
            return False
        self.is_on = False
        self.is_usual = FEWEST <= self._refused <= MOST
        self._rest = SHORTEST_REST if self.is_usual else min(LONGEST_REST, 2 * self._rest)
        self._outcomes = self._refused = 0
        return True

    def _are_too_many(self) -> bool:
        are_too_many = self._refused > TOO_MANY
        if are_too_many or self._outcomes == STRETCH:
            self._outcomes = self._refused = 0
            self.is_usual = self._clock() - self._began < USUAL_SECONDS
        return are_too_many
