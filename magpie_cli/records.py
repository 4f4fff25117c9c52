"""What crosses the file boundary: the pairs that come in, the dialogues and failures that go out.

All frozen. A Dialogue, and so a Record, cannot be built unless it alternates instructor and
responder, ends with the one that was asked for and has no empty utterance.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, zip_longest
from typing import Literal, Protocol, Self

import orjson

from magpie_cli.errors import InvalidRecord
from magpie_cli.fields import field_of, findings_of, json_object, reasoning_of, texts_of, tokens_of

Speaker = Literal["instructor", "responder"]


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


def _add(left: int | None, right: int | None) -> int | None:
    return None if left is None or right is None else left + right


NO_TOKENS = Usage(0, 0)


@dataclass(frozen=True, slots=True)
class Utterance:
    """One speaker's words: what they took, and what was found in them, by the names of checks.

    `reasoning` is what the model thought before them. `discarded` counts the samples that were
    worse; `usage` is of those too.
    """

    text: str
    usage: Usage = NO_TOKENS
    findings: tuple[str, ...] = ()
    reasoning: str | None = None
    discarded: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """An instructor's utterance and its answer, neither blank; None where the instructor ends."""

    instructor: str
    responder: str | None

    def __post_init__(self) -> None:
        for speaker, text in (("instructor", self.instructor), ("responder", self.responder)):
            if text is not None and not text.strip():
                raise InvalidRecord(f"an utterance of the {speaker} is empty")


@dataclass(frozen=True, slots=True)
class Dialogue:
    """The turns of one pair, the model that wrote them, what they took, and what was found in them.

    `findings` are names of checks, each once. `reasoning` is what the model thought before each
    utterance, None for nothing; None altogether where it never did.
    """

    turns: tuple[Turn, ...]
    model: str
    usage: Usage = NO_TOKENS
    findings: tuple[str, ...] = ()
    reasoning: tuple[str | None, ...] | None = None

    def __post_init__(self) -> None:
        if not self.turns:
            raise InvalidRecord("a dialogue has at least one turn")
        if any(turn.responder is None for turn in self.turns[:-1]):
            raise InvalidRecord("only the last turn may have no answer")
        if self.reasoning is not None and len(self.reasoning) != len(self.utterances):
            raise InvalidRecord(f"{len(self.reasoning)} of reasoning, not one for each utterance")

    @classmethod
    def from_utterances(
        cls, utterances: Sequence[Utterance], model: str, *, end: Speaker = "responder"
    ) -> Self:
        """From instructor, responder, instructor, ...; InvalidRecord if `end` is not the last."""
        return cls.from_texts(
            [utterance.text for utterance in utterances],
            model,
            sum((utterance.usage for utterance in utterances), NO_TOKENS),
            [name for utterance in utterances for name in utterance.findings],
            [utterance.reasoning for utterance in utterances],
            end=end,
        )

    @classmethod
    def from_texts(  # noqa: PLR0913 - what is known of a dialogue
        cls,
        texts: Sequence[str],
        model: str,
        usage: Usage = NO_TOKENS,
        findings: Iterable[str] = (),
        reasoning: Iterable[str | None] = (),
        *,
        end: Speaker = "responder",
    ) -> Self:
        """As from_utterances, of words alone and of what is known of them all together."""
        if texts and (len(texts) % 2 == 0) != (end == "responder"):
            raise InvalidRecord(f"{len(texts)} utterances: the {end} has the last word")
        pairs = zip_longest(texts[::2], texts[1::2])
        each_once = tuple(dict.fromkeys(findings))
        thought = tuple(reasoning)
        return cls(
            tuple(Turn(*pair) for pair in pairs),
            model,
            usage,
            each_once,
            thought if any(thought) else None,
        )

    @property
    def end(self) -> Speaker:
        """Who has the last word."""
        return "instructor" if self.turns[-1].responder is None else "responder"

    @property
    def utterances(self) -> tuple[str, ...]:
        """Instructor, responder, instructor, ..."""
        both = (text for turn in self.turns for text in (turn.instructor, turn.responder))
        return tuple(text for text in both if text is not None)

    def as_list(self) -> list[dict[str, str]]:
        """As the Dria documentation shows it: one object a speaker, with a single key."""
        speakers = cycle(("instructor", "responder"))
        return [{speaker: text} for speaker, text in zip(speakers, self.utterances, strict=False)]


@dataclass(frozen=True, slots=True)
class Record:
    """One output line: a pair and its dialogue.

    `system` is the system line that the responder was given, None where there was none. `end` is
    who was to have the last word; it is not in the line, which shows it.
    """

    id: str
    instructor_persona: str
    responding_persona: str
    num_turns: int
    dialogue: Dialogue
    engine: str
    findings: tuple[str, ...]
    metadata: Mapping[str, object]
    system: str | None = None
    end: Speaker = "responder"

    def __post_init__(self) -> None:
        if len(self.dialogue.turns) != self.num_turns:
            raise InvalidRecord(
                f"{len(self.dialogue.turns)} turns where {self.num_turns} were asked for"
            )
        if self.dialogue.end != self.end:
            raise InvalidRecord(f"the {self.dialogue.end} has the last word, not the {self.end}")

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
                "system": self.system,
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
    def from_json(cls, line: bytes | str, end: Speaker | None = None) -> Self:
        """The record of one output line; None: whoever has the last word may have it.

        Raises InvalidRecord with what is wrong. Older rows lack `system` or `reasoning`.
        """
        row = json_object(line)
        texts = texts_of(field_of(row, "dialogue", list))
        usage = field_of(row, "usage", dict)
        end = end or ("instructor" if len(texts) % 2 else "responder")
        return cls(
            id=field_of(row, "id", str),
            instructor_persona=field_of(row, "instructor_persona", str),
            responding_persona=field_of(row, "responding_persona", str),
            num_turns=field_of(row, "num_turns", int),
            dialogue=Dialogue.from_texts(
                texts,
                field_of(row, "model", str),
                Usage(tokens_of(usage, "prompt_tokens"), tokens_of(usage, "completion_tokens")),
                reasoning=reasoning_of(row),
                end=end,
            ),
            engine=field_of(row, "engine", str),
            findings=findings_of(row),
            metadata=field_of(row, "metadata", dict),
            system=None if row.get("system") is None else field_of(row, "system", str),
            end=end,
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
        row = json_object(line)
        texts = {
            key: field_of(row, key, str) for key in ("id", "stage", "kind", "message", "input")
        }
        transient = row.get("transient")
        if not isinstance(transient, bool):
            raise InvalidRecord('"transient" is not true or false')
        return cls(attempts=field_of(row, "attempts", int), transient=transient, **texts)


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
