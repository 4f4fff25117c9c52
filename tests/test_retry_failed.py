"""Which pairs that failed before are tried again, and which failures are left at the end."""

from pathlib import Path

import orjson
import pytest

from magpie_cli.status import status
from tests.chat_server import ChatServer, refuses
from tests.conftest import PAIR, Magpie, rows_of
from tests.test_failures import BAD, pair, write

FAILURES = "out.failures.jsonl"


def command(server: ChatServer, *more: str) -> tuple[str, ...]:
    """One dialogue at a time."""
    options = ("--base-url", server.url, "-o", "out.jsonl", "-j", "1", *more)
    return ("generate", "pairs.jsonl", *options)


def asked_for(server: ChatServer) -> list[str]:
    """The pairs that the server heard of, by their names."""
    systems = [asked.body["messages"][0]["content"] for asked in server.asked[::2]]
    return [name for system in systems for name in "abcd" if f"called {name}." in system]


def begin(folder: Path, magpie: Magpie, server: ChatServer) -> None:
    """A run in which the pair a failed, b failed through no fault of its own, c and d did not."""
    names = (pair(name, instructor_persona=f"Someone called {name}.") for name in "abcd")
    write(folder / "pairs.jsonl", *names)
    server.faults = iter([refuses(400), refuses(422)])
    assert magpie(*command(server)).returncode == 3
    failed = rows_of(folder / FAILURES)
    assert [(row["id"], row["transient"]) for row in failed] == [("a", False), ("b", False)]
    failed[1]["transient"] = True
    (folder / FAILURES).write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in failed))
    server.asked.clear()


def add(folder: Path, id_: str, *, transient: bool) -> None:
    """One more line of a run that did not end well."""
    row = {"id": id_, "stage": "generate", "kind": "later", "message": "", "attempts": 1}
    with (folder / FAILURES).open("ab") as file:
        file.write(orjson.dumps({**row, "transient": transient, "input": "{}"}) + b"\n")


@pytest.mark.parametrize(
    ("more", "asked", "left"),
    [
        ((), "b", "a"),
        (("--retry-failed", "transient"), "b", "a"),
        (("--retry-failed", "all"), "ab", ""),
        (("--retry-failed", "none"), "", "ab"),
        (("--limit", "9"), "", "ab"),
        (("--limit", "9", "--retry-failed", "transient"), "b", "a"),
        (("--limit", "9", "--retry-failed", "all"), "ab", ""),
    ],
)
def test_those_named_are_tried_again(
    tmp_path: Path,
    magpie: Magpie,
    server: ChatServer,
    *,
    more: tuple[str, ...],
    asked: str,
    left: str,
) -> None:
    """What is asked for again, which failures stay at the end, and 3 as long as there are any."""
    begin(tmp_path, magpie, server)
    done = magpie(*command(server, *more))
    assert asked_for(server) == list(asked)
    assert done.returncode == (3 if left else 0)
    assert ("failed_before" in done.stderr) == bool(left)
    failures = rows_of(tmp_path / FAILURES) if left else []
    assert [row["id"] for row in failures] == list(left)
    assert (tmp_path / FAILURES).exists() == bool(left)
    assert len(rows_of(tmp_path / "out.jsonl")) == 4 - len(left)
    assert magpie(*command(server, "--retry-failed", "none", "--allow-failures")).returncode == 0


def test_a_pair_that_fails_again_has_its_last_failure_only(
    tmp_path: Path, magpie: Magpie, server: ChatServer
) -> None:
    """At a clean end each id has one line: the last."""
    begin(tmp_path, magpie, server)
    server.faults = iter([refuses(400, "once more"), refuses(400, "as well")])
    assert magpie(*command(server, "--retry-failed", "all")).returncode == 3
    failures = rows_of(tmp_path / FAILURES)
    assert [(row["id"], row["message"].split(": ")[-1]) for row in failures] == [
        ("a", "once more"),
        ("b", "as well"),
    ]


@pytest.mark.parametrize("transient", [True, False])
def test_the_last_line_of_an_id_wins(
    tmp_path: Path, magpie: Magpie, server: ChatServer, *, transient: bool
) -> None:
    """What the last run said of a pair is what counts, and only that is kept."""
    begin(tmp_path, magpie, server)
    add(tmp_path, "a", transient=transient)
    add(tmp_path, "b", transient=not transient)
    assert magpie(*command(server)).returncode == 3
    assert asked_for(server) == ["a" if transient else "b"]
    [left] = rows_of(tmp_path / FAILURES)
    assert (left["id"], left["kind"]) == ("b" if transient else "a", "later")


