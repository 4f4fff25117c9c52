"""The expressions of `--where`: what they mean, and that nothing of them is run."""

import ast
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magpie_cli.errors import UsageError
from magpie_cli.filter.where import DEEPEST, Where

ROW: dict[str, Any] = {
    "id": "a",
    "num_turns": 3,
    "model": "gemma2:9b",
    "findings": ["farewell"],
    "usage": {"prompt_tokens": None, "completion_tokens": 96},
    "dialogue": [{"instructor": "Where?"}, {"responder": "Here."}],
    "metadata": {"topic": "maps", "my key": "é", "score": 0.5, "ok": True},
}


@pytest.mark.parametrize(
    "text",
    [
        "num_turns >= 3",
        'num_turns >= 3 and metadata.topic == "maps"',
        "1 < num_turns <= 3",
        "not num_turns > 3",
        "num_turns == 2 or model != 'x'",
        'metadata["my key"] == "é"',
        "usage.prompt_tokens == null",
        "usage.prompt_tokens == None and metadata.ok == true",
        "metadata.ok",
        "'farewell' in findings",
        "'refusal' not in findings",
        "'gemma' in model",
        "model in ['x', 'gemma2:9b']",
        "model in ('x', 'gemma2:9b')",
        "'topic' in metadata",
        "len(dialogue) == 2 and len(model) == 9 and len(metadata) == 4",
        "dialogue[0].instructor == 'Where?' and dialogue[-1]['responder'] == 'Here.'",
        "metadata.score < 0.75 and metadata.score > -1",
        "metadata.nothing.inside == null",
        "dialogue[7] == null and dialogue.x == null and id[0] == null",
        "'x' not in metadata.nothing",
        "len(num_turns) == null",
        "  num_turns\n==\n3 ",
        "(((num_turns == 3)))",
    ],
)
def test_what_is_true_of_the_row(text: str) -> None:
    """Comparisons, fields, lists and len() mean what they say."""
    assert Where(text).holds(ROW)
    assert not Where(f"not ({text})").holds(ROW)


@pytest.mark.parametrize(
    "text",
    [
        "usage.prompt_tokens > 0",
        "usage.prompt_tokens <= 0",
        "model > 3",
        "3 in model",
        "'x' in num_turns",
        "metadata.nothing",
        "findings < 3",
        "null < null",
    ],
)
def test_what_cannot_be_compared_is_false(text: str) -> None:
    """Null and values of two kinds are neither less nor greater, and hold nothing."""
    assert not Where(text).holds(ROW)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("num_turns =", 11, "invalid syntax"),
        ("num_turns == 3 and ]", 0, ""),
        ("model == 'é' and num_turns + 1 == 4", 18, "`num_turns + 1`"),
        ("__import__('os').system('x') == 0", 1, "`__import__('os').system('x')`"),
        ("len(model, id) == 3", 1, "`len(model, id)`"),
        ("model.upper() == 'X'", 1, "`model.upper()`"),
        ("num_turns is 3", 1, "`num_turns is 3`"),
        ("[x for x in findings]", 1, "`[x for x in findings]`"),
        ("lambda: 1", 1, "`lambda: 1`"),
        ("f'{id}' == 'a'", 1, "`f'{id}'`"),
        ("(id := 'b') == 'b'", 2, "`id := 'b'`"),
        ("dialogue[num_turns] == 1", 10, "in [ ] stands"),
        ("dialogue[0:1] == 1", 10, "in [ ] stands"),
        ("-model == 1", 1, "`-model`"),
        ("b'x' == model", 1, "`b'x'`"),
        ("", 1, "invalid syntax"),
        ("\0", 1, ""),
        ("not " * (DEEPEST + 2) + "id", 1 + 4 * (DEEPEST + 1), "nested more than"),
        ("(" * 3000, 1, ""),
        ("-" * 9000 + "1", 1, ""),
    ],
)
def test_what_it_is_not_is_an_error_at_its_place(text: str, place: int, words: str) -> None:
    """Anything else is refused before a row is read, with the character, a caret and an example."""
    with pytest.raises(UsageError) as refused:
        Where(text)
    first = refused.value.message.split("\n")[0]
    assert words in first
    assert refused.value.hint
    if words:
        assert first.startswith(f"--where, character {place}:")
        assert refused.value.message.split("\n")[-1].index("^") == place + 1


def test_the_fields_it_asks_for_are_known() -> None:
    """Only the outermost names count, and words of JSON are none."""
    assert Where("metadata.topic == 'x' and true != len(id)").names == {"metadata", "id"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(["a", "b"]), JSON),
    st.sampled_from(["<", "<=", "==", "!=", ">", ">=", "in", "not in"]),
    st.sampled_from(["a", "b", "a.x", "b[0]", "len(a)", "[a, 1]", "'x'", "1.5"]),
    st.sampled_from(["a", "b", "a.x", "b[0]", "len(b)", "[b]", "'x'", "null"]),
)
def test_no_row_makes_it_fail(row: dict[str, Any], sign: str, left: str, right: str) -> None:
    """Whatever a row holds, there is an answer."""
    assert Where(f"{left} {sign} {right}").holds(row) in (True, False)


@settings(deadline=None)
@given(st.text(max_size=40) | st.text("ab.[]()'=<>!0 1,-notadr", max_size=40))
def test_no_text_does_anything_else(text: str) -> None:
    """Any text is an expression or a UsageError."""
    try:
        where = Where(text)
    except UsageError:
        return
    assert where.holds({"a": 1}) in (True, False)
    ast.parse(where.text, mode="eval")
