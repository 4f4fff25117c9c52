"""`magpie generate` from end to end: pairs in, rows out, and the same command again."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from magpie_cli.ids import content_id, sample_id
from magpie_cli.records import Record
from tests.chat_server import ChatServer, refuses
from tests.conftest import PAIR, Magpie, rows_of
from tests.processes import PATIENCE, feed, started

Pairs = Callable[..., Path]
ECHO = ("generate", "pairs.jsonl", "--engine", "echo")


def ids_of(path: Path) -> list[str]:
    """The id of each row, each of which reads back as a record."""
    return [Record.from_json(line).id for line in path.read_bytes().splitlines(keepends=True)]


def openings(server: ChatServer) -> list[str]:
    """The system message of each first request of a dialogue, from the number in its persona on."""
    systems = [asked.body["messages"][0]["content"] for asked in server.asked]
    return [system[system.index("number ") :] for system in systems[::2]]


def test_every_pair_becomes_one_row(tmp_path: Path, magpie: Magpie, pairs: Pairs) -> None:
    """A row holds the pair, its turns and the user's own columns, with the id at its beginning."""
    pairs(3, num_turns=2, topic="birds", weight=0.5)
    done = magpie(*ECHO, "-o", "out.jsonl", "--turns", "5")
    assert (done.returncode, done.stdout) == (0, "")
    rows = rows_of(tmp_path / "out.jsonl")
    assert len({row["id"] for row in rows}) == 3
    assert {row["instructor_persona"][-8:] for row in rows} == {f"number {n}" for n in range(3)}
    for row in rows:
        assert next(iter(row)) == "id"
        assert row["num_turns"] == 2
        assert [list(entry) for entry in row["dialogue"]] == [["instructor"], ["responder"]] * 2
        assert row["metadata"] == {"topic": "birds", "weight": 0.5}
        assert (row["model"], row["engine"], row["findings"]) == ("echo", "echo", [])


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("piped", [False, True], ids=["file", "standard input"])
def test_the_way_in_does_not_change_a_row(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, *, compressed: bool, piped: bool
) -> None:
    """A file, a pipe and their gzip twins give the same ids, to standard output as to a file."""
    path = pairs(3)
    text = path.read_bytes()
    expected = [content_id(json.loads(line)) for line in text.splitlines()]
    path.write_bytes(gzip.compress(text) if compressed else text)
    done = magpie("generate", "-" if piped else path, "--engine", "echo", stdin=path.read_bytes())
    assert done.returncode == 0
    (tmp_path / "out.jsonl").write_text(done.stdout)
    assert sorted(ids_of(tmp_path / "out.jsonl")) == sorted(expected)


def test_gzip_is_known_however_slowly_it_begins(tmp_path: Path) -> None:
    """A writer that sends the first byte alone does not make binary rubbish of its input."""
    text = gzip.compress(json.dumps(PAIR).encode())
    with started(tmp_path, "generate", "-", "--engine", "echo", "-o", "out.jsonl") as process:
        feed(process, text[:1])
        feed(process, text[1:])
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert len(rows_of(tmp_path / "out.jsonl")) == 1


def test_the_same_command_makes_only_what_is_missing(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, server: ChatServer
) -> None:
    """After --limit the rest is asked for and nothing twice; when all is there nobody is asked."""
    command = ("generate", pairs(5), "--base-url", server.url, "-o", "out.jsonl", "--turns", "2")
    first = magpie(*command, "--limit", "2")
    assert first.returncode == 75
    assert "run the same command again" in first.stderr
    assert (len(rows_of(tmp_path / "out.jsonl")), len(server.asked)) == (2, 2 * 4)
    assert magpie(*command, "--limit", "3").returncode == 0
    assert (len(set(ids_of(tmp_path / "out.jsonl"))), len(server.asked)) == (5, 5 * 4)
    last = magpie(*command)
    assert last.returncode == 0
    assert "nothing to do: 5 dialogues in out.jsonl already" in last.stderr
    assert (len(rows_of(tmp_path / "out.jsonl")), len(server.asked)) == (5, 5 * 4)
    assert all("seed" not in asked.body for asked in server.asked)


def test_lines_may_come_go_and_change_places(tmp_path: Path, magpie: Magpie, pairs: Pairs) -> None:
    """An id is made from content: with the input reordered and longer, only new pairs are made."""
    lines = pairs(4).read_text().splitlines(keepends=True)
    (tmp_path / "pairs.jsonl").write_text("".join(lines[:2]))
    assert magpie(*ECHO, "-o", "out.jsonl").returncode == 0
    old = (tmp_path / "out.jsonl").read_bytes()
    (tmp_path / "pairs.jsonl").write_text("".join([lines[3], lines[1], lines[2], lines[0]]))
    assert "2 were there already" in magpie(*ECHO, "-o", "out.jsonl").stderr
    assert (tmp_path / "out.jsonl").read_bytes().startswith(old)
    assert len(set(ids_of(tmp_path / "out.jsonl"))) == 4


