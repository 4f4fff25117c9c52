"""How many turns a dialogue has: fixed, drawn from a range, or its line's own."""

import json
from collections import Counter
from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path
from signal import SIGKILL

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magpie_cli.engines.local.load import plan_load
from magpie_cli.engines.local.tiny import write_tiny_model
from magpie_cli.plan import drawn_turns
from magpie_cli.settings import MAX_TURNS, Settings, TurnRange
from tests.chat_server import ChatServer, hangs
from tests.conftest import Magpie, needs_sdk, rows_of
from tests.processes import started, wait_until

Pairs = Callable[..., Path]

BOUNDS = st.integers(1, MAX_TURNS)
IDS = st.text(min_size=1, max_size=20)
SEEDS = st.none() | st.integers(-(2**40), 2**40)


@given(BOUNDS, BOUNDS)
def test_a_range_comes_back_as_it_was_typed(one: int, other: int) -> None:
    """`N-M` and `N` are read as they are shown; a range of one number is that number."""
    least, most = sorted((one, other))
    turns = TurnRange.parse(f"{least}-{most}")
    assert turns == TurnRange(least, most)
    assert TurnRange.parse(str(turns)) == turns
    assert TurnRange.parse(f"{least}") == TurnRange.parse(f"{least}-{least}")
    if least < most:
        with pytest.raises(ValueError, match=f"{most}-{least}"):
            TurnRange.parse(f"{most}-{least}")


@given(st.text("0123456789-", max_size=6) | st.text(max_size=8))
def test_what_is_no_range_is_refused(text: str) -> None:
    """Whatever is read lies within the bounds; all else is a ValueError, as 0 is."""
    with pytest.raises(ValueError, match="0-3"):
        TurnRange.parse("0-3")
    try:
        turns = TurnRange.parse(text)
    except ValueError:
        return
    assert 1 <= turns.least <= turns.most <= MAX_TURNS


@settings(deadline=None)
@given(BOUNDS, BOUNDS, SEEDS, IDS)
def test_a_draw_lies_in_the_range(one: int, other: int, seed: int | None, id_: str) -> None:
    """And is the same whenever seed and id are."""
    turns = TurnRange(*sorted((one, other)))
    drawn = drawn_turns(turns, seed, id_)
    assert turns.least <= drawn <= turns.most
    assert drawn_turns(turns, seed, id_) == drawn


@pytest.mark.parametrize("seed", [None, 0, 7])
def test_draws_are_spread_evenly(seed: int | None) -> None:
    """Of 5,000 ids each of five numbers gets its fifth, within five standard deviations."""
    drawn = Counter(drawn_turns(TurnRange(2, 6), seed, f"pair {n}") for n in range(5000))
    assert drawn.keys() == {2, 3, 4, 5, 6}
    assert all(abs(number - 1000) < 5 * 28.3 for number in drawn.values())


def test_seeds_and_samples_draw_for_themselves() -> None:
    """Another seed, and each sample of a pair, has its own draws."""
    turns = TurnRange(1, 50)

    def draws(seed: int | None, suffix: str = "") -> list[int]:
        return [drawn_turns(turns, seed, f"{n}{suffix}") for n in range(40)]

    assert len({tuple(draws(seed)) for seed in (None, 0, 1, 2)}) == 4
    assert draws(1) != draws(1, "~2")


def test_a_fixed_number_is_the_identity_it_was() -> None:
    """Outputs made before there were ranges, or another last word, go on."""
    identity = Settings("-", turns=TurnRange(3, 3)).identity("echo", "echo", "-")
    assert identity["turns"] == 3
    assert "end" not in identity
    ranged = Settings("-", turns=TurnRange(2, 6), end="instructor").identity("echo", "echo", "-")
    assert (ranged["turns"], ranged["end"]) == ("2-6", "instructor")


def test_a_slot_has_room_for_the_longest(tmp_path: Path) -> None:
    """The local engine takes the end of a range, not its beginning."""
    path = tmp_path / "wide.gguf"
    write_tiny_model(path, context=50_000)
    loads = [plan_load(path, Settings("-", turns=TurnRange(n, 20)), 1) for n in (1, 20)]
    assert loads[0].context == loads[1].context
    assert loads[0].context > plan_load(path, Settings("-"), 1).context


def test_rows_have_the_turns_that_were_drawn(tmp_path: Path, magpie: Magpie, pairs: Pairs) -> None:
    """With samples, the same on every run; a line's own num_turns beats the range."""
    path = pairs(6)
    lines = rows_of(path)
    lines[0]["num_turns"] = 9
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = ("generate", path, "--engine", "echo", "--turns", "2-5", "--samples", "3")
    for output in ("one.jsonl", "two.jsonl"):
        assert magpie(*command, "-o", output, "--seed", "1").returncode == 0
    one, two = (
        {row["id"]: row for row in rows_of(tmp_path / f"{n}.jsonl")} for n in ("one", "two")
    )
    assert one == two
    assert len(one) == 18
    for id_, row in one.items():
        assert len(row["dialogue"]) == 2 * row["num_turns"]
        long = row["instructor_persona"].endswith("number 0")
        assert row["num_turns"] == (9 if long else drawn_turns(TurnRange(2, 5), 1, id_))
    done = magpie(*command[:-4], "--turns", "2-6", "-o", "one.jsonl", "--seed", "1")
    assert done.returncode == 2
    assert "turns: 2-5 -> 2-6" in done.stderr


def test_a_killed_run_draws_the_same_again(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, server: ChatServer
) -> None:
    """Its rows are those of a run that nothing disturbed, and no utterance is asked for twice."""
    command = ("generate", pairs(4), "--base-url", server.url, "--turns", "2-6", "-j", "1")
    assert magpie(*command, "-o", "quiet.jsonl").returncode == 0
    whole = len(server.asked)
    server.asked.clear()
    server.faults = chain(repeat(None, 7), [hangs])
    with started(tmp_path, *map(str, command), "-o", "out.jsonl") as process:
        wait_until(lambda: len(server.asked) == 8, "one request hangs")
        process.kill()
        assert process.wait() == -SIGKILL
    assert magpie(*command, "-o", "out.jsonl").returncode == 0
    assert len(server.asked) == whole + 1
    assert rows_of(tmp_path / "out.jsonl") == rows_of(tmp_path / "quiet.jsonl")


def test_a_rehearsal_says_the_range(magpie: Magpie, pairs: Pairs) -> None:
    """And counts the requests of the draws."""
    path = pairs(5)
    command = ("generate", path, "--engine", "echo", "--turns", "2-6")
    rehearsal = magpie(*command, "--dry-run").stdout
    assert "turns              2-6\n" in rehearsal
    rows = [json.loads(line) for line in magpie(*command).stdout.splitlines()]
    requests = sum(len(row["dialogue"]) for row in rows)
    assert f"requests to send   {requests}\n" in rehearsal


@needs_sdk
def test_a_network_makes_dialogues_of_many_lengths(
    tmp_path: Path, magpie: Magpie, pairs: Pairs
) -> None:
    """On the Dria Network each task has the turns of its own dialogue."""
    done = magpie("generate", pairs(6), "--devnet", "--turns", "1-4", "-o", "out.jsonl")
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "out.jsonl")
    assert len({row["num_turns"] for row in rows}) > 1
    assert all(len(row["dialogue"]) == 2 * row["num_turns"] for row in rows)
    assert {row["system"] for row in rows} == {None}
