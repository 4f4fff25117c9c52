"""What crosses the file boundary: the pairs that come in, the dialogues and failures that go out.

All frozen. A Dialogue, and so a Record, cannot be built unless it alternates instructor and
responder, ends with the responder and has no empty utterance.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import orjson

from magpie_cli.errors import InvalidRecord

_T = TypeVar("_T", str, int, list[Any], dict[str, Any])
_TYPE_NAMES = {str: "a string", int: "a whole number", list: "a list", dict: "an object"}


@dataclass(frozen=True, slots=True)
class PersonaPair:
    """The two personas of one input line.

    `num_turns` is None where the line leaves it to the run. `metadata` holds the user's own
    columns. `line_number` counts from 1; `line` is the line as it was read, for failures.
    """

    id: str
    instructor_persona: str
    responding_persona: str
    num_turns: int | None
    metadata: Mapping[str, object]
    line_number: int
    line: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of all requests of a dialogue, as the server counted them; None where it did not."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            _add(self.prompt_tokens, other.prompt_tokens),
            _add(self.completion_tokens, other.completion_tokens),
        )


NO_TOKENS = Usage(0, 0)


def _add(left: int | None, right: int | None) -> int | None:
    return None if left is None or right is None else left + right


@dataclass(frozen=True, slots=True)
class Turn:
    """One instructor utterance and the responder's answer to it; neither is blank."""

    instructor: str
    responder: str

    def __post_init__(self) -> None:
        for speaker in ("instructor", "responder"):
            if not getattr(self, speaker).strip():
                raise InvalidRecord(f"an utterance of the {speaker} is empty")


@dataclass(frozen=True, slots=True)
class Dialogue:
    """The turns of one pair, the model that wrote them, what they took, and what was found in them.

    `findings` are names of checks, each once.
    """

    turns: tuple[Turn, ...]
    model: str
    usage: Usage = NO_TOKENS
    findings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.turns:
            raise InvalidRecord("a dialogue has at least one turn")

    @classmethod
    def from_utterances(
        cls,
        utterances: Sequence[str],
        model: str,
        usage: Usage = NO_TOKENS,
        findings: Iterable[str] = (),
    ) -> Self:
        """From instructor, responder, instructor, ...; InvalidRecord if the last answer lacks."""
        if len(utterances) % 2:
            raise InvalidRecord(f"{len(utterances)} utterances: the responder has the last word")
        pairs = zip(utterances[::2], utterances[1::2], strict=True)
        each_once = tuple(dict.fromkeys(findings))
        return cls(tuple(Turn(*pair) for pair in pairs), model, usage, each_once)

    def as_list(self) -> list[dict[str, str]]:
        """As the Dria documentation shows it: one object a speaker, with a single key."""
        return [
            utterance
            for turn in self.turns
            for utterance in ({"instructor": turn.instructor}, {"responder": turn.responder})
        ]