def test_more_samples_only_add_rows(tmp_path: Path, magpie: Magpie, pairs: Pairs) -> None:
    """Rows of --samples 1 stay as they are when --samples 3 comes to them."""
    pairs(2)
    assert magpie(*ECHO, "-o", "out.jsonl").returncode == 0
    old = (tmp_path / "out.jsonl").read_bytes()
    assert magpie(*ECHO, "-o", "out.jsonl", "--samples", "3").returncode == 0
    assert (tmp_path / "out.jsonl").read_bytes().startswith(old)
    first, second, *added = ids_of(tmp_path / "out.jsonl")
    assert set(added) == {sample_id(id_, n) for id_ in (first, second) for n in (2, 3)}


def test_the_seed_reaches_the_server(magpie: Magpie, pairs: Pairs, server: ChatServer) -> None:
    """Each request has a seed of its own, and the same --seed gives the same ones again."""
    command = ("generate", pairs(3), "--base-url", server.url, "--seed", "7")
    seen = []
    for _ in range(2):
        assert magpie(*command).returncode == 0
        seen.append(sorted((a.body["seed"], str(a.body["messages"])) for a in server.asked))
        server.asked.clear()
    assert seen[0] == seen[1]
    assert len({seed for seed, _ in seen[0]}) == 6


def test_a_flag_beats_its_twin_in_the_environment(magpie: Magpie, pairs: Pairs) -> None:
    """MAGPIE_TURNS sets the turns where --turns is not given."""
    pairs(1)
    twins = {"MAGPIE_TURNS": "3", "MAGPIE_ENGINE": "echo"}
    by_twin = magpie("generate", "pairs.jsonl", **twins)
    by_flag = magpie("generate", "pairs.jsonl", "--turns", "2", **twins)
    turns = [json.loads(done.stdout)["num_turns"] for done in (by_twin, by_flag)]
    assert turns == [3, 2]


BAD_LINES = ["not json", '{"instructor_persona": "alone", "age": 7}', '["a", "list"]']


def test_bad_lines_are_kept_and_the_others_go_on(
    tmp_path: Path, magpie: Magpie, pairs: Pairs
) -> None:
    """Each bad line is a failure with its number, and `jq -r .input` gives the lines back."""
    path = pairs(2)
    good = path.read_text()
    path.write_text("\n".join([BAD_LINES[0], "", good.strip(), *BAD_LINES[1:]]) + "\n")
    done = magpie(*ECHO, "-o", "out.jsonl")
    assert done.returncode == 3
    assert len(rows_of(tmp_path / "out.jsonl")) == 2
    failures = rows_of(tmp_path / "out.failures.jsonl")
    assert [list(row) for row in failures] == [
        ["id", "stage", "kind", "message", "attempts", "transient", "input"]
    ] * 3
    assert {(row["stage"], row["attempts"]) for row in failures} == {("input", 0)}
    where = {row["input"]: (row["kind"], row["message"].split(": ")[0]) for row in failures}
    assert where == {
        BAD_LINES[0]: ("not_json", "pairs.jsonl:1"),
        BAD_LINES[1]: ("missing_persona", "pairs.jsonl:5"),
        BAD_LINES[2]: ("not_object", "pairs.jsonl:6"),
    }
    path.write_text(good)
    assert magpie(*ECHO, "-o", "out.jsonl").returncode == 0
    assert not (tmp_path / "out.failures.jsonl").exists()


def test_failures_stay_until_a_run_has_tried_everything(
    tmp_path: Path, magpie: Magpie, pairs: Pairs
) -> None:
    """A run that stops early keeps the failures of the one before; a whole one has only its own."""
    path = pairs(3)
    text = path.read_text()
    failures = tmp_path / "out.failures.jsonl"
    path.write_text(f"oops\n{text}")
    assert magpie(*ECHO, "-o", "out.jsonl", "--limit", "1").returncode == 75
    path.write_text(f"{text}oops\n")
    assert magpie(*ECHO, "-o", "out.jsonl", "--limit", "1").returncode == 75
    assert [row["message"][:14] for row in rows_of(failures)] == ["pairs.jsonl:1:"]
    assert magpie(*ECHO, "-o", "out.jsonl").returncode == 3
    assert [row["message"][:14] for row in rows_of(failures)] == ["pairs.jsonl:4:"]


def test_a_pair_that_the_server_refuses_is_tried_again_when_asked_to_be(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, server: ChatServer
) -> None:
    """A refused pair is a failure that holds its line; --retry-failed all makes it, it alone."""
    lines = pairs(3).read_text().splitlines()
    command = ("generate", "pairs.jsonl", "--base-url", server.url, "-o", "out.jsonl", "-j", "1")
    server.faults = iter([refuses(400, "too long")])
    assert magpie(*command).returncode == 3
    [failure] = rows_of(tmp_path / "out.failures.jsonl")
    assert (failure["stage"], failure["kind"]) == ("generate", "http_400")
    assert "too long" in failure["message"]
    assert failure["input"] == lines[0]
    server.asked.clear()
    again = magpie(*command)
    assert (again.returncode, server.asked) == (3, [])
    assert "--retry-failed all" in again.stderr
    assert rows_of(tmp_path / "out.failures.jsonl") == [failure]
    assert magpie(*command, "--retry-failed", "all").returncode == 0
    assert [text[:8] for text in openings(server)] == ["number 0"]
    assert not (tmp_path / "out.failures.jsonl").exists()
    assert failure["id"] in ids_of(tmp_path / "out.jsonl")
    assert len(set(ids_of(tmp_path / "out.jsonl"))) == 3
