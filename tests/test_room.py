"""A disk without room: rows wait in memory, whole, until somebody makes some."""

import asyncio
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGINT

import pytest

from magpie_cli.errors import MagpieError
from magpie_cli.records import PersonaPair, Record, Usage, Utterance
from magpie_cli.store import Begun, Facts, StoreOptions, open_store
from tests.conftest import Magpie, clean_environment
from tests.processes import MAGPIE, command_started, end, wait_for_words
from tests.test_failures import pair, write
from tests.test_store import IDENTITY, ids_of, keep, record

PAIR = PersonaPair("", "a scientist", "a librarian", None, {}, 1, "{}")


def texts(begun: Begun) -> list[str]:
    """What there is of a dialogue."""
    return [utterance.text for utterance in begun.utterances]


SMALL = 'ulimit -f 4; exec "$@" generate in.jsonl --engine echo -o out.jsonl -j 2'  # 2 or 4 KB


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for room often."""
    monkeypatch.setattr("magpie_cli.store.room.RETRY_SECONDS", 0.02)


@contextmanager
def no_file_over(size: int) -> Iterator[None]:
    """The kernel refuses to make a file of this process larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_rows_wait_for_room_and_then_are_all_there(tmp_path: Path) -> None:
    """Five rows find no room; meanwhile the file holds whole rows; once there is some, all five."""
    output = tmp_path / "out.jsonl"
    said: list[str] = []
    rows = [record(id_, "ü" * 1000) for id_ in "abcde"]

    async def run_full() -> None:
        with no_file_over(3_000):
            await store.write(record("first", "x" * 1000))
            waiting = [asyncio.create_task(store.write(row)) for row in rows]
            await asyncio.sleep(0.2)
            assert not any(task.done() for task in waiting)
            assert ids_of(output) == ["first"]
        await asyncio.gather(*waiting)

    care = StoreOptions(disk_wait=20, say=said.append)
    with open_store(str(output), None, Facts(IDENTITY), care) as store:
        asyncio.run(run_full())
    assert sorted(ids_of(output)) == ["a", "b", "c", "d", "e", "first"]
    [sentence] = said
    assert f"no room for {output}" in sentence
    assert f"{len(rows[0].to_json()):,} bytes are needed" in sentence


def fill(output: Path, row: Record) -> None:
    """A run in which `row` never finds room."""
    with open_store(str(output), None, Facts(IDENTITY), StoreOptions(disk_wait=0.1)) as store:
        keep(store, record("a"))
        with no_file_over(3_000):
            keep(store, row)


def test_a_disk_that_stays_full_ends_the_run(tmp_path: Path) -> None:
    """After --disk-wait the error says how much waits, and the file ends in a whole row."""
    output = tmp_path / "out.jsonl"
    row = record("b", "x" * 4000)
    with pytest.raises(MagpieError, match=f"{len(row.to_json()):,} bytes wait for room"):
        fill(output, row)
    assert ids_of(output) == ["a"]


def test_a_full_disk_costs_utterances_and_no_row(tmp_path: Path) -> None:
    """What cannot be kept of a dialogue is not; nor is what follows it; other dialogues are."""
    output = str(tmp_path / "out.jsonl")
    with open_store(output, None, Facts(IDENTITY), StoreOptions()) as store:
        for name in ("full", "later"):
            store.begin(name, PAIR, 3)
            store.heard(name, Utterance("one", Usage(1, 1)))
        with no_file_over(3_000):
            store.heard("full", Utterance("x" * 5000, Usage(1, 1)))
        store.heard("full", Utterance("three", Usage(1, 1)))
        store.heard("later", Utterance("two", Usage(1, 1)))
    with open_store(output, None, Facts(IDENTITY), StoreOptions()) as store:
        assert texts(store.begin("full", PAIR, 3)) == ["one"]
        assert texts(store.begin("later", PAIR, 3)) == ["one", "two"]


def small_disk(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """A run in which no file may grow beyond a few KB."""
    return subprocess.run(
        ["sh", "-c", f"{SMALL} {' '.join(more)}", "sh", *MAGPIE],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_command_says_that_it_waits_and_for_what(tmp_path: Path, magpie: Magpie) -> None:
    """One line when it begins to wait, and exit 1 with a hint; the same command goes on later."""
    write(tmp_path / "in.jsonl", *(pair(f"p{n}") for n in range(20)))
    full = small_disk(tmp_path, "--disk-wait", "1s")
    assert full.returncode == 1
    assert full.stderr.count("waiting: no room for out.jsonl") == 1
    assert "giving up after 1 s, --disk-wait" in full.stderr
    assert "bytes wait for room" in full.stderr
    assert "hint: " in full.stderr
    quiet = small_disk(tmp_path, "--disk-wait", "0.3s", "-q")
    assert (quiet.returncode, quiet.stderr.count("\n")) == (1, 2)
    made = ids_of(tmp_path / "out.jsonl")
    assert 0 < len(made) < 20
    assert magpie("generate", "in.jsonl", "--engine", "echo", "-o", "out.jsonl").returncode == 0
    assert len(set(ids_of(tmp_path / "out.jsonl"))) == 20


def test_whoever_asks_twice_does_not_wait_for_room(tmp_path: Path) -> None:
    """SIGINT twice ends a run that waits for a full disk, and what is written stays whole."""
    write(tmp_path / "in.jsonl", *(pair(f"p{n}") for n in range(20)))
    with command_started(tmp_path, "sh", "-c", SMALL, "sh", *MAGPIE) as process:
        wait_for_words(process, "waiting: no room")
        process.send_signal(SIGINT)
        wait_for_words(process, "once more stops at once")
        process.send_signal(SIGINT)
        code, said = end(process)
    assert code == -SIGINT
    assert "Traceback" not in said
    assert ids_of(tmp_path / "out.jsonl")
