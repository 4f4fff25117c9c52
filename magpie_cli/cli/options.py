"""The options that `generate` and `judge` have in common: each is declared once."""

from typing import Annotated

from magpie_cli.cli.app import more_than_nothing, option, seconds
from magpie_cli.settings import (
    MOST_AT_ONCE,
    MOST_SEED,
    MOST_TEMPERATURE,
    Fsync,
    LogFormat,
    ProgressMode,
    RetryFailed,
)

Output = Annotated[
    str, option("--output", "-o", metavar="OUT", help="The file for the rows; - is stdout.")
]
Model = Annotated[
    str | None,
    option(
        "--model",
        "-m",
        metavar="NAME",
        help="The LLM's name. [default: the server's only one; local: qwen2.5:1.5b]",
    ),
]
BaseUrl = Annotated[
    list[str] | None,
    option(
        "--base-url",
        metavar="URL",
        help="An OpenAI-compatible server (ends in /v1); may be given several times.",
    ),
]
Concurrency = Annotated[
    int | None,
    option(
        "--concurrency",
        "-j",
        metavar="N",
        min=1,
        max=MOST_AT_ONCE,
        help="Dialogues in flight. [default: 8; engine dria: 256; local: 2 or 4]",
    ),
]
Seed = Annotated[
    int | None,
    option(
        "--seed",
        metavar="N",
        min=-MOST_SEED,
        max=MOST_SEED,
        help="Each request gets its own seed, made from this.",
    ),
]
Temperature = Annotated[
    float | None,
    option(
        "--temperature",
        metavar="X",
        min=0,
        max=MOST_TEMPERATURE,
        help="[default: the server's]",
    ),
]
Limit = Annotated[
    int | None,
    option("--limit", metavar="N", min=1, help="Begin at most N dialogues in this run."),
]
Timeout = Annotated[
    float,
    option(
        "--timeout",
        metavar="TIME",
        parser=more_than_nothing,
        help="For one request (engine dria: for one dialogue).",
    ),
]
GiveUpAfter = Annotated[
    float,
    option(
        "--give-up-after",
        metavar="TIME",
        parser=more_than_nothing,
        help="Wait so long for a server that asks to wait, or for a network without nodes.",
    ),
]
TokenFile = Annotated[
    str | None,
    option("--token-file", metavar="FILE", help="Holds the engine's key or token."),
]
Failures = Annotated[
    str | None,
    option("--failures", metavar="FILE", help="[default: out.failures.jsonl for out.jsonl]"),
]
RetryFailedPairs = Annotated[
    RetryFailed | None,
    option(
        "--retry-failed",
        help="Pairs that failed before: those not at fault, all, or none. "
        "[default: transient; with --limit: none]",
    ),
]
MaxFailures = Annotated[
    str | None,
    option("--max-failures", metavar="N|X%", help="Stop when more than so many failed."),
]
AllowFailures = Annotated[
    bool, option("--allow-failures", help="Exit 0, not 3, where pairs failed.")
]
MaxTime = Annotated[
    float | None,
    option(
        "--max-time",
        metavar="TIME",
        parser=seconds,
        help="Begin no more dialogues after that (90s, 10m, 2h).",
    ),
]
MaxTokensTotal = Annotated[
    int | None,
    option(
        "--max-tokens-total",
        metavar="N",
        min=1,
        help="Begin no more dialogues once prompts and answers took so many.",
    ),
]
Fresh = Annotated[
    bool, option("--fresh", help="Set an old OUT aside (OUT.1, OUT.2, ...), begin anew.")
]
FsyncMode = Annotated[
    Fsync,
    option(
        "--fsync",
        help="Safe from a power cut: about each second, each row before it counts, or at the end.",
    ),
]
WaitLock = Annotated[
    float,
    option(
        "--wait-lock",
        metavar="TIME",
        parser=seconds,
        help="Wait so long for another run on the same OUT.",
    ),
]
DiskWait = Annotated[
    float,
    option(
        "--disk-wait",
        metavar="TIME",
        parser=seconds,
        help="Wait so long for room on a full disk.",
    ),
]
DryRun = Annotated[
    bool, option("--dry-run", help="Say what there is to do; ask no engine, write nothing.")
]
Quiet = Annotated[bool, option("--quiet", "-q", help="Say nothing on success.")]
Progress = Annotated[
    ProgressMode, option("--progress", help="auto: a bar on a terminal, else a log.")
]
Format = Annotated[LogFormat, option("--log-format", help="json: one object an event, on stderr.")]
