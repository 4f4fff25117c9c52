"""`magpie repair` shows what is no row, moves it with --yes, and loses no byte."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Magpie, rows_of
from tests.test_store import manifest_of, snapshot
from tests.test_verify import DAMAGE, ECHO, change, output

__all__ = ["output"]  # a fixture


def lines_of(folder: Path) -> list[bytes]:
    """Every line in any file of the output, the quarantine's too."""
    files = {name: data for name, data in snapshot(folder).items() if "out." in name}
    files.pop("out.jsonl.magpie/manifest.json")
    return sorted(line for data in files.values() for line in data.split(b"\n") if line)


@pytest.mark.parametrize(
    "damage", [pytest.param(damage, id=name) for name, damage, _ in DAMAGE if "gone" not in name]
)
def test_what_is_broken_moves_and_the_next_run_makes_it_anew(
    output: Path, magpie: Magpie, damage: Callable[[Path], object]
) -> None:
    """Without --yes nothing changes; with it every byte is kept, and the next run is whole."""
    rows = sorted(output.read_bytes().splitlines())
    damage(output)
    before, lines = snapshot(output.parent), lines_of(output.parent)
    shown = magpie("repair", "out.jsonl")
    assert shown.returncode == 0
    assert "would move" in shown.stdout
    assert "magpie repair out.jsonl --yes" in shown.stdout
    assert snapshot(output.parent) == before
    done = magpie("repair", "out.jsonl", "--yes")
    assert done.returncode == 0
    assert "moved" in done.stdout
    assert lines_of(output.parent) == lines
    assert magpie("verify", "out.jsonl").returncode == 0
    assert magpie(*ECHO).returncode == 3
    assert sorted(output.read_bytes().splitlines()) == rows
    assert magpie("verify", "out.jsonl", "--input", "in.jsonl").returncode == 0


def test_bytes_that_are_gone_are_made_anew(output: Path, magpie: Magpie) -> None:
    """Where only the end is missing there is nothing to move; the next run makes the rows."""
    rows = output.read_bytes()
    last = rows.splitlines(keepends=True)[-1]
    os.truncate(output, len(rows) - len(last))
    assert magpie("verify", "out.jsonl").returncode == 1
    assert "nothing to repair" in magpie("repair", "out.jsonl", "--yes").stdout
    assert magpie(*ECHO).returncode == 3
    assert output.read_bytes() == rows
    assert magpie("verify", "out.jsonl", "--input", "in.jsonl").returncode == 0


def test_a_whole_output_needs_no_repair(output: Path, magpie: Magpie) -> None:
    """With --yes too, it is exit 0 and no byte changes."""
    before = snapshot(output.parent)
    done = magpie("repair", "out.jsonl", "--yes")
    assert (done.returncode, done.stdout) == (0, "nothing to repair in out.jsonl\n")
    assert snapshot(output.parent) == before


def test_failures_are_mended_too(output: Path, magpie: Magpie) -> None:
    """A failure of the wrong shape moves as a row does."""
    failures = output.with_name("out.failures.jsonl")
    bad = b'{"id":"x","stage":"generate"}\n'
    good = failures.read_bytes()
    failures.write_bytes(bad + good)
    answer = json.loads(magpie("repair", "out.jsonl", "--yes", "--json").stdout)
    assert (answer["done"], len(answer["stretches"])) == (True, 1)
    assert failures.read_bytes() == good
    [kept] = Path(
        answer["quarantine"]
        if Path(answer["quarantine"]).is_absolute()
        else output.parent / answer["quarantine"]
    ).iterdir()
    assert kept.read_bytes() == bad + b"\n"
    assert magpie("verify", "out.jsonl").returncode == 0


def test_the_way_out_of_real_damage(output: Path, magpie: Magpie) -> None:
    """A run stops at damage below what was durable and names repair, which is the way on."""
    change(output, b'"id":"b"', b'"id":"\0"')
    before = snapshot(output.parent)
    stopped = magpie(*ECHO)
    assert stopped.returncode == 1
    assert "out.jsonl is damaged at byte" in stopped.stderr
    assert "hint: magpie repair out.jsonl" in stopped.stderr
    assert snapshot(output.parent) == before
    assert magpie("repair", "out.jsonl", "--yes").returncode == 0
    assert manifest_of(output)["clean"] is False
    assert magpie(*ECHO).returncode == 3
    assert {row["id"] for row in rows_of(output)} == {"a", "b", "c"}


def test_two_repairs_of_the_same_place_keep_both(output: Path, magpie: Magpie) -> None:
    """What was moved before is never written over."""
    rows = output.read_bytes()
    for bad in (b"first\n", b"second\n"):
        output.write_bytes(bad + rows)
        assert magpie("repair", "out.jsonl", "--yes").returncode == 0
        assert output.read_bytes() == rows
    kept = b"".join(data for name, data in snapshot(output.parent).items() if "quar" in name)
    assert kept == b"first\n\nsecond\n\n"
