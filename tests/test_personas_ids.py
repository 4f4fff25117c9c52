"""Which id a line gets, and what may happen to the input around it."""

import io
import random
from collections import Counter
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from magpie_cli.ids import content_id
from magpie_cli.personas import DonePair, PairReader
from magpie_cli.records import Failure, PersonaPair
from tests.conftest import PAIR

ROWS = st.fixed_dictionaries(
    {"instructor_persona": st.sampled_from("abc"), "responding_persona": st.sampled_from("xyz")},
    optional={
        "id": st.sampled_from(["one", "two", "three"]),
        "num_turns": st.sampled_from([None, 1, 2]),
        "topic": st.sampled_from(["birds", "bread", 1, True]),
    },
)
SHUFFLES = st.randoms(use_true_random=False)


def read(*rows: dict[str, Any] | bytes) -> list[PersonaPair | Failure]:
    """What becomes of each row."""
    lines = [row if isinstance(row, bytes) else orjson.dumps(row) for row in rows]
    return [
        pair
        for pair in PairReader(io.BytesIO(b"\n".join(lines)), "pairs.jsonl")
        if not isinstance(pair, DonePair)
    ]


def ids(*rows: dict[str, Any] | bytes) -> list[str]:
    """The id of each row."""
    return [outcome.id for outcome in read(*rows)]


def contents(*rows: dict[str, Any]) -> Counter[tuple[str, str]]:
    """Which id stands for which content."""
    pairs = [outcome for outcome in read(*rows) if isinstance(outcome, PersonaPair)]
    return Counter(
        (pair.id, pair.instructor_persona + pair.responding_persona + repr(pair.metadata))
        for pair in pairs
    )


def one_of_each_id(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`rows` without those whose own id is taken."""
    taken: set[str] = set()
    kept = []
    for row in rows:
        if row.get("id") not in taken:
            kept.append(row)
            taken |= {row["id"]} if "id" in row else set()
    return kept


def test_a_line_is_named_by_its_content() -> None:
    """Without an id of its own a line gets that of its content."""
    assert ids(PAIR) == [content_id(PAIR)]


def test_a_line_keeps_its_own_id() -> None:
    """An id is taken as it stands, whatever is in it."""
    own = ["7", "../../etc/passwd", "ü 🐦", "a:b", "a-2", " a "]
    assert ids(*({**PAIR, "id": id_} for id_ in own)) == own


def test_identical_rows_get_numbers() -> None:
    """The second and third of identical rows, keys in any order, end in -2 and -3."""
    name = content_id(PAIR)
    turned = dict(reversed(PAIR.items()))
    assert ids(PAIR, turned, PAIR, PAIR) == [name, f"{name}-2", f"{name}-3", f"{name}-4"]


def test_identical_bad_lines_get_numbers() -> None:
    """Bad lines are named by their bytes, and identical ones are told apart too."""
    first, second, other, third = ids(b"{", b"{ ", b"[", b"{")
    assert (second, third) == (f"{first}-2", f"{first}-3")
    assert other != first


def test_a_number_that_is_taken_is_left_out() -> None:
    """Where another line has claimed an id that ends in -2, the identical row gets the next."""
    name = content_id(PAIR)
    claims = {**PAIR, "id": f"{name}-2"}
    assert ids(PAIR, claims, PAIR) == [name, f"{name}-2", f"{name}-3"]


def test_of_two_lines_with_one_id_the_first_keeps_it() -> None:
    """A second line with the same id fails under an id of its own."""
    kept, failed = read({**PAIR, "id": "a"}, {**PAIR, "id": "a", "topic": "birds"})
    assert isinstance(kept, PersonaPair)
    assert kept.id == "a"
    assert isinstance(failed, Failure)
    assert (failed.kind, failed.id == "a") == ("duplicate_id", False)


@settings(deadline=None, max_examples=150)
@given(st.lists(ROWS, max_size=8), SHUFFLES)
def test_ids_survive_another_order(rows: list[dict[str, Any]], order: random.Random) -> None:
    """The same content has the same ids wherever it stands in the input."""
    rows = one_of_each_id(rows)
    shuffled = rows.copy()
    order.shuffle(shuffled)
    assert contents(*shuffled) == contents(*rows)


@settings(deadline=None, max_examples=100)
@given(st.lists(ROWS, max_size=6), st.lists(ROWS, max_size=6))
def test_ids_survive_appending(rows: list[dict[str, Any]], more: list[dict[str, Any]]) -> None:
    """Lines added at the end change no id above them."""
    assert ids(*rows, *more)[: len(rows)] == ids(*rows)


@settings(deadline=None, max_examples=100)
@given(st.lists(ROWS, min_size=1, max_size=6, unique_by=orjson.dumps), st.data())
def test_ids_survive_deleting(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    """A line that goes takes no id but its own with it."""
    rows = one_of_each_id(rows)
    gone = data.draw(st.integers(0, len(rows) - 1))
    left = [row for position, row in enumerate(rows) if position != gone]
    assert contents(*left) < contents(*rows)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from([b"", b" ", b"\r"]), max_size=5))
def test_blank_lines_change_no_id(blank: list[bytes]) -> None:
    """Blank lines count, but name nothing."""
    (pair,) = read(*blank, PAIR)
    assert isinstance(pair, PersonaPair)
    assert (pair.id, pair.line_number) == (content_id(PAIR), len(blank) + 1)
