"""A disk that is full, a reader that is gone, a file that somebody took away."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest

from magpie_cli.errors import MagpieError, OutputClosed
from magpie_cli.ids import IdSet
from magpie_cli.store import Facts, Manifest, StoreOptions, commit, disk, open_store
from magpie_cli.store.files import FileStore
from tests.conftest import Magpie, clean_environment, rows_of
from tests.processes import PATIENCE
from tests.test_store import IDENTITY, failure, ids_of, keep, record, run

PAIRS = 40  # their rows take about 20 KB


def with_room_for(blocks: int, shell: str) -> subprocess.CompletedProcess[str]:
    """Run magpie where no file may be larger than so many blocks (512 bytes or 1 KB each)."""
    return subprocess.run(
        ["sh", "-c", f"ulimit -f {blocks}; {shell}", "sh", sys.executable, "-m", "magpie_cli"],
        cwd=Path.cwd(),
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


GENERATE = '"$@" generate pairs.jsonl --engine echo'


def test_a_full_disk_leaves_whole_rows_and_the_rest_can_follow(
    tmp_path: Path,
    magpie: Magpie,
    pairs: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A write that finds no room is exit 1 with a hint, and the same command later goes on."""
    pairs(PAIRS)
    monkeypatch.chdir(tmp_path)
    full = with_room_for(8, f"exec {GENERATE} -o out.jsonl --disk-wait 0")
    assert (full.returncode, full.stdout) == (1, "")
    assert "out.jsonl cannot be written" in full.stderr
    assert "hint: " in full.stderr
    assert "Traceback" not in full.stderr
    made = ids_of(tmp_path / "out.jsonl")
    assert 0 < len(made) < PAIRS
    done = magpie("generate", "pairs.jsonl", "--engine", "echo", "-o", "out.jsonl")
    assert done.returncode == 0
    ids = ids_of(tmp_path / "out.jsonl")
    assert ids[: len(made)] == made
    assert len(ids) == len(set(ids)) == PAIRS


