"""What rows do not say, kept beside them: when a run began, what was tried again, how it ended."""

import os
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import TextIO, cast

from magpie_cli.credentials import RedactedStream
from magpie_cli.display import Display
from magpie_cli.display.json_log import JsonLog
from magpie_cli.engine import EngineError
from magpie_cli.records import Failure
from magpie_cli.summary import Summary
from magpie_cli.tally import Tally


class WithEventLog:
    """A display whose events go into a file as well, from `keep` on."""

    def __init__(self, shown: Display, tally: Tally) -> None:
        self._shown = shown
        self._tally = tally
        self._file: TextIO | None = None
        self._kept: JsonLog | None = None

    @property
    def interval(self) -> float | None:
        """The time between two ticks of the display, which alone are shown."""
        return self._shown.interval

    def keep(self, path: Path, environment: MutableMapping[str, str] = os.environ) -> None:
        """Add the events to the file at `path`; where that is impossible, the run goes on."""
        with suppress(OSError):
            self._file = path.open("a", encoding="utf-8")
            stream = cast("TextIO", RedactedStream(self._file, environment))
            self._kept = JsonLog(self._tally, stream, ticks=False, quiet=False)

    def note(self, sentence: str) -> None:
        """What the run does before it begins, or waits for."""
        self._shown.note(sentence)
        if self._kept:
            self._kept.note(sentence)

    def start(self, sentence: str, facts: dict[str, object]) -> None:
        """The run begins."""
        self._shown.start(sentence, facts)
        if self._kept:
            self._kept.start(sentence, facts)

    def failed(self, failure: Failure) -> None:
        """A pair did not become a record: that is kept elsewhere."""
        self._shown.failed(failure)

    def retrying(self, error: EngineError, delay: float) -> None:
        """A request will be tried again."""
        self._shown.retrying(error, delay)
        if self._kept:
            self._kept.retrying(error, delay)

    def stopping(self, sentence: str) -> None:
        """The run will end before its input does."""
        self._shown.stopping(sentence)
        if self._kept:
            self._kept.stopping(sentence)

    def tick(self) -> None:
        """Time has passed."""
        self._shown.tick()

    def take_down(self) -> None:
        """No more ticks."""
        self._shown.take_down()

    def end(self, summary: Summary) -> None:
        """The run is over."""
        self._shown.end(summary)
        if self._kept and self._file:
            self._kept.end(summary)
            with suppress(OSError):
                self._file.close()
