"""`magpie generate`."""

from typing import Annotated

import typer

from magpie_cli.cli.app import (
    app,
    engine_names,
    more_than_nothing,
    option,
    print_text,
    seconds,
)
from magpie_cli.settings import (
    MAX_TURNS,
    MOST_RESAMPLES,
    Fsync,
    LogFormat,
    OnFinding,
    ProgressMode,
    RetryFailed,
    Settings,
)


@app.command(
    epilog="Every option can be set in the environment as MAGPIE_ and its long name "
    "(MAGPIE_TURNS=3); an option given here beats it."
)
def generate(
    input: Annotated[
        str, typer.Argument(metavar="INPUT", help="Pairs, one JSON object a line; - is stdin.")
    ],
    output: Annotated[
        str, option("--output", "-o", metavar="OUT", help="The file for the rows; - is stdout.")
    ] = "-",
    turns: Annotated[
        int,
        option(
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
        option(
            "--model",
            "-m",
            metavar="NAME",
            help="The LLM's name. [default: the server's only one; local: qwen2.5:1.5b]",
        ),
    ] = None,
    engine: Annotated[
        str | None,
        option(
            "--engine",
            metavar="NAME",
            autocompletion=engine_names,
            help="Where dialogues come from; magpie doctor lists them.",
        ),
    ] = None,
    base_url: Annotated[
        list[str] | None,
        option(
            "--base-url",
            metavar="URL",
            help="An OpenAI-compatible server (ends in /v1); may be given several times.",
        ),
    ] = None,
    rpc_url: Annotated[
        str | None,
        option("--rpc-url", metavar="URL", help="Engine dria: another network than the token's."),
    ] = None,
    devnet: Annotated[
        bool,
        option(
            "--devnet", help="Engine dria: a network inside this process; its words are echo's."
        ),
    ] = False,
    concurrency: Annotated[
        int | None,
        option(
            "--concurrency",
            "-j",
            metavar="N",
            min=1,
            help="Dialogues in flight. [default: 8; engine dria: 256; local: 2 or 4]",
        ),
    ] = None,
    samples: Annotated[
        int, option("--samples", "-n", metavar="N", min=1, help="Dialogues for each pair.")
    ] = 1,
    seed: Annotated[
        int | None,
        option("--seed", metavar="N", help="Each request gets its own seed, made from this."),
    ] = None,
    temperature: Annotated[
        float | None,
        option("--temperature", metavar="X", min=0, help="[default: the server's]"),
    ] = None,
    top_p: Annotated[
        float | None, option("--top-p", metavar="X", min=0, max=1, help="[default: the server's]")
    ] = None,
    max_tokens: Annotated[
        int | None,
        option("--max-tokens", metavar="N", min=1, help="Per utterance. [default: the server's]"),
    ] = None,
    resample: Annotated[
        int | None,
        option(
            "--resample",
            metavar="N",
            min=0,
            max=MOST_RESAMPLES,
            help="Sample an utterance with a hard finding again, up to N times. [default: 2]",
        ),
    ] = None,
    on_finding: Annotated[
        OnFinding | None,
        option(
            "--on-finding",
            help="keep the first sample; resample, and keep the best; or fail the pair where none "
            "is good. [default: resample]",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        option("--limit", metavar="N", min=1, help="Begin at most N dialogues in this run."),
    ] = None,
    shard: Annotated[
        str | None,
        option(
            "--shard", metavar="I/N", help="Only the I-th of N parts of the pairs, by their ids."
        ),
    ] = None,
    timeout: Annotated[
        float,
        option(
            "--timeout",
            metavar="TIME",
            parser=more_than_nothing,
            help="For one request (engine dria: for one dialogue).",
        ),
    ] = 600,
    give_up_after: Annotated[
        float,
        option(
            "--give-up-after",
            metavar="TIME",
            parser=more_than_nothing,
            help="Wait so long for a server that asks to wait, or for a network without nodes.",
        ),
    ] = 1800,
    token_file: Annotated[
        str | None,
        option("--token-file", metavar="FILE", help="Holds the engine's key or token."),
    ] = None,
    strict: Annotated[
        bool, option("--strict", help="Stop before the first request if any line is bad.")
    ] = False,
    failures: Annotated[
        str | None,
        option("--failures", metavar="FILE", help="[default: out.failures.jsonl for out.jsonl]"),
    ] = None,
    retry_failed: Annotated[
        RetryFailed | None,
        option(
            "--retry-failed",
            help="Pairs that failed before: those not at fault, all, or none. "
            "[default: transient; with --limit: none]",
        ),
    ] = None,
    max_failures: Annotated[
        str | None,
        option("--max-failures", metavar="N|X%", help="Stop when more than so many failed."),
    ] = None,
    allow_failures: Annotated[
        bool, option("--allow-failures", help="Exit 0, not 3, where pairs failed.")
    ] = False,
    max_time: Annotated[
        float | None,
        option(
            "--max-time",
            metavar="TIME",
            parser=seconds,
            help="Begin no more dialogues after that (90s, 10m, 2h).",
        ),
    ] = None,
    max_tokens_total: Annotated[
        int | None,
        option(
            "--max-tokens-total",
            metavar="N",
            min=1,
            help="Begin no more dialogues once prompts and answers took so many.",
        ),
    ] = None,
    fresh: Annotated[
        bool, option("--fresh", help="Set an old OUT aside (OUT.1, OUT.2, ...), begin anew.")
    ] = False,
    fsync: Annotated[
        Fsync,
        option(
            "--fsync",
            help="Safe from a power cut: about each second, each row before it counts, "
            "or at the end.",
        ),
    ] = "interval",
    wait_lock: Annotated[
        float,
        option(
            "--wait-lock",
            metavar="TIME",
            parser=seconds,
            help="Wait so long for another run on the same OUT.",
        ),
    ] = 0,
    disk_wait: Annotated[
        float,
        option(
            "--disk-wait",
            metavar="TIME",
            parser=seconds,
            help="Wait so long for room on a full disk.",
        ),
    ] = 300,
    dry_run: Annotated[
        bool, option("--dry-run", help="Say what there is to do; ask no engine, write nothing.")
    ] = False,
    quiet: Annotated[bool, option("--quiet", "-q", help="Say nothing on success.")] = False,
    progress: Annotated[
        ProgressMode, option("--progress", help="auto: a bar on a terminal, else a log.")
    ] = "auto",
    log_format: Annotated[
        LogFormat, option("--log-format", help="json: one object an event, on stderr.")
    ] = "text",
    echo_delay: Annotated[
        float,
        option("--echo-delay", metavar="SECONDS", min=0, help="Engine echo: how slow it is."),
    ] = 0,
    echo_failure_rate: Annotated[
        float,
        option(
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

        print_text(preview(settings).text())
        return
    from magpie_cli.generate import generate as make
    from magpie_cli.shutdown import die_by

    summary = make(settings)
    if summary.stopped_by:
        die_by(summary.stopped_by)
    raise typer.Exit(summary.exit_code)
