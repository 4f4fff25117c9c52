"""What every engine promises, whichever it is."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from magpie_cli.devnet import DevnetOptions
from magpie_cli.engine import DialogueRequest, Engine, EngineError, EngineRow
from magpie_cli.engines import ENGINES, open_engine
from magpie_cli.errors import UsageError
from magpie_cli.pace import Pace
from magpie_cli.prompts import own_prompts
from magpie_cli.records import NO_TOKENS, Dialogue, PersonaPair, Utterance
from magpie_cli.settings import Settings
from tests.chat_server import ChatServer, answer, cuts, refuses, resets, says, sends
from tests.conftest import needs_llama, needs_sdk

ASKED = {"echo": "echo", "openai": "tiny", "dria": "gemma2:9b-instruct-fp16"}
WRITES = ASKED | {"dria": "echo"}  # on a devnet
NAMES = [
    *("echo", "openai"),
    pytest.param("dria", marks=needs_sdk),
    pytest.param("local", marks=needs_llama),
]
# Engines to which a dialogue comes all at once.
WHOLE = ("dria",)
NO_MODEL = {"local": "no-such-model.gguf"}
ALTERNATIVES = ASKED | {"dria": "the nearest are", "local": "a name that magpie models lists"}
FAULTS = (
    refuses(500),
    resets,
    None,
    refuses(429, Retry_After="7"),
    cuts,
    says(answer("")),
    None,
    refuses(503),
    sends(b'{"choices": ['),
)
BEHIND_A_RELAY = {**ENGINES, "local": replace(ENGINES["local"], module="tests.local_engine")}


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The engine under test, with no key in the environment."""
    monkeypatch.delenv("MAGPIE_API_KEY", raising=False)
    return str(request.param)


@pytest.fixture
def model(name: str, tiny_model: Path) -> str:
    """The model that a user would name."""
    return ASKED.get(name, str(tiny_model))


@pytest.fixture
def settings(name: str, model: str, server: ChatServer) -> Settings:
    """What a user would give to reach the engine."""
    return Settings(
        "-",
        model=model,
        base_url=[server.url] if name == "openai" else None,
        devnet=name == "dria",
    )


