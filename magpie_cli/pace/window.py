"""What happened lately: a count over the last so many seconds."""

from collections import deque
from collections.abc import Callable


class Window:
    """Counts events of the last `seconds`, to the second. Takes the memory of as many numbers."""

    def __init__(self, seconds: int, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._counts: deque[list[int]] = deque()  # of each second: which, and how many
        self._total = 0

    def add(self) -> None:
        """One more, now."""
        now = int(self._clock())
        if self._counts and self._counts[-1][0] == now:
            self._counts[-1][1] += 1
        else:
            self._counts.append([now, 1])
        self._total += 1

    @property
    def total(self) -> int:
        """How many there were."""
        oldest = int(self._clock()) - self._seconds
        while self._counts and self._counts[0][0] <= oldest:
            self._total -= self._counts.popleft()[1]
        return self._total

    def clear(self) -> None:
        """Begin anew."""
        self._counts.clear()
        self._total = 0