def test_a_redirect_to_a_full_disk_leaves_whole_rows(
    tmp_path: Path, pairs: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that the shell sends to a file are whole there too, and what follows stands behind."""
    pairs(PAIRS)
    monkeypatch.chdir(tmp_path)
    full = with_room_for(8, f"({GENERATE}; code=$?; echo '{{}}'; exit $code) > out.jsonl")
    assert full.returncode == 1
    *rows, last = rows_of(tmp_path / "out.jsonl")
    assert 0 < len(rows) < PAIRS
    assert last == {}
    assert "hint: " in full.stderr


def test_no_room_even_to_begin_is_a_plain_error(
    tmp_path: Path, pairs: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk without a free byte is one sentence and a hint, not a traceback."""
    pairs(PAIRS)
    monkeypatch.chdir(tmp_path)
    full = with_room_for(0, f"exec {GENERATE} -o out.jsonl --disk-wait 0")
    assert full.returncode == 1
    assert "Traceback" not in full.stderr
    assert "error: " in full.stderr
    assert "hint: " in full.stderr


def test_a_full_device_is_an_error_with_a_hint() -> None:
    """A stream that takes no byte ends the run with what to do about it."""
    with (
        pytest.raises(MagpieError, match="No space left") as full,
        open_store("/dev/full", None, Facts(IDENTITY), StoreOptions()) as store,
    ):
        keep(store, record("a"))
    assert full.value.exit_code == 1
    assert full.value.hint


def test_a_pipe_gets_whole_lines(tmp_path: Path) -> None:
    """A reader of a named pipe gets each row, and nothing else is left beside it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    rows = [record("a"), record("b", "ü" * 100_000)]
    with open_store(str(pipe), None, Facts(IDENTITY), StoreOptions()) as store:
        keep(store, rows[0], failure("f"), rows[1])
    reader.join(30)
    assert got == [rows[0].to_json() + rows[1].to_json()]
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_reader_that_has_gone_is_no_disk_error(tmp_path: Path) -> None:
    """A pipe without a reader says so with a type of its own, for the end by SIGPIPE."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with open_store(str(pipe), None, Facts(IDENTITY), StoreOptions()) as store:
        os.close(reader)
        with pytest.raises(OutputClosed):
            keep(store, record("a"))


def lose(output: Path, *, replaced: bool) -> None:
    """A run whose output is removed, or replaced by another file, while it goes on."""
    with open_store(str(output), None, Facts(IDENTITY), StoreOptions()) as store:
        keep(store, record("a"))
        output.unlink()
        if replaced:
            output.write_text("")
        keep(store, record("b"))
        store.finish(2, IdSet(), IdSet())


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
def test_rows_in_a_file_that_nobody_can_find_are_no_success(
    tmp_path: Path, *, replaced: bool
) -> None:
    """An output that was taken away during the run ends it with an error."""
    with pytest.raises(MagpieError, match=r"out\.jsonl"):
        lose(tmp_path / "out.jsonl", replaced=replaced)


def test_a_failures_file_that_somebody_removed_does_not_spoil_the_end(tmp_path: Path) -> None:
    """Tidying up an empty failures file during the run is harmless."""
    output = tmp_path / "out.jsonl"
    with open_store(str(output), None, Facts(IDENTITY), StoreOptions()) as store:
        output.with_name("out.failures.jsonl").unlink()
        keep(store, record("a"))
        store.finish(1, IdSet(), IdSet())
    assert run(output) == ["a"]


@pytest.mark.parametrize("output", ["out.jsonl", "-"])
def test_a_pipe_or_device_named_for_failures_is_never_removed(
    tmp_path: Path, magpie: Magpie, pairs: Callable[..., Path], output: str
) -> None:
    """`--failures /dev/null` must not cost root its /dev/null: what is no file stays in place."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    done = magpie("generate", pairs(), "--engine", "echo", "-o", output, "--failures", pipe)
    assert pipe.is_fifo()
    assert "Traceback" not in done.stderr


def test_a_file_where_the_folder_should_be_is_a_plain_error(
    tmp_path: Path, magpie: Magpie, pairs: Callable[..., Path]
) -> None:
    """Something else called out.jsonl.magpie is a sentence with its name, not a traceback."""
    (tmp_path / "out.jsonl.magpie").write_text("mine")
    done = magpie("generate", pairs(), "--engine", "echo", "-o", "out.jsonl")
    assert done.returncode in (1, 2)
    assert "out.jsonl.magpie" in done.stderr
    assert "Traceback" not in done.stderr


async def _until_a_sync_fails(then: type[Exception] | None) -> None:
    """A run whose sync fails beside it, after its last write; and that breaks off by `then`."""
    with open_store("out.jsonl", None, Facts(IDENTITY), StoreOptions()) as store:
        assert isinstance(store, FileStore)
        with patch.object(disk, "sync", side_effect=OSError(5, "Input/output error")):
            await store.write(record("a"))
            async with asyncio.timeout(PATIENCE):
                while not store._output.is_broken:  # noqa: ASYNC110 - a thread tells nobody
                    await asyncio.sleep(0.01)
        if then:
            raise then


@pytest.mark.parametrize(
    ("then", "error"), [(None, MagpieError), (KeyError, KeyError)], ids=["at its end", "broken off"]
)
async def test_a_sync_that_fails_unheard_is_noted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    then: type[Exception] | None,
    error: type[Exception],
) -> None:
    """I5: the next run writes anew what may be lost; this one does not end as if all were well."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commit, "INTERVAL", 0.01)
    with pytest.raises(error) as caught:
        await _until_a_sync_fails(then)
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)  # what brings the error to the next write, had there been one
    assert then or "Input/output error" in str(caught.value)
    noted = Manifest.read(tmp_path / "out.jsonl.magpie" / "manifest.json")
    assert noted
    assert noted.rewrite
