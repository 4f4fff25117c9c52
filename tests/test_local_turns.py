"""Pairs that ask for more turns than --turns: the local engine makes room for them."""

import io
import json
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from magpie_cli.engines.local.tiny import write_tiny_model
from magpie_cli.lines import read_lines
from magpie_cli.personas import max_turns
from magpie_cli.plan import drawn_turns
from magpie_cli.settings import TurnRange
from magpie_cli.source import open_source
from tests.conftest import PAIR, Magpie, needs_llama, rows_of

Pairs = Callable[..., Path]

RUN = ("generate", "--engine", "local", "-j", "1", "--seed", "1", "-o", "out.jsonl")
LONG = 150  # turns: some 6,000 tokens


@pytest.fixture
def wide_model(tmp_path: Path) -> Path:
    """A tiny model that takes 50,000 tokens."""
    path = tmp_path / "wide.gguf"
    write_tiny_model(path, context=50_000)
    return path


@needs_llama
def test_a_file_is_looked_at_for_its_longest_dialogue(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, wide_model: Path
) -> None:
    """A pair whose own num_turns goes beyond --turns gets its dialogue."""
    done = magpie(*RUN, pairs(1, num_turns=LONG), "-m", wide_model)
    assert done.returncode == 0, done.stderr
    [row] = rows_of(tmp_path / "out.jsonl")
    assert row["num_turns"] == LONG
    assert row["usage"]["completion_tokens"] > 3000


@needs_llama
def test_a_range_has_room_for_its_longest_dialogue(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, wide_model: Path
) -> None:
    """A pair that draws nearly the most of the range gets its dialogue."""
    turns = TurnRange(1, LONG)
    ids = (f"pair {n}" for n in count())
    id_ = next(id_ for id_ in ids if drawn_turns(turns, 1, id_) > LONG * 0.95)
    done = magpie(*RUN, pairs(1, id=id_), "-m", wide_model, "--turns", f"{turns}")
    assert done.returncode == 0, done.stderr
    [row] = rows_of(tmp_path / "out.jsonl")
    assert row["num_turns"] == drawn_turns(turns, 1, id_)


@needs_llama
def test_a_pipe_that_is_too_long_says_what_helps(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, wide_model: Path
) -> None:
    """The pair fails with the way out, which is the same command with --strict."""
    line = pairs(1, num_turns=LONG).read_text()
    command = (*RUN, "-", "-m", wide_model)
    done = magpie(*command, stdin=line)
    assert done.returncode == 3
    [failure] = rows_of(tmp_path / "out.failures.jsonl")
    assert failure["kind"] == "context_exceeded"
    assert "the dialogue outgrows its 4,096 tokens of context" in failure["message"]
    assert "where the input is a pipe, a file or --strict" in failure["message"]
    assert "http" not in failure["message"]
    again = (*command, "--strict", "--retry-failed", "all")
    assert magpie(*again, stdin=line).returncode == 0
    assert len(rows_of(tmp_path / "out.jsonl")) == 1


def most_of(*rows: object) -> int:
    """The most turns that lines ask for."""
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    most = 0
    for line in read_lines(io.BytesIO(text.encode()), "-"):
        most = max_turns(line, most)
    return most


def test_the_most_turns_are_those_of_a_good_line() -> None:
    """Neither a bad line, nor a number elsewhere in it, nor a smaller one counts."""
    assert most_of(PAIR) == 0
    assert most_of(PAIR | {"num_turns": 7}, PAIR | {"num_turns": 12}, PAIR | {"num_turns": 3}) == 12
    assert most_of(PAIR | {"num_turns": None}) == 0
    assert most_of(PAIR | {"num_turns": 2, "more": {"num_turns": 900}}) == 2
    assert most_of(PAIR | {"instructor_persona": 'He writes "num_turns": 900 a lot'}) == 0
    assert most_of(PAIR | {"num_turns": 1001}, {"num_turns": 900}, '{"num_turns": 900') == 0
    assert most_of('{"num_turns" :\t9, "instructor_persona": "a", "responding_persona": "b"}') == 9


def test_a_source_knows_it_where_it_can_be_read_twice(tmp_path: Path, pairs: Pairs) -> None:
    """A file does, also where --strict looks at it first."""
    path = str(pairs(2, num_turns=5))
    for strict in (False, True):
        with open_source(path, strict=strict) as source:
            assert (source.lines, source.most_turns) == (2, 5)
            assert len(list(source.pairs())) == 2
    (tmp_path / "pairs.jsonl").write_text(json.dumps(PAIR))
    with open_source(path, strict=False) as source:
        assert source.most_turns == 0
