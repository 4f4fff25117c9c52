"""One object an event, for programs."""

from datetime import UTC, datetime
from typing import TextIO

import orjson

from magpie_cli.display.text import LOG_SECONDS
from magpie_cli.engine import EngineError, Throttled
from magpie_cli.records import Failure
from magpie_cli.summary import Summary
from magpie_cli.tally import Tally
from magpie_cli.terminal import for_terminal


class JsonLog:
    """One object an event, each with `event` and `time` (ISO 8601, UTC), for programs."""

    def __init__(self, tally: Tally, stream: TextIO, *, ticks: bool, quiet: bool) -> None:
        self.interval = LOG_SECONDS if ticks and not quiet else None
        self._tally = tally
        self._stream = stream
        self._quiet = quiet
        self._silent_until = 0.0

    def note(self, sentence: str) -> None:
        """`note`."""
        if not self._quiet:
            self._event("note", message=sentence)

    def start(self, sentence: str, facts: dict[str, object]) -> None:
        """`start`."""
        if not self._quiet:
            self._event("start", message=sentence, **facts)

    def failed(self, failure: Failure) -> None:
        """`failure`, with all that its line in the failures file says."""
        self._event("failure", failure=failure)

    def retrying(self, error: EngineError, delay: float) -> None:
        """`retry`, with the seconds until then; of what asks to wait, one a minute."""
        if self._quiet:
            return
        if isinstance(error, Throttled):
            if self._tally.seconds < self._silent_until:
                return
            self._silent_until = self._tally.seconds + LOG_SECONDS
        self._event("retry", kind=error.kind, message=error.message, delay=round(delay, 3))

    def stopping(self, sentence: str) -> None:
        """`stopping`."""
        self._event("stopping", message=sentence)

    def tick(self) -> None:
        """`progress`."""
        self._event("progress", **self._numbers())

    def take_down(self) -> None:
        """Nothing is drawn."""

    def end(self, summary: Summary) -> None:
        """`end`, after an `error` if there is one."""
        if summary.error:
            self._event("error", message=summary.error.message, hint=summary.error.hint)
        if not self._quiet or summary.exit_code:
            self._event(
                "end",
                message=summary.sentence(),
                exit_code=summary.exit_code,
                finished=summary.finished,
                stopped_by=summary.stopped_by.name if summary.stopped_by else None,
                output=summary.output,
                failures_file=summary.failures,
                failures=dict(self._tally.failures),
                **self._numbers(),
            )

    def _numbers(self) -> dict[str, object]:
        tally = self._tally
        return {
            "total": tally.total,
            "skipped": tally.skipped,
            "made": tally.made,
            "failed": tally.failed,
            "in_flight": tally.in_flight,
            "utterances": tally.utterances,
            "tokens": tally.tokens,
            "sampled_again": tally.sampled_again,
            "findings": dict(tally.found),
            "retries": tally.retries,
            "seconds": round(tally.seconds, 3),
        }

    def _event(self, name: str, **fields: object) -> None:
        row = {"event": name, "time": datetime.now(UTC).isoformat(timespec="milliseconds")}
        try:
            self._stream.write(for_terminal(orjson.dumps(row | fields)).decode() + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # nobody reads it any more: the run goes on
            self.interval = None