@pytest.fixture
def disturbed(
    name: str, settings: Settings, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """The same engine, of whose next requests several fail."""
    if name == "dria":
        from tests.devnets import running_devnet

        monkeypatch.setenv("DRIA_RPC_TOKEN", "any")
        options = DevnetOptions(port=0, error_rate=0.7, seed=3, rpc_error_rate=0.2)
        with running_devnet(options) as devnet:
            yield replace(settings, devnet=False, rpc_url=devnet.url)
    elif name == "echo":
        yield replace(settings, echo_failure_rate=0.3)
    elif name == "local":
        yield settings  # with a table of its own
    else:
        server.faults = iter(FAULTS)
        yield settings


async def no_wait(_: float) -> None:
    """For a pace whose delays nobody wants to sit through."""
    await asyncio.sleep(0)


def opened(
    name: str,
    settings: Settings,
    retries: list[EngineError] | None = None,
    table: Mapping[str, EngineRow] = ENGINES,
) -> AbstractAsyncContextManager[Engine]:
    """The engine behind a pace that does not wait; `retries` collects what is tried again."""

    def on_retry(error: EngineError, _: float) -> None:
        if retries is not None:
            retries.append(error)

    return open_engine(name, settings, own_prompts(), Pace(on_retry, sleep=no_wait), table)


def request(number: int = 0, num_turns: int = 3, seed: int | None = 7) -> DialogueRequest:
    """A dialogue of the `number`-th of many pairs, whose personas have a word of their own each."""
    field = "b" * (5 + number)
    pair = PersonaPair(
        id=f"pair-{number}",
        instructor_persona=f"A scientist who studies {field}",
        responding_persona=f"A librarian who collects {field}",
        num_turns=None,
        metadata={},
        line_number=number + 1,
        line="{}",
    )
    return DialogueRequest(pair.id, pair, num_turns, seed)


def utterances(dialogue: Dialogue) -> list[str]:
    """In the order they were said."""
    return [*dialogue.utterances]


@pytest.mark.parametrize("num_turns", [1, 2, 5])
async def test_a_dialogue_is_whole(name: str, settings: Settings, num_turns: int) -> None:
    """It has as many turns as asked for, and instructor and responder alternate in it."""
    async with opened(name, settings) as engine:
        dialogue = await engine.dialogue(request(num_turns=num_turns))
    speakers = [next(iter(entry)) for entry in dialogue.as_list()]
    assert speakers == ["instructor", "responder"] * num_turns
    assert all(text.strip() == text != "" for text in utterances(dialogue))


async def test_an_engine_has_a_name_and_a_model(name: str, model: str, settings: Settings) -> None:
    """The engine is called what the user typed, and each dialogue carries its model's name."""
    async with opened(name, settings) as engine:
        dialogue = await engine.dialogue(request())
        writes = WRITES.get(name, model)
        assert isinstance(engine, Engine)
        assert (engine.name, engine.model, dialogue.model) == (name, writes, writes)


async def test_each_utterance_is_reported_as_it_is_made(name: str, settings: Settings) -> None:
    """The callback hears all utterances in order, and their usage adds up to the dialogue's.

    Not of an engine to which the whole dialogue comes at once.
    """
    heard: list[Utterance] = []
    async with opened(name, settings) as engine:
        dialogue = await engine.dialogue(replace(request(), on_utterance=heard.append))
    if name not in WHOLE:
        assert len(heard) == 6
        assert [utterance.text for utterance in heard] == utterances(dialogue)
        assert sum((utterance.usage for utterance in heard), NO_TOKENS) == dialogue.usage
    assert (dialogue.usage.completion_tokens is None) == (name == "dria")  # nobody counts there


@pytest.mark.parametrize("had", range(7))
async def test_a_dialogue_goes_on_where_an_earlier_run_ended(
    name: str, settings: Settings, server: ChatServer, had: int
) -> None:
    """What an earlier run has is not asked again, and the rest is what it would have been."""
    heard: list[str] = []
    async with opened(name, settings) as engine:
        whole = await engine.dialogue(request())
        server.asked.clear()
        resumed = await engine.dialogue(
            replace(
                request(),
                utterances=tuple(map(Utterance, utterances(whole)[:had])),
                on_utterance=lambda utterance: heard.append(utterance.text),
            )
        )
    assert resumed.turns == whole.turns
    assert heard == ([] if name in WHOLE else utterances(whole)[had:])
    assert len(server.asked) == (6 - had if name == "openai" else 0)


async def test_earlier_utterances_are_kept_verbatim(name: str, settings: Settings) -> None:
    """What an earlier run has comes back letter by letter, its spaces and braces too."""
    had = ("  {num_turns}?\n", "<persona> „ja“ \t", "\u2028third ")
    async with opened(name, settings) as engine:
        dialogue = await engine.dialogue(replace(request(), utterances=tuple(map(Utterance, had))))
    assert tuple(utterances(dialogue)[:3]) == had


@pytest.mark.parametrize("seed", [None, 7])
async def test_the_same_request_gives_the_same_dialogue(
    name: str, settings: Settings, seed: int | None
) -> None:
    """Another connection and the same seed and pair give the same words and the same usage.

    A model that throws dice needs a seed for it, or temperature 0.
    """
    if name == "local" and seed is None:
        settings = replace(settings, temperature=0.0)
    dialogues = []
    for _ in range(2):
        async with opened(name, settings) as engine:
            dialogues.append(await engine.dialogue(request(seed=seed)))
    assert dialogues[0] == dialogues[1]


async def test_fifty_dialogues_at_once_do_not_mix(name: str, settings: Settings) -> None:
    """Made together, each of fifty dialogues is what it is when it is made alone."""
    requests = [request(number, num_turns=2, seed=100 * number) for number in range(50)]
    async with opened(name, settings) as engine:
        together = await asyncio.gather(*map(engine.dialogue, requests))
        alone = [await engine.dialogue(each) for each in requests]
    assert together == alone
    assert len({dialogue.turns for dialogue in together}) == 50


async def test_an_unknown_model_is_a_usage_error(name: str, settings: Settings) -> None:
    """A model that the engine does not have is named before any dialogue begins."""
    unknown = replace(settings, model=NO_MODEL.get(name, "no-such-model"))
    with pytest.raises(UsageError, match="no-such-model") as caught:
        async with opened(name, unknown):
            pass
    assert ALTERNATIVES[name] in f"{caught.value} {caught.value.hint}"


async def test_an_unknown_engine_is_a_usage_error(settings: Settings) -> None:
    """A name that is not in the table gets the names that are."""
    with pytest.raises(UsageError, match="no-such-engine") as caught:
        async with opened("no-such-engine", settings):
            pass
    assert "echo, dria" in (caught.value.hint or "")


async def test_transient_faults_do_not_show(
    name: str, settings: Settings, disturbed: Settings
) -> None:
    """Requests that fail are tried again, and the dialogue is that of an undisturbed run."""
    retries: list[EngineError] = []
    heard: list[str] = []
    async with opened(name, disturbed, retries, BEHIND_A_RELAY) as engine:
        dialogue = await engine.dialogue(
            replace(request(num_turns=6), on_utterance=lambda said: heard.append(said.text))
        )
    async with opened(name, settings) as engine:
        undisturbed = await engine.dialogue(request(num_turns=6))
    assert len(retries) >= 2
    assert dialogue == undisturbed
    assert heard == ([] if name in WHOLE else utterances(undisturbed))
