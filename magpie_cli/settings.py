"""What one run, of `magpie generate` or `magpie judge`, was asked to do: one field a flag."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

from magpie_cli.errors import UsageError

MAX_TURNS = 1000  # a dialogue; more is a slip, and no model's context holds it
MOST_AT_ONCE = 100_000  # in flight; each takes memory before it takes anything else
MOST_SAMPLES = 1_000_000  # of a pair
MOST_TOKENS = 2**31 - 1  # of an utterance, as servers count them
MOST_SEED = 2**63 - 1  # what JSON's readers take for a whole number
MOST_TEMPERATURE = 100
LONGEST_WAIT = 7 * 24 * 3600  # seconds; more is a slip

ProgressMode = Literal["auto", "bar", "log", "none"]
LogFormat = Literal["text", "json"]
Fsync = Literal["interval", "always", "off"]
RetryFailed = Literal["transient", "all", "none"]
End = Literal["responder", "instructor"]
OnFinding = Literal["ignore", "keep", "resample", "fail"]

RESAMPLE = 2  # times, unless --resample says otherwise
MOST_RESAMPLES = 10

_TURNS = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


@dataclass(frozen=True, slots=True)
class TurnRange:
    """How many turns a dialogue is to have: from `least` to `most`, which may be the same."""

    least: int = 1
    most: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """`3` or `2-6`. Raises ValueError."""
        if not (found := _TURNS.fullmatch(text)):
            raise ValueError(text)
        turns = cls(int(found[1]), int(found[2] or found[1]))
        if not 1 <= turns.least <= turns.most <= MAX_TURNS:
            raise ValueError(text)
        return turns

    def __str__(self) -> str:
        return f"{self.least}" if self.least == self.most else f"{self.least}-{self.most}"


@dataclass(frozen=True, slots=True)
class Settings:
    """The flags, by their names; `judge` has not all. Times in seconds; None for none given.

    `input` and `output` are paths, `-` for standard input and output. `prompts` is a folder,
    `system` a text or `@FILE`. `shard` is `I/N`.
    """

    input: str
    output: str = "-"
    turns: TurnRange = TurnRange()
    end: End = "responder"
    prompts: str | None = None
    system: str | None = None
    model: str | None = None
    engine: str | None = None
    base_url: Sequence[str] | None = None
    rpc_url: str | None = None
    devnet: bool = False
    concurrency: int | None = None
    samples: int = 1
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    resample: int | None = None
    on_finding: OnFinding | None = None
    limit: int | None = None
    shard: str | None = None
    timeout: float = 600.0
    give_up_after: float = 1800.0
    token_file: str | None = None
    strict: bool = False
    failures: str | None = None
    retry_failed: RetryFailed | None = None
    max_failures: str | None = None
    allow_failures: bool = False
    max_time: float | None = None
    max_tokens_total: int | None = None
    fresh: bool = False
    fsync: Fsync = "interval"
    wait_lock: float = 0.0
    disk_wait: float = 300.0
    dry_run: bool = False
    quiet: bool = False
    progress: ProgressMode = "auto"
    log_format: LogFormat = "text"
    echo_delay: float = 0.0
    echo_failure_rate: float = 0.0

    def __post_init__(self) -> None:
        """Raises UsageError where what files and requests are to hold is no text."""
        for name in ("input", "output", "failures", "model", "system"):
            text = getattr(self, name) or ""
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise UsageError(
                    f"{name} {text!a} is not UTF-8", "type it as UTF-8; a file can be renamed"
                ) from error

    def identity(self, engine: str, model: str, prompts: str) -> dict[str, object]:
        """What changes a row: rows of two identities never share an output.

        Concurrency, timeouts, limits, addresses and the number of samples are not in it. The shard
        is: another one's rows would be taken for all that there is to do. Who has the last word,
        and what becomes of findings, is in it only where it is unusual: older outputs go on.
        """
        turns = self.turns
        unusual = {
            "end": None if self.end == "responder" else self.end,
            "resample": None if self.resample == RESAMPLE else self.resample,
            "on_finding": None if self.on_finding == "resample" else self.on_finding,
        }
        return {
            "engine": engine,
            "model": model,
            "turns": turns.least if turns.least == turns.most else str(turns),
            "shard": self.shard,
            "prompts": prompts,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            **{key: value for key, value in unusual.items() if value is not None},
        }


def twin_of(flag: str) -> str:
    """The environment variable that stands for a flag: `MAGPIE_TURNS` for `--turns`."""
    return "MAGPIE_" + flag.removeprefix("--").upper().replace("-", "_")
