"""What each speaker is told: a pair and the utterances so far -> messages. Pure.

Perspective swap: each speaker sees its own words as `assistant` and the other's as `user`, never a
transcript inside a prompt. Each list only grows at its end, so that a server's prefix cache keeps
all of it.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

from magpie_cli.engine import Message
from magpie_cli.records import PersonaPair

BUILT_IN = ("instructor_persona", "responding_persona", "num_turns")

# All else in braces stays as it is: a prompt may show JSON.
_PLACEHOLDER = re.compile(r"\{([a-z_][a-z0-9_]*)\}")
# What the chat templates of ChatML, Llama 2 and 3, Gemma, Mistral and DeepSeek take for their own.
_CONTROL = re.compile(
    r"<[|\uff5c][^<>\s]{1,40}[|\uff5c]>"
    r"|</?(?:start_of_turn|end_of_turn|bos|eos|s|unk|pad)>|\[/?INST\]|<</?SYS>>"
)


@dataclass(frozen=True)  # without slots: `columns` is found once, not for each dialogue
class Prompts:
    """The system message of each role, and the first `user` message that the instructor sees.

    `system`, if there is one, stands in front of the responder's. A placeholder is one of BUILT_IN
    or a column of the input.
    """

    instructor: str
    responder: str
    opener: str
    system: str | None = None

    @cached_property
    def columns(self) -> Mapping[str, str]:
        """The columns that the placeholders name, each with the text that names it last."""
        texts = {
            "instructor.md": self.instructor,
            "responder.md": self.responder,
            "opener.md": self.opener,
            "--system": self.system or "",
        }
        names = {name: file for file, text in texts.items() for name in names_in(text)}
        return {name: file for name, file in names.items() if name not in BUILT_IN}

    def identity(self, hide: Callable[[str], str] = str) -> dict[str, object]:
        """What else than the files changes a row, as Settings.identity: nothing, usually.

        `hide` takes out of it what must not be written.
        """
        columns = sorted(self.columns)
        return {
            **({"system": hide(self.system)} if self.system is not None else {}),
            **({"columns": columns} if columns else {}),
        }

    def system_line(self, pair: PersonaPair, num_turns: int) -> str | None:
        """`system` as it is sent for a pair."""
        return None if self.system is None else fill(self.system, self.values(pair, num_turns))

    def values(self, pair: PersonaPair, num_turns: int) -> Mapping[str, str]:
        """What stands for each placeholder; the pair has all columns."""
        return {
            "instructor_persona": inert(pair.instructor_persona),
            "responding_persona": inert(pair.responding_persona),
            "num_turns": str(num_turns),
            **{name: inert(str(pair.metadata[name])) for name in self.columns},
        }

    def digest(self) -> str:
        """First 16 hex digits of sha256 over the three files: other prompts, other dialogues."""
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
        values = prompts.values(pair, num_turns)
        first = () if prompts.system is None else (prompts.system,)
        self.instructor: list[Message] = [
            {"role": "system", "content": fill(prompts.instructor, values)},
            {"role": "user", "content": fill(prompts.opener, values)},
        ]
        self.responder: list[Message] = [
            {
                "role": "system",
                "content": "\n\n".join(fill(text, values) for text in (*first, prompts.responder)),
            },
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


def inert(value: str) -> str:
    """The text with a space in every control token, which a server might take for its own."""
    return _CONTROL.sub(lambda found: f"{found[0][0]} {found[0][1:]}", value)


def control_tokens(pair: PersonaPair, columns: Iterable[str] = ()) -> int:
    """How many control tokens of chat templates stand in the two personas and in `columns`."""
    values = (str(pair.metadata[name]) for name in columns)
    texts = (pair.instructor_persona, pair.responding_persona, *values)
    return sum(1 for text in texts for _ in _CONTROL.finditer(text))


def as_text(speaker: str, messages: Iterable[Message]) -> str:
    """Messages for a person to read, each under its speaker and role."""
    return "\n\n".join(
        f"--- {speaker}, {message['role']} ---\n{message['content']}" for message in messages
    )


def names_in(template: str) -> list[str]:
    """What its placeholders name, in their order."""
    return _PLACEHOLDER.findall(template)


def fill(template: str, values: Mapping[str, str]) -> str:
    """Put values in, in one pass: a persona that holds `{num_turns}` stays as it is."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)
