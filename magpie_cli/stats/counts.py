"""Counting in bounded memory: how numbers spread, and which of many things are the commonest."""

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

KEPT = 200_000  # things in a table; it is cut back to these when it has twice as many
EXACT = 10_000  # numbers up to here are counted as they are, larger ones to four digits


@dataclass(frozen=True, slots=True)
class Spread:
    """Percentiles by nearest rank, and the mean, of `count` numbers."""

    count: int
    mean: float
    least: int
    p5: int
    p25: int
    p50: int
    p75: int
    p95: int
    most: int


class Numbers:
    """How often each number came. At most 9,000 more places for each digit above four."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.total = 0

    def add(self, number: int) -> None:
        """One more."""
        self.total += number
        self._counts[number if number <= EXACT else int(float(f"{number:.3e}"))] += 1

    @property
    def count(self) -> int:
        """How many numbers came."""
        return self._counts.total()

    def spread(self) -> Spread | None:
        """None where there was no number."""
        if not (count := self.count):
            return None
        ordered = sorted(self._counts.items())

        def at(percent: int) -> int:
            left = max(1, -(-count * percent // 100))
            for number, times in ordered:
                left -= times
                if left <= 0:
                    return number
            return ordered[-1][0]

        cuts = [at(percent) for percent in (0, 5, 25, 50, 75, 95, 100)]
        return Spread(count, self.total / count, *cuts)


class Commonest(Generic[T]):
    """A table of counts that forgets the rarest when it is too long; `forgot` says that it did.

    After that the count of a thing may be too low by `missed` at most, and `distinct` is only a
    lower bound.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._counts: Counter[T] = Counter()
        self.missed = 0
        self._ever = 0

    @property
    def forgot(self) -> bool:
        """Whether anything was forgotten."""
        return self.missed > 0

    @property
    def distinct(self) -> int:
        """How many different things there were, at least."""
        return max(self._ever, len(self._counts))

    def add(self, things: Iterable[T]) -> None:
        """Each of them once more."""
        self._counts.update(things)
        if len(self._counts) > 2 * self._kept:
            self._cut()

    def first(self, number: int) -> list[tuple[T, int]]:
        """The commonest; of the same count in the order of their first coming."""
        return self._counts.most_common(number)

    def _cut(self) -> None:
        """As in lossy counting (Manku, Motwani 2002): all that came rarest go, until it fits."""
        self._ever = self.distinct
        rarest = 0
        while len(self._counts) > self._kept:
            rarest += 1
            self._counts = Counter({k: n for k, n in self._counts.items() if n > rarest})
        self.missed += rarest
