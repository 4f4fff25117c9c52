"""The engine that needs nothing: offline, deterministic and readable."""

import asyncio
import re
import socket
from itertools import cycle, pairwise
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from magpie_cli.converse import ChatEngine
from magpie_cli.engine import DialogueRequest, EngineRow, Message, Sampling, Transient
from magpie_cli.engines import ENGINES
from magpie_cli.engines.echo import EchoModel, connect
from magpie_cli.errors import UsageError
from magpie_cli.prompts import own_prompts
from magpie_cli.records import Dialogue, PersonaPair
from magpie_cli.settings import Settings
from tests.conftest import Magpie

ROW = EngineRow("echo", "magpie_cli.engines.echo", "demo")
QUOTED = re.compile("“([^”]+)”")
MESSAGES: list[Message] = [
    {"role": "system", "content": "<persona>\nA careful librarian\n</persona>"},
    {"role": "user", "content": "What do you read?"},
]
PERSONAS = st.text("abcdefghiäöß日本図書館 -'{}<>%\n.,12", min_size=1).filter(str.strip)


async def a_dialogue(
    instructor: str = "A curious scientist",
    responder: str = "A careful librarian",
    seed: int | None = 7,
    num_turns: int = 3,
) -> Dialogue:
    """What echo makes of two personas."""
    pair = PersonaPair("a", instructor, responder, None, {}, 1, "{}")
    engine = ChatEngine(EchoModel("echo"), Sampling(), own_prompts())
    return await engine.dialogue(DialogueRequest("a", pair, num_turns, seed))


async def test_echo_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer is made where no socket can be opened and no name looked up."""

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("echo went online")

    with monkeypatch.context() as offline:
        offline.setattr(socket, "socket", refuse)
        offline.setattr(socket, "getaddrinfo", refuse)
        async with connect(ROW, Settings("-")) as model:
            completion = await model.complete(MESSAGES, Sampling())
    assert completion.text


def test_echo_is_deterministic_from_process_to_process(magpie: Magpie) -> None:
    """Python's hash seed and the process change no word."""
    row = b'{"instructor_persona": "A curious scientist", "responding_persona": "A librarian"}\n'
    command = ("generate", "-", "--engine", "echo", "--turns", "4", "--seed", "7")
    first = magpie(*command, stdin=row, PYTHONHASHSEED="1")
    second = magpie(*command, stdin=row, PYTHONHASHSEED="2")
    assert first.returncode == second.returncode == 0
    assert first.stdout == second.stdout != ""


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 8},
        {"seed": None},
        {"instructor": "A curious carpenter"},
        {"responder": "A careful astronaut"},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_another_request_gives_another_dialogue(change: dict[str, Any]) -> None:
    """Seed and both personas each change the words."""
    assert (await a_dialogue(**change)).turns != (await a_dialogue()).turns


@pytest.mark.parametrize("seed", range(5))
async def test_a_dialogue_reads_like_one(seed: int) -> None:
    """The instructor asks, the responder answers, and both speak in whole sentences."""
    utterances = (await a_dialogue(num_turns=10, seed=seed)).utterances
    assert all(text.endswith("?") for text in utterances[::2])
    assert all(text.endswith(".") for text in utterances[1::2])
    for text in utterances:
        assert re.fullmatch(r"[A-Z][^\n{}]{20,200}[.?]", text)
    assert all(first != second for first, second in pairwise(utterances))


@example_settings(deadline=None, max_examples=60)
@given(PERSONAS, PERSONAS)
async def test_words_come_from_the_speakers_own_persona(instructor: str, responder: str) -> None:
    """Whatever is quoted stands in the speaker's persona; "this" is for one without long words."""
    utterances = (await a_dialogue(instructor, responder)).utterances
    for persona, text in zip(cycle((instructor, responder)), utterances, strict=False):
        topics = QUOTED.findall(text)
        assert topics
        assert all(topic in persona.lower() or topic == "this" for topic in topics)


async def test_the_words_are_the_long_ones() -> None:
    """Words of five letters and more are what a persona is about."""
    dialogue = await a_dialogue(responder="He is a deep-sea diver")
    texts = dialogue.utterances[1::2]
    assert {topic for text in texts for topic in QUOTED.findall(text)} == {"diver"}


@pytest.mark.parametrize("model", [None, "echo"])
async def test_the_model_is_called_echo(model: str | None) -> None:
    """No row of the echo engine can be taken for the work of a model."""
    async with connect(ENGINES["echo"], Settings("-", model=model)) as echo:
        assert (echo.name, echo.model) == ("echo", "echo")


async def test_another_model_is_a_usage_error() -> None:
    """Echo does not pretend to be the model that was asked for."""
    with pytest.raises(UsageError, match=r"'echo', not 'gemma2:9b'") as caught:
        async with connect(ENGINES["echo"], Settings("-", model="gemma2:9b")):
            pass
    assert "--model" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("rate", "least", "most"), [(0.0, 0, 0), (0.1, 60, 140), (0.5, 430, 570), (1.0, 1000, 1000)]
)
async def test_the_failure_rate_is_a_share_of_requests(rate: float, least: int, most: int) -> None:
    """Of a thousand requests about as many fail as were ordered, each as a transient fault."""
    model = EchoModel("echo", failure_rate=rate)
    requests = [model.complete(MESSAGES, Sampling()) for _ in range(1000)]
    answers = await asyncio.gather(*requests, return_exceptions=True)
    failures = [answer for answer in answers if isinstance(answer, BaseException)]
    assert least <= len(failures) <= most
    assert {type(failure) for failure in failures} <= {Transient}


async def test_the_same_requests_fail_in_every_run() -> None:
    """A run with failures can be repeated failure by failure."""
    runs = []
    for _ in range(2):
        model = EchoModel("echo", failure_rate=0.5)
        requests = [model.complete(MESSAGES, Sampling()) for _ in range(50)]
        answers = await asyncio.gather(*requests, return_exceptions=True)
        runs.append([isinstance(answer, Transient) for answer in answers])
    assert runs[0] == runs[1]


async def test_a_delay_is_waited() -> None:
    """An answer that is an hour away is not there yet; without a delay it is there at once."""
    slow = asyncio.create_task(EchoModel("echo", delay=3600).complete(MESSAGES, Sampling()))
    quick = asyncio.create_task(EchoModel("echo").complete(MESSAGES, Sampling()))
    await asyncio.wait_for(quick, timeout=30)
    assert not slow.done()
    slow.cancel()


async def test_a_short_delay_ends() -> None:
    """A delayed answer is the answer of an undelayed echo."""
    slow = await EchoModel("echo", delay=0.001).complete(MESSAGES, Sampling())
    assert slow == await EchoModel("echo").complete(MESSAGES, Sampling())


async def test_usage_is_counted() -> None:
    """Words stand for tokens: those of all messages and those of the answer."""
    completion = await EchoModel("echo").complete(MESSAGES, Sampling())
    assert completion.usage.prompt_tokens == 9
    assert completion.usage.completion_tokens == len(completion.text.split())
    assert completion.finish_reason == "stop"
