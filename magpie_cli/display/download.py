"""What a person sees while a file is fetched: a bar on a terminal, a line a minute elsewhere."""

import io
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, TextIO

from magpie_cli.display import moves_cursor
from magpie_cli.display.text import LOG_SECONDS, safe
from magpie_cli.models.wanted import size_text

if TYPE_CHECKING:
    from rich.progress import Progress, Task, TaskID

BAR_SECONDS = 0.25


class SilentDownload:
    """Nothing at all."""

    def say(self, sentence: str) -> None:
        """Nothing."""

    def progress(self, done: int, total: int | None) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class DownloadLog(SilentDownload):
    """Plain lines: each sentence, and once a minute how much is there."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._said = clock()

    def say(self, sentence: str) -> None:
        """One line."""
        self._write(safe(" ".join(sentence.split("\n"))))

    def progress(self, done: int, total: int | None) -> None:
        """`312 MB of 1.12 GB`, where the last line is a minute old."""
        if self._clock() - self._said >= LOG_SECONDS:
            self._said = self._clock()
            self._write(_much(done, total))

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # nobody reads it any more: the download goes on
            pass


class DownloadBar(DownloadLog):
    """A Rich bar with bytes, speed and time left; sentences go above it."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream, clock)
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def progress(self, done: int, total: int | None) -> None:
        """Draw it, at most four times a second, and at the end."""
        now = self._clock()
        if self._bar and now - self._said < BAR_SECONDS and done != total:
            return
        self._said = now
        try:
            self._draw(done, total)
        except (OSError, ValueError):  # the terminal has gone away
            self._bar = None

    def _draw(self, done: int, total: int | None) -> None:
        if self._bar is None or self._task is None:
            from magpie_cli.display.bar import facts_bar

            self._bar = facts_bar(self._stream)
            # What was there before says nothing about the speed.
            self._task = self._bar.add_task("", completed=done, total=total, facts="")
            self._bar.start()
        self._bar.update(self._task, completed=done, total=total)
        self._bar.update(self._task, facts=_facts(self._bar.tasks[0], done, total))
        self._bar.refresh()

    def close(self) -> None:
        """Take the bar down."""
        bar, self._bar = self._bar, None
        if bar:
            with suppress(OSError, ValueError):
                bar.stop()

    def _write(self, text: str) -> None:
        if self._bar:
            with suppress(OSError, ValueError):
                self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            super()._write(text)


@contextmanager
def open_download(*, quiet: bool, stream: TextIO | None = None) -> Iterator[SilentDownload]:
    """The display that the terminal asks for, and its bar taken down at the end."""
    stream = stream or sys.stderr or io.StringIO()  # where stderr was closed, nobody listens
    display = SilentDownload()
    if not quiet:
        display = DownloadBar(stream) if moves_cursor(stream) else DownloadLog(stream)
    try:
        yield display
    finally:
        display.close()


def _much(done: int, total: int | None) -> str:
    """`312 MB of 1.12 GB`."""
    return size_text(done) + (f" of {size_text(total)}" if total is not None else "")


def _facts(task: "Task", done: int, total: int | None) -> str:
    """`312 MB of 1.12 GB, 24.1 MB/s, 0:00:34 left`."""
    facts = [_much(done, total)]
    if task.speed:
        facts.append(f"{size_text(round(task.speed))}/s")
    if task.time_remaining is not None:
        facts.append(f"{timedelta(seconds=round(task.time_remaining))} left")
    return ", ".join(facts)
