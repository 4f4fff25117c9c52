"""Which model of an OpenAI-compatible server is used, and what is said where none can be."""

import socket
from dataclasses import replace

import pytest

from magpie_cli.engine import EngineRefused, Sampling
from magpie_cli.engines import ENGINES
from magpie_cli.engines.openai import MODELS_SHOWN, connect
from magpie_cli.errors import MagpieError, UsageError
from magpie_cli.settings import Settings
from tests.chat_server import ChatServer, Fault, cuts, refuses, resets, says, sends
from tests.conftest import Magpie
from tests.test_openai import MESSAGES, NO_KEYS, connected

NO_LISTING: dict[str, Fault] = {
    "404": refuses(404),
    "405": refuses(405),
    "HTML": sends(b"<html>not an API</html>"),
    "empty": says({"data": []}),
    "no data": says({}),
    "data of null": says({"data": None}),
    "odd entries": says({"data": ["tiny", {"name": "tiny"}, {"id": 3}, None]}),
}


async def chosen(server: ChatServer, model: str | None) -> str:
    """The model that a request is sent for."""
    async with connected(server.url, model=model) as connection:
        await connection.complete(MESSAGES, Sampling())
    name: str = server.asked[0].body["model"]
    return name


async def refusal(server: ChatServer, model: str | None) -> tuple[str, str]:
    """Message and hint of the usage error that this gives."""
    with pytest.raises(UsageError) as caught:
        await chosen(server, model)
    assert server.asked == []
    return caught.value.message, caught.value.hint or ""


async def test_the_only_model_is_used_by_itself(server: ChatServer) -> None:
    """Without --model, a server with one model is asked for that one."""
    server.models = ["only-one:7b"]
    assert await chosen(server, None) == "only-one:7b"


async def test_of_several_models_one_must_be_named(server: ChatServer) -> None:
    """Without --model, a server with several gets a usage error that lists them."""
    server.models = ["small", "large"]
    message, hint = await refusal(server, None)
    assert server.url in message
    assert "--model" in hint
    assert "small" in hint
    assert "large" in hint


async def test_a_model_that_is_there_is_used(server: ChatServer) -> None:
    """With --model, the server is asked for exactly that."""
    server.models = ["small", "large"]
    assert await chosen(server, "large") == "large"


async def test_a_name_without_tag_means_latest(server: ChatServer) -> None:
    """`gemma2` is there when `gemma2:latest` is, as Ollama has it; another tag does not do."""
    server.models = ["gemma2:latest", "llama3:8b"]
    assert await chosen(server, "gemma2") == "gemma2"
    server.asked.clear()
    await refusal(server, "llama3")


async def test_an_unknown_model_gets_the_list(server: ChatServer) -> None:
    """A model that the server does not have is named, with all that it has."""
    server.models = ["small", "large"]
    message, hint = await refusal(server, "medium")
    assert "'medium'" in message
    assert "small, large" in hint


async def test_of_many_models_the_nearest_are_shown(server: ChatServer) -> None:
    """Where a server has hundreds, a misspelt name gets those that look like it, nearest first."""
    server.models = [f"vendor-{number}/other-{number}" for number in range(300)]
    server.models += ["google/gemma-2-9b-it", "google/gemma-2-27b-it"]
    _, hint = await refusal(server, "google/gemma2-9b-it")
    shown = hint.removeprefix("--model with one of: ").split(" and ")[0].split(", ")
    assert shown[0] == "google/gemma-2-9b-it"
    assert "google/gemma-2-27b-it" in shown
    assert len(shown) <= MODELS_SHOWN
    assert f"and {302 - len(shown)} more" in hint


@pytest.mark.parametrize("asked", [None, "##########"])
async def test_a_long_list_is_cut(server: ChatServer, asked: str | None) -> None:
    """Where nothing is near, the first twenty by name are shown, and how many there are more."""
    server.models = [f"model-{number:03}" for number in reversed(range(100))]
    _, hint = await refusal(server, asked)
    assert ", ".join(f"model-{number:03}" for number in range(20)) in hint
    assert hint.endswith("and 80 more")


@pytest.mark.parametrize("listing", NO_LISTING.values(), ids=NO_LISTING.keys())
async def test_without_a_listing_a_named_model_is_believed(
    server: ChatServer, listing: Fault
) -> None:
    """A server that cannot list its models is asked for the one that the user names."""
    server.listing = listing
    assert await chosen(server, "tiny") == "tiny"


