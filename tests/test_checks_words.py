"""The short cuts of the checks: they find what the long way round would, or nearly always."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from magpie_cli.checks.words import anchors, long_words, may_share, phrases, spaced, words

PIECES = [
    "it's",
    "it\u2019s",
    "'",
    "\u2019",
    "\u201ca",
    "b\u201d",
    "\u2014",
    "_",
    "\x01",
    "\x02",
    "3.5",
]
TEXTS = st.text(max_size=80) | st.lists(
    st.sampled_from([*PIECES, "the", "map", "Lamp", "sea", "İ", "ß", " ", "\n", ", "]), max_size=60
).map(" ".join)
GLUED = st.lists(st.sampled_from([*PIECES, "a", "B", " "]), max_size=20).map("".join)
WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


@settings(deadline=None, max_examples=500)
@given(TEXTS | GLUED)
def test_words_are_what_the_pattern_finds(text: str) -> None:
    """The fast way of splitting plain English finds the very same words."""
    assert words(text) == tuple(word.casefold() for word in WORD.findall(text))


@settings(deadline=None, max_examples=500)
@given(
    st.lists(st.text("abcdefgh", min_size=1, max_size=9), min_size=8, max_size=80, unique=True),
    st.data(),
)
def test_what_is_said_again_with_a_few_changes_is_known_again(
    own: list[str], data: st.DataObject
) -> None:
    """Of the words that a text is known by, one in six may be another than before."""
    known = long_words(" ".join(own))
    changed = data.draw(st.lists(st.sampled_from(own), max_size=len(known) // 6, unique=True))
    earlier = ["-" if word in changed else word for word in own]
    assert may_share(known, " ".join(earlier).upper())


def test_what_is_said_again_behind_something_new_is_known_again() -> None:
    """The words that a text is known by are not those of its beginning alone."""
    earlier = " ".join(f"earlier{n} is a" for n in range(40))
    begins = " ".join(f"another{n} is a" for n in range(16))
    assert may_share(long_words(f"{begins} {earlier}"), earlier)


def test_what_is_new_is_not_compared() -> None:
    """A text with other long words is none that was said before, whatever its short ones."""
    part = "the harbour of the island was closed by the northern storms for months"
    whole = "the kitchen of the hotel was opened by the younger brother for guests"
    assert not may_share(long_words(part), whole)


@settings(deadline=None, max_examples=500)
@given(
    st.lists(st.text("ab", min_size=1, max_size=9), min_size=7, max_size=30, unique=True),
    st.sampled_from([3, 6, 7]),
    st.integers(0, 22),
)
def test_what_quotes_a_text_has_an_anchor_of_it(own: list[str], size: int, start: int) -> None:
    """A run of so many words cannot be repeated without one of its anchors."""
    text, said = " ".join(own), own[start : start + size]
    quoted = [run for run in phrases(text, size) if run in spaced(" ".join(said))]
    assert len(quoted) == (len(said) == size)
    assert not quoted or not set(anchors(text, size)).isdisjoint(said)
