"""What one `magpie generate` was asked to do: one field a flag."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MAX_TURNS = 1000  # a dialogue; more is a slip, and no model's context holds it
LONGEST_WAIT = 7 * 24 * 3600  # seconds; more is a slip

ProgressMode = Literal["auto", "bar", "log", "none"]
LogFormat = Literal["text", "json"]
Fsync = Literal["interval", "always", "off"]
RetryFailed = Literal["transient", "all", "none"]
OnFinding = Literal["keep", "resample", "fail"]

RESAMPLE = 2  # times, unless --resample says otherwise
MOST_RESAMPLES = 10


@dataclass(frozen=True, slots=True)
class Settings:
    """The flags of `generate`, by their names. Times in seconds; None where a flag was not given.

    `input` and `output` are paths, `-` for standard input and output. `shard` is `I/N`.
    """

    input: str
    output: str = "-"
    turns: int = 1
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

    def identity(self, engine: str, model: str, prompts: str) -> dict[str, object]:
        """What changes a row: rows of two identities never share an output.

        Concurrency, timeouts, limits, addresses and the number of samples are not in it. The shard
        is: another one's rows would be taken for all that there is to do. What became of findings
        is in it only where it is not what happens by itself: older outputs know nothing of it.
        """
        unusual = {
            "resample": None if self.resample == RESAMPLE else self.resample,
            "on_finding": None if self.on_finding == "resample" else self.on_finding,
        }
        return {
            "engine": engine,
            "model": model,
            "turns": self.turns,
            "shard": self.shard,
            "prompts": prompts,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            **{key: value for key, value in unusual.items() if value is not None},
        }
