"""One writer an output, whatever name it is opened by."""

import os
from pathlib import Path

import pytest

from magpie_cli.errors import NotFinished
from magpie_cli.store import Facts, StoreOptions, open_store
from tests.conftest import Magpie
from tests.test_store import IDENTITY, ids_of, keep, record, snapshot


def other_name(output: Path, kind: str) -> Path:
    """A second name of `output`."""
    name = output.with_name("other.jsonl")
    if kind == "itself":
        return output
    if kind == "symlink":
        name.symlink_to(output.name)
    else:
        name.hardlink_to(output)
    return name


@pytest.mark.parametrize("kind", ["itself", "symlink", "hard link"])
def test_a_second_opener_is_turned_away(tmp_path: Path, kind: str) -> None:
    """Two writers never share a file, and the first one goes on undisturbed."""
    output = tmp_path / "out.jsonl"
    with open_store(str(output), None, Facts(IDENTITY), StoreOptions()) as store:
        again = other_name(output, kind)
        with (
            pytest.raises(NotFinished, match="another magpie") as refused,
            open_store(str(again), None, Facts(IDENTITY), StoreOptions()),
        ):
            pytest.fail("it was opened twice")
        keep(store, record("a"))
    assert refused.value.exit_code == 75
    assert refused.value.hint
    assert ids_of(output) == ["a"]


@pytest.mark.parametrize("kind", ["itself", "symlink"])
def test_the_command_names_the_process_that_writes(
    tmp_path: Path, magpie: Magpie, kind: str
) -> None:
    """Another process gets exit 75 and the number of the one that has the file."""
    (tmp_path / "pairs.jsonl").write_text('{"instructor_persona":"a","responding_persona":"b"}\n')
    output = tmp_path / "out.jsonl"
    with open_store(str(output), None, Facts(IDENTITY), StoreOptions()):
        done = magpie("generate", "pairs.jsonl", "--engine", "echo", "-o", other_name(output, kind))
    assert done.returncode == 75
    assert f"process {os.getpid()}" in done.stderr
    assert "hint: " in done.stderr


def test_a_failures_file_has_one_writer_too(tmp_path: Path) -> None:
    """Two outputs cannot send their failures to one file at the same time."""
    failures = str(tmp_path / "failures.jsonl")
    with (
        open_store(str(tmp_path / "a.jsonl"), failures, Facts(IDENTITY), StoreOptions()),
        pytest.raises(NotFinished, match=r"failures\.jsonl"),
        open_store(str(tmp_path / "b.jsonl"), failures, Facts(IDENTITY), StoreOptions()),
    ):
        pytest.fail("it was opened twice")


def test_fresh_does_not_take_a_file_from_its_writer(tmp_path: Path) -> None:
    """An output that is being written is not set aside."""
    output = tmp_path / "out.jsonl"
    with open_store(str(output), None, Facts(IDENTITY), StoreOptions()):
        before = snapshot(tmp_path)
        with (
            pytest.raises(NotFinished),
            open_store(str(output), None, Facts(IDENTITY), StoreOptions(fresh=True)),
        ):
            pytest.fail("it was taken")
        assert snapshot(tmp_path) == before


def crash(output: Path) -> None:
    """A run that ends by a bug."""
    with open_store(str(output), None, Facts(IDENTITY), StoreOptions()) as store:
        keep(store, record("a"))
        raise ZeroDivisionError


def test_the_lock_goes_with_its_owner(tmp_path: Path) -> None:
    """A run that ended, however, is in nobody's way."""
    output = tmp_path / "out.jsonl"
    with pytest.raises(ZeroDivisionError):
        crash(output)
    with open_store(str(output), None, Facts(IDENTITY), StoreOptions()) as store:
        assert "a" in store.done
