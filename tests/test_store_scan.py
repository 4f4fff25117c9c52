"""What the next run makes of files that somebody has changed, and of failures that come twice."""

import os
from pathlib import Path

import orjson
import pytest

from magpie_cli.errors import MagpieError, UsageError
from magpie_cli.ids import IdSet
from magpie_cli.records import Failure, Outcome
from magpie_cli.store import Facts, StoreOptions, open_store
from tests.test_store import IDENTITY, failure, ids_of, keep, record, run, snapshot


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Where the rows go."""
    return tmp_path / "out.jsonl"


def test_a_second_line_of_an_id_goes_to_quarantine(output: Path) -> None:
    """I2: no id is in the output twice after a run, whoever wrote it twice."""
    run(output, record("a"), record("b"))
    with output.open("ab") as file:
        file.write(record("a", "another").to_json() + record("c").to_json())
    assert run(output) == ["a", "b", "c"]
    assert ids_of(output) == ["a", "b", "c"]
    (kept,) = Path(f"{output}.magpie", "quarantine").iterdir()
    assert kept.read_bytes() == record("a", "another").to_json() + b"\n"


@pytest.mark.parametrize("gone", [1, 100], ids=["one byte", "many"])
def test_a_finished_output_that_lost_its_end_is_mended(output: Path, gone: int) -> None:
    """An output shorter than what was durable is read strictly from its first byte."""
    run(output, record("a"), record("b"), finished=True)
    os.truncate(output, output.stat().st_size - gone)
    assert run(output, record("b"), finished=True) == ["a"]
    assert ids_of(output) == ["a", "b"]


def test_another_seed_is_refused(output: Path) -> None:
    """I8: rows of two seeds never share an output, and the refusal changes nothing on disk."""
    run(output, record("a"), identity=IDENTITY | {"seed": 1}, finished=True)
    before = snapshot(output.parent)
    with pytest.raises(UsageError, match="seed: 1 -> 2"):
        run(output, identity=IDENTITY | {"seed": 2})
    assert snapshot(output.parent) == before


def test_the_last_failure_of_an_id_is_the_one_that_stays(output: Path) -> None:
    """Of two failures of one pair, within a run or over two, the later one is told of."""
    first, last = failure("a"), Failure("a", "generate", "busy", "m", 1, transient=True, input="{}")
    run(output, first)
    run(output, first, last, finished=True)
    (line,) = output.with_name("out.failures.jsonl").read_bytes().splitlines()
    assert orjson.loads(line)["kind"] == "busy"


def finish(output: Path, source: str, *outcomes: Outcome, passed_over: str = "") -> list[str]:
    """A run over the whole of an input; the ids in the failures file behind it."""
    with open_store(str(output), None, Facts(IDENTITY, input=source), StoreOptions()) as store:
        keep(store, *outcomes)
        tried = IdSet(outcome.id for outcome in outcomes)
        store.finish(len(outcomes), tried, IdSet(passed_over))
    failures = output.with_name("out.failures.jsonl")
    return ids_of(failures) if failures.exists() else []


def test_a_failure_that_was_passed_over_stays(output: Path) -> None:
    """I1: what a finished run did not try again still has its failure; what is no more has none."""
    assert finish(output, "in.jsonl", *map(failure, "abc")) == ["a", "b", "c"]
    assert finish(output, "in.jsonl", record("b"), passed_over="a") == ["a"]


@pytest.mark.parametrize("other", ["other.jsonl", "-"])
def test_failures_of_another_input_stay(output: Path, other: str) -> None:
    """I1: several inputs may go into one output, and no run knows what is left of another's."""
    finish(output, "in.jsonl", failure("a"))
    assert finish(output, other, failure("b"), record("c")) == ["a", "b"]
    assert finish(output, other, record("b")) == ["a"]
    assert finish(output, "in.jsonl", record("a")) == []


def test_a_failure_that_somebody_edited_is_named(output: Path) -> None:
    """A line of the failures that is no JSON any more stops the run, with the way out."""
    run(output, failure("a"), failure("b"), finished=True)
    failures = output.with_name("out.failures.jsonl")
    failures.write_bytes(failures.read_bytes().replace(b'"b","stage"', b'"b";"stage"'))
    where = len(failure("a").to_json())
    with pytest.raises(
        MagpieError, match=rf"failures\.jsonl is damaged at byte {where}"
    ) as stopped:
        run(output)
    assert "magpie repair" in str(stopped.value.hint)


def test_rows_that_a_crash_left_in_the_tail_are_kept_over_a_second_one(output: Path) -> None:
    """I5: a crash while rows are put back, which leaves a hole before some, loses none of them."""
    run(output, record("a"))
    with output.open("ab") as file:
        file.write(b"\0" * 10 + b"\n" + record("b").to_json())
    Path(f"{output}.magpie", "out.jsonl.tail").write_bytes(
        record("b").to_json() + record("c").to_json()
    )
    assert run(output) == ["a", "b", "c"]
    assert ids_of(output) == ["a", "b", "c"]
