"""What the judge is told: a template and a row -> one message. Pure, but for reading the file."""

import hashlib
import re
from importlib.resources import files
from pathlib import Path

import orjson

from magpie_cli.engine import Message
from magpie_cli.errors import UsageError
from magpie_cli.judge.scores import CATEGORIES, DIFFICULTIES
from magpie_cli.prompt_files import read_text
from magpie_cli.prompts import fill, inert, names_in
from magpie_cli.records import Record

PLACEHOLDERS = (
    *("dialogue", "instructor_persona", "responding_persona", "num_turns"),
    *("difficulties", "categories"),
)

_BLOCK = re.compile(r"<(?=/?\s*dialogue)", re.IGNORECASE)  # what would end the block of the data


class JudgePrompt:
    """A template with `{dialogue}` in it, and perhaps the other PLACEHOLDERS."""

    def __init__(self, template: str) -> None:
        self._template = template

    @classmethod
    def read(cls, path: str | None) -> "JudgePrompt":
        """The one at `path`, or magpie's own. Raises UsageError where it cannot be used."""
        if path is None:
            return cls((files("magpie_cli") / "prompts" / "judge.md").read_text("utf-8").strip())
        template = read_text(Path(path))
        named = names_in(template)
        known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        for name in named:
            if name not in PLACEHOLDERS:
                raise UsageError(f"--prompt {path}: {{{name}}} stands for nothing", f"use {known}")
        if "dialogue" not in named:
            raise UsageError(f"--prompt {path} has no {{dialogue}}", f"say where it goes; {known}")
        return cls(template)

    def digest(self) -> str:
        """First 16 hex digits of sha256 over it: another prompt, other scores."""
        return hashlib.sha256(self._template.encode()).hexdigest()[:16]

    def messages(self, record: Record) -> list[Message]:
        """One message: some chat templates have no place for a system message.

        What the record says stands there as JSON strings, so that no utterance can look like the
        next speaker's or like the end of the dialogue.
        """
        values = {
            "dialogue": "\n".join(
                f"{speaker.capitalize()}: {_quoted(text)}"
                for utterance in record.dialogue.as_list()
                for speaker, text in utterance.items()
            ),
            "instructor_persona": _quoted(record.instructor_persona),
            "responding_persona": _quoted(record.responding_persona),
            "num_turns": str(record.num_turns),
            "difficulties": ", ".join(f'"{name}"' for name in DIFFICULTIES),
            "categories": ", ".join(f'"{name}"' for name in CATEGORIES),
        }
        return [{"role": "user", "content": fill(self._template, values)}]


def _quoted(text: str) -> str:
    """As a JSON string, in which nothing is a token of a chat template or ends the block."""
    return orjson.dumps(_BLOCK.sub("< ", inert(text))).decode()
