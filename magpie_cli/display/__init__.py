"""What a person sees while a run goes on. All of it on stderr: stdout carries data alone.

A bar on a terminal; off it a line at the start, one a minute and one at the end, without a single
escape code; with --log-format json one object an event.
"""

import asyncio
import io
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from magpie_cli.display.json_log import JsonLog
from magpie_cli.display.text import Quiet, TextLog
from magpie_cli.engine import EngineError
from magpie_cli.records import Failure
from magpie_cli.settings import Settings
from magpie_cli.store import STDOUT, is_stream
from magpie_cli.summary import Summary
from magpie_cli.tally import Tally


class Display(Protocol):
    """Hears of each event."""

    @property
    def interval(self) -> float | None:
        """The time between two ticks, in seconds, None for no ticks."""
        ...

    def note(self, sentence: str) -> None:
        """What the run does before it begins, or waits for."""
        ...

    def start(self, sentence: str, facts: dict[str, object]) -> None:
        """The run begins."""
        ...

    def failed(self, failure: Failure) -> None:
        """A pair did not become a record."""
        ...

    def retrying(self, error: EngineError, delay: float) -> None:
        """A request will be tried again, `delay` seconds from now."""
        ...

    def stopping(self, sentence: str) -> None:
        """The run will end before its input does."""
        ...

    def tick(self) -> None:
        """Time has passed: show the tally."""
        ...

    def take_down(self) -> None:
        """No more ticks: the terminal is as it was."""
        ...

    def end(self, summary: Summary) -> None:
        """The run is over."""
        ...


def open_display(settings: Settings, tally: Tally, stream: TextIO | None = None) -> Display:
    """The display that the flags and the terminal ask for."""
    stream = stream or sys.stderr or io.StringIO()  # where stderr was closed, nobody listens
    ticks = settings.progress != "none"
    if settings.log_format == "json":
        return JsonLog(tally, stream, ticks=ticks, quiet=settings.quiet)
    if settings.quiet:
        return Quiet(stream)
    keeps_failures = not is_stream(settings.output) or settings.failures is not None
    if ticks and settings.progress != "log" and _fits_a_bar(settings, stream):
        from magpie_cli.display.bar import Bar

        return Bar(tally, stream, keeps_failures=keeps_failures)
    return TextLog(tally, stream, keeps_failures=keeps_failures, ticks=ticks)


@contextmanager
def ticking(display: Display) -> Iterator[None]:
    """Call `display.tick` every `display.interval` seconds, from the event loop.

    Then it is taken down, while a signal still finds somebody who minds the terminal.
    """
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None

    def tick() -> None:
        nonlocal timer
        display.tick()
        timer = loop.call_later(display.interval, tick) if display.interval else None

    if display.interval is not None:
        timer = loop.call_later(display.interval, tick)
    try:
        yield
    finally:
        if timer:
            timer.cancel()
        display.take_down()


def moves_cursor(stream: TextIO) -> bool:
    """Whether it is a terminal on which a line can be drawn over."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _fits_a_bar(settings: Settings, stream: TextIO) -> bool:
    """Only on a terminal that can move its cursor.

    Rows on the same terminal, or what a pager or `jq` makes of them, would tear the bar apart:
    then only --progress bar draws one.
    """
    if not moves_cursor(stream):
        return False
    if settings.output != "-" or settings.progress == "bar":
        return True
    try:
        return stat.S_ISREG(os.fstat(STDOUT).st_mode)
    except OSError:  # closed
        return False
