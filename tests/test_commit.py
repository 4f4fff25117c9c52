"""When rows are safe from a power cut, and what happens where a sync fails."""

import asyncio
import errno
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from magpie_cli.errors import MagpieError
from magpie_cli.records import PersonaPair, Usage, Utterance
from magpie_cli.settings import Fsync
from magpie_cli.store import Facts, Store, StoreOptions, open_store
from magpie_cli.store.commit import INTERVAL, Commit
from tests.conftest import Magpie, rows_of
from tests.processes import PATIENCE, end, feed, started, wait_for_row, wait_until
from tests.test_failures import pair, write
from tests.test_store import IDENTITY, failure, ids_of, keep, manifest_of, record, run

ECHO = ("generate", "pairs.jsonl", "--engine", "echo", "-o", "out.jsonl")
PIPED = ("generate", "-", *ECHO[2:])  # writes its rows, and runs for as long as more may come
PAIR = PersonaPair("", "a scientist", "a librarian", None, {}, 1, "{}")


class Disk:
    """A sync that takes as long as a test wants, and fails where it is told to."""

    def __init__(self) -> None:
        self.calls = 0
        self.may_end = threading.Event()
        self.may_end.set()
        self.began = threading.Event()
        self.error: OSError | None = None

    def sync(self, *_: object) -> None:
        """As `disk.sync`, for no file."""
        self.calls += 1
        self.began.set()
        assert self.may_end.wait(20)
        if self.error:
            raise self.error


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """In place of the one system call that makes bytes durable."""
    disk = Disk()
    monkeypatch.setattr("magpie_cli.store.disk.sync", disk.sync)
    return disk


@pytest.mark.parametrize("fsync", ["always", "interval", "off"])
def test_each_way_makes_every_row(tmp_path: Path, magpie: Magpie, fsync: str) -> None:
    """They differ in when, not in what."""
    write(tmp_path / "pairs.jsonl", *(pair(f"p{n}") for n in range(50)))
    assert magpie(*ECHO, "--fsync", fsync).returncode == 0
    assert len({row["id"] for row in rows_of(tmp_path / "out.jsonl")}) == 50
    durable = manifest_of(tmp_path / "out.jsonl")["durable_output"]
    assert durable == (tmp_path / "out.jsonl").stat().st_size


def test_with_always_a_row_counts_when_it_is_durable(tmp_path: Path, disk: Disk) -> None:
    """`Store.write` returns only after a sync that began when the row was in the file."""
    with open_store(
        str(tmp_path / "out.jsonl"), None, Facts(IDENTITY), StoreOptions(fsync="always")
    ) as store:
        before = disk.calls
        disk.may_end.clear()
        disk.began.clear()

        async def write_two() -> None:
            first = asyncio.create_task(store.write(record("a")))
            await asyncio.to_thread(disk.began.wait, 20)
            second = asyncio.create_task(store.write(record("b")))  # while that sync runs
            await asyncio.sleep(0.1)
            assert ids_of(tmp_path / "out.jsonl") == ["a", "b"]
            assert not first.done()
            assert not second.done()
            disk.may_end.set()
            await asyncio.gather(first, second)

        asyncio.run(write_two())
        assert disk.calls - before == 2


def test_rows_that_come_together_share_a_sync(tmp_path: Path, disk: Disk) -> None:
    """Group commit: 100 rows in flight take two syncs, not 100."""
    with open_store(
        str(tmp_path / "out.jsonl"), None, Facts(IDENTITY), StoreOptions(fsync="always")
    ) as store:
        before = disk.calls

        async def write_all() -> None:
            await asyncio.gather(*(store.write(record(f"r{n}")) for n in range(100)))

        asyncio.run(write_all())
        assert disk.calls - before <= 2


def test_failures_and_utterances_are_made_durable_too(tmp_path: Path, disk: Disk) -> None:
    """One sync of the store is one of each file that has something new."""
    with open_store(
        str(tmp_path / "out.jsonl"), None, Facts(IDENTITY), StoreOptions(fsync="always")
    ) as store:
        before = disk.calls
        store.begin("a", PAIR, 2)
        store.heard("a", Utterance("a word", Usage(1, 1)))
        keep(store, failure("b"), record("c"))
        assert disk.calls - before == 2 + 1


@pytest.mark.parametrize(("fsync", "syncs"), [("interval", 1), ("off", 0)])
def test_a_sync_comes_with_time_or_not_at_all(
    tmp_path: Path, disk: Disk, fsync: Fsync, syncs: int
) -> None:
    """About a second after the first row one sync covers all so far; with `off` none comes."""

    async def write_and_wait(store: Store) -> None:
        for id_ in "abc":
            await store.write(record(id_))
        await asyncio.sleep(INTERVAL + 0.3)

    with open_store(
        str(tmp_path / "out.jsonl"), None, Facts(IDENTITY), StoreOptions(fsync=fsync)
    ) as store:
        before = disk.calls
        asyncio.run(write_and_wait(store))
        assert disk.calls - before == syncs
    assert disk.calls == before + 1  # at the end in any case, if there is something new


