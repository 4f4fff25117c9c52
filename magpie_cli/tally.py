"""What a run has done so far: numbers that the run adds to and the display reads."""

import time
from collections import Counter
from dataclasses import dataclass, field

from magpie_cli.records import Failure, Outcome, Record, Usage, Utterance


@dataclass(slots=True)
class Tally:
    """`total` counts dialogues and unreadable lines, None while unknown; `skipped` were there.

    `utterances` are those of the dialogues made, `tokens` all that completions took, `spent` those
    of their prompts as well. `bad_lines` is the part of `failed` that no run can mend, `may_pass`
    the part that the next one tries again, `failed_before` the part that this run has not tried.
    `cut` counts utterances that a server stopped in the middle of a sentence, `sampled_again` those
    of which more than one sample was taken, `control_tokens` those in personas, which are sent with
    a space in them. `found` counts rows by what was found in them, `failures` by kind.
    """

    total: int | None = None
    skipped: int = 0
    made: int = 0
    failed: int = 0
    bad_lines: int = 0
    may_pass: int = 0
    failed_before: int = 0
    in_flight: int = 0
    utterances: int = 0
    tokens: int = 0
    spent: int = 0
    cut: int = 0
    sampled_again: int = 0
    control_tokens: int = 0
    retries: int = 0
    last_retry: str = ""
    found: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    started: float = field(default_factory=time.monotonic)

    def heard(self, utterance: Utterance) -> None:
        """One more utterance, which its tokens were spent on."""
        self.cut += "truncated" in utterance.findings
        self.sampled_again += utterance.discarded > 0
        self.spend(utterance.usage)

    def spend(self, usage: Usage) -> None:
        """The tokens of one more completion."""
        self.tokens += usage.completion_tokens or 0
        self.spent += (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)

    def passed_over(self) -> None:
        """A pair that failed in an earlier run and is not tried in this one."""
        self.failed += 1
        self.failed_before += 1
        self.failures["failed_before"] += 1

    def settled(self, outcome: Outcome) -> None:
        """One more outcome that is kept."""
        if isinstance(outcome, Failure):
            self.failed += 1
            self.bad_lines += outcome.stage == "input"
            self.may_pass += outcome.transient
            self.failures[outcome.kind] += 1
        else:
            self.made += 1
            if isinstance(outcome, Record):
                self.utterances += len(outcome.dialogue.utterances)
                self.found.update(outcome.findings)

    @property
    def seen(self) -> int:
        """All that needs no more work in this run."""
        return self.skipped + self.made + self.failed

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self.started

    @property
    def rate(self) -> float:
        """Dialogues a second, over the whole run."""
        return self.made / self.seconds if self.seconds else 0.0
