"""Texts as words: n-grams, what two texts share, which script they are written in."""

import re
import unicodedata
from collections import Counter

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
}
LATIN = {"LATIN"}


def words(text: str) -> list[str]:
    """The words of a text, in small letters, without marks around them."""
    return [word.casefold() for word in _WORD.findall(text)]


def ngrams(tokens: list[str], size: int) -> set[tuple[str, ...]]:
    """All runs of `size` words."""
    return {tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1)}


def share(part: set[tuple[str, ...]], whole: set[tuple[str, ...]]) -> float:
    """How much of `part` stands in `whole`, 0 to 1; 0 where `part` is empty."""
    return len(part & whole) / len(part) if part else 0.0


def scripts(text: str) -> Counter[str]:
    """How many letters of each script, by the first word of their Unicode names."""
    names = (unicodedata.name(letter, "") for letter in text if letter.isalpha())
    return Counter(name.split(" ")[0].split("-")[0] for name in names if name)
