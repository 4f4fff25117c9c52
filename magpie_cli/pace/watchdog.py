"""A word where nothing comes any more: which request has been out for longest."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from magpie_cli.pace import Pace

SILENT_SECONDS = 120.0  # until the first word; the next after twice as long, and so on


@contextmanager
def watching(
    pace: Pace, say: Callable[[str], None], silent: float = SILENT_SECONDS
) -> Iterator[None]:
    """Look now and then, until the block ends."""
    loop = asyncio.get_running_loop()
    said_at = 0.0
    timer: asyncio.TimerHandle | None = None

    def look() -> None:
        nonlocal timer, said_at
        timer = loop.call_later(silent / 4, look)
        name, age = pace.oldest or ("", 0.0)
        quiet = min(pace.quiet_for, age)
        if quiet < silent:
            said_at = 0.0
        elif quiet >= 2 * said_at:
            said_at = quiet
            say(f"no answer for {quiet:.0f} s; the oldest request ({name}) is {age:.0f} s old")

    timer = loop.call_later(silent / 4, look)
    try:
        yield
    finally:
        timer.cancel()
