"""What an OpenAI-compatible server is sent, and what is made of its good answers."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import pytest

from magpie_cli.converse import ChatEngine
from magpie_cli.engine import Completion, DialogueRequest, Message, Sampling
from magpie_cli.engines import ENGINES
from magpie_cli.engines.http_chat import HttpChatModel
from magpie_cli.engines.openai import connect
from magpie_cli.prompts import own_prompts
from magpie_cli.records import PersonaPair, Usage
from magpie_cli.settings import Settings
from tests.chat_server import ChatServer, answer, says

NO_KEYS: Mapping[str, str] = {}
MESSAGES: list[Message] = [
    {"role": "system", "content": "You are a careful librarian."},
    {"role": "user", "content": "What do you read? „Ganz“ 日本 \u2028 \U0001f989"},
]
PRESETS = [name for name, row in ENGINES.items() if row.module == ENGINES["openai"].module]


def connected(
    url: str,
    preset: str = "openai",
    environment: Mapping[str, str] = NO_KEYS,
    **settings: Any,
) -> AbstractAsyncContextManager[HttpChatModel]:
    """A model at `url`, as `--engine PRESET --base-url URL` would have it."""
    return connect(ENGINES[preset], Settings("-", base_url=[url], **settings), environment)


async def completed(server: ChatServer, sampling: Sampling = Sampling()) -> Completion:  # noqa: B008 - frozen
    """One completion from the server."""
    async with connected(server.url) as model:
        return await model.complete(MESSAGES, sampling)


async def test_model_and_messages_are_sent(server: ChatServer) -> None:
    """Without options the body is the model and the messages, letter by letter, and no more."""
    await completed(server)
    (asked,) = server.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.body == {"model": "tiny", "messages": MESSAGES}
    assert asked.headers["Content-Type"] == "application/json"
    assert "Authorization" not in asked.headers


@pytest.mark.parametrize(
    ("sampling", "sent"),
    [
        (Sampling(temperature=0.7), {"temperature": 0.7}),
        (Sampling(temperature=0.0), {"temperature": 0.0}),
        (Sampling(top_p=0.9), {"top_p": 0.9}),
        (Sampling(seed=0), {"seed": 0}),
        (Sampling(seed=2**31 - 1), {"seed": 2**31 - 1}),
        (
            Sampling(temperature=1.0, top_p=0.5, seed=3),
            {"temperature": 1.0, "top_p": 0.5, "seed": 3},
        ),
    ],
)
async def test_only_given_options_are_sent(
    server: ChatServer, sampling: Sampling, sent: dict[str, object]
) -> None:
    """An option is in the body when it was given, zero included, and absent when it was not."""
    await completed(server, sampling)
    assert server.asked[0].body == {"model": "tiny", "messages": MESSAGES, **sent}


@pytest.mark.parametrize("preset", PRESETS)
async def test_each_preset_names_the_token_limit_as_its_server_does(
    server: ChatServer, preset: str
) -> None:
    """OpenAI's own address gets `max_completion_tokens`; every other server knows `max_tokens`."""
    row = replace(ENGINES[preset], base_url=server.url, required=False)
    async with connect(row, Settings("-"), NO_KEYS) as model:
        await model.complete(MESSAGES, Sampling(max_tokens=40))
    name = "max_completion_tokens" if preset == "openai" else "max_tokens"
    limits = {key: value for key, value in server.asked[0].body.items() if "tokens" in key}
    assert limits == {name: 40}


async def test_any_other_server_gets_the_token_limit_that_all_know(server: ChatServer) -> None:
    """`--base-url` alone means the openai engine, yet not OpenAI's own names."""
    await completed(server, Sampling(max_tokens=40))
    assert server.asked[0].body == {"model": "tiny", "messages": MESSAGES, "max_tokens": 40}


@pytest.mark.parametrize("preset", PRESETS)
async def test_a_model_carries_its_presets_name(server: ChatServer, preset: str) -> None:
    """The engine's name is what the user typed, and the model's what the server calls it."""
    async with connected(server.url, preset) as model:
        assert (model.name, model.model) == (preset, "tiny")


