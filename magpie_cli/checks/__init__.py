"""What goes wrong when a model talks to itself as two people: pure rules over one utterance.

__init__.py  the tables of checks and of repairs, each with its reason
spoken.py    an utterance, and what it is seen with
words.py     texts as words: n-grams, overlap, the script of a language
speech.py    who speaks: labels, both speakers, a flipped role; and the repairs of these
manner.py    how: openings, farewells, refusals, length
source.py    where from: the prompt, a persona, the speaker's own words again

Where a rule cannot decide, it finds nothing: a good dialogue that is thrown away costs more than a
poor one that a later filter sees. Evidence for each: CAMEL (2303.17760), UltraChat (2305.14233),
Echoing (2511.09710), and the issues named in the functions.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from magpie_cli.checks import manner, source, speech
from magpie_cli.checks.spoken import Speaker, Spoken


class Check(NamedTuple):
    """A rule and its reason. `is_hard`: worth another sample, and perhaps a failed pair."""

    finds: Callable[[Spoken], bool]
    reason: str
    is_hard: bool = True


CHECKS: Mapping[str, Check] = {
    "empty": Check(manner.is_empty, "an utterance without a word"),
    "speaker_label": Check(speech.has_own_label, "the speaker's own name in front of its words"),
    "both_speakers": Check(speech.has_both_speakers, "the other's words as well, in one reply"),
    "role_flip": Check(speech.is_flipped, "an instructor that answers, a responder that asks"),
    "farewell": Check(manner.is_farewell_again, "one goodbye after another"),
    "sycophantic_opening": Check(
        manner.is_sycophantic, "praise or eagerness in place of a beginning", is_hard=False
    ),
    "refusal": Check(manner.is_refusal, "a model that will not, or says that it is one"),
    "truncated": Check(manner.is_truncated, "cut off in the middle of a sentence"),
    "too_short": Check(manner.is_too_short, "fewer words than were asked for", is_hard=False),
    "too_long": Check(manner.is_too_long, "more words than were asked for", is_hard=False),
    "prompt_echo": Check(source.echoes_prompt, "the speaker's own description as its words"),
    "persona_leak": Check(source.leaks_persona, "words of the other's hidden description"),
    "repetition": Check(source.repeats_itself, "what the same speaker has said before"),
    "language": Check(source.is_other_language, "another language than was asked for"),
}


_FINDS = [(name, check.finds) for name, check in CHECKS.items()]


class Repair(NamedTuple):
    """What can be taken off an utterance without asking anybody, and the reason."""

    mends: Callable[[str, Speaker], str]
    reason: str


CUT_AT_OTHER = "cut_at_other"

REPAIRS: Mapping[str, Repair] = {
    "label_stripped": Repair(speech.strip_own_label, "the speaker's own name was taken off"),
    CUT_AT_OTHER: Repair(speech.cut_at_other, "the other's words were taken off, with the name"),
}


def repaired(text: str, speaker: Speaker) -> tuple[str, tuple[str, ...]]:
    """The words without what can be taken off, never empty, and the names of the repairs."""
    names = []
    for name, repair in REPAIRS.items():
        mended = repair.mends(text, speaker)
        if mended != text:
            names.append(name)
            text = mended
    return text, tuple(names)


def findings(spoken: Spoken) -> tuple[str, ...]:
    """The names of all checks that find something, in the order of the table."""
    return tuple([name for name, finds in _FINDS if finds(spoken)])


def hard(found: tuple[str, ...]) -> tuple[str, ...]:
    """Those for which an utterance is worth another sample; what is mended is none."""
    return tuple(name for name in found if name in CHECKS and CHECKS[name].is_hard)
