"""How something is said: openings, farewells, refusals, length."""

import re

from magpie_cli.checks.spoken import Spoken
from magpie_cli.checks.words import vocabulary, words

FAREWELL_WORDS = 40  # a longer utterance says more than goodbye
FAREWELL_LETTERS = 10 * FAREWELL_WORDS
_FAREWELL = re.compile(
    r"\b(?:good ?bye|bye(?:[- ]bye)?|farewell|see you (?:soon|later|around|then|next)"
    r"|take care|have a (?:great|good|nice|wonderful|lovely) (?:day|evening|night|weekend|one|time)"
    r"|until next time|talk (?:to you )?(?:soon|later)|all the best|safe travels)\b",
    re.IGNORECASE,
)
_COURTESY = re.compile(
    r"\b(?:thank(?:s| you)|you(?:'|\u2019)?re (?:very |most )?welcome|my pleasure|glad (?:i|to)"
    r"|likewise|same to you|you too)\b",
    re.IGNORECASE,
)
_SYCOPHANTIC = re.compile(
    r"\W*(?:certainly|absolutely|of course|sure(?: thing)?|definitely"
    r"|(?:what (?:a|an) |that(?:'|\u2019)?s (?:a|an|such a) )?(?:really |very )?"
    r"(?:great|excellent|wonderful|fantastic|fascinating|insightful|brilliant|good)"
    r" (?:question|point|observation|idea)"
    r"|i(?:'|\u2019)?d be (?:happy|glad|delighted) to)\b\s*[!,.:]",
    re.IGNORECASE,
)
# Without one of these words at the beginning it finds nothing.
_PRAISE_BEGINS = frozenset(
    {"certainly", "absolutely", "of", "sure", "definitely", "what"}
    | {"that's", "that\u2019s", "thats"}
    | {"really", "very", "great", "excellent", "wonderful", "fantastic", "fascinating"}
    | {"insightful", "brilliant", "good", "i'd", "i\u2019d", "id"}
)
_REFUSAL = re.compile(
    r"\b(?:as an ai\b|as a (?:large )?language model|i(?:'|\u2019)?m (?:just |only )?an ai\b"
    r"|i am (?:just |only )?an ai\b"
    r"|i(?:'|\u2019)?m sorry,? but i (?:can(?:'|\u2019)?t|cannot|am unable)"
    r"|i (?:cannot|can(?:'|\u2019)?t|am unable to|am not able to) "
    r"(?:assist|help|fulfill|comply|provide|engage)\b[^.?!]{0,60}\b(?:request|that|this|you with)"
    r"|against my (?:guidelines|programming|policy))",
    re.IGNORECASE,
)
# Without one of these words the pattern finds nothing, and costs ten times as much.
_REFUSAL_SAYS = frozenset(
    {"ai", "model", "sorry", "against"}
    | {"assist", "help", "fulfill", "comply", "provide", "engage"}
)
_REFUSES_EARLY = 200  # characters: later, somebody may speak of refusals
_ENDS = re.compile(
    r"[.!?\u2026\u3002\uff01\uff1f\u061f\u0964:;)\]}\"'\u201d\u2019\u00bb`*_~|>-]\s*$"
)


def is_empty(spoken: Spoken) -> bool:
    """Without a letter or a digit in any script."""
    return not words(spoken.text)


def is_courtesy(text: str) -> bool:
    """Only thanks and goodbyes, in few words, and no question."""
    if "?" in text or len(text) > FAREWELL_LETTERS or len(words(text)) > FAREWELL_WORDS:
        return False
    return bool(_FAREWELL.search(text) or _COURTESY.match(text.strip()))


def is_farewell_again(spoken: Spoken) -> bool:
    """A goodbye to a goodbye: CAMEL and UltraChat drop dialogues that end in a loop of them."""
    return bool(spoken.before) and is_courtesy(spoken.text) and is_courtesy(spoken.before[-1])


def is_sycophantic(spoken: Spoken) -> bool:
    """`Certainly!`, `Great question!`: what the Dria SDK's instruction prompt forbids."""
    may = not _PRAISE_BEGINS.isdisjoint(words(spoken.text)[:1])
    return may and _SYCOPHANTIC.match(spoken.text) is not None


def is_refusal(spoken: Spoken) -> bool:
    """UltraChat-200k drops these; only at the beginning, where it is the model's own."""
    early = spoken.text[:_REFUSES_EARLY]
    may = not vocabulary(spoken.text).isdisjoint(_REFUSAL_SAYS)
    return may and _REFUSAL.search(early) is not None


def is_truncated(spoken: Spoken) -> bool:
    """The server stopped it at a limit of tokens, and it shows."""
    return spoken.finish_reason == "length" and not _ENDS.search(spoken.text)


def is_too_short(spoken: Spoken) -> bool:
    """In words, where a bound is given."""
    return spoken.min_words is not None and len(words(spoken.text)) < spoken.min_words


def is_too_long(spoken: Spoken) -> bool:
    """In words, where a bound is given."""
    return spoken.max_words is not None and len(words(spoken.text)) > spoken.max_words
