"""An utterance that the server cut off at a limit of tokens is named in its row, and counted."""

from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path

from tests.chat_server import ChatServer, answer, refuses, says
from tests.conftest import Magpie, rows_of

Pairs = Callable[..., Path]
CUT = says(answer("The map is in the", "length"))
SAMPLES = 3  # of an utterance that does not get better


def test_a_cut_utterance_is_a_finding(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, server: ChatServer
) -> None:
    """Its row says so, once, the summary says how many, and filter takes it for a fault."""
    pairs(2)
    server.faults = repeat(CUT, 2 * SAMPLES)
    command = ("generate", "pairs.jsonl", "--base-url", server.url, "-o", "out.jsonl", "-j", "1")
    done = magpie(*command)
    assert "2 utterances cut off by the limit of tokens (more with --max-tokens)" in done.stderr
    assert [row["findings"] for row in rows_of(tmp_path / "out.jsonl")] == [["truncated"], []]
    assert magpie("filter", "out.jsonl", "-o", "clean.jsonl").returncode == 0
    assert [row["findings"] for row in rows_of(tmp_path / "clean.jsonl")] == [[]]


def test_a_whole_sentence_at_the_limit_is_none(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, server: ChatServer
) -> None:
    """Where nothing is missing, nothing is found."""
    pairs(1)
    server.faults = repeat(says(answer("It is in the drawer.", "length")))
    done = magpie("generate", "pairs.jsonl", "--base-url", server.url, "-o", "out.jsonl")
    assert "cut off" not in done.stderr
    assert rows_of(tmp_path / "out.jsonl")[0]["findings"] == []


def test_a_finding_outlives_a_crash(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, server: ChatServer
) -> None:
    """I4: what was found in an utterance of an earlier run stands in the row of the next."""
    pairs(1)
    server.faults = chain([CUT] * SAMPLES, [None], repeat(refuses(401)))
    command = ("generate", "pairs.jsonl", "--base-url", server.url, "-o", "out.jsonl", "-t", "2")
    assert magpie(*command).returncode == 1
    server.faults = iter(())
    server.asked.clear()
    assert magpie(*command).returncode == 0
    assert len(server.asked) == 2
    assert rows_of(tmp_path / "out.jsonl")[0]["findings"] == ["truncated"]
