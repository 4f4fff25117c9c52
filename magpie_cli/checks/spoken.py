"""One utterance, with all that a check may look at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

Speaker = Literal["instructor", "responder"]


@dataclass(frozen=True, slots=True)
class Spoken:
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


@dataclass(frozen=True, slots=True)
class Scene:
    """The two who speak in a dialogue, and what is asked of their words."""

    instructor_persona: str
    responding_persona: str
    language: str | None = None
    min_words: int | None = None
    max_words: int | None = None

    @classmethod
    def of(cls, instructor: str, responder: str, metadata: Mapping[str, object]) -> Self:
        """Of two personas; the language asked for is the column `language`, if there is one."""
        asked = metadata.get("language")
        return cls(instructor, responder, asked if isinstance(asked, str) else None)

    def spoken(self, text: str, before: Sequence[str], finish_reason: str | None = None) -> Spoken:
        """The utterance that comes after those of `before`."""
        speaker: Speaker = "responder" if len(before) % 2 else "instructor"
        personas = (self.instructor_persona, self.responding_persona)
        mine, theirs = personas if speaker == "instructor" else personas[::-1]
        bounds = (self.language, self.min_words, self.max_words)
        return Spoken(text, speaker, tuple(before), mine, theirs, finish_reason, *bounds)