async def test_each_speaker_sees_itself_as_assistant(server: ChatServer) -> None:
    """The server gets native roles: own words as assistant, the other's as user."""
    pair = PersonaPair("a", "A curious scientist", "A careful librarian", None, {}, 1, "{}")
    async with connected(server.url) as model:
        engine = ChatEngine(model, Sampling(), own_prompts())
        dialogue = await engine.dialogue(DialogueRequest("a", pair, num_turns=2))
    first, second = dialogue.turns
    sent = [asked.body["messages"] for asked in server.asked]
    assert [[message["role"] for message in messages] for messages in sent] == [
        ["system", "user"],
        ["system", "user"],
        ["system", "user", "assistant", "user"],
        ["system", "user", "assistant", "user"],
    ]
    words = [[message["content"] for message in messages] for messages in sent]
    assert words[1][1:] == [first.instructor]
    assert words[2][2:] == [first.instructor, first.responder]
    assert words[3][1:] == [first.instructor, first.responder, second.instructor]
    assert "<persona>\nA curious scientist\n</persona>" in words[0][0]
    assert "<persona>\nA careful librarian\n</persona>" in words[1][0]


async def test_a_speakers_messages_only_grow_at_their_end(server: ChatServer) -> None:
    """What a server has cached of a speaker's messages stays valid for the whole dialogue."""
    pair = PersonaPair("a", "A curious scientist", "A careful librarian", None, {}, 1, "{}")
    async with connected(server.url) as model:
        engine = ChatEngine(model, Sampling(), own_prompts())
        await engine.dialogue(DialogueRequest("a", pair, num_turns=4))
    sent = [asked.body["messages"] for asked in server.asked]
    for earlier, later in zip(sent, sent[2:], strict=False):
        assert later[: len(earlier)] == earlier
        assert len(later) == len(earlier) + 2


@pytest.mark.parametrize(("seed", "sent"), [(None, [None] * 4), (100, [100, 101, 102, 103])])
async def test_each_utterance_has_a_seed_of_its_own(
    server: ChatServer, seed: int | None, sent: list[int | None]
) -> None:
    """The dialogue's seed goes up by one with each request; without one none is sent."""
    pair = PersonaPair("a", "A curious scientist", "A careful librarian", None, {}, 1, "{}")
    async with connected(server.url) as model:
        engine = ChatEngine(model, Sampling(), own_prompts())
        await engine.dialogue(DialogueRequest("a", pair, num_turns=2, seed=seed))
    assert [asked.body.get("seed") for asked in server.asked] == sent


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (answer(" \n two\nlines \n"), Completion("two\nlines", "stop", Usage(10, 5))),
        (answer("cut", "length"), Completion("cut", "length", Usage(10, 5))),
        (
            {"choices": [{"message": {"content": "bare"}}]},
            Completion("bare", None, Usage(None, None)),
        ),
        (answer("a") | {"usage": None}, Completion("a", "stop", Usage(None, None))),
        (answer("a") | {"usage": [1]}, Completion("a", "stop", Usage(None, None))),
        (
            answer("a") | {"usage": {"prompt_tokens": 3, "completion_tokens": "4"}},
            Completion("a", "stop", Usage(3, None)),
        ),
        (
            answer("a") | {"usage": {"prompt_tokens": None, "completion_tokens": 4}},
            Completion("a", "stop", Usage(None, 4)),
        ),
        (
            answer("a") | {"usage": {"prompt_tokens": "3", "completion_tokens": 4.5}},
            Completion("a", "stop", Usage(None, None)),
        ),
        (answer("a") | {"error": None}, Completion("a", "stop", Usage(10, 5))),
    ],
    ids=[
        "stripped",
        "length",
        "bare",
        "null usage",
        "odd usage",
        "half",
        "other half",
        "odd counts",
        "null error",
    ],
)
async def test_a_good_answer_is_a_completion(
    server: ChatServer, reply: object, expected: Completion
) -> None:
    """The text is stripped, the finish reason kept, and tokens nobody counted are None."""
    server.faults = iter([says(reply)])
    assert await completed(server) == expected


async def test_the_address_may_end_in_a_slash(server: ChatServer) -> None:
    """`http://host/v1/` is `http://host/v1`."""
    async with connected(server.url + "/") as model:
        await model.complete(MESSAGES, Sampling())
    assert server.asked[0].path == "/v1/chat/completions"


async def test_this_machine_is_reached_without_a_proxy(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes to loopback, a key among it, never leaves the machine through http_proxy."""
    with ChatServer(["another"]) as proxy:
        for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        async with connected(server.url, model="tiny") as model:
            await model.complete(MESSAGES, Sampling())
        assert len(server.asked) == 1
        assert proxy.asked == []
