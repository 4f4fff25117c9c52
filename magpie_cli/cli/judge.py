"""`magpie judge`."""

from typing import Annotated

import typer

from magpie_cli.cli import options
from magpie_cli.cli.app import app, end_with, engine_names, option, print_text
from magpie_cli.settings import MOST_AT_ONCE, MOST_TOKENS, Settings


@app.command(
    epilog="Scores: explanation, quality (1 to 5), difficulty (very easy to very hard), "
    "persona_adherence (1 to 5), category (the Magpie paper's twelve), judge, usage."
)
def judge(
    input: Annotated[
        str, typer.Argument(metavar="ROWS", help="What generate -o wrote; - is stdin.")
    ],
    output: options.Output = "-",
    model: options.Model = None,
    engine: Annotated[
        str | None,
        option(
            "--engine",
            metavar="NAME",
            autocompletion=engine_names,
            help="Where the judge is: any engine but dria.",
        ),
    ] = None,
    base_url: options.BaseUrl = None,
    prompt: Annotated[
        str | None,
        option(
            "--prompt", metavar="FILE", help="Another prompt, with {dialogue} where that belongs."
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        option(
            "--concurrency",
            "-j",
            metavar="N",
            min=1,
            max=MOST_AT_ONCE,
            help="Dialogues in flight. [default: 8; local: 2 or 4]",
        ),
    ] = None,
    seed: options.Seed = None,
    temperature: options.Temperature = None,
    max_tokens: Annotated[
        int | None,
        option(
            "--max-tokens",
            metavar="N",
            min=1,
            max=MOST_TOKENS,
            help="Per answer. [default: the server's]",
        ),
    ] = None,
    limit: options.Limit = None,
    timeout: options.Timeout = 600,
    give_up_after: options.GiveUpAfter = 1800,
    token_file: options.TokenFile = None,
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
) -> None:
    """Let a model rate every dialogue of ROWS.

    OUT gets the rows, with its scores. The same command again judges only what is missing.
    """
    given = {name: value for name, value in locals().items() if name != "prompt"}
    settings = Settings(**given)
    if dry_run:
        from magpie_cli.judge.preview import preview

        print_text(preview(settings, prompt).text())
        return
    from magpie_cli.judge import judge as give_scores

    end_with(give_scores(settings, prompt))
