"""What is kept on disk, and what the next run finds there."""

import asyncio
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magpie_cli.errors import MagpieError, UsageError
from magpie_cli.ids import IdSet
from magpie_cli.records import Dialogue, Failure, Outcome, Record, Turn
from magpie_cli.store import Facts, Store, StoreOptions, open_store

IDENTITY: dict[str, object] = {"model": "tiny", "turns": 1, "temperature": None}


def record(id_: str, text: str = "“Grüße” 🐦") -> Record:
    """A row."""
    dialogue = Dialogue((Turn("What is it?", text),), "tiny")
    return Record(id_, "a scientist", "a librarian", 1, dialogue, "echo", (), {})


def failure(id_: str) -> Failure:
    """A pair that did not become a row."""
    return Failure(id_, "generate", "timeout", "no answer in time", 6, transient=True, input="{}")


def ids(outcomes: Iterable[Outcome]) -> IdSet:
    """The ids that these outcomes have settled."""
    settled = IdSet()
    for outcome in outcomes:
        settled.add(outcome.id)
    return settled


def keep(store: Store, *outcomes: Outcome) -> None:
    """Write all of them."""

    async def write() -> None:
        for outcome in outcomes:
            await store.write(outcome)

    asyncio.run(write())


def run(
    output: Path,
    *outcomes: Outcome,
    finished: bool = False,
    fresh: bool = False,
    identity: Mapping[str, object] = IDENTITY,
) -> list[str]:
    """One run that has these outcomes; which of a, b, c, d had a row before it."""
    with open_store(str(output), None, Facts(identity), StoreOptions(fresh=fresh)) as store:
        done = [id_ for id_ in "abcd" if id_ in store.done]
        keep(store, *outcomes)
        if finished:
            store.finish(len(outcomes), ids(outcomes), IdSet())
    return done


def ids_of(path: Path) -> list[str]:
    """The id of each line, which must all be whole."""
    text = path.read_bytes()
    assert text.endswith(b"\n")
    return [orjson.loads(line)["id"] for line in text.split(b"\n")[:-1]]


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def manifest_of(output: Path) -> dict[str, Any]:
    """What the manifest says."""
    manifest: dict[str, Any] = orjson.loads(Path(f"{output}.magpie", "manifest.json").read_bytes())
    return manifest


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Where the rows go."""
    return tmp_path / "out.jsonl"


def test_rows_and_failures_are_whole_lines_in_two_files(output: Path) -> None:
    """Each record is a line of the output, each failure a line of the file beside it."""
    first, second, third = record("a"), failure("b"), record("c")
    run(output, first, second, third)
    assert output.read_bytes() == first.to_json() + third.to_json()
    assert output.with_name("out.failures.jsonl").read_bytes() == second.to_json()


def test_the_next_run_knows_what_is_done(output: Path) -> None:
    """A failure is not done, a row is, and new rows come after the old ones."""
    assert run(output, record("a"), failure("b"), finished=True) == []
    assert run(output, record("b"), record("c"), finished=True) == ["a"]
    assert run(output) == ["a", "b", "c"]
    assert ids_of(output) == ["a", "b", "c"]


@settings(deadline=None, max_examples=40)
@given(st.sets(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=20))
def test_any_id_is_found_again(names: set[str]) -> None:
    """Quotes, backslashes, line separators and control bytes in an id do not hide its row."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out.jsonl"
        run(output, *map(record, names))
        with open_store(str(output), None, Facts(IDENTITY), StoreOptions()) as store:
            assert len(store.done) == len(names)
            assert all(id_ in store.done for id_ in names)


