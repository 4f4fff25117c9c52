"""What crosses the file boundary, there and back."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magpie_cli.errors import InvalidRecord
from magpie_cli.records import NO_TOKENS, Dialogue, Failure, Record, Speaker, Turn, Usage

TEXT = st.text(max_size=40)
SPOKEN = TEXT.filter(str.strip)
WHOLE = st.integers(-(2**63), 2**64 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | WHOLE | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ENDS: tuple[Speaker, Speaker] = ("instructor", "responder")
TOKENS = st.none() | st.integers(0, 2**53)
ROW: dict[str, Any] = {
    "id": "5f0c6c0de1b2a394",
    "instructor_persona": "A curious scientist",
    "responding_persona": "An AI assistant",
    "num_turns": 2,
    "system": None,
    "dialogue": [
        {"instructor": "Why is the sky blue?"},
        {"responder": "Short waves scatter most."},
        {"instructor": "“Grüße” 🐦"},
        {"responder": "one\u2028two"},
    ],
    "model": "gemma2:9b-instruct-fp16",
    "engine": "dria",
    "usage": {"prompt_tokens": 7, "completion_tokens": None},
    "findings": ["short"],
    "reasoning": ["Waves, perhaps.", None, "“Hm” 🐦", None],
    "metadata": {"topic": "light", "n": None},
}
FAILURE: dict[str, Any] = {
    "id": "a",
    "stage": "input",
    "kind": "not_json",
    "message": "pairs.jsonl:2: not JSON",
    "attempts": 0,
    "transient": False,
    "input": "{",
}


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Any record, whoever has the last word."""
    turns = tuple(draw(st.lists(st.builds(Turn, SPOKEN, SPOKEN), min_size=1, max_size=4)))
    end = draw(st.sampled_from(ENDS))
    if end == "instructor":
        turns = (*turns[:-1], replace(turns[-1], responder=None))
    number = 2 * len(turns) - (end == "instructor")
    thoughts = st.lists(st.none() | SPOKEN, min_size=number, max_size=number)
    reasoning = tuple(draw(thoughts))
    return Record(
        id=draw(TEXT),
        instructor_persona=draw(TEXT),
        responding_persona=draw(TEXT),
        num_turns=len(turns),
        dialogue=Dialogue(
            turns,
            draw(TEXT),
            draw(st.builds(Usage, TOKENS, TOKENS)),
            reasoning=reasoning if any(reasoning) else None,
        ),
        engine=draw(TEXT),
        findings=tuple(draw(st.lists(TEXT, max_size=3))),
        metadata=draw(st.dictionaries(TEXT, JSON, max_size=4)),
        system=draw(st.none() | TEXT),
        end=end,
    )


def with_turns(turns: tuple[Turn, ...], num_turns: int) -> Record:
    """A record of these turns."""
    return Record("a", "b", "c", num_turns, Dialogue(turns, "tiny"), "echo", (), {})


@settings(deadline=None, max_examples=150)
@given(records())
def test_a_record_comes_back_as_it_was(record: Record) -> None:
    """What to_json writes, from_json reads as an equal record, from bytes and from text."""
    line = record.to_json()
    assert Record.from_json(line) == record
    assert Record.from_json(line.decode()) == record


def test_a_row_of_before_there_was_reasoning_is_read() -> None:
    """It has none, and is a good row."""
    old = {key: value for key, value in ROW.items() if key != "reasoning"}
    assert Record.from_json(json.dumps(old)).dialogue.reasoning is None


@settings(deadline=None, max_examples=100)
@given(
    st.builds(
        Failure,
        *(TEXT, TEXT, TEXT, TEXT),
        st.integers(0, 2**53),
        transient=st.booleans(),
        input=TEXT,
    )
)
def test_a_failure_comes_back_as_it_was(failure: Failure) -> None:
    """What to_json writes, from_json reads as an equal failure, from bytes and from text."""
    line = failure.to_json()
    assert Failure.from_json(line) == failure
    assert Failure.from_json(line.decode()) == failure


@settings(deadline=None, max_examples=100)
@given(records())
def test_a_record_is_one_line_that_begins_with_its_id(record: Record) -> None:
    """Whatever is in it, the only newline byte ends it, and a scan of bytes finds the id first."""
    line = record.to_json()
    assert line.startswith(b'{"id":"')
    assert (line.count(b"\n"), line[-1:]) == (1, b"\n")


