"""The app that the commands belong to, how they print, and what their options have in common."""

import atexit
import gc
import os
import shutil
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO, cast

import typer

from magpie_cli.credentials import RedactedStream, Redactor, load_credentials
from magpie_cli.errors import MagpieError, OutputClosed
from magpie_cli.settings import LONGEST_WAIT, twin_of

if TYPE_CHECKING:
    from magpie_cli.display.table import Section
    from magpie_cli.settings import TurnRange
    from magpie_cli.summary import Summary

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}

# Typer's own Rich help would cost more than all else that --help does.
app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
    help="Turn pairs of personas into multi-turn dialogues, one JSON line each.\n\n"
    "To begin: magpie generate PAIRS.jsonl -o OUT.jsonl",
    epilog="Exit codes: 0 all made, 1 could not go on, 2 usage, 3 some pairs failed, "
    "75 not finished (run the same command again).",
)


def main() -> None:
    """The `magpie` command."""
    # What start-up makes stays, and at the end nothing needs to be found that could go: 30 ms.
    gc.set_threshold(10_000, 50)
    atexit.register(gc.freeze)
    # Ctrl-C ends it silently by SIGINT, as a shell loop needs it, until a run takes over.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.stderr:
        sys.stderr = cast("TextIO", RedactedStream(sys.stderr, os.environ))
    try:
        load_credentials(os.environ)
        app(prog_name="magpie")
    except OutputClosed:
        from magpie_cli.shutdown import die_by

        die_by(signal.SIGPIPE)
    except MagpieError as error:
        _fail(error)
    except OSError as error:  # of a path that nobody could look at, or of our own output
        what = f"{error.filename!r} cannot be used" if error.filename else "that cannot be written"
        if not error.filename:  # nor will it be as Python ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        _fail(MagpieError(f"{what}: {error.strerror}", "name another file, or make room"))


def _fail(error: MagpieError) -> NoReturn:
    from magpie_cli.display.text import error_text

    typer.echo(error_text(error), err=True)
    sys.exit(error.exit_code)


def engine_names(incomplete: str) -> list[str]:
    """Completion: the engines whose names begin so."""
    from magpie_cli.engines import ENGINES

    return [name for name in ENGINES if name.startswith(incomplete)]


def model_names(incomplete: str) -> list[str]:
    """Completion: the models of the catalogue whose names begin so."""
    from magpie_cli.models.catalogue import CATALOGUE

    return [name for name in CATALOGUE if name.startswith(incomplete)]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"magpie {version('magpie-cli')}")
        raise typer.Exit


def option(*names: str, **rest: Any) -> Any:  # noqa: ANN401 - as typer.Option has it
    """An option whose environment twin is MAGPIE_ and its long name."""
    return typer.Option(*names, envvar=twin_of(names[0]), show_envvar=False, **rest)


# What several commands have in common.
OfARun = Annotated[str, typer.Argument(metavar="OUT", help="What generate or judge wrote.")]
FailuresFile = Annotated[
    str | None, option("--failures", metavar="FILE", help="If the run was given --failures.")
]
AsJson = Annotated[bool, option("--json", help="Print JSON.")]


def seconds(given: str | float) -> float:
    """`90`, `90s`, `10m`, `2h` or `1d` as seconds, the parser of options that are a time."""
    text = str(given)
    unit = text[-1:] if text[-1:] in UNITS else "s"
    try:
        found = float(text.removesuffix(unit)) * UNITS[unit]
    except ValueError:
        found = -1.0
    if not 0 <= found <= LONGEST_WAIT:
        raise typer.BadParameter(f"{text!r} is no time up to 7 days: as 90, 90s, 10m, 2h or 1d")
    return found


def turn_range(given: "str | TurnRange") -> "TurnRange":
    """`3` or `2-6`, the parser of the option."""
    from magpie_cli.settings import MAX_TURNS, TurnRange

    try:
        return TurnRange.parse(str(given))
    except ValueError as error:
        message = f"{str(given)!r} is not 1 to {MAX_TURNS} turns: as 3, or 2-6 for a range"
        raise typer.BadParameter(message) from error


def more_than_nothing(given: str | float) -> float:
    """As `seconds`, for a time in which something must happen."""
    if not (found := seconds(given)):
        raise typer.BadParameter("must be more than nothing")
    return found


@app.callback()
def magpie(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Run before every command."""


def end_with(summary: "Summary") -> NoReturn:
    """A run is over: die by the signal that stopped it, or leave with its exit code."""
    from magpie_cli.shutdown import die_by

    if summary.stopped_by:
        die_by(summary.stopped_by)
    raise typer.Exit(summary.exit_code)


def print_text(text: str) -> None:
    """An answer, for a person."""
    from magpie_cli.display.text import safe

    typer.echo(Redactor.of(os.environ).text(safe(text)))


def say(text: str) -> None:
    """A remark beside the answer."""
    from magpie_cli.display.text import safe

    typer.echo(safe(text), err=True)


def print_sections(sections: "tuple[Section, ...]", *, err: bool = False) -> None:
    """Tables, with bars on a terminal and as plain lines off it."""
    from magpie_cli.display import moves_cursor
    from magpie_cli.display.table import drawn, plain

    stream = sys.stderr if err else sys.stdout
    if stream and moves_cursor(stream):
        text = drawn(sections, shutil.get_terminal_size().columns)
    else:
        text = plain(sections)
    typer.echo(Redactor.of(os.environ).text(text), err=err)


def print_json(value: object, *, err: bool = False) -> None:
    """An answer, for a program; on stderr where stdout has rows."""
    from magpie_cli.terminal import as_json, for_terminal

    line = for_terminal(as_json(value))
    typer.echo(Redactor.of(os.environ).line(line), err=err)
