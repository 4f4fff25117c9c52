"""One utterance, with all that a check may look at."""

from dataclasses import dataclass
from typing import Literal

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
