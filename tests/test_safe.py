"""Text of others on its way to a terminal."""

import re
import unicodedata
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magpie_cli.display.text import error_text, progress_line, safe
from magpie_cli.errors import MagpieError
from magpie_cli.tally import Tally

# Unicode Standard Annex 9: explicit embeddings and overrides, their end, and isolates.
BIDI = {chr(code) for code in [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]}
CONTROLS = {chr(code) for code in [*range(0x20), 0x7F, *range(0x80, 0xA0)]} - {"\t", "\n"}
UNSAFE = sorted(CONTROLS | BIDI)
HOSTILE = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(UNSAFE))
HARMLESS = st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs"]) | st.sampled_from("\t\n"))
NUMBERS = st.integers(0, 10**7)


def code_point(letter: str) -> str:
    """As Unicode writes it."""
    return f"U+{ord(letter):04X}"


def dangerous(text: str) -> set[str]:
    """The characters of `text` that may move a cursor or turn a line around."""
    return {
        letter
        for letter in text
        if (unicodedata.category(letter) == "Cc" and letter not in "\t\n")
        or unicodedata.bidirectional(letter)
        in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    }


def test_the_test_knows_what_is_dangerous() -> None:
    """All of C0, DEL, C1 and the marks of direction count, and nothing else below U+0100."""
    assert dangerous("".join(map(chr, range(0xD800)))) == CONTROLS | BIDI


@settings(deadline=None, max_examples=200)
@given(HOSTILE)
def test_no_control_survives(text: str) -> None:
    """No control character and no mark of direction passes; one visible sign stands for each."""
    cleaned = safe(text)
    assert not dangerous(cleaned)
    assert cleaned == "".join("\ufffd" if letter in UNSAFE else letter for letter in text)
    assert safe(cleaned) == cleaned


@settings(deadline=None, max_examples=100)
@given(HARMLESS)
def test_harmless_text_stays_as_it_is(text: str) -> None:
    """Letters of every script, emoji, tabs and newlines are not touched."""
    assert safe(text) == text


@pytest.mark.parametrize("control", UNSAFE, ids=code_point)
def test_each_control_is_replaced(control: str) -> None:
    """Each control character becomes U+FFFD, wherever it stands."""
    assert safe(f"{control}a{control}{control}b{control}") == "\ufffda\ufffd\ufffdb\ufffd"


@settings(deadline=None, max_examples=100)
@given(HOSTILE, st.none() | HOSTILE)
def test_an_error_is_safe(message: str, hint: str | None) -> None:
    """An error and its hint, which may quote a server or a file, have no controls."""
    assert not dangerous(error_text(MagpieError(message, hint)))


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MagpieError("it broke"), "error: it broke"),
        (MagpieError("it broke", "mend it"), "error: it broke\nhint: mend it"),
        (MagpieError("it broke", ""), "error: it broke"),
        (MagpieError("\x1b[31mred\x1b[0m", "\x9b2J"), "error: �[31mred�[0m\nhint: �2J"),
    ],
    ids=["no hint", "hint", "empty hint", "escape codes"],
)
def test_an_error_says_what_happened_and_what_to_type(error: MagpieError, text: str) -> None:
    """The message comes first, the hint on a line of its own, if there is one."""
    assert error_text(error) == text


@settings(deadline=None, max_examples=100)
@given(st.none() | NUMBERS, st.tuples(*[NUMBERS] * 6), HOSTILE)
def test_a_progress_line_is_safe(
    total: int | None, numbers: tuple[int, ...], last_retry: str
) -> None:
    """Whatever the tally holds, its line has no controls."""
    skipped, made, failed, in_flight, tokens, retries = numbers
    line = progress_line(
        Tally(
            total=total,
            skipped=skipped,
            made=made,
            failed=failed,
            in_flight=in_flight,
            tokens=tokens,
            retries=retries,
            last_retry=last_retry,
            failures=Counter({"timeout": failed}),
        )
    )
    assert not dangerous(line)


@pytest.mark.parametrize(
    ("tally", "line"),
    [
        (Tally(), "0 done, 0 failed, 0 in flight, R/s"),
        (
            Tally(total=1000, skipped=2, failed=1, in_flight=8),
            "2 of 1,000 done, 1 failed, 8 in flight, R/s",
        ),
        (
            Tally(total=4, made=4, tokens=4321),
            "4 of 4 done, 0 failed, 0 in flight, R/s, about 0:00:00 left, 4,321 tokens",
        ),
        (
            Tally(made=3, retries=2, last_retry="timeout"),
            "3 done, 0 failed, 0 in flight, R/s, 2 retries (last: timeout)",
        ),
    ],
    ids=["nothing yet", "known total", "all done", "unknown total"],
)
def test_a_progress_line_says_how_far_it_is(tally: Tally, line: str) -> None:
    """Done, failed, in flight and the rate always; the rest where it is known."""
    assert re.sub(r"[\d,.]+/s", "R/s", progress_line(tally)) == line