def fail(
    output: Path, disk: Disk, fsync: Fsync, rows: Sequence[str], *, pause: float = 0.0
) -> list[str]:
    """A run whose disk fails at its second sync; the errors of the rows after the first one."""
    errors = []

    async def write(store: Store) -> None:
        await store.write(record("a"))
        disk.error = OSError(errno.EIO, "Input/output error")
        for id_ in rows:
            try:
                await store.write(record(id_))
            except MagpieError as error:
                errors.append(error.message)
            await asyncio.sleep(pause)
        if errors:
            raise MagpieError(errors[0])

    with (
        pytest.raises(MagpieError, match=r"out\.jsonl cannot be written: Input/output error"),
        open_store(str(output), None, Facts(IDENTITY), StoreOptions(fsync=fsync)) as store,
    ):
        asyncio.run(write(store))
    return errors


@pytest.mark.parametrize("fsync", ["always", "off"])
def test_a_failed_sync_is_never_tried_again(tmp_path: Path, disk: Disk, fsync: Fsync) -> None:
    """The run ends with an error; the manifest tells the next one to write anew what is unsure."""
    output = tmp_path / "out.jsonl"
    fail(output, disk, fsync, ["b"])
    assert disk.calls == (2 if fsync == "always" else 1)
    manifest = manifest_of(output)
    assert (manifest["rewrite"], manifest["clean"]) == (True, False)
    assert manifest["durable_output"] == (len(record("a").to_json()) if fsync == "always" else 0)
    disk.error = None
    inode = output.stat().st_ino
    assert run(output, record("c")) == ["a", "b"]
    assert ids_of(output) == ["a", "b", "c"]
    assert output.stat().st_ino == inode
    assert manifest_of(output)["rewrite"] is False


def test_after_a_failed_sync_nothing_is_written(tmp_path: Path, disk: Disk) -> None:
    """The next row is refused with the same error, and stands in no file."""
    output = tmp_path / "out.jsonl"
    assert len(fail(output, disk, "always", ["b", "c", "d"])) == 3
    assert ids_of(output) == ["a", "b"]


def test_an_error_of_a_sync_in_the_background_ends_the_run(tmp_path: Path, disk: Disk) -> None:
    """With `interval` the row after the failed sync hears of it."""
    output = tmp_path / "out.jsonl"
    assert len(fail(output, disk, "interval", ["b", "c"], pause=INTERVAL + 0.3)) == 1
    assert ids_of(output) == ["a", "b"]
    assert manifest_of(output)["rewrite"] is True


def test_nothing_is_synced_after_the_end() -> None:
    """Once `end` has returned no sync runs, and none begins."""
    calls: list[float] = []

    async def end_early() -> None:
        commit = Commit("interval", lambda: calls.append(0))
        await commit.written()
        commit.end()
        await asyncio.sleep(INTERVAL + 0.2)

    asyncio.run(end_early())
    assert calls == []


def test_wait_lock_waits_for_the_other_run(tmp_path: Path, magpie: Magpie) -> None:
    """The second run begins when the first one is through, finds its rows and adds the rest."""
    lines = [pair(f"p{n}") + "\n" for n in range(12)]
    (tmp_path / "pairs.jsonl").write_text("".join(lines))
    with started(tmp_path, *PIPED) as first:
        feed(first, "".join(lines[:7]))
        wait_for_row(tmp_path / "out.jsonl")
        assert magpie(*ECHO, "--wait-lock", "0.2s").returncode == 75
        with started(tmp_path, *ECHO, "--wait-lock", "1m") as second:
            wait_until(lambda: has_open(second, tmp_path / "out.jsonl"), "the second run is there")
            feed(first, lines[7])
            assert end_of_input(first) == 0
            code, said = end(second)
    assert code == 0
    assert "8 were there already" in said
    assert len(set(ids_of(tmp_path / "out.jsonl"))) == 12


def test_wait_lock_under_fresh_waits_too(tmp_path: Path) -> None:
    """--fresh sets aside what the other run has finished, not what it is writing."""
    lines = [pair(f"p{n}") + "\n" for n in range(6)]
    (tmp_path / "pairs.jsonl").write_text("".join(lines))
    with started(tmp_path, *PIPED) as first:
        feed(first, "".join(lines[:5]))
        wait_for_row(tmp_path / "out.jsonl")
        with started(tmp_path, *ECHO, "--fresh", "--wait-lock", "1m") as second:
            wait_until(lambda: has_open(second, tmp_path / "out.jsonl"), "the second run is there")
            feed(first, lines[5])
            assert end_of_input(first) == 0
            assert end(second)[0] == 0
    assert len(ids_of(tmp_path / "out.jsonl")) == len(ids_of(tmp_path / "out.jsonl.1")) == 6


def has_open(process: subprocess.Popen[bytes], path: Path) -> bool:
    """Whether the process has looked at the file's lock at this moment."""
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(OSError):  # closed by now
            if link.samefile(path):
                return True
    return False


def end_of_input(process: subprocess.Popen[bytes]) -> int:
    """No more pairs come; the exit code."""
    assert process.stdin
    process.stdin.close()
    return process.wait(PATIENCE)