ROW = record("b").to_json()


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param(0, id="nothing of it"),
        pytest.param(1, id="one byte"),
        pytest.param(len('{"id":"b'), id="half its id"),
        pytest.param(ROW.index("ü".encode()) + 1, id="half a letter of UTF-8"),
        pytest.param(ROW.index("🐦".encode()) + 3, id="most of a bird"),
        pytest.param(len(ROW) - 1, id="all but the newline"),
    ],
)
def test_a_torn_last_line_is_cut_off_and_made_again(output: Path, kept: int) -> None:
    """What stands behind the last newline moves to quarantine, and its row is written anew."""
    run(output, record("a"), record("b"))
    whole = output.read_bytes()
    os.truncate(output, len(whole) - len(ROW) + kept)
    assert run(output, record("b")) == ["a"]
    assert output.read_bytes() == whole
    quarantine = Path(f"{output}.magpie", "quarantine")
    saved = [path.read_bytes() for path in quarantine.rglob("*") if path.is_file()]
    assert saved == ([ROW[:kept] + b"\n"] if kept else [])


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_a_cut_anywhere_loses_no_byte_and_no_whole_row(data: st.DataObject) -> None:
    """Wherever the file ends, the whole rows stay and the rest is in quarantine."""
    lengths = data.draw(st.lists(st.sampled_from([1, 500, 70_000, 140_000]), max_size=4))
    rows = [record(id_, "ü" * length) for id_, length in zip("abcd", lengths, strict=False)]
    whole = b"".join(row.to_json() for row in rows)
    cut = data.draw(st.integers(0, len(whole)))
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out.jsonl"
        run(output, *rows)
        os.truncate(output, cut)
        done = run(output)
        left = output.read_bytes()
        torn = whole[len(left) : cut]
        assert whole.startswith(left)
        assert b"\n" not in torn
        assert done == [row.id for row in rows][: left.count(b"\n")]
        found = b"".join(data for name, data in snapshot(Path(folder)).items() if "quar" in name)
        assert found == (torn + b"\n" if torn else b"")


def test_two_tears_at_the_same_place_are_both_kept(output: Path) -> None:
    """A second torn line does not replace the first one in quarantine."""
    for torn in (b'{"id":"first', b'{"id":"second'):
        run(output)
        with output.open("ab") as file:
            file.write(torn)
    run(output)
    saved = b"".join(data for name, data in snapshot(output.parent).items() if "quar" in name)
    assert saved == b'{"id":"first\n{"id":"second\n'


def test_a_torn_failure_is_cut_off_too(output: Path) -> None:
    """Failures heal as rows do, so that two of them are never glued together."""
    run(output, failure("a"), failure("b"))
    failures = output.with_name("out.failures.jsonl")
    os.truncate(failures, failures.stat().st_size - 5)
    run(output, failure("c"))
    assert ids_of(failures) == ["a", "c"]


def test_failures_of_an_earlier_run_give_way_to_those_of_a_finished_one(output: Path) -> None:
    """They stay while a run is not finished; a finished one leaves its own alone, or no file."""
    failures = output.with_name("out.failures.jsonl")
    run(output, failure("a"), failure("b"), finished=True)
    run(output, failure("c"))
    assert ids_of(failures) == ["a", "b", "c"]
    run(output, record("a"), failure("b"), record("c"), finished=True)
    assert ids_of(failures) == ["b"]
    run(output, record("b"), finished=True)
    assert not failures.exists()


def test_the_manifest_is_replaced_whole(output: Path) -> None:
    """No byte of an old manifest is ever changed in place, and nothing temporary stays behind."""
    run(output, record("a"))
    manifest = Path(f"{output}.magpie", "manifest.json")
    old = manifest.with_name("old.json")
    old.hardlink_to(manifest)
    before = old.read_bytes()
    run(output, record("b"), finished=True)
    assert old.read_bytes() == before
    assert [orjson.loads(before)["clean"], manifest_of(output)["clean"]] == [False, True]
    assert {path.name for path in manifest.parent.iterdir()} == {"manifest.json", "old.json"}


