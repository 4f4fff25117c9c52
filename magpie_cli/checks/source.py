"""Where the words come from: the prompt, a persona, the speaker's own mouth, another language."""

from magpie_cli.checks.spoken import Spoken
from magpie_cli.checks.words import (
    SCRIPTS,
    anchors,
    long_words,
    may_share,
    ngrams,
    phrases,
    scripts,
    share,
    spaced,
    vocabulary,
    words,
)

ECHO_WORDS = 6  # in a row, of the own persona
LEAK_WORDS = 7  # in a row, of the other's
FEWEST_WORDS = 8  # of an utterance that can repeat another
SAME = 0.6  # of its three-word runs
DISTINCT = 0.35  # of the words of a text that goes round in circles; at least
CIRCLE_WORDS = 40
OTHER_SCRIPT = 0.3  # of the letters; names and quotations are fewer


def echoes_prompt(spoken: Spoken) -> bool:
    """`As a curious scientist who ...`: a run of the own persona, which was not said before."""
    return _quotes(spoken, spoken.persona, ECHO_WORDS)


def leaks_persona(spoken: Spoken) -> bool:
    """A run of the description that the speaker cannot know."""
    return _quotes(spoken, spoken.other_persona, LEAK_WORDS)


def repeats_itself(spoken: Spoken) -> bool:
    """Most of what the same speaker said before, or the same words round and round.

    Only what shares long words with an earlier utterance is compared with it (`may_share`).
    AgentLaboratory #82; the ratio of distinct words after Gopher's rules (2112.11446).
    """
    if _goes_round(spoken.text):
        return True
    own = _own(spoken)
    known = long_words(spoken.text) if own else ()
    like = [text for text in own if may_share(known, text)]
    if not like or len(mine := words(spoken.text)) < FEWEST_WORDS:
        return False
    return any(share(ngrams(mine, 3), ngrams(words(text), 3)) > SAME for text in like)


def is_other_language(spoken: Spoken) -> bool:
    """Letters of a script that the language asked for is not written in.

    Languages of one script are not told apart: that takes a model, and errs. Nothing is said of a
    language whose script is not in the table.
    """
    if spoken.language is None:
        return False
    theirs = SCRIPTS.get(spoken.language.split("-")[0].casefold())
    if theirs is None:
        return False
    found = scripts(spoken.text)
    letters = found.total()
    strange = letters - sum(found[name] for name in theirs)
    return letters >= FEWEST_WORDS and strange > OTHER_SCRIPT * letters


def _goes_round(text: str) -> bool:
    """The same few words again and again."""
    mine = words(text)
    return len(mine) >= CIRCLE_WORDS and len(vocabulary(text)) < DISTINCT * len(mine)


def _own(spoken: Spoken) -> tuple[str, ...]:
    """What this speaker said before."""
    return spoken.before[len(spoken.before) % 2 :: 2]


def _quotes(spoken: Spoken, persona: str, size: int) -> bool:
    """A run of `size` words of the persona, which nobody has said so far."""
    if vocabulary(spoken.text).isdisjoint(anchors(persona, ECHO_WORDS)):
        return False
    mine = spaced(spoken.text)
    quoted = [run for run in phrases(persona, size) if run in mine]
    return any(not any(run in spaced(text) for text in spoken.before) for run in quoted)
