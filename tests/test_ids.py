"""Which line is which."""

import hashlib
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magpie_cli.ids import IdSet, content_id, sample_id

SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=10)
ROWS = st.dictionaries(st.text(max_size=10), SCALARS | st.lists(SCALARS, max_size=3), max_size=6)
IDS = st.text(max_size=3)


def many(number: int) -> list[str]:
    """Ids as content_id makes them."""
    return [hashlib.sha256(str(n).encode()).hexdigest()[:16] for n in range(number)]


@settings(deadline=None, max_examples=100)
@given(ROWS)
def test_the_order_of_keys_does_not_change_an_id(row: dict[str, object]) -> None:
    """The same row with its keys in another order has the same id, at every depth."""
    assert content_id({"outer": row}) == content_id({"outer": dict(reversed(row.items()))})
    assert content_id(row) == content_id(dict(reversed(row.items())))


@settings(deadline=None, max_examples=100)
@given(ROWS, ROWS)
def test_other_content_has_another_id(left: dict[str, object], right: dict[str, object]) -> None:
    """Two rows have the same id only where they are the same JSON."""
    same = _typed(left) == _typed(right)
    assert (content_id(left) == content_id(right)) is same


def _typed(value: object) -> object:
    """`value` with True told from 1, which Python takes for equal."""
    if isinstance(value, dict):
        return {key: _typed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_typed(inner) for inner in value]
    return (type(value), value)


def test_an_id_never_changes_between_versions() -> None:
    """An id is the first 16 hex digits of sha256 over the row as compact JSON with sorted keys."""
    row = {"responding_persona": "“b”", "instructor_persona": "a", "n": {"z": 1, "y": None}}
    text = '{"instructor_persona":"a","n":{"y":null,"z":1},"responding_persona":"“b”"}'
    assert content_id(row) == hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize(("sample", "id_"), [(1, "a"), (2, "a~2"), (3, "a~3"), (10, "a~10")])
def test_the_first_sample_has_the_id_of_its_pair(sample: int, id_: str) -> None:
    """Only later samples have a suffix, so that asking for more of them keeps what is there."""
    assert sample_id("a", sample) == id_


@settings(deadline=None, max_examples=100)
@given(st.lists(IDS), st.lists(IDS))
def test_an_id_set_behaves_like_a_set(added: list[str], asked: list[str]) -> None:
    """`add` says whether the id is new; `in` and `len` answer as a set of strings would."""
    ids, model = IdSet(), set[str]()
    for id_ in added:
        assert ids.add(id_) is (id_ not in model)
        model.add(id_)
        assert len(ids) == len(model)
    for id_ in asked + added:
        assert (id_ in ids) is (id_ in model)


def test_an_id_set_keeps_every_id_while_it_grows() -> None:
    """Of 20,000 ids each is found and counted once, and no other is taken for one of them."""
    known, others = many(40_000)[::2], many(40_000)[1::2]
    ids = IdSet()
    assert [ids.add(id_) for id_ in known] == [True] * len(known)
    assert [ids.add(id_) for id_ in known] == [False] * len(known)
    assert len(ids) == len(known)
    assert all(id_ in ids for id_ in known)
    assert not any(id_ in ids for id_ in others)


@pytest.mark.parametrize("number", [1_000, 10_000, 16_385, 30_000])
def test_an_id_costs_12_bytes_at_most(number: int) -> None:
    """The memory of a set is at most 12 bytes an id, while it grows too; a small one's is 8 KiB."""
    known = many(number)
    tracemalloc.start()
    try:
        ids = IdSet()
        for id_ in known:
            ids.add(id_)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(ids) == number
    assert peak < max(12 * number, 8 * 1024) + 1024