@settings(deadline=None, max_examples=100)
@given(records())
def test_the_types_of_a_record_never_change(record: Record) -> None:
    """Each row has the same keys in the same order, with null, not absence, for what is unknown."""
    row = json.loads(record.to_json())
    assert list(row) == list(ROW)
    assert list(row["usage"]) == ["prompt_tokens", "completion_tokens"]
    speakers = [list(entry) for entry in row["dialogue"]]
    all_of_them = [["instructor"], ["responder"]] * row["num_turns"]
    assert speakers == all_of_them[: len(all_of_them) - (record.end == "instructor")]
    for key, value in ROW.items():
        if key not in ("system", "reasoning"):
            assert type(row[key]) is type(value)
    assert row["system"] == record.system
    assert (row["reasoning"] is None) == (record.dialogue.reasoning is None)


def test_a_row_is_written_as_the_documentation_shows_it() -> None:
    """A row read and written again is the same, byte for byte."""
    line = (json.dumps(ROW, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
    assert Record.from_json(line).to_json() == line


def test_a_failure_is_written_with_its_keys_in_order() -> None:
    """A failure read and written again is the same, byte for byte, the id first."""
    line = (json.dumps(FAILURE, separators=(",", ":")) + "\n").encode()
    assert Failure.from_json(line).to_json() == line


@pytest.mark.parametrize("blank", ["", " ", "\n\t\r", "\u00a0\u2003"])
@pytest.mark.parametrize("speaker", ["instructor", "responder"])
def test_no_utterance_is_blank(speaker: str, blank: str) -> None:
    """A turn cannot be built in which one speaker says nothing, and the error names the speaker."""
    with pytest.raises(InvalidRecord, match=speaker):
        Turn(**{"instructor": "Why?", "responder": "Because.", speaker: blank})


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6])
def test_who_was_asked_for_has_the_last_word(number: int) -> None:
    """An odd number of utterances does not end with the responder, nor an even one otherwise."""
    said = ["word"] * number
    last, other = ENDS if number % 2 else ENDS[::-1]
    with pytest.raises(InvalidRecord, match=f"the {other} has the last word"):
        Dialogue.from_texts(said, "tiny", end=other)
    dialogue = Dialogue.from_texts(said, "tiny", end=last)
    assert (dialogue.end, dialogue.utterances) == (last, tuple(said))
    good = Record("a", "b", "c", len(dialogue.turns), dialogue, "echo", (), {}, end=last)
    with pytest.raises(InvalidRecord, match=f"the {last} has the last word, not the {other}"):
        replace(good, end=other)
    line = good.to_json()
    assert Record.from_json(line) == Record.from_json(line, last)
    with pytest.raises(InvalidRecord, match="last word"):
        Record.from_json(line, other)


def test_only_the_last_turn_may_have_no_answer() -> None:
    """Nothing may be left out in the middle."""
    with pytest.raises(InvalidRecord, match="only the last turn"):
        Dialogue((Turn("Why?", None), Turn("And why?", "Because.")), "tiny")


def test_rows_from_before_there_was_a_system_line_are_read() -> None:
    """A row without the key is one whose responder was given none."""
    old = {key: value for key, value in ROW.items() if key != "system"}
    assert Record.from_json(json.dumps(old)) == Record.from_json(json.dumps(ROW))


def test_a_dialogue_has_a_turn() -> None:
    """A dialogue of no utterances cannot be built."""
    with pytest.raises(InvalidRecord, match="at least one"):
        Dialogue.from_texts([], "tiny")


