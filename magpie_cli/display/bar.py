"""A Rich bar for a terminal."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
)
from rich.table import Column

from magpie_cli.display.text import TextLog, time_left
from magpie_cli.summary import Summary
from magpie_cli.tally import Tally

BAR_SECONDS = 0.25
_CUT = Column(no_wrap=True, overflow="ellipsis", ratio=1)  # where it is narrow, at the end
ROOM_FOR_ECHO = 4  # columns: a terminal writes ^C behind the bar, and must not wrap


class Bar(TextLog):
    """A Rich bar that is drawn at most four times a second; lines go above it."""

    def __init__(self, tally: Tally, stream: TextIO, *, keeps_failures: bool) -> None:
        super().__init__(tally, stream, keeps_failures=keeps_failures)
        self.interval = BAR_SECONDS
        self._progress: Progress | None = None

    def start(self, sentence: str, facts: dict[str, object]) -> None:
        """The sentence, then the bar."""
        super().start(sentence, facts)
        self._progress = facts_bar(self._stream)
        self._task = self._progress.add_task("", facts="")
        self.tick()
        with self._terminal():
            self._progress.start()

    def tick(self) -> None:
        """Draw it."""
        with self._terminal():
            self._draw()

    def _draw(self) -> None:
        if self._progress:
            tally = self._tally
            facts = [f"{tally.seen:,}" + (f"/{tally.total:,}" if tally.total is not None else "")]
            facts += [f"{left} left"] if (left := time_left(tally)) else []
            facts += [f"{tally.failed:,} failed", f"{tally.rate:,.1f} dialogues/s"]
            facts += [f"{tally.in_flight:,} in flight"]
            facts += [f"{tally.retries:,} retries"] if tally.retries else []
            facts += [f"{tally.tokens:,} tokens"] if tally.tokens else []
            self._progress.update(
                self._task, completed=tally.seen, total=tally.total, facts=", ".join(facts)
            )
            self._progress.refresh()

    def take_down(self) -> None:
        """Give the terminal back."""
        self.tick()
        with self._terminal():
            if self._progress:
                self._progress.stop()
        self._progress = None

    def end(self, summary: Summary) -> None:
        """Say how it went."""
        self.take_down()
        super().end(summary)

    def _write(self, text: str) -> None:
        if self._progress:
            with self._terminal():
                self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            super()._write(text)

    @contextmanager
    def _terminal(self) -> Iterator[None]:
        """The run goes on when its terminal goes away."""
        try:
            yield
        except (OSError, ValueError):
            self._progress = self.interval = None


def facts_bar(stream: TextIO) -> Progress:
    """A bar, not started, and behind it the text in its task's field `facts`, cut where it must."""
    console = Console(file=stream)
    width = max(4, min(40, console.width // 5))
    return _NarrowProgress(
        BarColumn(bar_width=width, table_column=Column(min_width=width)),
        TextColumn("{task.fields[facts]}", markup=False, table_column=_CUT),
        console=console,
        auto_refresh=False,
        expand=True,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


class _NarrowProgress(Progress):
    """A bar with room behind it."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """As Rich has them, but for the last columns."""
        return map(_Narrow, super().get_renderables())


class _Narrow:
    """A renderable that leaves the last columns of its line free."""

    def __init__(self, inner: RenderableType) -> None:
        self._inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(1, options.max_width - ROOM_FOR_ECHO)
        yield from console.render(self._inner, options.update(max_width=width))
