"""The commands: flags -> settings -> one call -> one rendered answer and an exit code.

Only typer is imported here; what a command needs, it imports when it runs.
"""

import signal
import sys
from typing import Annotated, Any

import typer

from magpie_cli.errors import MagpieError
from magpie_cli.settings import MAX_TURNS, LogFormat, ProgressMode, Settings

# Typer's own Rich help would cost more than all else that --help does.
app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
    help="Turn pairs of personas into multi-turn dialogues, one JSON line each.",
    epilog="Exit codes: 0 all made, 1 could not go on, 2 usage, 3 some pairs failed, "
    "75 not finished (run the same command again).",
)


def main() -> None:
    """The `magpie` command."""
    # Ctrl-C ends it silently by SIGINT, as a shell loop needs it, until a run takes over.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        app(prog_name="magpie")
    except MagpieError as error:
        from magpie_cli.display.text import error_text

        typer.echo(error_text(error), err=True)
        sys.exit(error.exit_code)


def _engines(incomplete: str) -> list[str]:
    from magpie_cli.engines import ENGINES

    return [name for name in ENGINES if name.startswith(incomplete)]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"magpie {version('magpie-cli')}")
        raise typer.Exit


def _option(*names: str, **rest: Any) -> Any:  # noqa: ANN401 - as typer.Option has it
    """An option whose environment twin is MAGPIE_ and its long name."""
    twin = "MAGPIE_" + names[0].removeprefix("--").upper().replace("-", "_")
    return typer.Option(*names, envvar=twin, show_envvar=False, **rest)


