"""`--end instructor`: dialogues whose last turn is a question that something else shall answer."""

import json
from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from magpie_cli.engine import DialogueRequest
from magpie_cli.errors import InvalidRecord
from magpie_cli.records import Dialogue, PersonaPair, Record
from magpie_cli.rows import spoken
from tests.chat_server import ChatServer, hangs
from tests.conftest import Magpie, rows_of
from tests.output_rows import GOOD
from tests.processes import started, wait_until

Pairs = Callable[..., Path]

RUN = ("--engine", "echo", "--turns", "3", "-o", "out.jsonl")


def ends_of(rows: list[dict[str, Any]]) -> set[str]:
    """Who has the last word."""
    return {speaker for row in rows for speaker in row["dialogue"][-1]}


def test_the_last_turn_has_no_answer(tmp_path: Path, magpie: Magpie, pairs: Pairs) -> None:
    """Three turns are five utterances, and every command that reads rows takes them."""
    path = pairs(4)
    assert magpie("generate", path, *RUN, "--end", "instructor").returncode == 0
    rows = rows_of(tmp_path / "out.jsonl")
    assert ends_of(rows) == {"instructor"}
    assert {(row["num_turns"], len(row["dialogue"])) for row in rows} == {(3, 5)}
    assert magpie("verify", "out.jsonl", "--input", path).returncode == 0
    assert "nothing to repair" in magpie("repair", "out.jsonl").stdout
    assert "done    4\n" in magpie("status", "out.jsonl").stdout
    kept = magpie("filter", "out.jsonl", "--no-check", "all")
    assert kept.stdout.encode() == (tmp_path / "out.jsonl").read_bytes()
    found = json.loads(magpie("stats", "out.jsonl", "--json").stdout)
    assert found["utterances"] == 20
    assert found["turns"]["most"] == 3
    assert (found["words"]["instructor"]["count"], found["words"]["responder"]["count"]) == (12, 8)
    for speaker, number in (("instructor", 12), ("responder", 8)):
        for common in found["openings"][speaker]["commonest"]:
            assert common["share"] == common["utterances"] / number


def test_without_answers_there_is_nothing_of_the_responder(
    tmp_path: Path, magpie: Magpie, pairs: Pairs
) -> None:
    """One turn that ends with the instructor is one question; filter and stats take that too."""
    flags = ("--engine", "echo", "-o", "out.jsonl", "--end", "instructor")
    assert magpie("generate", pairs(3), *flags).returncode == 0
    assert [len(row["dialogue"]) for row in rows_of(tmp_path / "out.jsonl")] == [1, 1, 1]
    for command in (("verify",), ("stats",), ("filter", "--near", "0.8", "-o", "clean.jsonl")):
        done = magpie(command[0], "out.jsonl", *command[1:])
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("end", "other"), [("instructor", "responder"), ("responder", "instructor")]
)
def test_a_row_of_another_end_is_none_of_this_run(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, end: str, other: str
) -> None:
    """Verify names a row that ends as the run's rows do not, and repair takes it out."""
    path = pairs(3)
    assert magpie("generate", path, *RUN, "--end", end).returncode == 0
    rows = rows_of(tmp_path / "out.jsonl")
    if end == "responder":
        rows[1]["dialogue"].pop()
    else:
        rows[1]["dialogue"].append({"responder": "Because."})
    text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
    (tmp_path / "out.jsonl").write_text(text)
    done = magpie("verify", "out.jsonl")
    assert done.returncode == 1
    assert f"the {end} has the last word" in done.stdout
    assert magpie("repair", "out.jsonl", "--yes").returncode == 0
    assert magpie("generate", path, *RUN, "--end", end).returncode == 0
    assert ends_of(rows_of(tmp_path / "out.jsonl")) == {end}
    done = magpie("generate", path, *RUN, "--end", other)
    assert done.returncode == 2
    assert "end: " in done.stderr


def test_a_killed_dialogue_goes_on_to_its_question(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, server: ChatServer
) -> None:
    """After four of five utterances one request is left, and the row is that of a quiet run."""
    command = ("generate", pairs(1), "--base-url", server.url, "--turns", "3")
    end = ("--end", "instructor")
    assert magpie(*command, *end, "-o", "quiet.jsonl").returncode == 0
    assert len(server.asked) == 5
    server.faults = chain(repeat(None, 4), [hangs])
    with started(tmp_path, *map(str, command), *end, "-o", "out.jsonl") as process:
        wait_until(lambda: len(server.asked) == 10, "the last request hangs")
        process.kill()
        assert process.wait() == -SIGKILL
    assert magpie(*command, *end, "-o", "out.jsonl").returncode == 0
    assert len(server.asked) == 11
    assert rows_of(tmp_path / "out.jsonl") == rows_of(tmp_path / "quiet.jsonl")
    assert not (tmp_path / "out.jsonl.magpie" / "turns.log").exists()


def test_a_request_knows_its_length() -> None:
    """Twice the turns, or one less."""
    pair = PersonaPair("a", "b", "c", None, {}, 1, "{}")
    assert DialogueRequest("a", pair, 3).length == 6
    assert DialogueRequest("a", pair, 3, end="instructor").length == 5


def test_an_unasked_question_at_the_end_makes_no_record() -> None:
    """Where the responder is to have the last word, a dialogue without it becomes no row."""
    dialogue = Dialogue.from_texts(GOOD[:3], "tiny", end="instructor")
    with pytest.raises(InvalidRecord, match="the instructor has the last word, not the responder"):
        Record("a", "b", "c", 2, dialogue, "echo", (), {})


def test_checks_hear_every_utterance() -> None:
    """Also the last, which nobody answers."""
    dialogue = Dialogue.from_texts(GOOD[:3], "tiny", end="instructor")
    record = Record("a", "b", "c", 2, dialogue, "echo", (), {}, end="instructor")
    heard = [(said.speaker, said.text, len(said.before)) for said in spoken(record)]
    speakers = ("instructor", "responder", "instructor")
    assert heard == [*zip(speakers, GOOD[:3], range(3), strict=True)]
