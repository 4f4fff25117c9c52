"""What a judge may answer, and what becomes of it."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magpie_cli.engine import Transient
from magpie_cli.judge.scores import (
    CATEGORIES,
    MALFORMED,
    RATINGS,
    SCHEMA,
    Answer,
    ScoredRecord,
    read_answer,
)
from magpie_cli.records import Dialogue, Record, Turn, Usage
from magpie_cli.source import RecordLine

GOOD: dict[str, Any] = {
    "explanation": "It is to the point.",
    "quality": 4,
    "difficulty": "hard",
    "persona_adherence": 5,
    "category": "Coding & Debugging",
}
RECORD = Record(
    *("x~2", "A curious scientist", "A librarian", 1),
    dialogue=Dialogue((Turn("Where is the map?", "In the drawer."),), "tiny"),
    engine="openai",
    findings=(),
    metadata={"topic": "maps"},
)


def answered(**other: Any) -> str:
    """A good answer, but for these fields."""
    return json.dumps({**GOOD, **other})


@pytest.mark.parametrize(
    "text",
    [
        answered(),
        f"\n  {answered()}\n",
        f"```json\n{answered()}\n```",
        f"```\n{json.dumps(GOOD, indent=2)}\n```\n",
        answered(confidence=0.5),
    ],
    ids=["plain", "blank around", "fenced", "fenced and indented", "one key more"],
)
def test_a_whole_answer_is_read(text: str) -> None:
    """One object with all ratings is an answer, alone or in a fence."""
    answer = read_answer(text)
    assert {"explanation": answer.explanation, **answer.ratings} == GOOD
    assert (answer.wrong, answer.given) == ((), 4)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("I would say 4 of 5.", "is not one JSON object"),
        (f"Here it is: {answered()}", "is not one JSON object"),
        (f"{answered()} I hope this helps.", "is not one JSON object"),
        (f"Here it is:\n```json\n{answered()}\n```", "is not one JSON object"),
        (f"{answered()}\n{answered()}", "is not one JSON object"),
        (answered()[:-1], "is not one JSON object"),
        (f"[{answered()}]", "is JSON, but no object"),
        ("4", "is JSON, but no object"),
        ("{}", "has no explanation"),
        (answered(explanation=None), "has no explanation"),
        (answered(explanation=" "), "has no explanation"),
        (answered(explanation=["good"]), "has no explanation"),
        (json.dumps(dict(reversed(GOOD.items()))), "gives ratings before it explains them"),
        ("[" * 5000, "is not one JSON object"),
    ],
)
def test_anything_else_is_asked_for_again(text: str, why: str) -> None:
    """Prose, two objects, none, a torn one, or no explanation first: no answer at all."""
    with pytest.raises(Transient, match=why) as raised:
        read_answer(text)
    assert (raised.value.kind, raised.value.of_server) == (MALFORMED, False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("quality", value) for value in (0, 6, 4.0, "4", True, None, [4], "good", 2**70)),
        *(("persona_adherence", value) for value in (-1, 5.5, {"value": 5})),
        *(("difficulty", value) for value in ("Hard", "impossible", 3, None, ["hard"])),
        *(("category", value) for value in ("Science", "math", "", 7, "Others ")),
    ],
)
def test_a_rating_that_is_none_is_null_and_named(field: str, value: object) -> None:
    """Another type, another word, or a number off the scale: the other ratings stay."""
    answer = read_answer(answered(**{field: value}))
    assert answer.ratings == {**{key: GOOD[key] for key in RATINGS}, field: None}
    assert answer.given == 3
    assert [wrong.split(" is ")[0] for wrong in answer.wrong] == [field]


def test_a_rating_that_is_missing_is_null_and_named() -> None:
    """As one that is none."""
    answer = read_answer('{"explanation": "Poor.", "quality": 1}')
    assert answer.ratings == {**dict.fromkeys(RATINGS), "quality": 1}
    assert (answer.given, len(answer.wrong)) == (1, 3)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*GOOD]) | st.text(), inner),
    max_leaves=8,
)


@given(st.text() | _JSON.map(json.dumps) | st.builds("```json\n{}\n```".format, st.text()))
def test_no_text_is_too_odd(text: str) -> None:
    """Whatever a model writes is an answer whose ratings are on their scales, or a Transient."""
    try:
        answer = read_answer(text)
    except Transient:
        return
    assert answer.explanation.strip()
    assert list(answer.ratings) == list(RATINGS)
    for name, rating in answer.ratings.items():
        assert rating is None or rating in RATINGS[name]


@given(st.fixed_dictionaries({key: st.sampled_from(values) for key, values in RATINGS.items()}))
def test_every_value_on_the_scales_is_read(ratings: dict[str, Any]) -> None:
    """What the schema allows, the reader takes."""
    answer = read_answer(json.dumps({"explanation": "So.", **ratings}))
    assert (answer.ratings, answer.wrong) == (ratings, ())


def test_the_schema_is_strict_and_explains_first() -> None:
    """Every key is required, no other allowed, and the explanation comes before the ratings."""
    assert list(SCHEMA["properties"]) == SCHEMA["required"] == ["explanation", *RATINGS]
    assert SCHEMA["additionalProperties"] is False
    assert SCHEMA["properties"]["quality"] == {"type": "integer", "enum": [1, 2, 3, 4, 5]}
    assert len(CATEGORIES) == len(set(CATEGORIES)) == 12


def scored(line: bytes, answer: Answer) -> bytes:
    """The line of `line` with the scores of `answer`."""
    row = RecordLine(line, Record.from_json(line), orjson.loads(line))
    return ScoredRecord(row, answer, "tiny", Usage(7, None)).to_json()


def test_a_scored_row_is_the_same_bytes_and_one_key() -> None:
    """However its line was written: nothing of it changes, `scores` comes last."""
    line = (
        RECORD.to_json().strip().replace(b'"num_turns":1', b'"num_turns": 1.5e0, "num_turns": 1 ')
    )
    written = scored(line, read_answer(answered(quality=9)))
    assert written.startswith(line[:-1] + b',"scores":{"explanation":"It is to the point.",')
    assert written.endswith(b"}}}\n")
    assert json.loads(written)["scores"] == {
        **GOOD,
        "quality": None,
        "judge": "tiny",
        "usage": {"prompt_tokens": 7, "completion_tokens": None},
    }
    assert Record.from_json(written) == Record.from_json(line)


def test_new_scores_take_the_place_of_old_ones() -> None:
    """A row that is judged again has one key `scores`, not two."""
    once = scored(RECORD.to_json().strip(), read_answer(answered(quality=1))).strip()
    again = scored(once, read_answer(answered(quality=5)))
    assert again.count(b'"scores"') == 1
    assert json.loads(again)["scores"]["quality"] == 5
    assert json.loads(again) | {"scores": None} == json.loads(once) | {"scores": None}
