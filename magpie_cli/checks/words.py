"""Texts as words: n-grams, what two texts share, which script they are written in."""

import re
import unicodedata
from collections import Counter
from collections.abc import Set as AbstractSet
from functools import lru_cache

Run = tuple[str, ...]
REMEMBERED = 512  # texts: several checks ask for the same few, of one dialogue at a time

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")

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


@lru_cache(REMEMBERED)
def words(text: str) -> Run:
    """The words of a text, in small letters, without marks around them."""
    return tuple(word.casefold() for word in _WORD.findall(text))


@lru_cache(REMEMBERED)
def spaced(text: str) -> str:
    """Its words with a space before, between and behind them: a run of words is a part of it."""
    return f" {' '.join(words(text))} "


@lru_cache(REMEMBERED)
def phrases(text: str, size: int) -> tuple[str, ...]:
    """All runs of `size` words of a text, as they stand in what `spaced` gives."""
    return tuple(f" {' '.join(run)} " for run in ngrams(words(text), size))


@lru_cache(REMEMBERED)
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
