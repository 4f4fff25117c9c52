"""Texts as words: n-grams, what two texts share, which script they are written in."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from functools import wraps
from itertools import islice
from typing import Any, TypeVar, cast

Run = tuple[str, ...]

_F = TypeVar("_F", bound=Callable[..., object])

LONG = 6  # letters of a word that says what a text is about
FEWEST_LONG, MOST_LONG = 4, 8  # such words that a text is known by
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
# Marks of English prose that alone would keep a text from being ASCII, which is split five times
# as fast as a pattern does it. The apostrophe belongs to a word, and is \x01 for that while.
_MARKS = ("\u201c", "\u201d", "\u2018", "\u2013", "\u2014", "\u2026")
_APART = bytes(code if chr(code).isalnum() or code in b"'\x01" else 32 for code in range(128))
_APART = _APART.ljust(256)

# Scripts, by the first word of a letter's Unicode name, of languages that are written in no other.
SCRIPTS = {
    "ar": {"ARABIC"},
    "bg": {"CYRILLIC"},
    "el": {"GREEK"},
    "fa": {"ARABIC"},
    "he": {"HEBREW"},
    "hi": {"DEVANAGARI"},
    "ja": {"HIRAGANA", "KATAKANA", "CJK"},
    "ko": {"HANGUL", "CJK"},
    "ru": {"CYRILLIC"},
    "th": {"THAI"},
    "uk": {"CYRILLIC"},
    "zh": {"CJK", "BOPOMOFO"},
    **{code: {"LATIN"} for code in ("cs", "da", "de", "en", "es", "et", "fi", "fr", "hr", "hu")},
    **{code: {"LATIN"} for code in ("id", "it", "lt", "lv", "ms", "nl", "no", "pl", "pt", "ro")},
    **{code: {"LATIN"} for code in ("sk", "sl", "sv", "sw", "tr", "vi")},
}


class Text(str):
    """A text that several checks look at: its words, and what else is made of it, stay with it."""

    __slots__ = ("different", "known", "words")

    def __init__(self, _text: str) -> None:
        self.words: Run | None = None
        self.different: frozenset[str] | None = None
        self.known: dict[tuple[Any, ...], object] = {}


def remembered(make: _F) -> _F:
    """`make`, once for each Text; of other texts nothing is kept."""

    @wraps(make)
    def once(text: str, *sizes: int) -> object:
        if not isinstance(text, Text):
            return make(text, *sizes)
        key = (make, *sizes)
        if key not in text.known:
            text.known[key] = make(text, *sizes)
        return text.known[key]

    return cast("_F", once)


def words(text: str) -> Run:
    """The words of a text, in small letters, without marks around them."""
    if not isinstance(text, Text):
        return _ascii_words(text) or tuple(word.casefold() for word in _WORD.findall(text))
    if text.words is None:
        text.words = words(str(text))
    return text.words


def vocabulary(text: str) -> frozenset[str]:
    """Its different words."""
    if not isinstance(text, Text):
        return frozenset(words(text))
    if text.different is None:
        text.different = frozenset(words(text))
    return text.different


def _ascii_words(text: str) -> Run:
    """As `words`; nothing where the text is none that can be split at its marks."""
    if not text.isascii():
        for mark in _MARKS:
            text = text.replace(mark, " ")
        text = text.replace("\x01", "\x02").replace("\u2019", "\x01")
        if not text.isascii():
            return ()
    elif "\x01" in text:
        return ()
    apart = f" {text.lower().encode().translate(_APART).decode()} "
    if "'" in apart and _is_loose("'", apart):
        return ()
    if "\x01" in apart:
        if _is_loose("\x01", apart) or "\x01'" in apart or "'\x01" in apart:
            return ()
        apart = apart.replace("\x01", "\u2019")
    return tuple(apart.split())


def _is_loose(mark: str, text: str) -> bool:
    """Whether it stands elsewhere than between two letters: it is a quotation mark, then."""
    return f" {mark}" in text or f"{mark} " in text or mark * 2 in text


@remembered
def spaced(text: str) -> str:
    """Its words with a space before, between and behind them: a run of words is a part of it."""
    return f" {' '.join(words(text))} "


@remembered
def phrases(text: str, size: int) -> tuple[str, ...]:
    """All runs of `size` words of a text, as they stand in what `spaced` gives."""
    return tuple(f" {' '.join(run)} " for run in ngrams(words(text), size))


@remembered
def anchors(text: str, size: int) -> tuple[str, ...]:
    """Words of a text, so that each run of `size` words has one of them in it; the longest can be.

    What has none of them quotes nothing, which is found out for a fraction of the price.
    """
    own = words(str(text))  # of which nothing else is asked: they are not kept
    half = (size + 1) // 2  # so many from every so many on: a run holds one of these whole
    blocks = zip(*(own[start::half] for start in range(half)), strict=False)
    return tuple([max(block, key=len) for block in blocks])


def long_words(text: str) -> tuple[str, ...]:
    """Some of its long words, from all over it, by which a text is known again."""
    own = words(text)
    every = max(2, len(own) // (5 * MOST_LONG))  # one word of five is long, or more
    long = (word for word in own[::every] if len(word) >= LONG)
    return tuple(islice(long, MOST_LONG))


def may_share(known: tuple[str, ...], whole: str) -> bool:
    """Whether most of the text with these long words may stand in `whole`: half of them do.

    False is likely, and not certain: that much costs a tenth of counting runs of words. Where the
    words are few, it is True.
    """
    if len(known) < FEWEST_LONG:
        return True
    there = whole.casefold()
    left = len(known) // 2  # that may be missing
    for word in known:
        left -= word not in there
        if left < 0:
            return False
    return True


def ngrams(tokens: Run, size: int) -> frozenset[Run]:
    """All runs of `size` words."""
    return frozenset(zip(*(tokens[start:] for start in range(size)), strict=False))


def share(part: AbstractSet[Run], whole: AbstractSet[Run]) -> float:
    """How much of `part` stands in `whole`, 0 to 1; 0 where `part` is empty."""
    return len(part & whole) / len(part) if part else 0.0


def scripts(text: str) -> Counter[str]:
    """How many letters of each script, by the first word of their Unicode names."""
    names = (unicodedata.name(letter, "") for letter in text if letter.isalpha())
    return Counter(name.split(" ")[0].split("-")[0] for name in names if name)
