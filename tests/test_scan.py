"""What is read of an output before a run goes on: quickly where it is durable, else strictly."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magpie_cli.errors import MagpieError
from magpie_cli.store import Facts, Manifest, OutputPaths, StoreOptions, open_store
from magpie_cli.store.scan import Bad, Scan, read_ids, scan
from tests.conftest import Magpie
from tests.processes import killed_at
from tests.test_failures import pair, write
from tests.test_store import IDENTITY, ids_of, record, run, snapshot

A, B, C = (record(id_).to_json() for id_ in "abc")
HOLE = b"\0" * 4096 + b"\n"
BAD = [
    pytest.param(HOLE, id="zeros"),
    pytest.param(B[:-40] + b"\n", id="half a row"),
    pytest.param(b"\n", id="an empty line"),
    pytest.param(b"null\n", id="no object"),
    pytest.param(b'{"id":7}\n', id="an id that is no text"),
    pytest.param(b'{"id":""}\n', id="an empty id"),
    pytest.param(b'{"id":"\xff"}\n', id="no UTF-8"),
    pytest.param(A, id="an id that is there already"),
]


def found_in(folder: Path, text: bytes, durable: int = 0, *, anew: bool = False) -> Scan:
    """What a scan finds in these bytes."""
    path = folder / "rows"
    path.write_bytes(text)
    return scan(path, durable, unique=True, anew=anew)


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_line_is_found_and_the_good_ones_behind_it(tmp_path: Path, bad: bytes) -> None:
    """Above what is durable, each kind of bad line has its offsets, and costs no other line."""
    found = found_in(tmp_path, A + bad + C)
    assert (found.good, len(found.ids), "a" in found.ids) == (len(A), 1, True)
    [stretch] = found.bad
    assert (stretch.start, stretch.end) == (len(A), len(A + bad))
    assert found.behind == [(len(A + bad), len(A + bad + C))]


@pytest.mark.parametrize("bad", BAD)
def test_damage_below_what_is_durable_stops(tmp_path: Path, bad: bytes) -> None:
    """There it is no trace of a crash, and the error has its offset."""
    text = A + bad + C
    with pytest.raises(MagpieError, match=f"damaged at byte {len(A):,}: ") as stopped:
        found_in(tmp_path, text, durable=len(text))
    assert "magpie repair" in str(stopped.value.hint)


def test_two_lines_of_one_id_behind_a_hole_are_one(tmp_path: Path) -> None:
    """Among the lines that are to be added again none is there twice, nor with one in front."""
    found = found_in(tmp_path, A + HOLE + B + A + B + C)
    assert [why for _, _, why in found.bad][1:] == ["a second line of the id a"]  # and of b, as one
    assert len(found.behind) == 2


def test_a_point_that_no_line_ends_at_is_not_believed(tmp_path: Path) -> None:
    """Where somebody has changed the file, all of it is read strictly."""
    text = A + B[:-1] + b"!\n" + C
    with pytest.raises(MagpieError, match="damaged"):
        found_in(tmp_path, text, durable=len(text))
    assert found_in(tmp_path, text, durable=len(text) + 9).bad != []
    assert found_in(tmp_path, text, durable=len(text) - 5).bad != []


def test_what_the_disk_failed_to_sync_is_written_anew(tmp_path: Path) -> None:
    """All above the durable point counts as standing behind something bad."""
    found = found_in(tmp_path, A + B + C, len(A), anew=True)
    assert (found.good, found.bad) == (len(A), [])
    assert len(found.behind) == 2


def test_a_torn_end_is_no_row_and_no_damage_for_a_look(tmp_path: Path) -> None:
    """Whoever only reads ids leaves alone what may be about to be written."""
    (tmp_path / "rows").write_bytes(A + B[:-1])
    assert list(read_ids(tmp_path / "rows")) == ["a"]
    assert list(read_ids(tmp_path / "none")) == []


PIECES = st.lists(
    st.sampled_from([A, B, C, HOLE, B[:-30], b"\n", b"\0", b"x", b'{"id":"a"}\n']), max_size=8
)


@settings(deadline=None, max_examples=60)
@given(pieces=PIECES)
def test_every_byte_is_good_bad_or_behind(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
) -> None:
    """The stretches of a scan cover the file from end to end, and none of them overlap."""
    text = b"".join(pieces)
    found = found_in(tmp_path_factory.getbasetemp(), text)
    stretches = [(bad.start, bad.end) for bad in found.bad] + found.behind
    offset = found.good
    for start, end in sorted(stretches):
        assert start == offset
        offset = end
    assert offset == len(text)
    assert all(isinstance(bad, Bad) and bad.why for bad in found.bad)


@settings(deadline=None, max_examples=30)
@given(pieces=PIECES)
def test_whatever_stands_there_a_run_mends_it(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
) -> None:
    """After any bytes above the durable point the output is whole rows, each once, none lost.

    I3: what was durable is not touched. And no byte is lost that was no row.
    """
    folder = tmp_path_factory.mktemp("mend")
    output = folder / "out.jsonl"
    run(output, record("first"))
    durable = output.read_bytes()
    with output.open("ab") as file:
        file.write(b"".join(pieces))
    lines = b"".join(pieces).splitlines(keepends=True)
    run(output)
    text = output.read_bytes()
    assert text.startswith(durable)
    ids = ids_of(output)
    assert len(ids) == len(set(ids))
    assert {id_ for id_, row in zip("abc", (A, B, C), strict=True) if row in lines} <= set(ids)
    files = snapshot(folder)
    kept = b"".join(data for name, data in files.items() if "quarantine" in name)
    assert all(line in text or line in kept for line in lines)
    assert run(output) == [id_ for id_ in "abcd" if id_ in ids]  # and there is nothing to mend
    assert output.read_bytes() == text


def test_below_the_last_durable_point_it_only_grows(tmp_path: Path, magpie: Magpie) -> None:
    """I3: through kills, torn ends and other inputs, no durable byte ever changes."""
    write(tmp_path / "pairs.jsonl", *(pair(f"p{n}") for n in range(30)))
    command = ("generate", "pairs.jsonl", "--engine", "echo", "-j", "2", "-o", "out.jsonl")
    slowly = (*command, "--echo-delay", "0.02", "--fsync", "always")
    output = tmp_path / "out.jsonl"
    durable = b""
    for size in (2_000, 6_000):
        killed_at(size, tmp_path, *slowly)
        assert output.read_bytes().startswith(durable)
        manifest = Manifest.read(OutputPaths.of(str(output)).manifest)
        assert manifest
        durable = output.read_bytes()[: manifest.durable_output]
        os.truncate(output, output.stat().st_size - 7)
    assert durable
    assert magpie(*command).returncode == 0
    assert output.read_bytes().startswith(durable)
    assert len(set(ids_of(output))) == 30


def test_rows_behind_a_hole_survive_a_crash_of_the_mending(tmp_path: Path) -> None:
    """A tail that was kept and not yet added again is added by the next run, and then gone."""
    output = tmp_path / "out.jsonl"
    run(output, record("a"))
    tail = Path(f"{output}.magpie", "out.jsonl.tail")
    tail.write_bytes(A + B + C)
    with output.open("ab") as file:
        file.write(B)
    with open_store(str(output), None, Facts(IDENTITY), StoreOptions()) as store:
        assert all(id_ in store.done for id_ in "abc")
    assert ids_of(output) == ["a", "b", "c"]
    assert not tail.exists()
