"""The short cuts of the checks: each says the same as the long way round, on any text."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from magpie_cli.checks.words import anchors, may_share, ngrams, phrases, share, spaced, words

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
PLAIN = st.lists(st.text("abc", min_size=1, max_size=2), max_size=20).map(" ".join)
WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


@settings(deadline=None, max_examples=500)
@given(TEXTS | GLUED)
def test_words_are_what_the_pattern_finds(text: str) -> None:
    """The fast way of splitting plain English finds the very same words."""
    assert words(text) == tuple(word.casefold() for word in WORD.findall(text))


@settings(deadline=None, max_examples=500)
@given(PLAIN, PLAIN, st.sampled_from([0.0, 0.3, 0.6, 0.9]))
def test_what_may_not_share_does_not(part: str, whole: str, most: float) -> None:
    """Where the short cut says no, the share of three-word runs is `most` or less."""
    shared = share(ngrams(words(part), 3), ngrams(words(whole), 3))
    assert may_share(part, whole, most) or shared <= most


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
