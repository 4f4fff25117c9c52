"""Plain lines for people, without a single escape code."""

import re
from datetime import timedelta
from signal import Signals
from typing import TextIO

from magpie_cli.engine import EngineError, Throttled
from magpie_cli.errors import MagpieError
from magpie_cli.records import Failure
from magpie_cli.summary import Summary
from magpie_cli.tally import Tally

LOG_SECONDS = 60.0
FAILURES_SHOWN = 5

# C0 but tab and newline, DEL, C1, and the marks that reverse what stands after them.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def safe(text: str) -> str:
    """`text` without the control characters that could move a cursor or fake a line."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def error_text(error: MagpieError) -> str:
    """`error: what happened`, and `hint: what to type`."""
    hint = f"\nhint: {error.hint}" if error.hint else ""
    return safe(f"error: {error.message}{hint}")


def time_left(tally: Tally) -> str:
    """`0:01:20` at the rate of this run so far; empty where there is no telling."""
    if tally.total is None or not tally.rate:
        return ""
    return str(timedelta(seconds=round(max(0, tally.total - tally.seen) / tally.rate)))


def progress_line(tally: Tally) -> str:
    """`12 of 100 done, 1 failed, 8 in flight, 3.1/s, 4,321 tokens`."""
    done = tally.skipped + tally.made
    parts = [f"{done:,}" + (f" of {tally.total:,}" if tally.total is not None else "") + " done"]
    parts += [f"{tally.failed:,} failed", f"{tally.in_flight:,} in flight", f"{tally.rate:,.1f}/s"]
    if left := time_left(tally):
        parts.append(f"about {left} left")
    if tally.tokens:
        parts.append(f"{tally.tokens:,} tokens")
    if tally.retries:
        parts.append(f"{tally.retries:,} retries (last: {tally.last_retry})")
    return safe(", ".join(parts))


class Quiet:
    """Nothing on success; the end in one line where something failed or is left."""

    interval: float | None = None

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def note(self, sentence: str) -> None:
        """Nothing."""

    def start(self, sentence: str, facts: dict[str, object]) -> None:
        """Nothing."""

    def failed(self, failure: Failure) -> None:
        """Nothing."""

    def retrying(self, error: EngineError, delay: float) -> None:
        """Nothing: the tally counts them."""

    def stopping(self, sentence: str) -> None:
        """Nothing: the end says it."""

    def tick(self) -> None:
        """Nothing."""

    def take_down(self) -> None:
        """Nothing is drawn."""

    def end(self, summary: Summary) -> None:
        """The error, or what failed."""
        if summary.error:
            self._write(error_text(summary.error))
        elif summary.exit_code and summary.stopped_by is not Signals.SIGPIPE:
            self._write(safe(summary.sentence()))

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # nobody reads it any more: the run goes on
            self.interval = None


class TextLog(Quiet):
    """Plain lines: start, one a minute, the first failures, end."""

    def __init__(
        self, tally: Tally, stream: TextIO, *, keeps_failures: bool, ticks: bool = True
    ) -> None:
        super().__init__(stream)
        self.interval = LOG_SECONDS if ticks else None
        self._tally = tally
        self._most_failures = FAILURES_SHOWN if keeps_failures else None
        self._failures = 0
        self._silent_until = 0.0

    def note(self, sentence: str) -> None:
        """A line of its own."""
        self._write(safe(sentence))

    def start(self, sentence: str, facts: dict[str, object]) -> None:  # noqa: ARG002 - for JSON
        """Which engine, why, and how much there is to do."""
        self._write(safe(sentence))

    def failed(self, failure: Failure) -> None:
        """The first few, or every one where no file keeps them."""
        self._failures += 1
        if self._most_failures is None or self._failures <= self._most_failures:
            line = f"failed: {failure.message} ({failure.kind}, id {failure.id})"
            self._write(safe(" ".join(line.split("\n"))))
            if self._failures == self._most_failures:
                self._write("further failures are in the failures file only")

    def retrying(self, error: EngineError, delay: float) -> None:  # noqa: ARG002 - for JSON
        """What asks to wait, now and then: it may take long. The tally counts the others."""
        if isinstance(error, Throttled) and self._tally.seconds >= self._silent_until:
            self._silent_until = self._tally.seconds + LOG_SECONDS
            self._write(safe(" ".join(f"waiting: {error.message}".split("\n"))))

    def stopping(self, sentence: str) -> None:
        """Why no new dialogue begins."""
        self._write(safe(sentence))

    def tick(self) -> None:
        """The tally."""
        self._write(progress_line(self._tally))

    def end(self, summary: Summary) -> None:
        """What was made, and the error that ended it."""
        if summary.stopped_by is Signals.SIGPIPE:
            return  # `| head` has what it wanted
        if summary.tally.seen or not summary.error:
            self._write(safe(summary.sentence()))
        if summary.error:
            self._write(error_text(summary.error))