@pytest.mark.parametrize("listing", NO_LISTING.values(), ids=NO_LISTING.keys())
async def test_without_a_listing_a_model_must_be_named(server: ChatServer, listing: Fault) -> None:
    """A server that cannot list its models needs --model."""
    server.listing = listing
    _, hint = await refusal(server, None)
    assert "--model" in hint


async def test_a_web_page_in_place_of_a_listing_is_named(server: ChatServer) -> None:
    """The address of a web interface, without its /v1, is said to be none of an API."""
    server.listing = NO_LISTING["HTML"]
    message, hint = await refusal(server, None)
    assert "/models answered with an HTML page" in message
    assert "/v1" in hint


@pytest.mark.parametrize(
    "listing",
    [refuses(500), refuses(429), refuses(503, Retry_After="1")],
    ids=["500", "429", "503"],
)
async def test_a_busy_listing_does_not_stop_a_named_model(
    server: ChatServer, listing: Fault
) -> None:
    """A server too busy to list its models is asked for the one that the user names."""
    server.listing = listing
    assert await chosen(server, "tiny") == "tiny"


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_busy_listing_is_not_taken_for_an_empty_one(
    server: ChatServer, status: int
) -> None:
    """Without --model, what the server answered is said, rather than that it has no models."""
    server.listing = refuses(status, "come back later")
    with pytest.raises(MagpieError) as caught:
        await chosen(server, None)
    assert f"answered {status}: come back later" in caught.value.message


@pytest.mark.parametrize(("status", "hint"), [(401, "key"), (402, "credit"), (403, "key")])
@pytest.mark.parametrize("model", [None, "tiny"])
async def test_a_refused_listing_is_the_engines_refusal(
    server: ChatServer, status: int, hint: str, model: str | None
) -> None:
    """Where the account does not pass, no request is sent, with --model or without."""
    server.listing = refuses(status)
    with pytest.raises(EngineRefused) as caught:
        await chosen(server, model)
    assert caught.value.kind == f"http_{status}"
    assert hint in (caught.value.hint or "")
    assert server.asked == []


@pytest.fixture
def dead() -> str:
    """An address of this machine at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        return f"http://127.0.0.1:{gone.getsockname()[1]}/v1"


@pytest.mark.parametrize("model", [None, "tiny"])
async def test_nothing_listening_is_an_error_with_a_hint(dead: str, model: str | None) -> None:
    """A server that is not there is no usage error, and the address and --base-url are named."""
    with pytest.raises(MagpieError) as caught:
        async with connected(dead, model=model):
            pass
    assert caught.value.exit_code == 1
    assert dead in caught.value.message
    assert "--base-url" in (caught.value.hint or "")


async def test_a_preset_says_how_its_server_is_started(dead: str) -> None:
    """Where Ollama is not running, the hint is the command that starts it."""
    row = replace(ENGINES["ollama"], base_url=dead)
    with pytest.raises(MagpieError) as caught:
        async with connect(row, Settings("-"), NO_KEYS):
            pass
    assert "ollama serve" in (caught.value.hint or "")


@pytest.mark.parametrize("listing", [resets, cuts], ids=["reset", "cut"])
async def test_a_lost_listing_is_an_error_with_a_hint(server: ChatServer, listing: Fault) -> None:
    """A connection that breaks before the models are known stops with exit code 1."""
    server.listing = listing
    with pytest.raises(MagpieError) as caught:
        await chosen(server, "tiny")
    assert caught.value.exit_code == 1
    assert server.url in caught.value.message
    assert caught.value.hint


def test_the_command_says_what_the_server_has(magpie: Magpie, server: ChatServer) -> None:
    """From end to end: exit code 2, the list in the hint, and nothing written."""
    server.models = ["small", "large"]
    row = '{"instructor_persona": "A scientist", "responding_persona": "A librarian"}\n'
    done = magpie("generate", "-", "--base-url", server.url, "-m", "medium", stdin=row)
    assert (done.returncode, done.stdout) == (2, "")
    assert "'medium'" in done.stderr
    assert "hint: --model with one of: small, large" in done.stderr
    assert "Traceback" not in done.stderr
