"""Who speaks: labels in front of words, two speakers in one reply, roles that are exchanged."""

import re

from magpie_cli.checks.spoken import Speaker, Spoken
from magpie_cli.checks.words import vocabulary, words

# Whom a label at the start of a line may name. "Q" and "A" alone are too common in good text.
_NAMES = {
    "instructor": "instructor|user|human|questioner|interviewer|persona 1|speaker 1",
    "responder": "responder|assistant|ai|answerer|interviewee|persona 2|speaker 2",
}
_MARKS = r"[*_#>\[\(\s]{0,6}"
_END = r"[*_\]\)\s]{0,6}:[*_]{0,3}"
_LABELS = {
    speaker: re.compile(rf"^{_MARKS}(?:{names}){_END}[ \t]*", re.IGNORECASE | re.MULTILINE)
    for speaker, names in _NAMES.items()
}
_LONG_ANSWER = 60  # words of an instructor who explains instead of asking
_LIST_ITEM = re.compile(r"^\s*(?:[-*\u2022]|\d{1,2}[.)])\s+\S", re.MULTILINE)
_OFFERS = re.compile(
    r"\b(?:how (?:can|may) i (?:help|assist) you|what would you like (?:help|to know)"
    r"|feel free to ask|i(?:'|\u2019)m here to help)\b",
    re.IGNORECASE,
)
# Without one of these words the pattern finds nothing, and costs twenty times as much.
_OFFERS_SAY = frozenset({"help", "assist", "know", "ask"})


def other(speaker: Speaker) -> Speaker:
    """The one who listens."""
    return "responder" if speaker == "instructor" else "instructor"


def strip_own_label(text: str, speaker: Speaker) -> str:
    """Without the speaker's own name in front; the text itself where nothing else is there."""
    while ":" in text and (found := _LABELS[speaker].match(text)):
        if not (rest := text[found.end() :].strip()):
            break
        text = rest
    return text


def cut_at_other(text: str, speaker: Speaker) -> str:
    """Up to the line where the other one begins; the text itself where nothing is before it."""
    found = _labelled(text, other(speaker))
    kept = text[: found.start()].strip() if found else text
    return kept or text


def has_own_label(spoken: Spoken) -> bool:
    """llama3 #76, SalesGPT #66, talemate PR #250."""
    return strip_own_label(spoken.text, spoken.speaker) != spoken.text


def has_both_speakers(spoken: Spoken) -> bool:
    """The model writes the other's turn too, under the other's name (open-webui/computer #152)."""
    return _labelled(spoken.text, other(spoken.speaker)) is not None


def is_flipped(spoken: Spoken) -> bool:
    """An instructor offers help or explains at length without a question; a responder offers help.

    UltraChat 3.4; Magpie 2.2: the model "forgets its role as the user".
    """
    if spoken.speaker == "responder":
        only_offers = bool(spoken.before) and len(words(spoken.text)) < _LONG_ANSWER // 3
        return only_offers and _offers(spoken.text)
    if _offers(spoken.text):
        return True
    explains = spoken.before and "?" not in spoken.text and "\n" in spoken.text
    if not explains or len(words(spoken.text)) < _LONG_ANSWER:
        return False
    return len(_LIST_ITEM.findall(spoken.text)) >= 3


def _offers(text: str) -> bool:
    return not vocabulary(text).isdisjoint(_OFFERS_SAY) and _OFFERS.search(text) is not None


def _labelled(text: str, speaker: Speaker) -> re.Match[str] | None:
    """The first line that begins with the speaker's name."""
    return _LABELS[speaker].search(text) if ":" in text else None
