"""`magpie filter`: the files it reads, writes, sets aside, and never leaves by halves."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from magpie_cli.errors import MagpieError, UsageError
from magpie_cli.filter import filter_rows
from magpie_cli.filter.rules import rules_of
from tests.conftest import Magpie, rows_of
from tests.output_rows import distinct, record, write_rows
from tests.processes import started, wait_for_row


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_file_that_is_there_is_not_written_over() -> None:
    """Refused, or set aside with --fresh: with all that belongs to it, and under a free number."""
    write_rows(Path("out.jsonl"), [record()])
    Path("clean.jsonl").write_text("mine\n")
    Path("clean.jsonl.1").write_text("older\n")
    with pytest.raises(UsageError, match=r"clean\.jsonl is there already"):
        filter_rows("out.jsonl", "clean.jsonl", rules_of())
    Path("rejected.jsonl").write_text("mine too\n")
    with pytest.raises(UsageError, match=r"rejected\.jsonl is there already"):
        filter_rows("out.jsonl", "new.jsonl", rules_of(), rejected="rejected.jsonl")
    filter_rows("out.jsonl", "clean.jsonl", rules_of(), rejected="rejected.jsonl", fresh=True)
    assert Path("clean.jsonl.2").read_text() == "mine\n"
    assert Path("clean.jsonl.1").read_text() == "older\n"
    assert Path("rejected.jsonl.1").read_text() == "mine too\n"
    assert Path("rejected.jsonl").read_bytes() == b""
    assert len(rows_of(Path("clean.jsonl"))) == 1
    assert not list(Path().glob("*.new"))


@pytest.mark.parametrize(
    ("output", "rejected", "words"),
    [
        ("out.jsonl", None, "is the input itself"),
        ("clean.jsonl", "out.jsonl", "is the input itself"),
        ("clean.jsonl", "clean.jsonl", "--output and --rejected name the same"),
        ("clean.jsonl.gz", None, "uncompressed"),
        ("nowhere/clean.jsonl", None, "no such folder"),
        (".", None, "is a folder"),
        ("clean.jsonl", "-", "not a file"),
    ],
)
def test_files_that_cannot_be_are_refused(output: str, rejected: str | None, words: str) -> None:
    """Before anything is read, and the input stays as it was."""
    before = write_rows(Path("out.jsonl"), [record()]).read_bytes()
    with pytest.raises(UsageError, match=words):
        filter_rows("out.jsonl", output, rules_of(), rejected=rejected, fresh=True)
    assert Path("out.jsonl").read_bytes() == before


def test_generate_to_filter(magpie: Magpie, tmp_path: Path) -> None:
    """An output of generate, set aside whole by --fresh, and filtered through pipes, gzip too."""
    pair = {"instructor_persona": "A botanist", "responding_persona": "A baker"}
    Path("pairs.jsonl").write_text("".join(json.dumps({**pair, "n": n}) + "\n" for n in range(3)))
    generated = magpie("generate", "pairs.jsonl", "--engine", "echo", "-o", "made.jsonl")
    assert generated.returncode == 0
    rows = (tmp_path / "made.jsonl").read_text()
    flags = ("--no-check", "all", "--keep-duplicates")
    done = magpie("filter", "-", *flags, stdin=rows)
    assert (done.returncode, done.stdout) == (0, rows)
    assert "kept" in done.stderr
    write_rows(Path("out.jsonl"), [record()])
    refused = magpie("filter", "out.jsonl", "-o", "made.jsonl")
    assert refused.returncode == 2
    again = magpie("filter", "out.jsonl", "-o", "made.jsonl", "--fresh", "--json")
    assert again.returncode == 0
    assert json.loads(again.stdout)["kept"] == 1
    assert (tmp_path / "made.jsonl.1").read_text() == rows
    assert (tmp_path / "made.jsonl.magpie.1").is_dir()
    assert not (tmp_path / "made.jsonl.magpie").exists()


def test_nothing_is_left_where_it_breaks_off() -> None:
    """An input that ends in the middle of its compression leaves no file."""
    whole = gzip.compress(b"".join(record(str(n)).to_json() for n in range(2000)))
    Path("out.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MagpieError, match="breaks off"):
        filter_rows("out.jsonl.gz", "clean.jsonl", rules_of(), rejected="rejected.jsonl")
    assert [path.name for path in Path().iterdir()] == ["out.jsonl.gz"]


def test_a_filter_that_is_killed_leaves_no_half_file(tmp_path: Path, magpie: Magpie) -> None:
    """CLEAN is there whole or not at all; a second filter is refused, and the next begins anew."""
    line = record().to_json()
    with started(tmp_path, "filter", "-", "-o", "clean.jsonl", "--keep-duplicates") as process:
        assert process.stdin
        process.stdin.write(line * 100)
        process.stdin.flush()
        half = Path("clean.jsonl.new")
        wait_for_row(half)
        assert not Path("clean.jsonl").exists()
        second = magpie("filter", "-", "-o", "clean.jsonl", stdin=line)
        assert second.returncode == 75
        assert "another magpie" in second.stderr
        process.kill()
        process.wait()
    assert not Path("clean.jsonl").exists()
    assert magpie("filter", "-", "-o", "clean.jsonl", stdin=line).returncode == 0
    assert Path("clean.jsonl").read_bytes() == line
    assert not half.exists()


def test_an_empty_output_is_an_empty_set(magpie: Magpie) -> None:
    """Nothing in, nothing out, and no error."""
    done = magpie("filter", "-", "-o", "clean.jsonl")
    assert done.returncode == 0
    assert Path("clean.jsonl").read_bytes() == b""


def test_a_reader_that_goes_away_ends_it_silently(magpie: Magpie) -> None:
    """`| head` ends it by SIGPIPE, without a word."""
    write_rows(Path("out.jsonl"), [record(str(n), distinct(n)) for n in range(500)])
    read, write = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-m", "magpie_cli", "filter", "out.jsonl"],
        stdout=write,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(write)
        os.read(read, 10)
        os.close(read)
        assert process.stderr
        assert process.stderr.read() == b""
    assert process.returncode == -13
    assert magpie("filter", "none.jsonl").returncode == 2
