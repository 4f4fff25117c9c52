"""Asking again after what may pass: a cut connection, silence, 429, 5xx."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from magpie_cli.errors import MagpieError, NotFinished

RETRIES = 5  # without any progress
BACKOFF_BASE = 0.5  # seconds, as below
LONGEST_RETRY_AFTER = 60.0

NO_NETWORK = (
    "is there a network? A proxy is named with export HTTPS_PROXY=http://host:port. Without one, "
    "generate takes a file with --model FILE.gguf, and a server with --base-url URL"
)

_T = TypeVar("_T")


class Interrupted(Exception):  # noqa: N818 - an event that may pass; never seen by a user
    """A request that may be made again.

    `answered` says whether somebody was there at all; `retry_after` is in seconds.
    """

    def __init__(
        self, message: str, *, answered: bool = True, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.answered = answered
        self.retry_after = retry_after


def no_progress() -> int:
    """For a request that is made whole or not at all."""
    return 0


async def retried(
    request: Callable[[], Awaitable[_T]],
    *,
    sleep: Callable[[float], Awaitable[None]],
    say: Callable[[str], None],
    progress: Callable[[], int] = no_progress,
) -> _T:
    """What `request()` returns, after at most 5 retries without more `progress()` than ever.

    Raises MagpieError where nobody ever answered, NotFinished where it is given up.
    """
    first = best = progress()
    tries, heard = 0, False
    while True:
        try:
            return await request()
        except Interrupted as error:
            tries = 1 if progress() > best else tries + 1
            best = max(best, progress())
            heard = heard or error.answered or best > first
            if not heard:
                raise MagpieError(
                    f"nothing answers: {error.message}",
                    NO_NETWORK,
                ) from error
            delay = error.retry_after or BACKOFF_BASE * 2 ** (tries - 1)
            if tries > RETRIES or delay > LONGEST_RETRY_AFTER:
                raise _given_up(error, tries - 1) from error
            say(f"{error.message}; trying again in {delay:g} s")
            await sleep(delay)


def _given_up(error: Interrupted, retries: int) -> NotFinished:
    if error.retry_after and error.retry_after > LONGEST_RETRY_AFTER:
        return NotFinished(
            f"{error.message}, and asks to wait {error.retry_after:.0f} s",
            "run the same command again after that",
        )
    return NotFinished(
        f"{error.message}: given up after {retries} retries without progress",
        "run the same command again later: it goes on where this one stopped",
    )
