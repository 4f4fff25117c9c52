"""`magpie verify` says whether an output is whole, and changes nothing."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from magpie_cli.verify import FAULTS_SHOWN, Verdict, verify
from tests.conftest import Magpie
from tests.processes import feed, started, wait_for_row
from tests.test_failures import BAD, pair, write
from tests.test_store import snapshot

ECHO = ("generate", "in.jsonl", "--engine", "echo", "-o", "out.jsonl", "-j", "1")


@pytest.fixture
def output(tmp_path: Path, magpie: Magpie) -> Path:
    """An output of three rows and a failure, of a run that went through its input."""
    write(tmp_path / "in.jsonl", pair("a"), pair("b"), pair("c"), BAD)
    assert magpie(*ECHO).returncode == 3
    return tmp_path / "out.jsonl"


def change(path: Path, old: bytes, new: bytes) -> None:
    """The file with `new` for `old`."""
    text = path.read_bytes()
    assert old in text
    path.write_bytes(text.replace(old, new, 1))


def look(output: Path, *, with_input: bool = False) -> Verdict:
    """What verify says of it; it leaves every byte and every name as it was."""
    before = snapshot(output.parent)
    source = str(output.parent / "in.jsonl") if with_input else None
    verdict = verify(str(output), None, source)
    assert snapshot(output.parent) == before
    return verdict


def test_a_whole_output_is_as_it_should_be(output: Path, magpie: Magpie) -> None:
    """It is exit 0, with how many there are, and nothing on stderr."""
    before = snapshot(output.parent)
    done = magpie("verify", "out.jsonl", "--input", "in.jsonl")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "out.jsonl: 3 rows, 1 failure, 0 left\nall is as it should be\n"
    assert snapshot(output.parent) == before


def test_json_says_the_same(output: Path, magpie: Magpie) -> None:
    """The keys of --json stay what they are, on success and where something is broken."""
    whole = magpie("verify", "out.jsonl", "--json")
    assert whole.returncode == 0
    assert json.loads(whole.stdout) == {
        "output": "out.jsonl",
        "command": "generate",
        "rows": 3,
        "failures": 1,
        "left": None,
        "broken": 0,
        "faults": [],
        "remarks": [],
    }
    os.truncate(output, output.stat().st_size - 5)
    torn = magpie("verify", "out.jsonl", "--input", "in.jsonl", "--json")
    found = json.loads(torn.stdout)
    assert torn.returncode == 1
    assert (found["rows"], found["left"], found["broken"]) == (2, 1, 3)


ROW = b'{"id":"b","instructor'
DAMAGE: list[tuple[str, Callable[[Path], object], str]] = [
    ("a torn end", lambda p: os.truncate(p, p.stat().st_size - 5), "a line without its end"),
    ("bytes that are gone", lambda p: os.truncate(p, 10), "bytes are gone that were there"),
    ("a row gone", lambda p: p.write_bytes(b""), "bytes are gone that were there"),
    ("an id twice", lambda p: change(p, b'"id":"b"', b'"id":"a"'), "a second line of the id a"),
    ("no id", lambda p: change(p, b'"id":"b"', b'"di":"b"'), "a line without an id"),
    ("a NUL", lambda p: change(p, b'"id":"b"', b'"id":"\0"'), "a line with a NUL byte"),
    ("no JSON", lambda p: change(p, b'"id":"b"', b'"id":"b'), "not JSON"),
    ("no UTF-8", lambda p: change(p, b"careful", b"\xff\xfeareful"), "not JSON"),
    ("a wrong type", lambda p: change(p, b'"num_turns":1', b'"num_turns":"1"'), '"num_turns"'),
    ("a wrong count", lambda p: change(p, b'"num_turns":1', b'"num_turns":2'), "1 turns where 2"),
    ("no dialogue", lambda p: change(p, b'"responder":', b'"instructor":'), '"dialogue"[1]'),
    ("an empty line", lambda p: change(p, ROW, b"\n" + ROW), "not JSON"),
]


@pytest.mark.parametrize(
    ("damage", "said"), [pytest.param(damage, said, id=name) for name, damage, said in DAMAGE]
)
def test_what_is_broken_is_named(output: Path, damage: Callable[[Path], object], said: str) -> None:
    """Each kind of damage to the rows is found, with the file and the bytes where it is."""
    damage(output)
    verdict = look(output)
    assert verdict.broken
    assert any(said in fault for fault in verdict.faults)
    assert all(str(output) in fault for fault in verdict.faults)
    assert "magpie repair" in verdict.text()


@pytest.mark.parametrize("old", [b'"transient":false', b'"attempts":0', b'"stage":'])
def test_a_failure_of_the_wrong_shape_is_named(output: Path, old: bytes) -> None:
    """The failures are read as strictly as the rows."""
    failures = output.with_name("out.failures.jsonl")
    change(failures, old, old.replace(b":", b"_:"))
    verdict = look(output)
    assert verdict.broken == 1
    assert str(failures) in verdict.faults[0]


def test_an_id_with_a_row_and_a_failure_is_a_fault(output: Path) -> None:
    """I1, after a clean end: no id may be in both files."""
    failures = output.with_name("out.failures.jsonl")
    change(failures, b'{"id":"', b'{"id":"a","was":"')
    verdict = look(output)
    assert [fault for fault in verdict.faults if "1 id have a row as well" in fault]


def test_outcomes_that_are_missing_are_named(output: Path, magpie: Magpie) -> None:
    """With --input each dialogue without an outcome is a fault, once a run was through."""
    text = output.read_bytes()
    output.write_bytes(b"".join(text.splitlines(keepends=True)[1:]))
    verdict = look(output, with_input=True)
    assert verdict.left == 1
    assert "the dialogue a has neither a row nor a failure" in verdict.faults
    output.write_bytes(text)
    assert magpie("verify", "out.jsonl", "--input", "in.jsonl").returncode == 0


def test_a_run_that_is_not_through_owes_the_rest(tmp_path: Path, magpie: Magpie) -> None:
    """With the input, what has no outcome yet is missing; without it, the file alone is judged."""
    write(tmp_path / "in.jsonl", pair("a"), pair("b"), pair("c"))
    assert magpie(*ECHO, "--limit", "1", "--samples", "2").returncode == 75
    verdict = look(tmp_path / "out.jsonl", with_input=True)
    assert (verdict.broken, verdict.rows, verdict.left) == (5, 1, 5)
    assert look(tmp_path / "out.jsonl").broken == 0
    assert magpie(*ECHO, "--samples", "2").returncode == 0
    verdict = look(tmp_path / "out.jsonl", with_input=True)
    assert (verdict.broken, verdict.rows, verdict.left) == (0, 6, 0)


def test_an_input_that_has_changed_is_a_remark(output: Path) -> None:
    """Lines that came since have no outcome, and the verdict says why."""
    change(output.with_name("in.jsonl"), b"", pair("d").encode() + b"\n")
    verdict = look(output, with_input=True)
    assert (verdict.broken, verdict.left) == (1, 1)
    assert "in.jsonl is not what the last run" in verdict.remarks[0]
    assert f"note: {verdict.remarks[0]}" in verdict.text()


def test_of_many_faults_the_first_are_shown(output: Path) -> None:
    """A file full of damage does not fill the terminal."""
    with output.open("ab") as file:
        file.write(b"{}\n" * 1000)
    verdict = look(output)
    assert (verdict.broken, len(verdict.faults)) == (1000, FAULTS_SHOWN)
    assert "and 980 more" in verdict.text()


def test_during_a_run_it_says_to_wait(tmp_path: Path, magpie: Magpie) -> None:
    """An output that is being written is not looked at: exit 75, and the run is undisturbed."""
    with started(tmp_path, "generate", "-", "--engine", "echo", "-o", "out.jsonl") as process:
        feed(process, pair("a") + "\n")
        wait_for_row(tmp_path / "out.jsonl")  # more pairs may come: it runs until it is stopped
        for command in (("verify",), ("repair",), ("repair", "--yes")):
            done = magpie(*command, "out.jsonl")
            assert done.returncode == 75
            assert f"another magpie is writing to out.jsonl (process {process.pid})" in done.stderr
        assert process.poll() is None


def test_verify_does_not_stop_a_run_that_begins(output: Path, magpie: Magpie) -> None:
    """It lets go of the output when it is done."""
    assert look(output).broken == 0
    assert magpie(*ECHO, "--allow-failures").returncode == 0


def test_an_output_that_may_not_be_written_can_be_looked_at(output: Path, magpie: Magpie) -> None:
    """Neither the files nor their folders have to be writable."""
    folders = (output.parent, Path(f"{output}.magpie"))
    for path in (*output.parent.iterdir(), *folders):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert magpie("verify", "out.jsonl", "--input", "in.jsonl").returncode == 0
        assert magpie("verify", "out.jsonl", "--json").returncode == 0
    finally:
        for path in (*folders, *output.parent.iterdir()):
            path.chmod(0o755)


@pytest.mark.parametrize("command", ["verify", "repair"])
@pytest.mark.parametrize("name", ["none.jsonl", "in.jsonl", ".", "-", "/dev/null"])
def test_what_magpie_did_not_make_is_refused(
    magpie: Magpie, output: Path, command: str, name: str
) -> None:
    """A file without a manifest is nobody's output: exit 2, and a hint."""
    before = snapshot(output.parent)
    done = magpie(command, name)
    assert done.returncode == 2
    assert f"{name} is not an output of magpie" in done.stderr
    assert "hint: " in done.stderr
    assert snapshot(output.parent) == before


def test_it_finds_failures_elsewhere_by_itself(tmp_path: Path, magpie: Magpie) -> None:
    """Where generate was given --failures, the manifest knows; a link to the output does too."""
    write(tmp_path / "in.jsonl", pair("a"), BAD)
    (tmp_path / "other").mkdir()
    assert magpie(*ECHO, "--failures", "other/bad.jsonl").returncode == 3
    (tmp_path / "link.jsonl").symlink_to("out.jsonl")
    for name in ("out.jsonl", "link.jsonl"):
        done = magpie("verify", name, "--input", "in.jsonl")
        assert (done.returncode, "1 failure, 0 left" in done.stdout) == (0, True)


def test_what_cannot_be_read_is_one_sentence(output: Path, magpie: Magpie) -> None:
    """A folder where a file should be (or no permission) is no traceback."""
    done = magpie("verify", "out.jsonl", "--failures", ".")
    assert (done.returncode, done.stderr) == (1, "error: . cannot be read: Is a directory\n")
    output.unlink()
    output.mkdir()
    done = magpie("verify", "out.jsonl")
    assert (done.returncode, done.stderr) == (
        1,
        "error: out.jsonl cannot be read: Is a directory\n",
    )
