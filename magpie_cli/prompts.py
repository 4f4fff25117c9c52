"""What each speaker is told: a pair and the utterances so far -> messages. Pure.

Perspective swap: each speaker sees its own words as `assistant` and the other's as `user`, never a
transcript inside a prompt. Each list only grows at its end, so that a server's prefix cache keeps
all of it.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files

from magpie_cli.engine import Message
from magpie_cli.records import PersonaPair

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
# What the chat templates of ChatML, Llama 2 and 3, Gemma, Mistral and DeepSeek take for their own.
_CONTROL = re.compile(
    r"<[|\uff5c][^<>\s]{1,40}[|\uff5c]>"
    r"|</?(?:start_of_turn|end_of_turn|bos|eos|s|unk|pad)>|\[/?INST\]|<</?SYS>>"
)


@dataclass(frozen=True, slots=True)
class Prompts:
    """The system message of each role, and the first `user` message that the instructor sees."""

    instructor: str
    responder: str
    opener: str

    def digest(self) -> str:
        """First 16 hex digits of sha256 over all three: other prompts, other dialogues."""
        text = f"{self.instructor}\0{self.responder}\0{self.opener}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def own_prompts() -> Prompts:
    """The ones that magpie ships, in `magpie_cli/prompts/`."""
    folder = files("magpie_cli") / "prompts"
    names = ("instructor", "responder", "opener")
    return Prompts(*((folder / f"{name}.md").read_text("utf-8").strip() for name in names))


class Views:
    """The two message lists of one dialogue, as each speaker sees it.

    `instructor` and `responder` are the lists to send; `say()` adds an utterance to both.
    """

    def __init__(self, prompts: Prompts, pair: PersonaPair, num_turns: int) -> None:
        values = {
            "instructor_persona": inert(pair.instructor_persona),
            "responding_persona": inert(pair.responding_persona),
            "num_turns": str(num_turns),
        }
        self.instructor: list[Message] = [
            {"role": "system", "content": _fill(prompts.instructor, values)},
            {"role": "user", "content": _fill(prompts.opener, values)},
        ]
        self.responder: list[Message] = [
            {"role": "system", "content": _fill(prompts.responder, values)},
        ]
        self.utterances: list[str] = []

    def replay(self, utterances: Iterable[str]) -> None:
        """Add what an earlier run already has."""
        for utterance in utterances:
            self.say(utterance)

    @property
    def next_speaker(self) -> list[Message]:
        """The messages of whoever speaks next: the instructor first, then in turn."""
        return self.responder if len(self.utterances) % 2 else self.instructor

    def say(self, utterance: str) -> None:
        """The next speaker's words: its own `assistant`, the other's `user` message."""
        speaker = self.next_speaker
        listener = self.instructor if speaker is self.responder else self.responder
        speaker.append({"role": "assistant", "content": utterance})
        listener.append({"role": "user", "content": utterance})
        self.utterances.append(utterance)


def inert(persona: str) -> str:
    """The persona with a space in every control token, which a server might take for its own."""
    return _CONTROL.sub(lambda found: f"{found[0][0]} {found[0][1:]}", persona)


def control_tokens(pair: PersonaPair) -> int:
    """How many control tokens of chat templates stand in the two personas."""
    personas = (pair.instructor_persona, pair.responding_persona)
    return sum(1 for persona in personas for _ in _CONTROL.finditer(persona))


def _fill(template: str, values: dict[str, str]) -> str:
    """Put values in, in one pass: a persona that holds `{num_turns}` stays as it is."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)
