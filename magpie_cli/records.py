"""What crosses the file boundary: the pairs that come in, the dialogues and failures that go out.

All frozen. A Dialogue, and so a Record, cannot be built unless it alternates instructor and
responder, ends with the responder and has no empty utterance.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import orjson

from magpie_cli.errors import InvalidRecord
from magpie_cli.fields import (
    field_of,
    findings_of,
    json_object,
    reasoning_of,
    texts_of,
    tokens_of,
)


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
class Utterance:
    """One speaker's words: what they took, and what was found in them, by the names of checks.

    `reasoning` is what the model thought before them, None where it said nothing of that.
    `discarded` counts the samples that were worse; `usage` is of those too.
    """

    text: str
    usage: Usage = NO_TOKENS
    findings: tuple[str, ...] = ()
    reasoning: str | None = None
    discarded: int = 0


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

    `findings` are names of checks, each once. `reasoning` is what the model thought before each
    utterance, None for nothing; None altogether where it thought nothing at all.
    """

    turns: tuple[Turn, ...]
    model: str
    usage: Usage = NO_TOKENS
    findings: tuple[str, ...] = ()
    reasoning: tuple[str | None, ...] | None = None

    def __post_init__(self) -> None:
        if not self.turns:
            raise InvalidRecord("a dialogue has at least one turn")
        if self.reasoning is not None and len(self.reasoning) != 2 * len(self.turns):
            raise InvalidRecord(f"{len(self.reasoning)} of reasoning, not one for each utterance")

    @classmethod
    def from_utterances(cls, utterances: Sequence[Utterance], model: str) -> Self:
        """From instructor, responder, instructor, ...; InvalidRecord if the last answer lacks."""
        return cls.from_texts(
            [utterance.text for utterance in utterances],
            model,
            sum((utterance.usage for utterance in utterances), NO_TOKENS),
            [name for utterance in utterances for name in utterance.findings],
            [utterance.reasoning for utterance in utterances],
        )

    @classmethod
    def from_texts(
        cls,
        texts: Sequence[str],
        model: str,
        usage: Usage = NO_TOKENS,
        findings: Iterable[str] = (),
        reasoning: Iterable[str | None] = (),
    ) -> Self:
        """As from_utterances, of words alone and of what is known of them all together."""
        if len(texts) % 2:
            raise InvalidRecord(f"{len(texts)} utterances: the responder has the last word")
        pairs = zip(texts[::2], texts[1::2], strict=True)
        each_once = tuple(dict.fromkeys(findings))
        thought = tuple(reasoning)
        return cls(
            tuple(Turn(*pair) for pair in pairs),
            model,
            usage,
            each_once,
            thought if any(thought) else None,
        )

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
                "reasoning": self.dialogue.reasoning,
                "metadata": self.metadata,
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )

    @classmethod
    def from_json(cls, line: bytes | str) -> Self:
        """The record of one output line. Raises InvalidRecord with what is wrong."""
        row = json_object(line)
        usage = field_of(row, "usage", dict)
        return cls(
            id=field_of(row, "id", str),
            instructor_persona=field_of(row, "instructor_persona", str),
            responding_persona=field_of(row, "responding_persona", str),
            num_turns=field_of(row, "num_turns", int),
            dialogue=Dialogue.from_texts(
                texts_of(field_of(row, "dialogue", list)),
                field_of(row, "model", str),
                Usage(tokens_of(usage, "prompt_tokens"), tokens_of(usage, "completion_tokens")),
                reasoning=reasoning_of(row),
            ),
            engine=field_of(row, "engine", str),
            findings=findings_of(row),
            metadata=field_of(row, "metadata", dict),
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """A pair, or an unreadable input line, that did not become a record.

    `stage` is "input" or "generate"; `kind` a short stable word; `transient` says that another try
    may pass, because the pair was not at fault. `input` is the line as it was read, so that
    `jq -r .input out.failures.jsonl` gives back the lines that failed.
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
        row = json_object(line)
        texts = {
            key: field_of(row, key, str) for key in ("id", "stage", "kind", "message", "input")
        }
        transient = row.get("transient")
        if not isinstance(transient, bool):
            raise InvalidRecord('"transient" is not true or false')
        return cls(attempts=field_of(row, "attempts", int), transient=transient, **texts)


Outcome = Record | Failure

# JSON escapes the control characters below U+0020 itself. These would reach a terminal too: DEL, C1
# and the marks that reverse what stands after them.
_TERMINAL_CONTROLS = re.compile(b"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xaa-\xae]|\xe2\x81[\xa6-\xa9]")


def for_terminal(line: bytes) -> bytes:
    """A line of JSON that says the same without a byte that steers a terminal."""
    return _TERMINAL_CONTROLS.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), line)