@app.callback()
def magpie(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Run before every command."""


@app.command(
    epilog="Every option can be set in the environment as MAGPIE_ and its long name "
    "(MAGPIE_TURNS=3); an option given here beats it."
)
def generate(
    input: Annotated[
        str, typer.Argument(metavar="INPUT", help="Pairs, one JSON object a line; - is stdin.")
    ],
    output: Annotated[
        str, _option("--output", "-o", metavar="OUT", help="The file for the rows; - is stdout.")
    ] = "-",
    turns: Annotated[
        int,
        _option(
            "--turns",
            "-t",
            metavar="N",
            min=1,
            max=MAX_TURNS,
            help="Turns per dialogue; a turn is a question and its answer.",
        ),
    ] = 1,
    model: Annotated[
        str | None,
        _option(
            "--model", "-m", metavar="NAME", help="The LLM's name. [default: the server's only one]"
        ),
    ] = None,
    engine: Annotated[
        str | None,
        _option(
            "--engine",
            metavar="NAME",
            autocompletion=_engines,
            help="Where dialogues come from; magpie doctor lists them.",
        ),
    ] = None,
    base_url: Annotated[
        str | None,
        _option("--base-url", metavar="URL", help="An OpenAI-compatible server (ends in /v1)."),
    ] = None,
    rpc_url: Annotated[
        str | None,
        _option("--rpc-url", metavar="URL", help="Engine dria: another network than the token's."),
    ] = None,
    devnet: Annotated[
        bool,
        _option("--devnet", help="Engine dria: a network inside this process; its words are echo's."),
    ] = False,
    concurrency: Annotated[
        int | None,
        _option(
            "--concurrency",
            "-j",
            metavar="N",
            min=1,
            help="Dialogues in flight. [default: 8; engine dria: 256]",
        ),
    ] = None,
    samples: Annotated[
        int, _option("--samples", "-n", metavar="N", min=1, help="Dialogues for each pair.")
    ] = 1,
    seed: Annotated[
        int | None,
        _option("--seed", metavar="N", help="Each request gets its own seed, made from this."),
    ] = None,
    temperature: Annotated[
        float | None,
        _option("--temperature", metavar="X", min=0, help="[default: the server's]"),
    ] = None,
    top_p: Annotated[
        float | None, _option("--top-p", metavar="X", min=0, max=1, help="[default: the server's]")
    ] = None,
    max_tokens: Annotated[
        int | None,
        _option("--max-tokens", metavar="N", min=1, help="Per utterance. [default: the server's]"),
    ] = None,
    limit: Annotated[
        int | None,
        _option("--limit", metavar="N", min=1, help="Begin at most N dialogues in this run."),
    ] = None,
    timeout: Annotated[
        float, _option("--timeout", metavar="SECONDS", min=0.001, help="For one request.")
    ] = 600,
    give_up_after: Annotated[
        float,
        _option(
            "--give-up-after",
            metavar="SECONDS",
            min=0.001,
            help="Wait so long for a server that asks to wait, or for a network without nodes.",
        ),
    ] = 1800,
    strict: Annotated[
        bool, _option("--strict", help="Stop before the first request if any line is bad.")
    ] = False,
    failures: Annotated[
        str | None,
        _option("--failures", metavar="FILE", help="[default: out.failures.jsonl for out.jsonl]"),
    ] = None,
    fresh: Annotated[
        bool, _option("--fresh", help="Set an old OUT aside (OUT.1, OUT.2, ...), begin anew.")
    ] = False,
    dry_run: Annotated[
        bool, _option("--dry-run", help="Say what there is to do; ask no engine, write nothing.")
    ] = False,
    quiet: Annotated[bool, _option("--quiet", "-q", help="Say nothing on success.")] = False,
    progress: Annotated[
        ProgressMode, _option("--progress", help="auto: a bar on a terminal, else a log.")
    ] = "auto",
    log_format: Annotated[
        LogFormat, _option("--log-format", help="json: one object an event, on stderr.")
    ] = "text",
    echo_delay: Annotated[
        float,
        _option("--echo-delay", metavar="SECONDS", min=0, help="Engine echo: how slow it is."),
    ] = 0,
    echo_failure_rate: Annotated[
        float,
        _option(
            "--echo-failure-rate",
            metavar="X",
            min=0,
            max=1,
            help="Engine echo: the share of requests that fail (and are tried again).",
        ),
    ] = 0,
) -> None:
    """Make a dialogue for every pair of INPUT.

    The same command again makes only what is missing.
    """
    settings = Settings(**locals())  # the parameters are its fields, by name
    if settings.dry_run:
        from magpie_cli.preview import preview

        _print(preview(settings).text())
        return
    from magpie_cli.generate import generate as make
    from magpie_cli.shutdown import die_by

    summary = make(settings)
    if summary.stopped_by:
        die_by(summary.stopped_by)
    raise typer.Exit(summary.exit_code)


@app.command()
def devnet(
    port: Annotated[
        int, _option("--port", metavar="N", min=0, max=65535, help="On loopback; 0: any free one.")
    ] = 8006,
    nodes: Annotated[int, _option("--nodes", metavar="N", min=0, help="How many nodes.")] = 16,
    models: Annotated[
        str, _option("--models", metavar="NAME,...", help="The models that nodes say they serve.")
    ] = "gemma2:9b-instruct-fp16",
    writer: Annotated[
        str,
        _option(
            "--writer",
            metavar="NAME",
            autocompletion=_engines,
            help="The engine that writes all words.",
        ),
    ] = "echo",
    writer_model: Annotated[
        str | None,
        _option("--writer-model", metavar="NAME", help="Its model. [default: the only one]"),
    ] = None,
    writer_url: Annotated[
        str | None, _option("--writer-url", metavar="URL", help="Its server, as --base-url.")
    ] = None,
    latency: Annotated[
        float,
        _option("--latency", metavar="SECONDS", min=0, help="For a task, give or take half of it."),
    ] = 0,
    error_rate: Annotated[
        float,
        _option("--error-rate", metavar="X", min=0, max=1, help="The share of tasks that fail."),
    ] = 0,
    lost_rate: Annotated[
        float,
        _option("--lost-rate", metavar="X", min=0, max=1, help="The share of answers that vanish."),
    ] = 0,
    duplicate_rate: Annotated[
        float,
        _option(
            "--duplicate-rate", metavar="X", min=0, max=1, help="The share of answers sent twice."
        ),
    ] = 0,
    rpc_error_rate: Annotated[
        float,
        _option(
            "--rpc-error-rate", metavar="X", min=0, max=1, help="The share of calls answered 500."
        ),
    ] = 0,
    accept: Annotated[
        str | None, _option("--accept", metavar="TOKEN", help="The only good token. [default: any]")
    ] = None,
    seed: Annotated[
        int, _option("--seed", metavar="N", help="Of the nodes' keys and of all faults.")
    ] = 0,
) -> None:
    """Run a Dria network on this machine, for trying things out.

    It speaks the protocol of the Dria SDK 0.0.124, with real keys, signatures and encryption.
    """
    given = locals()  # the parameters are the options' fields, by name
    from magpie_cli.devnet import DevnetOptions
    from magpie_cli.devnet.serve import serve
    from magpie_cli.engines import open_chat_model
    from magpie_cli.shutdown import die_by

    die_by(serve(DevnetOptions(**given), open_chat_model, _say))


@app.command()
def status(
    output: Annotated[str, typer.Argument(metavar="OUT", help="What generate -o wrote.")],
    failures: Annotated[
        str | None, _option("--failures", metavar="FILE", help="If generate was given --failures.")
    ] = None,
    json: Annotated[bool, _option("--json", help="Print JSON.")] = False,
) -> None:
    """Count what is done, failed and left in OUT.

    Reads only: it is safe during a run.
    """
    from magpie_cli.status import status as look

    answer = look(output, failures)
    _print_json(answer) if json else _print(answer.text())


@app.command()
def doctor(json: Annotated[bool, _option("--json", help="Print JSON.")] = False) -> None:
    """Say of each engine whether it is ready, and what it lacks."""
    from magpie_cli.doctor import doctor as examine
    from magpie_cli.doctor import text

    checkups = examine()
    _print_json(checkups) if json else _print(text(checkups))


def _print(text: str) -> None:
    from magpie_cli.display.text import safe

    typer.echo(safe(text))


def _say(text: str) -> None:
    from magpie_cli.display.text import safe

    typer.echo(safe(text), err=True)


def _print_json(value: object) -> None:
    import orjson

    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2))
