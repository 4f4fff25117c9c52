"""N machines share one input: each pair is in one shard, by its id alone."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magpie_cli.errors import UsageError
from magpie_cli.ids import Shard
from tests.conftest import Magpie, rows_of

Pairs = Callable[..., Path]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), st.integers(1, 50))
def test_each_id_is_in_one_shard(id_: str, parts: int) -> None:
    """Of N shards one has it, whatever the id."""
    assert sum(Shard(number, parts).has(id_) for number in range(1, parts + 1)) == 1


@pytest.mark.parametrize("text", ["", "1", "0/4", "5/4", "1/0", "-1/4", "1/4/4", "a/b", "1.5/2"])
def test_what_is_no_shard_is_a_usage_error(magpie: Magpie, pairs: Pairs, text: str) -> None:
    """The error shows the right form."""
    with pytest.raises(UsageError, match="is not I/N"):
        Shard.parse(text)
    pairs(1)
    if text:
        assert (
            magpie("generate", "pairs.jsonl", "--engine", "echo", "--shard", text).returncode == 2
        )


def test_the_shards_joined_are_the_whole(tmp_path: Path, magpie: Magpie, pairs: Pairs) -> None:
    """`cat` of all outputs has the rows of one run, unreadable lines and samples included."""
    path = pairs(40)
    path.write_text(path.read_text() + "oops\nno pair\n")
    command = ("generate", "pairs.jsonl", "--engine", "echo", "-n", "2")
    assert magpie(*command, "-o", "whole.jsonl").returncode == 3
    for part in ("1/3", "2/3", "3/3"):
        done = magpie(*command, "-o", f"{part[0]}.jsonl", "--shard", part)
        assert done.returncode in (0, 3), done.stderr
        assert magpie("verify", f"{part[0]}.jsonl", "--input", "pairs.jsonl").returncode == 0
        assert "left    0" in magpie("status", f"{part[0]}.jsonl").stdout
    lines = [(tmp_path / f"{number}.jsonl").read_bytes().splitlines() for number in "123"]
    assert all(10 < len(part) < 50 for part in lines)
    whole = (tmp_path / "whole.jsonl").read_bytes().splitlines()
    assert sorted(line for part in lines for line in part) == sorted(whole)
    failures = [tmp_path / f"{number}.failures.jsonl" for number in "123"]
    assert sum(len(rows_of(path)) for path in failures if path.exists()) == 2
