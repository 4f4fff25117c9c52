"""The preset dria-inference: what Dria's server is sent besides, and what its statuses mean.

https://docs.dria.co/docs/api/chat-completions
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest

from magpie_cli.engine import (
    Completion,
    EngineError,
    EngineRefused,
    PairRefused,
    Sampling,
    Throttled,
    Transient,
)
from magpie_cli.engines import ENGINES
from magpie_cli.engines.http_chat import HttpChatModel
from magpie_cli.engines.openai import SILENCE_TIMEOUT, connect
from magpie_cli.errors import NotFinished
from magpie_cli.pace.paced import PacedChatModel
from magpie_cli.settings import Settings
from tests.chat_server import ChatServer, Fault, refuses, says
from tests.conftest import Magpie, rows_of
from tests.test_openai import MESSAGES, NO_KEYS, PRESETS
from tests.test_pace import World

Pairs = Callable[..., Path]

DRIA = ENGINES["dria-inference"]
OTHERS = [name for name in PRESETS if name != DRIA.name]
KEY = "dria-key-5f0c6c0de1b2a394"
NO_CREDITS = "the account has no credits left"
NO_NODE = "no node of the network serves this model"
ENGINE = ("--engine", DRIA.name, "-j", "1")


def connected(
    server: ChatServer, preset: str = DRIA.name, **settings: Any
) -> AbstractAsyncContextManager[HttpChatModel]:
    """A model of the preset, as if `server` were its own."""
    row = replace(ENGINES[preset], base_url=server.url)
    return connect(row, Settings("-", **settings), {str(row.credential): KEY})


async def sent(server: ChatServer, sampling: Sampling = Sampling(), **settings: Any) -> Any:  # noqa: B008 - frozen
    """The body of one request."""
    async with connected(server, **settings) as model:
        await model.complete(MESSAGES, sampling)
    return server.asked[0].body


def said(status: int, message: str = "the server's words") -> dict[str, Fault]:
    """The ways in which the server says this status."""
    return {
        "status": refuses(status, message),
        "in reply": says({"error": {"message": message, "code": status}}),
        "in reply, as text": says({"error": {"message": message, "code": str(status)}}),
    }


async def error_after(server: ChatServer, fault: Fault) -> EngineError:
    """What a request raises that meets this fault."""
    async with connected(server) as model:
        server.faults = iter([fault])
        with pytest.raises(EngineError) as caught:
            await model.complete(MESSAGES, Sampling())
    return caught.value


async def test_its_own_key_is_sent(server: ChatServer) -> None:
    """The listing and each request carry DRIA_API_KEY."""
    server.key = KEY
    await sent(server)
    assert server.asked[0].headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        ({}, 600),
        ({"timeout": 90.0}, 90),
        ({"timeout": 30.2}, 31),
        ({"timeout": 0.5}, 1),
    ],
)
async def test_a_node_gets_the_time_that_a_request_has(
    server: ChatServer, settings: Mapping[str, Any], seconds: int
) -> None:
    """Each body says --timeout in whole seconds, rounded up, and the 2048 tokens of the default."""
    body = await sent(server, **settings)
    assert body == {
        "model": "tiny",
        "messages": MESSAGES,
        "timeout_secs": seconds,
        "max_tokens": 2048,
    }
    assert isinstance(body["timeout_secs"], int)


@pytest.mark.parametrize("most", [1, 40, 100_000])
async def test_max_tokens_beats_the_default(server: ChatServer, most: int) -> None:
    """--max-tokens, larger or smaller than 2048, is what the node may write."""
    body = await sent(server, Sampling(max_tokens=most))
    assert body["max_tokens"] == most
    assert body["timeout_secs"] == 600


async def test_other_options_go_along(server: ChatServer) -> None:
    """Temperature, top_p and seed stand beside Dria's own."""
    body = await sent(server, Sampling(temperature=0.0, top_p=0.9, seed=3))
    own = {"timeout_secs": 600, "max_tokens": 2048, "model": "tiny", "messages": MESSAGES}
    assert body == {"temperature": 0.0, "top_p": 0.9, "seed": 3, **own}


async def test_another_address_is_sent_the_same(server: ChatServer) -> None:
    """With --base-url the preset still says what it is for: a Dria server elsewhere."""
    async with connect(DRIA, Settings("-", base_url=[server.url]), NO_KEYS) as model:
        await model.complete(MESSAGES, Sampling())
    assert server.asked[0].body["timeout_secs"] == 600
    assert server.asked[0].body["max_tokens"] == 2048


@pytest.mark.parametrize("preset", OTHERS)
async def test_other_servers_are_not_sent_its_options(server: ChatServer, preset: str) -> None:
    """OpenAI refuses what it does not know: other presets send the model and messages alone."""
    body = await sent(server, preset=preset)
    assert body == {"model": "tiny", "messages": MESSAGES}


