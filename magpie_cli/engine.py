"""The two seams of the house: where a dialogue comes from, and where one completion comes from.

An engine speaks its protocol and says what each of its errors means; what to do about it is decided
above (pace/, run.py), which never read an error's text:

EngineError
├── Transient       try again: connection lost, timeout, 5xx, cut or invalid JSON, empty reply
├── Throttled       try again, slower; does not use up an attempt: 429, 503 with Retry-After
├── ServerLost      this server is in trouble, and another makes the rest of the dialogue
├── PairRefused     this pair cannot be done: 400, 413, 422, content filter, context too long
└── EngineRefused   no pair can be done: 401, 402, 403, unknown model; no pair is marked failed
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypedDict, runtime_checkable

from magpie_cli.errors import MagpieError, NotFinished
from magpie_cli.records import Dialogue, PersonaPair, Speaker, Usage, Utterance

# Kinds of PairRefused that are no fault of the pair: without that, it may pass.
NO_SYSTEM_ROLE = "no_system_role"  # the model takes no system message
SCHEMA_REFUSED = "schema_refused"  # the server takes no schema

ECHO = "echo"  # the model whose words are no data: nobody checks them
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


class EngineError(MagpieError):
    """`kind` is a short stable word for the failures file; `attempts` counts the tries."""

    def __init__(self, kind: str, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.kind = kind
        self.attempts = 1


class Transient(EngineError):  # noqa: N818 - named for what it means, here and below
    """Worth another try. `of_server`: the server is in trouble, not only this answer poor."""

    def __init__(self, kind: str, message: str, *, of_server: bool = True) -> None:
        super().__init__(kind, message)
        self.of_server = of_server


class Throttled(EngineError):  # noqa: N818
    """The server asks for patience: `retry_after` in seconds, None where it gave no time."""

    def __init__(self, kind: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(kind, message)
        self.retry_after = retry_after


class ServerLost(EngineError):  # noqa: N818
    """The dialogue is to go on at another server."""


class PairRefused(EngineError):  # noqa: N818
    """The pair will never pass; others may."""


class EngineRefused(EngineError):  # noqa: N818
    """Nothing will pass until a person changes something."""


class Message(TypedDict):
    """One entry of an OpenAI-style message list."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample one completion; None leaves it to the server. `max_tokens` is per utterance.

    With a `schema`, of https://json-schema.org , the text is to be a JSON object that fits it, as
    far as the server can see to that.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer. `text` is stripped and never empty; `finish_reason` as the server named it.

    `reasoning` is what the model thought before, None where it said nothing of that.
    """

    text: str
    finish_reason: str | None
    usage: Usage
    reasoning: str | None = None


def ignore_sentence(sentence: str) -> None:
    """For a preparation that nobody watches."""


def ignore_utterance(utterance: Utterance) -> None:
    """For a request whose progress nobody watches."""


def processors(quota: Path = _QUOTA) -> int:
    """Those that this process may use: a container's share is rounded up.

    `quota` is the file of https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files .
    """
    here = hasattr(os, "sched_getaffinity")
    count = len(os.sched_getaffinity(0)) if here else os.cpu_count() or 1
    try:
        share, period = quota.read_text().split()
        return max(1, min(count, -(-int(share) // int(period))))
    except (OSError, ValueError, ZeroDivisionError):  # another kind of system, or "max"
        return count


@dataclass(frozen=True, slots=True)
class DialogueRequest:
    """One dialogue to make.

    `id` names the record. `seed` is this dialogue's own, None for none. `utterances` are those that
    an earlier run already has. `on_utterance` is called with each new one before the next is asked
    for; not by an engine to which they come all at once. `end` has the last word, `system` is the
    line that the responder obeys, as the record is to hold it, and `columns` the values of those
    columns that the prompts name.
    """

    id: str
    pair: PersonaPair
    num_turns: int
    seed: int | None = None
    utterances: tuple[Utterance, ...] = ()
    on_utterance: Callable[[Utterance], None] = ignore_utterance
    end: Speaker = "responder"
    system: str | None = None
    columns: tuple[object, ...] = ()

    @property
    def length(self) -> int:
        """How many utterances the whole dialogue has."""
        return 2 * self.num_turns - (self.end == "instructor")


class StatusMeaning(NamedTuple):
    """What an HTTP status means on one server; whether it is to be waited out."""

    words: str
    wait: bool = False


@dataclass(frozen=True, slots=True)
class EngineRow:
    """What `magpie doctor` says of an engine, and the module that opens it.

    `credential` names an environment variable, `required` whether the engine needs it, `otherwise`
    what to do without. `start` is what to type when nothing answers. `package` must be installed,
    `absent` says why it may not be. `prompts` names those of an engine that makes whole dialogues,
    with its own. `statuses` are HTTP statuses in the server's own sense. `body` goes into each
    request; `timeout_field` of it is how long the server may take, and be silent. `concurrency` is
    the default.
    """

    name: str
    module: str
    what: str
    base_url: str | None = None
    credential: str | None = None
    required: bool = False
    start: str | None = None
    otherwise: str | None = None
    package: str | None = None
    absent: str | None = None
    prompts: str | None = None
    statuses: Mapping[int, StatusMeaning] = field(default_factory=dict)
    body: Mapping[str, object] = field(default_factory=dict)
    timeout_field: str | None = None
    concurrency: int = 8


@runtime_checkable
class Engine(Protocol):
    """Where dialogues come from."""

    @property
    def name(self) -> str:
        """As the user types it after --engine."""
        ...

    @property
    def model(self) -> str:
        """The LLM's name."""
        ...

    async def dialogue(self, request: DialogueRequest) -> Dialogue:
        """The whole dialogue. Raises EngineError."""
        ...


@runtime_checkable
class Queueing(Protocol):
    """An Engine before which dialogues may wait for their turn."""

    def close_queue(self, error: NotFinished) -> None:
        """Ask for nothing more: dialogues that wait, or try again, raise `error`."""
        ...


@runtime_checkable
class ChatModel(Protocol):
    """Where one completion comes from."""

    @property
    def name(self) -> str:
        """As the user types it after --engine."""
        ...

    @property
    def model(self) -> str:
        """The LLM's name."""
        ...

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """The assistant's next message. Raises EngineError; Transient where it would be empty."""
        ...
