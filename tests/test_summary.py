"""How a run ended, in one sentence and one number."""

import re
import shlex
from collections import Counter
from dataclasses import replace
from signal import SIGINT, SIGTERM

import pytest

from magpie_cli.engine import EngineRefused, Transient
from magpie_cli.errors import InvalidRecord, MagpieError, NotFinished, UsageError
from magpie_cli.summary import Summary, count
from magpie_cli.tally import Tally

FILES = ("out.jsonl", "out.failures.jsonl")
STREAM = ("-", None)
ONE_FAILED = "1 failed (timeout 1) -> out.failures.jsonl"
NONE_MADE = "made 0 dialogues in T s -> out.jsonl"
FOUND = "1 utterance sampled again; findings in rows: farewell 2, language 1"
AGAIN = "run the same command again to go on"


def tally(
    made: int = 0, failed: int = 0, skipped: int = 0, utterances: int = 0, tokens: int = 0
) -> Tally:
    """A tally with these numbers; a third of its failures were refused, the others timed out."""
    kinds = Counter({"http_400": failed // 3, "timeout": failed - failed // 3})
    return Tally(
        made=made,
        failed=failed,
        skipped=skipped,
        utterances=utterances,
        tokens=tokens,
        may_pass=failed - failed // 3,
        failures=+kinds,
    )


def sentence(summary: Summary) -> str:
    """Its sentence, with T for the time."""
    return re.sub(r"in [\d,]+\.\d s", "in T s", summary.sentence())


@pytest.mark.parametrize(
    ("summary", "code"),
    [
        (Summary(tally(made=3), *FILES, finished=True), 0),
        (Summary(tally(skipped=3), *FILES, finished=True), 0),
        (Summary(tally(made=3), *STREAM, finished=True), 0),
        (Summary(tally(made=2, failed=1), *FILES, finished=True), 3),
        (Summary(tally(failed=1), *STREAM, finished=True), 3),
        (Summary(tally(made=3), *FILES, finished=False), 75),
        (Summary(tally(made=2, failed=1), *FILES, finished=False), 75),
        (Summary(tally(), *FILES, finished=False, stopped_by=SIGINT), 130),
        (Summary(tally(), *FILES, finished=False, error=MagpieError("x")), 1),
        (Summary(tally(made=3), *FILES, finished=False, error=EngineRefused("k", "x")), 1),
        (Summary(tally(), *FILES, finished=False, error=Transient("k", "x")), 1),
        (Summary(tally(), *FILES, finished=False, error=InvalidRecord("x")), 1),
        (Summary(tally(), *FILES, finished=False, error=UsageError("x")), 2),
        (Summary(tally(made=1), *FILES, finished=False, error=NotFinished("x")), 75),
        (Summary(tally(failed=1), *FILES, finished=True, error=MagpieError("x")), 1),
    ],
    ids=[
        "all made",
        "all there",
        "all made, streamed",
        "some failed",
        "all failed, streamed",
        "some left",
        "some left and failed",
        "stopped",
        "error",
        "engine refused",
        "engine lost",
        "invalid",
        "usage",
        "busy",
        "error at the end",
    ],
)
def test_the_exit_code_tells_the_end(summary: Summary, code: int) -> None:
    """0 is all made, 3 some failed, 75 some left; an error has its own code, whatever was made."""
    assert summary.exit_code == code


@pytest.mark.parametrize(
    ("summary", "facts", "next_step"),
    [
        (
            Summary(tally(made=3, utterances=6, tokens=4321), *FILES, finished=True),
            "made 3 dialogues (6 utterances, 4,321 tokens) in T s -> out.jsonl",
            "magpie status out.jsonl",
        ),
        (
            Summary(
                replace(
                    tally(made=2, utterances=4),
                    sampled_again=1,
                    found=Counter({"farewell": 2, "language": 1}),
                ),
                *FILES,
                finished=True,
            ),
            f"made 2 dialogues (4 utterances) in T s -> out.jsonl; {FOUND}",
            "magpie status out.jsonl",
        ),
        (
            Summary(tally(made=1, utterances=1), *STREAM, finished=True),
            "made 1 dialogue (1 utterance) in T s",
            "",
        ),
        (
            Summary(tally(made=1, utterances=2, skipped=1200), *FILES, finished=True),
            "made 1 dialogue (2 utterances) in T s -> out.jsonl; 1,200 were there already",
            "magpie status out.jsonl",
        ),
        (
            Summary(tally(skipped=2), *FILES, finished=True),
            "nothing to do: 2 dialogues in out.jsonl already",
            "",
        ),
        (
            Summary(tally(failed=3000), *FILES, finished=True),
            f"{NONE_MADE}; 3,000 failed (timeout 2,000, http_400 1,000) -> out.failures.jsonl",
            "the same command tries those again that were not at fault",
        ),
        (
            Summary(tally(made=1, utterances=2, failed=1), *STREAM, finished=True),
            "made 1 dialogue (2 utterances) in T s; 1 failed (timeout 1)",
            "add --failures FILE to keep the lines that failed",
        ),
        (
            Summary(tally(made=2, utterances=4), *FILES, finished=False),
            "made 2 dialogues (4 utterances) in T s -> out.jsonl",
            AGAIN,
        ),
        (
            Summary(tally(made=2, utterances=4), *STREAM, finished=False),
            "made 2 dialogues (4 utterances) in T s",
            "name a file with -o to go on where it stops",
        ),
        (
            Summary(tally(failed=1), "-", "failures.jsonl", finished=True),
            "made 0 dialogues in T s; 1 failed (timeout 1) -> failures.jsonl",
            "",
        ),
        (
            Summary(tally(made=2, utterances=5), *FILES, finished=False, stopped_by=SIGTERM),
            "made 2 dialogues (5 utterances) in T s -> out.jsonl; stopped by SIGTERM",
            AGAIN,
        ),
        (
            Summary(tally(failed=1, skipped=2), *FILES, finished=False, stopped_by=SIGINT),
            f"{NONE_MADE}; 2 were there already; {ONE_FAILED}; stopped by SIGINT",
            AGAIN,
        ),
    ],
    ids=[
        "all made",
        "findings",
        "streamed",
        "some there",
        "all there",
        "some failed",
        "some failed, streamed",
        "limit",
        "limit, streamed",
        "some failed, streamed, kept",
        "stopped",
        "stopped with failures",
    ],
)
def test_the_sentence_says_what_was_made_and_what_to_type(
    summary: Summary, facts: str, next_step: str
) -> None:
    """One line holds the numbers, where the rows are, why it ended and the next step."""
    assert summary.next_step == next_step
    assert sentence(summary) == facts + (f". Next: {next_step}" if next_step else "")


def test_the_next_step_can_be_typed() -> None:
    """A path with a space in it is one word of the command."""
    summary = Summary(tally(made=1), "my rows.jsonl", None, finished=True)
    assert shlex.split(summary.next_step) == ["magpie", "status", "my rows.jsonl"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0 lines"),
        (1, "1 line"),
        (2, "2 lines"),
        (1_000_000, "1,000,000 lines"),
    ],
)
def test_things_are_counted_as_people_do(number: int, words: str) -> None:
    """One has no s, and thousands are set apart."""
    assert count(number, "line") == words
