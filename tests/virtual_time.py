"""An event loop whose clock only waiting moves: an hour of it takes as long as its work."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _NoWait(selectors.SelectSelector):
    """Instead of waiting, it moves the clock."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        """What is ready; a loop that would wait for ever is a deadlock."""
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise AssertionError("a deadlock: nothing is left that could go on")
            self.now += max(0.0, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time() begins at 0."""

    def __init__(self) -> None:
        self._clock = _NoWait()
        super().__init__(self._clock)

    def time(self) -> float:
        """Seconds that were waited for."""
        return self._clock.now


def run_virtually(work: Coroutine[Any, Any, T]) -> T:
    """As asyncio.run, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