@pytest.mark.parametrize(
    ("key", "value", "difference"),
    [("turns", 2, "turns: 1 -> 2"), ("temperature", 0.5, "temperature: not set -> 0.5")],
)
def test_other_settings_are_refused_with_a_diff(
    output: Path, key: str, value: object, difference: str
) -> None:
    """Rows of two settings never share an output, and the refusal changes nothing on disk."""
    run(output, record("a"), finished=True)
    before = snapshot(output.parent)
    with pytest.raises(UsageError, match=difference) as refused:
        run(output, identity=IDENTITY | {key: value})
    assert refused.value.hint
    assert snapshot(output.parent) == before


@pytest.mark.parametrize("name", ["out.jsonl", "out.failures.jsonl"])
def test_a_file_of_someone_else_is_refused(output: Path, name: str) -> None:
    """What magpie did not write it does not add to, and the refusal changes nothing on disk."""
    output.with_name(name).write_text("my notes\n")
    with pytest.raises(UsageError, match=f"{name} is there already") as refused:
        run(output)
    assert refused.value.hint
    assert snapshot(output.parent) == {name: b"my notes\n"}


@pytest.mark.parametrize("name", ["out.jsonl", "out.failures.jsonl"])
def test_fresh_sets_aside_a_file_of_someone_else(output: Path, name: str) -> None:
    """--fresh does what the refusal says it does, whichever of the files is in the way."""
    output.with_name(name).write_text("my notes\n")
    run(output, record("a"), fresh=True)
    assert output.with_name(f"{name}.1").read_bytes() == b"my notes\n"
    assert ids_of(output) == ["a"]


def test_fresh_renames_and_deletes_nothing(output: Path) -> None:
    """Each old output is set aside under the next free number, with all that belongs to it."""
    for number, id_ in enumerate("abc"):
        assert run(output, record(id_), failure("f"), fresh=True) == []
        assert len([name for name in snapshot(output.parent) if "manifest" in name]) == number + 1
    assert [ids_of(output.with_name(f"out.jsonl{n}")) for n in ("", ".1", ".2")] == [
        ["c"],
        ["a"],
        ["b"],
    ]
    assert ids_of(output.with_name("out.failures.jsonl.2")) == ["f"]


@pytest.mark.parametrize(
    "text",
    [b"{", b'{"format":1}', b'{"format":99}', b"[]", b""],
    ids=["torn", "incomplete", "of a later magpie", "no object", "empty"],
)
def test_a_manifest_that_makes_no_sense_stops_the_run(output: Path, text: bytes) -> None:
    """It is an error with a hint, and the rows stay as they are."""
    run(output, record("a"))
    Path(f"{output}.magpie", "manifest.json").write_bytes(text)
    with pytest.raises(MagpieError, match=r"manifest\.json") as stopped:
        run(output, record("b"))
    assert stopped.value.hint
    assert ids_of(output) == ["a"]


def test_a_line_without_an_id_is_named(output: Path) -> None:
    """Damage in what was durable is no trace of a crash: the run says where, and stops."""
    run(output, record("a"), record("b"), finished=True)
    rows = output.read_bytes()
    output.write_bytes(rows.replace(b'{"id":"b"', b'{"di":"b"'))
    where = rows.index(b'{"id":"b"')
    with pytest.raises(MagpieError, match=rf"out\.jsonl is damaged at byte {where}") as stopped:
        run(output)
    assert "magpie repair" in str(stopped.value.hint)


def test_a_hole_above_what_is_durable_is_taken_out(output: Path) -> None:
    """Zeros that a power cut left go to quarantine, and the rows behind them stay."""
    run(output, record("a"))
    with output.open("ab") as file:
        file.write(b"\0" * 100 + b"\n" + record("b").to_json())
    assert run(output) == ["a", "b"]
    assert ids_of(output) == ["a", "b"]
    (kept,) = Path(f"{output}.magpie", "quarantine").iterdir()
    assert kept.read_bytes() == b"\0" * 100 + b"\n\n"
