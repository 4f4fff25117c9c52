"""Retries are at most a tenth of all requests, or one in two seconds where those are few.

A server in trouble must not get more of them. Those for a better answer of one that is well do not
count.
"""

from collections.abc import Callable

from magpie_cli.pace.window import Window

WINDOW = 120  # seconds
SHARE = 0.1
FLOOR = 60  # retries in that time, however few requests there are


class Budget:
    """Counts what is sent; says whether one more may be a retry."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._requests = Window(WINDOW, clock)
        self._retries = Window(WINDOW, clock)

    def sent(self) -> None:
        """One request, whichever."""
        self._requests.add()

    def take(self) -> bool:
        """Whether a retry may be sent now; then it is counted."""
        if self._retries.total >= max(FLOOR, SHARE * self._requests.total):
            return False
        self._retries.add()
        return True