@dataclass(frozen=True, slots=True)
class Record:
    """One output line: a pair and its dialogue."""

    id: str
    instructor_persona: str
    responding_persona: str
    num_turns: int
    dialogue: Dialogue
    engine: str
    findings: tuple[str, ...]
    metadata: Mapping[str, object]

    def __post_init__(self) -> None:
        if len(self.dialogue.turns) != self.num_turns:
            raise InvalidRecord(
                f"{len(self.dialogue.turns)} turns where {self.num_turns} were asked for"
            )

    @property
    def usage(self) -> Usage:
        """What the dialogue took."""
        return self.dialogue.usage

    def to_json(self) -> bytes:
        """One line, newline included. `id` comes first, so that a resume can scan bytes."""
        return orjson.dumps(
            {
                "id": self.id,
                "instructor_persona": self.instructor_persona,
                "responding_persona": self.responding_persona,
                "num_turns": self.num_turns,
                "dialogue": self.dialogue.as_list(),
                "model": self.dialogue.model,
                "engine": self.engine,
                "usage": self.dialogue.usage,
                "findings": self.findings,
                "metadata": self.metadata,
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )

    @classmethod
    def from_json(cls, line: bytes | str) -> Self:
        """The record of one output line. Raises InvalidRecord with what is wrong."""
        row = _json_object(line)
        usage = _field(row, "usage", dict)
        return cls(
            id=_field(row, "id", str),
            instructor_persona=_field(row, "instructor_persona", str),
            responding_persona=_field(row, "responding_persona", str),
            num_turns=_field(row, "num_turns", int),
            dialogue=Dialogue.from_utterances(
                _utterances(_field(row, "dialogue", list)),
                _field(row, "model", str),
                Usage(_tokens(usage, "prompt_tokens"), _tokens(usage, "completion_tokens")),
            ),
            engine=_field(row, "engine", str),
            findings=_findings(row),
            metadata=_field(row, "metadata", dict),
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """A pair, or an unreadable input line, that did not become a record.

    `stage` is "input", "generate" or "judge"; `kind` a short stable word; `transient` says that
    another try may pass, because the pair was not at fault. `input` is the line as it was read, so
    that `jq -r .input out.failures.jsonl` gives back the lines that failed.
    """

    id: str
    stage: str
    kind: str
    message: str
    attempts: int
    transient: bool
    input: str

    def to_json(self) -> bytes:
        """One line, newline included; `id` comes first."""
        return orjson.dumps(self, option=orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_json(cls, line: bytes | str) -> Self:
        """The failure of one line of a failures file. Raises InvalidRecord with what is wrong."""
        row = _json_object(line)
        texts = {key: _field(row, key, str) for key in ("id", "stage", "kind", "message", "input")}
        transient = row.get("transient")
        if not isinstance(transient, bool):
            raise InvalidRecord('"transient" is not true or false')
        return cls(attempts=_field(row, "attempts", int), transient=transient, **texts)


class OutputLine(Protocol):
    """What an output is made of: a record, or one with scores."""

    @property
    def id(self) -> str:
        """The first key of the line."""
        ...

    @property
    def usage(self) -> Usage:
        """What it took to make it."""
        ...

    def to_json(self) -> bytes:
        """The line, newline included."""
        ...


Outcome = OutputLine | Failure

# JSON escapes the control characters below U+0020 itself. These would reach a terminal too: DEL, C1
# and the marks that reverse what stands after them.
_TERMINAL_CONTROLS = re.compile(b"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xaa-\xae]|\xe2\x81[\xa6-\xa9]")


def for_terminal(line: bytes) -> bytes:
    """A line of JSON that says the same without a byte that steers a terminal."""
    return _TERMINAL_CONTROLS.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), line)


def _json_object(line: bytes | str) -> dict[str, Any]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise InvalidRecord(f"not JSON: {error}") from error
    if not isinstance(row, dict):
        raise InvalidRecord("not a JSON object")
    return row


def _field(row: Mapping[str, object], key: str, kind: type[_T]) -> _T:
    value = row.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InvalidRecord(f'"{key}" is not {_TYPE_NAMES[kind]}')
    return value


def _tokens(usage: Mapping[str, object], key: str) -> int | None:
    return None if usage.get(key) is None else _field(usage, key, int)


def _findings(row: Mapping[str, object]) -> tuple[str, ...]:
    findings = _field(row, "findings", list)
    if not all(isinstance(finding, str) for finding in findings):
        raise InvalidRecord('"findings" is not a list of strings')
    return tuple(findings)


def _utterances(dialogue: list[object]) -> list[str]:
    """The texts of a `dialogue` list, if its speakers alternate as they must."""
    utterances = []
    for position, entry in enumerate(dialogue):
        speaker = "responder" if position % 2 else "instructor"
        text = entry.get(speaker) if isinstance(entry, dict) and len(entry) == 1 else None
        if not isinstance(text, str):
            raise InvalidRecord(f'"dialogue"[{position}] is not {{"{speaker}": "..."}}')
        utterances.append(text)
    return utterances
