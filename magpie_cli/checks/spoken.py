"""One utterance, with all that a check may look at."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Self

from magpie_cli.checks.words import Text

Speaker = Literal["instructor", "responder"]


class Spoken(NamedTuple):
    """`text` is what `speaker` said after the utterances of `before` (the instructor began).

    `persona` is the speaker's own description, `other_persona` the hidden one. `finish_reason` as
    the server named it. `language` is an ISO 639-1 code. The bounds are in words.
    """

    text: str
    speaker: Speaker = "instructor"
    before: tuple[str, ...] = ()
    persona: str = ""
    other_persona: str = ""
    finish_reason: str | None = None
    language: str | None = None
    min_words: int | None = None
    max_words: int | None = None


@dataclass(slots=True)
class Scene:
    """The two who speak in a dialogue, what is asked of their words, and what they said so far."""

    instructor_persona: str
    responding_persona: str
    language: str | None = None
    min_words: int | None = None
    max_words: int | None = None
    before: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.instructor_persona = Text(self.instructor_persona)
        self.responding_persona = Text(self.responding_persona)

    @property
    def speaker(self) -> Speaker:
        """Who speaks next."""
        return "responder" if len(self.before) % 2 else "instructor"

    @classmethod
    def of(cls, instructor: str, responder: str, metadata: Mapping[str, object]) -> Self:
        """Of two personas; the language asked for is the column `language`, if there is one."""
        asked = metadata.get("language")
        return cls(instructor, responder, asked if isinstance(asked, str) else None)

    def spoken(self, text: str, finish_reason: str | None = None) -> Spoken:
        """What may become the next utterance."""
        speaker = self.speaker
        mine, theirs = self.instructor_persona, self.responding_persona
        if speaker == "responder":
            mine, theirs = theirs, mine
        return Spoken(
            Text(text),
            speaker,
            tuple(self.before),
            mine,
            theirs,
            finish_reason,
            self.language,
            self.min_words,
            self.max_words,
        )

    def say(self, text: str) -> None:
        """It is the next utterance.

        What is known of it is not kept: its words take twenty times as much memory as it does, and
        finding them anew less time than reading them there.
        """
        self.before.append(text)
