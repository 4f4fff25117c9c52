"""`magpie status`: how far an output is."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from magpie_cli.errors import UsageError
from magpie_cli.status import status
from tests.conftest import Magpie
from tests.processes import started, wait_for_row
from tests.test_store import snapshot

Pairs = Callable[..., Path]
ECHO = ("generate", "pairs.jsonl", "--engine", "echo", "-o", "out.jsonl")


def test_it_says_what_is_done_failed_and_left(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts rows, failures and what has not been tried, for people and for programs."""
    path = pairs(5)
    path.write_text("oops\n" + path.read_text())
    assert magpie(*ECHO, "--limit", "2").returncode == 75
    before = snapshot(tmp_path)
    for_people = magpie("status", "out.jsonl")
    assert (for_people.returncode, for_people.stderr) == (0, "")
    assert dict(line.split(maxsplit=1) for line in for_people.stdout.splitlines()) == {
        "output": "out.jsonl",
        "engine": "echo, model echo",
        "done": "2",
        "failed": "1 (out.failures.jsonl)",
        "left": "3",
        "next": "the same magpie generate command again goes on",
    }
    for_programs = magpie("status", "out.jsonl", "--json")
    assert json.loads(for_programs.stdout) == {
        "output": "out.jsonl",
        "done": 2,
        "failed": 1,
        "may_pass": 0,
        "left": 3,
        "model": "echo",
        "engine": "echo",
        "command": "generate",
        "failures_file": "out.failures.jsonl",
    }
    monkeypatch.chdir("/")
    elsewhere = status(str(tmp_path / "out.jsonl"))
    assert (elsewhere.done, elsewhere.failed, elsewhere.left) == (2, 1, 3)
    assert snapshot(tmp_path) == before


def test_it_is_right_during_a_run(tmp_path: Path, pairs: Pairs) -> None:
    """While a run writes, done and left add up, a torn last line is no row, and nobody waits."""
    pairs(30)
    output = tmp_path / "out.jsonl"
    with started(tmp_path, *ECHO, "-j", "1", "--echo-delay", "0.05") as process:
        wait_for_row(output)
        found = status(str(output))
        assert process.poll() is None
    assert found.left
    assert 1 <= found.done < 30
    assert found.done + found.left == 30
    whole = output.read_bytes().count(b"\n")
    with output.open("ab") as file:
        file.write(b'{"id":"torn","instructor')
    before = snapshot(tmp_path)
    assert status(str(output)).done == whole
    assert snapshot(tmp_path) == before


def test_a_pair_that_failed_and_was_made_later_is_done(
    tmp_path: Path, magpie: Magpie, pairs: Pairs
) -> None:
    """A row beats the failure that an unfinished run has left behind."""
    pairs(2)
    assert magpie(*ECHO).returncode == 0
    rows = (tmp_path / "out.jsonl").read_text().splitlines()
    failures = [{"id": json.loads(rows[0])["id"]}, {"id": "lost"}, {"id": "lost"}]
    (tmp_path / "out.failures.jsonl").write_text("".join(json.dumps(f) + "\n" for f in failures))
    found = status(str(tmp_path / "out.jsonl"))
    assert (found.done, found.failed, found.left) == (2, 1, 0)


def test_the_failures_may_be_elsewhere(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds them where --failures put them, from any folder."""
    path = pairs(1)
    path.write_text(path.read_text() + "oops\n")
    (tmp_path / "bad").mkdir()
    assert magpie(*ECHO, "--failures", "bad/lines.jsonl").returncode == 3
    monkeypatch.chdir(tmp_path / "bad")
    found = status("../out.jsonl")
    assert (found.done, found.failed, found.left) == (1, 1, 0)


def test_nobody_knows_the_length_of_half_a_pipe(
    tmp_path: Path, magpie: Magpie, pairs: Pairs
) -> None:
    """What is left of standard input is unknown until a run has reached its end."""
    text = pairs(3).read_text()
    command = ("generate", "-", "--engine", "echo", "-o", "out.jsonl")
    assert magpie(*command, "--limit", "1", stdin=text).returncode == 75
    half = status(str(tmp_path / "out.jsonl"))
    assert (half.done, half.left) == (1, None)
    assert "unknown" in half.text()
    assert magpie(*command, stdin=text).returncode == 0
    whole = status(str(tmp_path / "out.jsonl"))
    assert (whole.done, whole.left) == (3, 0)


@pytest.mark.parametrize("name", ["none.jsonl", "notes.txt", "folder", "bare.jsonl"])
def test_what_is_no_output_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A missing file, another file, a folder and a manifest without rows have no status."""
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("my notes\n")
    Path("folder").mkdir()
    Path("bare.jsonl.magpie").mkdir()
    with pytest.raises(UsageError, match=name) as refused:
        status(name)
    assert refused.value.hint
    assert not os.path.lexists("none.jsonl.magpie")


def test_no_output_is_exit_2(magpie: Magpie) -> None:
    """The command says one sentence and a hint, on stderr alone."""
    done = magpie("status", "none.jsonl", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: none.jsonl")
    assert hint.startswith("hint: ")
