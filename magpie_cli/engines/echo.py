"""`echo`: offline, instant, deterministic text made from the personas.

For a first look, for tests and for benchmarks. Its model is called `echo`, so that nobody takes
its rows for data. `--echo-delay` and `--echo-failure-rate` make it slow and unreliable on request.
"""

import asyncio
import hashlib
import random
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson

from magpie_cli.engine import (
    ECHO,
    Completion,
    EngineRow,
    Message,
    Sampling,
    Transient,
)
from magpie_cli.errors import UsageError
from magpie_cli.records import Usage
from magpie_cli.settings import Settings

MODEL = ECHO

# The persona, and what was said last: in our prompts, and in those of the Dria SDK's MagPie, with
# which a devnet's nodes ask.
_PERSONA = re.compile(
    r"<persona>\s*(.*?)\s*</persona>|You are \{(.*?)\}, engaging in a conversation", re.DOTALL
)
_HISTORY = re.compile(r"Conversation History:\s*\{(.*)\}\s*As \{", re.DOTALL)
_WORD = re.compile(r"[^\W\d_]{5,}")
_QUESTIONS = (
    "I keep coming back to “{first}”. What would you look at before anything else?",
    "Say I have one free evening for “{first}”: where does it go, and what do I leave out?",
    "What do people who say “{first}” get wrong about “{second}”?",
    "Suppose it fails halfway, and I am left with “{first}”. What is the second plan?",
    "How would I tell the real “{first}” from one that only looks right?",
    "You make it sound simple. Where does “{second}” come into it?",
)
_ANSWERS = (
    "I would begin with “{first}”, because it is the part you can check yourself in an hour.",
    "Leave “{second}” for later. Write down what you see, change one thing, and compare.",
    "In my experience “{first}” decides it: three times in four the trouble starts there.",
    "Half of it is “{second}”, the other half is patience, and neither can be bought.",
    "I disagree a little: “{first}” matters less than how it sits beside “{second}”.",
    "Take the smallest case that has “{first}” in it. If that holds, the rest will hold too.",
)


@asynccontextmanager
async def connect(row: EngineRow, settings: Settings) -> AsyncIterator["EchoModel"]:
    """The echo model of one run. Raises UsageError for a --model other than `echo`."""
    if settings.model not in (None, MODEL):
        raise UsageError(
            f"the echo engine has one model, {MODEL!r}, not {settings.model!r}",
            "leave --model out, or choose another --engine (magpie doctor lists them)",
        )
    yield EchoModel(row.name, settings.echo_delay, settings.echo_failure_rate)


class EchoModel:
    """A ChatModel that picks its words from the speaker's persona.

    The same messages and seed give the same text. `delay` in seconds; `failure_rate` is the share
    of requests, 0 to 1, that raise Transient.
    """

    model = MODEL

    def __init__(self, name: str, delay: float = 0.0, failure_rate: float = 0.0) -> None:
        self.name = name
        self._delay = delay
        self._failure_rate = failure_rate
        self._random = random.Random(0)  # noqa: S311 - which request fails is no secret

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """A question after anything that is not one, an answer after a question.

        With a schema, an object of its properties: of an `enum` one of its values, else a text.
        """
        await asyncio.sleep(self._delay)
        if self._failure_rate and self._random.random() < self._failure_rate:
            raise Transient("echo_failure", "echo fails, as --echo-failure-rate asks")
        system, last = messages[0]["content"], messages[-1]["content"]
        history = _HISTORY.search(last)
        asked = (history[1] if history else last).rstrip().endswith("?")
        number = _digest(system, last, str(len(messages)), str(sampling.seed))
        words = _topics(system)
        templates = _ANSWERS if asked else _QUESTIONS
        text = templates[number % len(templates)].format(
            first=words[number // 7 % len(words)], second=words[number // 49 % len(words)]
        )
        if sampling.schema:
            text = _fitting(sampling.schema, text, number)
        prompt_tokens = sum(len(message["content"].split()) for message in messages)
        return Completion(text, "stop", Usage(prompt_tokens, len(text.split())))


def _fitting(schema: Mapping[str, Any], text: str, number: int) -> str:
    properties: Mapping[str, Any] = schema["properties"]
    answer = {}
    for key, property_ in properties.items():
        values = property_.get("enum", [text])
        number, place = divmod(number, len(values))
        answer[key] = values[place]
    return orjson.dumps(answer).decode()


def _digest(*parts: str) -> int:
    return int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:6], "big")


def _topics(system: str) -> list[str]:
    """The longer words of the speaker's persona, in order, each once."""
    match = _PERSONA.search(system)
    words = _WORD.findall((match[1] or match[2]) if match else system)
    return list(dict.fromkeys(word.lower() for word in words)) or ["this"]
