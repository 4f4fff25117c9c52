"""What a judge says of a dialogue: the scales, an answer read strictly, and a row with scores."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from magpie_cli.engine import Transient
from magpie_cli.records import Usage
from magpie_cli.source import RecordLine

MALFORMED = "malformed_scores"  # the kind of an answer that is not what was asked for

GRADES = (1, 2, 3, 4, 5)  # very poor, poor, average, good, excellent
DIFFICULTIES = ("very easy", "easy", "medium", "hard", "very hard")
# The Magpie paper's difficulties and task categories: https://arxiv.org/abs/2406.08464 .
CATEGORIES = (
    *("Information seeking", "Reasoning", "Planning", "Editing", "Coding & Debugging", "Math"),
    *("Role playing", "Data analysis", "Creative writing", "Advice seeking", "Brainstorming"),
    "Others",
)
# In the order in which the judge gives them.
RATINGS: Mapping[str, tuple[int | str, ...]] = {
    "quality": GRADES,
    "difficulty": DIFFICULTIES,
    "persona_adherence": GRADES,
    "category": CATEGORIES,
}

_FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*)\n[ \t]*```", re.DOTALL | re.IGNORECASE)
_SHOWN = 60  # characters of a rating that is none


def _schema() -> dict[str, Any]:
    properties: dict[str, Any] = {"explanation": {"type": "string"}}
    for name, values in RATINGS.items():
        kind = "string" if isinstance(values[0], str) else "integer"
        properties[name] = {"type": kind, "enum": list(values)}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


SCHEMA: Mapping[str, Any] = _schema()


class Answer(NamedTuple):
    """One answer of the judge: a rating that is none is null in `ratings`, and `wrong` names it."""

    explanation: str
    ratings: Mapping[str, int | str | None]
    wrong: tuple[str, ...]

    @property
    def given(self) -> int:
        """How many ratings are good."""
        return len(self.ratings) - len(self.wrong)


def read_answer(text: str) -> Answer:
    """The one JSON object that `text` is, perhaps inside a ``` fence.

    Raises Transient where it is anything else, or does not begin with an explanation.
    """
    fenced = _FENCED.fullmatch(text.strip())
    try:
        found = orjson.loads(fenced[1] if fenced else text)
    except orjson.JSONDecodeError as error:
        raise malformed(f"is not one JSON object: {error}") from error
    if not isinstance(found, dict):
        raise malformed("is JSON, but no object")
    explanation = found.get("explanation")
    if not isinstance(explanation, str) or not explanation.strip():
        raise malformed("has no explanation")
    if next(iter(found)) != "explanation":
        raise malformed("gives ratings before it explains them")
    ratings = {name: _rating(found.get(name), values) for name, values in RATINGS.items()}
    wrong = tuple(
        f"{name} is {repr(found.get(name))[:_SHOWN]}"
        for name, rating in ratings.items()
        if rating is None
    )
    return Answer(explanation.strip(), ratings, wrong)


def malformed(what: str) -> Transient:
    """The error of an answer that is not what was asked for; the server is well."""
    return Transient(MALFORMED, f"the judge's answer {what}", of_server=False)


def _rating(value: object, values: tuple[int | str, ...]) -> int | str | None:
    """`value` if it is one of `values`; true is not 1, and 4.0 is not 4."""
    return next((one for one in values if type(one) is type(value) and one == value), None)


@dataclass(frozen=True, slots=True)
class ScoredRecord:
    """A row and what the judge said of it. `usage` is what all its answers to the row took."""

    row: RecordLine
    answer: Answer
    judge: str
    usage: Usage

    @property
    def id(self) -> str:
        """The row's."""
        return self.row.id

    def to_json(self) -> bytes:
        """The row's own bytes with one more key, `scores`; what it had of that before is gone."""
        scores = {
            "scores": {
                "explanation": self.answer.explanation,
                **self.answer.ratings,
                "judge": self.judge,
                "usage": self.usage,
            }
        }
        if "scores" in self.row.fields:
            # Not by orjson: to it, a whole number of more than 64 bits is a float.
            row = json.loads(self.row.line) | orjson.loads(orjson.dumps(scores))
            return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        return self.row.line[:-1] + b"," + orjson.dumps(scores)[1:] + b"\n"