@pytest.mark.parametrize("preset", PRESETS)
async def test_a_node_may_think_as_long_as_a_request_has(
    server: ChatServer, preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dria's server is silent while a node works; others are given up after two minutes of it."""
    assert SILENCE_TIMEOUT == 120
    monkeypatch.setattr("magpie_cli.engines.openai.SILENCE_TIMEOUT", 0.5)
    async with connected(server, preset) as model:
        await model.complete(MESSAGES, Sampling())  # connected, so that no more is to be waited for
        server.delay = 1.5
        if preset == DRIA.name:
            assert (await model.complete(MESSAGES, Sampling())).text
            return
        with pytest.raises(Transient) as caught:
            await model.complete(MESSAGES, Sampling())
    assert caught.value.kind == "timeout"


@pytest.mark.parametrize("fault", said(402).values(), ids=said(402).keys())
async def test_without_credits_nothing_will_pass(server: ChatServer, fault: Fault) -> None:
    """402 is the engine's refusal, and says that the account wants topping up."""
    error = await error_after(server, fault)
    assert (type(error), error.kind) == (EngineRefused, "http_402")
    assert error.message.startswith(f"{server.url}/chat/completions answered 402: {NO_CREDITS}")
    assert "top it up" in (error.hint or "")
    assert error.message.endswith(": the server's words")


@pytest.mark.parametrize("fault", said(503).values(), ids=said(503).keys())
async def test_without_nodes_a_request_waits(server: ChatServer, fault: Fault) -> None:
    """503 asks for patience, even without Retry-After, and says that no node serves the model."""
    error = await error_after(server, fault)
    assert (type(error), error.kind) == (Throttled, "http_503")
    assert error.message.startswith(f"{server.url}/chat/completions answered 503: {NO_NODE}")
    assert error.message.endswith(": the server's words")


async def test_a_node_may_be_announced(server: ChatServer) -> None:
    """A Retry-After beside a 503 is heeded."""
    error = await error_after(server, refuses(503, Retry_After="7"))
    assert isinstance(error, Throttled)
    assert error.retry_after == 7.0


@pytest.mark.parametrize(
    ("status", "expected"),
    [(400, PairRefused), (401, EngineRefused), (429, Throttled), (500, Transient)],
)
async def test_other_statuses_keep_their_meaning(
    server: ChatServer, status: int, expected: type[EngineError]
) -> None:
    """What Dria means as everybody does is read as everybody's."""
    for fault in said(status).values():
        error = await error_after(server, fault)
        assert type(error) is expected
        assert error.message.endswith(f"answered {status}: the server's words")


async def made(server: ChatServer, world: World, *faults: Fault) -> Completion:
    """One completion behind the gate, on a simulated clock."""
    async with connected(server) as model:
        server.faults = iter(faults)
        paced = PacedChatModel(model, world.pace, world.pace.new_gate(8))
        return await paced.complete(MESSAGES, Sampling())


@pytest.mark.parametrize("way", said(503))
async def test_missing_nodes_use_up_no_attempt(server: ChatServer, way: str) -> None:
    """Twenty times without a node, and five faults among them, end in an answer."""
    world = World()
    faults = [*[said(503)[way]] * 10, *[refuses(500)] * 5, *[said(503)[way]] * 10]
    assert (await made(server, world, *faults)).text
    assert len(server.asked) == len(faults) + 1
    assert [error.kind for error, _ in world.heard].count("http_503") == 20
    assert world.now - 1000 > 600


async def test_missing_nodes_are_given_up_in_the_end(server: ChatServer) -> None:
    """A model that nobody serves stops the run after its patience, to be run again."""
    world = World(patience=300)
    with pytest.raises(NotFinished, match=NO_NODE) as caught:
        await made(server, world, *[refuses(503)] * 100)
    assert "given up after 5 minutes" in caught.value.message
    assert "--give-up-after" in (caught.value.hint or "")


async def test_credits_are_not_waited_for(server: ChatServer) -> None:
    """402 is raised at the first try, and nobody sleeps."""
    world = World()
    with pytest.raises(EngineRefused, match=NO_CREDITS):
        await made(server, world, *[refuses(402)] * 10)
    assert (len(server.asked), world.slept) == (1, [])


@pytest.mark.parametrize("model", [None, "tiny"])
async def test_no_credits_are_noticed_at_the_listing(server: ChatServer, model: str | None) -> None:
    """Where already the listing wants money, no pair is sent."""
    server.listing = refuses(402)
    with pytest.raises(EngineRefused, match=NO_CREDITS):
        async with connected(server, model=model):
            pass


async def test_a_listing_without_nodes_says_so(server: ChatServer) -> None:
    """Which model is asked for cannot be known then, and a named one is believed."""
    server.listing = refuses(503)
    with pytest.raises(NotFinished, match=NO_NODE):
        async with connected(server):
            pass
    assert (await sent(server, model="large"))["model"] == "large"


def test_a_run_without_credits_can_go_on_later(
    magpie: Magpie, server: ChatServer, pairs: Pairs, tmp_path: Path
) -> None:
    """402 in the middle ends the run with what is made, marks no pair, and says what to do."""
    command = ("generate", pairs(4), "-o", "out.jsonl", *ENGINE, "--base-url", server.url)
    server.faults = iter([None, None, None, *[refuses(402)] * 20])
    done = magpie(*command)
    assert (done.returncode, done.stdout) == (1, "")
    assert NO_CREDITS in done.stderr
    assert "top it up" in done.stderr
    assert len(rows_of(tmp_path / "out.jsonl")) == 1
    assert not (tmp_path / "out.failures.jsonl").exists()
    server.faults = iter(())
    assert magpie(*command).returncode == 0
    assert len(rows_of(tmp_path / "out.jsonl")) == 4


def test_a_run_without_nodes_can_go_on_later(
    magpie: Magpie, server: ChatServer, pairs: Pairs, tmp_path: Path
) -> None:
    """503 beyond --give-up-after ends the run with exit code 75, and marks no pair."""
    command = ("generate", pairs(2), "-o", "out.jsonl", *ENGINE, "--base-url", server.url)
    server.faults = chain([None, None], repeat(refuses(503)))
    done = magpie(*command, "--give-up-after", "0.001")
    assert (done.returncode, done.stdout) == (75, "")
    assert f"answered 503: {NO_NODE}" in done.stderr
    assert "given up after 0.001 s" in done.stderr
    assert "wait longer with --give-up-after" in done.stderr
    assert len(rows_of(tmp_path / "out.jsonl")) == 1
    assert not (tmp_path / "out.failures.jsonl").exists()
