"""Every error that a user can meet.

MagpieError              exit 1    could not go on
├── UsageError           exit 2    the flags, the input or the output cannot be used as given
├── NotFinished          exit 75   stopped before the end; the same command again goes on
├── TooManyFailures      exit 3    stopped before the end, because too many pairs have failed
├── OutputClosed         SIGPIPE   whoever read standard output has gone away
├── InvalidRecord        exit 1    a dialogue or a line that is not what a record must be
└── EngineError          (engine.py: what an engine may raise, and what it means for a pair)
"""

from typing import ClassVar


class MagpieError(Exception):
    """What happened and where, and the next thing to type. Shown without a traceback."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(MagpieError):
    """The flags, the input or the output cannot be used as given."""

    exit_code = 2


class NotFinished(MagpieError):  # noqa: N818 - it names a state of the run, not a fault
    """Stopped before the end. 75 is EX_TEMPFAIL of sysexits.h: try again later."""

    exit_code = 75


class TooManyFailures(MagpieError):  # noqa: N818 - as above
    """More pairs have failed than --max-failures allows."""

    exit_code = 3


class OutputClosed(MagpieError):  # noqa: N818 - as above
    """Whoever read standard output has gone away (`| head`)."""


class InvalidRecord(MagpieError):  # noqa: N818 - the thing that is wrong, as in InvalidSignature
    """A dialogue or a line that is not what a record must be."""