@settings(deadline=None, max_examples=50)
@given(st.lists(SPOKEN, min_size=1, max_size=4).map(lambda said: said * 2))
def test_utterances_alternate(said: list[str]) -> None:
    """A dialogue gives its utterances in order, the instructor's first, each under its speaker."""
    entries = Dialogue.from_texts(said, "tiny").as_list()
    assert [text for entry in entries for text in entry.values()] == said
    assert [list(entry) for entry in entries] == [["instructor"], ["responder"]] * (len(said) // 2)


@pytest.mark.parametrize("num_turns", [0, 1, 3, -2])
def test_a_record_has_the_turns_that_were_asked_for(num_turns: int) -> None:
    """A record of two turns cannot be built where another number was asked for."""
    turns = (Turn("Why?", "Because."),) * 2
    assert len(with_turns(turns, 2).dialogue.as_list()) == 4
    with pytest.raises(InvalidRecord, match=f"2 turns where {num_turns} were"):
        with_turns(turns, num_turns)


@pytest.mark.parametrize(
    ("left", "right", "total"),
    [
        (Usage(1, 2), Usage(10, 20), Usage(11, 22)),
        (NO_TOKENS, Usage(5, 6), Usage(5, 6)),
        (Usage(None, 2), Usage(1, 2), Usage(None, 4)),
        (Usage(1, 2), Usage(1, None), Usage(2, None)),
    ],
)
def test_usage_adds_up(left: Usage, right: Usage, total: Usage) -> None:
    """Tokens add up, and a request that was not counted leaves the sum unknown."""
    assert left + right == total


def without(row: dict[str, Any], key: str) -> dict[str, Any]:
    """`row` less one key."""
    return {name: value for name, value in row.items() if name != key}


@pytest.mark.parametrize("key", [key for key in ROW if key not in ("system", "reasoning")])
def test_a_row_lacks_nothing(key: str) -> None:
    """A row without one of its keys is refused, and the error names the key."""
    with pytest.raises(InvalidRecord, match=f'"{key}"'):
        Record.from_json(json.dumps(without(ROW, key)))


@pytest.mark.parametrize("key", list(FAILURE))
def test_a_failure_lacks_nothing(key: str) -> None:
    """A failure without one of its keys, or with null there, is refused, naming the key."""
    wrong = 1 if key == "transient" else True
    for row in (without(FAILURE, key), {**FAILURE, key: None}, {**FAILURE, key: wrong}):
        with pytest.raises(InvalidRecord, match=f'"{key}"'):
            Failure.from_json(json.dumps(row))


@pytest.mark.parametrize("line", [b"", b"{", b"nonsense", b'{"id":"\xff"}', b'{"id":NaN}', b"{}{}"])
@pytest.mark.parametrize("kind", [Record, Failure])
def test_a_line_is_json(kind: type[Record | Failure], line: bytes) -> None:
    """A line that is not JSON in UTF-8 is refused."""
    with pytest.raises(InvalidRecord, match="not JSON: "):
        kind.from_json(line)


@pytest.mark.parametrize("line", ["[]", "null", "1", '"id"', "true"])
@pytest.mark.parametrize("kind", [Record, Failure])
def test_a_line_is_an_object(kind: type[Record | Failure], line: str) -> None:
    """A line of JSON that is not an object is refused."""
    with pytest.raises(InvalidRecord, match="not a JSON object"):
        kind.from_json(line)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("id", 5),
        ("id", None),
        ("instructor_persona", ["a"]),
        ("responding_persona", {}),
        ("num_turns", "2"),
        ("num_turns", 2.0),
        ("num_turns", True),
        ("num_turns", 3),
        ("system", 1),
        ("system", ["Be brief."]),
        ("model", None),
        ("engine", 1),
        ("usage", []),
        ("usage", {"prompt_tokens": "7", "completion_tokens": 1}),
        ("usage", {"prompt_tokens": 7, "completion_tokens": True}),
        ("usage", {"prompt_tokens": 7.5, "completion_tokens": 1}),
        ("findings", {}),
        ("findings", "short"),
        ("findings", [1]),
        ("findings", [None]),
        ("reasoning", "Hm"),
        ("reasoning", ["Hm", 1, None, None]),
        ("reasoning", ["Hm"]),
        ("metadata", None),
        ("metadata", []),
    ],
)
def test_a_value_of_another_type_is_refused(key: str, value: object) -> None:
    """A row is refused in which one value has another type than in every other row."""
    with pytest.raises(InvalidRecord):
        Record.from_json(json.dumps({**ROW, key: value}))


@pytest.mark.parametrize(
    "dialogue",
    [
        [],
        ROW["dialogue"][:3],
        ROW["dialogue"][:2],
        ROW["dialogue"] + ROW["dialogue"][:2],
        ROW["dialogue"][1:] + ROW["dialogue"][:1],
        [ROW["dialogue"][0], *ROW["dialogue"][:3]],
        [{"instructor": "Why?", "responder": "Because."}, *ROW["dialogue"][1:]],
        [{}, *ROW["dialogue"][1:]],
        ["Why?", *ROW["dialogue"][1:]],
        [{"instructor": None}, *ROW["dialogue"][1:]],
        [{"instructor": " \n"}, *ROW["dialogue"][1:]],
        [{"user": "Why?"}, *ROW["dialogue"][1:]],
        {"instructor": "Why?"},
    ],
    ids=[
        "none",
        "ends with the instructor",
        "a turn too few",
        "a turn too many",
        "begins with the responder",
        "one speaker twice",
        "both speakers in one",
        "nobody speaks",
        "no speaker named",
        "null",
        "blank",
        "another speaker",
        "an object",
    ],
)
def test_a_dialogue_that_does_not_alternate_is_refused(dialogue: object) -> None:
    """A row is refused unless instructor and responder alternate, to the last turn."""
    with pytest.raises(InvalidRecord):
        Record.from_json(json.dumps({**ROW, "dialogue": dialogue}), "responder")
