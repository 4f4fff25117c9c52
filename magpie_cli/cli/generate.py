"""`magpie generate`."""

from typing import Annotated

import typer

from magpie_cli.cli import options
from magpie_cli.cli.app import app, end_with, engine_names, option, print_text, turn_range
from magpie_cli.settings import (
    MOST_RESAMPLES,
    MOST_SAMPLES,
    MOST_TOKENS,
    End,
    OnFinding,
    Settings,
    TurnRange,
)


@app.command(
    epilog="Every option can be set in the environment as MAGPIE_ and its long name "
    "(MAGPIE_TURNS=3); an option given here beats it."
)
def generate(
    input: Annotated[
        str, typer.Argument(metavar="INPUT", help="Pairs, one JSON object a line; - is stdin.")
    ],
    output: options.Output = "-",
    turns: Annotated[
        TurnRange,
        option(
            "--turns",
            "-t",
            metavar="N|N-M",
            parser=turn_range,
            help="Turns per dialogue, drawn for each where it is a range; a turn is a question "
            "and its answer.",
        ),
    ] = TurnRange(),  # noqa: B008 - frozen
    end: Annotated[
        End, option("--end", help="Who has the last word; instructor: the last turn is a question.")
    ] = "responder",
    prompts: Annotated[
        str | None,
        option(
            "--prompts", metavar="DIR", help="Prompts of your own; magpie prompts copy begins one."
        ),
    ] = None,
    system: Annotated[
        str | None,
        option("--system", metavar="TEXT|@FILE", help="A system line, which the responder obeys."),
    ] = None,
    model: options.Model = None,
    engine: Annotated[
        str | None,
        option(
            "--engine",
            metavar="NAME",
            autocompletion=engine_names,
            help="Where dialogues come from; magpie doctor lists them.",
        ),
    ] = None,
    base_url: options.BaseUrl = None,
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
    concurrency: options.Concurrency = None,
    samples: Annotated[
        int,
        option(
            "--samples",
            "-n",
            metavar="N",
            min=1,
            max=MOST_SAMPLES,
            help="Dialogues for each pair.",
        ),
    ] = 1,
    seed: options.Seed = None,
    temperature: options.Temperature = None,
    top_p: Annotated[
        float | None, option("--top-p", metavar="X", min=0, max=1, help="[default: the server's]")
    ] = None,
    max_tokens: Annotated[
        int | None,
        option(
            "--max-tokens",
            metavar="N",
            min=1,
            max=MOST_TOKENS,
            help="Per utterance. [default: the server's]",
        ),
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
            help="ignore: look for none; keep the first sample; resample, and keep the best; or "
            "fail the pair where none is good. [default: resample]",
        ),
    ] = None,
    limit: options.Limit = None,
    shard: Annotated[
        str | None,
        option(
            "--shard", metavar="I/N", help="Only the I-th of N parts of the pairs, by their ids."
        ),
    ] = None,
    timeout: options.Timeout = 600,
    give_up_after: options.GiveUpAfter = 1800,
    token_file: options.TokenFile = None,
    strict: Annotated[
        bool, option("--strict", help="Stop before the first request if any line is bad.")
    ] = False,
    failures: options.Failures = None,
    retry_failed: options.RetryFailedPairs = None,
    max_failures: options.MaxFailures = None,
    allow_failures: options.AllowFailures = False,
    max_time: options.MaxTime = None,
    max_tokens_total: options.MaxTokensTotal = None,
    fresh: options.Fresh = False,
    fsync: options.FsyncMode = "interval",
    wait_lock: options.WaitLock = 0,
    disk_wait: options.DiskWait = 300,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    progress: options.Progress = "auto",
    log_format: options.Format = "text",
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

    end_with(make(settings))
