"""What ends a run cleanly before its input does: time, tokens, or too many failures."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from magpie_cli.errors import MagpieError, NotFinished, TooManyFailures, UsageError
from magpie_cli.records import Failure, Outcome
from magpie_cli.settings import Settings
from magpie_cli.shutdown import Shutdown
from magpie_cli.tally import Tally

FEWEST_FOR_A_SHARE = 20  # outcomes, where nobody knows how many there will be

_GO_ON = "run the same command again to go on"


class Limits:
    """--max-time, --max-tokens-total and --max-failures of one run.

    Raises UsageError where --max-failures is neither a number nor a share.
    """

    def __init__(self, settings: Settings, tally: Tally, stop: Shutdown) -> None:
        self._settings = settings
        self._tally = tally
        self._stop = stop
        self._allowed = _allowed(settings.max_failures)

    @contextmanager
    def running(self) -> Iterator[None]:
        """The time runs, from the start of the tally."""
        most = self._settings.max_time
        if most is None:
            yield
            return
        loop = asyncio.get_running_loop()
        left = max(0.0, most - self._tally.seconds)
        timer = loop.call_later(left, self._stop.refuse, _reached(f"--max-time {most:g} s"))
        try:
            yield
        finally:
            timer.cancel()

    def check(self, outcome: Outcome) -> None:
        """One more outcome is kept: stop the run where that was the last one allowed."""
        if isinstance(outcome, Failure):
            self._check_failures()
        most = self._settings.max_tokens_total
        if most is None:
            return
        if self._tally.spent >= most:
            self._stop.refuse(_reached(f"--max-tokens-total {most:,}"))
        elif not isinstance(outcome, Failure) and outcome.usage.completion_tokens is None:
            message = "nobody counts the tokens here, so --max-tokens-total cannot be kept"
            self._stop.refuse(MagpieError(message, "use --limit or --max-time instead"))

    def _check_failures(self) -> None:
        tally = self._tally
        failed = tally.failed - tally.failed_before
        if self._allowed is None:
            return
        number, is_share = self._allowed
        if is_share:
            number *= tally.total or max(tally.seen, FEWEST_FOR_A_SHARE)
        if failed > number:
            self._stop.refuse(_too_many(failed, self._settings.max_failures))


def _too_many(failed: int, allowed: str | None) -> TooManyFailures:
    return TooManyFailures(
        f"{failed:,} failed, more than --max-failures {allowed}",
        "mend what they say, then run the same command again",
    )


def _reached(limit: str) -> NotFinished:
    return NotFinished(f"{limit} is reached", _GO_ON)


def _allowed(text: str | None) -> tuple[float, bool] | None:
    """`10` -> (10, no share); `5%` -> (0.05, a share)."""
    if text is None:
        return None
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = -1.0
    is_share = text.endswith("%")
    good = 0 <= number <= 100 if is_share else number >= 0 and number.is_integer()
    if not good:
        raise UsageError(f"--max-failures {text} is no number and no share", "as 10, or as 5%")
    return (number / 100 if is_share else number), is_share