def test_a_row_beats_a_failure(tmp_path: Path, magpie: Magpie, server: ChatServer) -> None:
    """A pair that has both is done: nobody asks for it, and its failure goes at a clean end."""
    begin(tmp_path, magpie, server)
    add(tmp_path, "c", transient=True)
    found = status(str(tmp_path / "out.jsonl"))
    assert (found.done, found.failed) == (2, 2)
    assert magpie(*command(server, "--retry-failed", "none")).returncode == 3
    assert asked_for(server) == []
    assert [row["id"] for row in rows_of(tmp_path / FAILURES)] == ["a", "b"]


def test_each_sample_fails_by_itself(tmp_path: Path, magpie: Magpie, server: ChatServer) -> None:
    """Of three samples the one that failed is tried again, alone."""
    write(tmp_path / "pairs.jsonl", pair("a"))
    server.faults = iter([None, None, refuses(400)])
    assert magpie(*command(server, "--samples", "3")).returncode == 3
    assert [row["id"] for row in rows_of(tmp_path / FAILURES)] == ["a~2"]
    server.asked.clear()
    again = command(server, "--samples", "3", "--retry-failed", "all")
    assert magpie(*again).returncode == 0
    assert len(server.asked) == 2


def test_a_line_that_cannot_be_read_is_read_again(
    tmp_path: Path, magpie: Magpie, server: ChatServer
) -> None:
    """Reading costs nothing: with `none` too, a bad line is one failure of this run."""
    write(tmp_path / "pairs.jsonl", BAD, pair("a"))
    for _ in range(2):
        done = magpie(*command(server, "--retry-failed", "none"))
        assert done.returncode == 3
        assert "1 failed (missing_persona 1)" in done.stderr
        assert len(rows_of(tmp_path / FAILURES)) == 1


LINES = [
    *(pair(f"p{n}") for n in range(12)),
    pair("p3", responding_persona="Someone under a name that is taken"),
    *['{"instructor_persona": "twice", "responding_persona": "the same"}'] * 3,
    BAD,
    BAD,
    "[]",
    '{"instructor_persona": "a", "responding_persona": "b", "num_turns": 0}',
]


@pytest.mark.parametrize("order", [1, -1])
def test_every_line_has_one_outcome(
    tmp_path: Path, magpie: Magpie, server: ChatServer, order: int
) -> None:
    """I1: ids of rows and of failures share none, and together they are as many as the lines.

    With lines that are no pairs, ids that are taken, lines that are the same, pairs that the
    server refuses, an input that comes in batches, and one more try of everything.
    """
    path = tmp_path / "pairs.jsonl"
    path.write_bytes("\n\n".join(LINES[::order]).encode() + b"\n\xff\xfe not UTF-8\n")
    server.faults = iter([None, refuses(400), None, None, refuses(422)] * 3)
    several = command(server, "--samples", "2", "-j", "3")
    assert magpie(*several, "--limit", "7").returncode == 75
    runs = ((), ("--retry-failed", "all"), ("--retry-failed", "none"))
    for more in runs:
        assert magpie(*several, *more).returncode == 3
        rows = [row["id"] for row in rows_of(tmp_path / "out.jsonl")]
        failures = [row["id"] for row in rows_of(tmp_path / FAILURES)]
        assert len(set(rows)) == len(rows)  # I2
        assert set(rows).isdisjoint(failures)
        assert len(set(failures)) == len(failures)
        assert len(rows) + len(failures) == 2 * 15 + 6
        checked = magpie("verify", "out.jsonl", "--input", "pairs.jsonl")
        assert checked.returncode == 0, checked.stdout
        assert "0 left" in checked.stdout


def test_rows_of_two_settings_never_mix(tmp_path: Path, magpie: Magpie) -> None:
    """I8: each setting that changes a row is refused on an output that has rows of another."""
    write(tmp_path / "pairs.jsonl", pair("a"), pair("b"))
    echo = ("generate", "pairs.jsonl", "--engine", "echo", "-o", "out.jsonl")
    assert magpie(*echo, "--limit", "1").returncode == 75
    before = (tmp_path / "out.jsonl").read_bytes()
    for name, value in (
        ("turns", "2"),
        ("temperature", "0.5"),
        ("top-p", "0.5"),
        ("max-tokens", "9"),
        ("seed", "1"),
    ):
        done = magpie(*echo, f"--{name}", value)
        assert done.returncode == 2
        assert f"{name.replace('-', '_')}: " in done.stderr
        assert (tmp_path / "out.jsonl").read_bytes() == before
    assert magpie(*echo, "-j", "2", "--timeout", "5", "--max-time", "1h").returncode == 0
    assert PAIR["responding_persona"] in (tmp_path / "out.jsonl").read_text()
