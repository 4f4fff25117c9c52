"""`magpie generate --dry-run`: what there would be to do."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from magpie_cli.models import ASK_FIRST, find_model
from magpie_cli.preview import _pending
from tests.chat_server import ChatServer
from tests.conftest import Magpie
from tests.test_store import snapshot

Pairs = Callable[..., Path]


def numbers_of(stdout: str) -> dict[str, str]:
    """The table at the beginning."""
    table = stdout.split("\n\n", maxsplit=1)[0]
    return dict(re.split(" {2,}", line, maxsplit=1) for line in table.splitlines())


def test_it_asks_nobody_and_creates_nothing(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, server: ChatServer
) -> None:
    """It shows the counts and the first messages, and leaves server and folder alone."""

    async def listing(request: web.Request) -> web.StreamResponse:
        raise AssertionError(request.path)

    server.listing = listing
    pairs(3)
    before = snapshot(tmp_path)
    arguments = ("--base-url", server.url, "-o", "out.jsonl", "--samples", "2", "--turns", "4-4")
    done = magpie("generate", "pairs.jsonl", *arguments, "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert numbers_of(done.stdout) == {
        "engine": "openai",
        "model": "the only one that the server has",
        "turns": "4",
        "pairs": "3",
        "bad lines": "0",
        "done already": "0",
        "dialogues to make": "6",
        "requests to send": "48",
    }
    assert "--- instructor, system ---" in done.stdout
    assert "A curious scientist, number 0" in done.stdout
    assert "--- responder, system ---" in done.stdout
    assert server.asked == []
    assert snapshot(tmp_path) == before


def test_it_counts_what_an_earlier_run_left(tmp_path: Path, magpie: Magpie, pairs: Pairs) -> None:
    """Rows that are there are not to be made again, bad lines are counted, num_turns is heeded."""
    path = pairs(4, num_turns=3)
    path.write_text(path.read_text() + "oops\n")
    command = ("generate", "pairs.jsonl", "--engine", "echo", "-o", "out.jsonl")
    assert magpie(*command, "--limit", "1").returncode == 75
    before = snapshot(tmp_path)
    numbers = numbers_of(magpie(*command, "--dry-run").stdout)
    assert snapshot(tmp_path) == before
    assert (numbers["pairs"], numbers["bad lines"], numbers["done already"]) == ("4", "1", "1")
    assert (numbers["dialogues to make"], numbers["requests to send"]) == ("3", "18")


def test_a_limit_does_not_change_how_many_pairs_there_are(magpie: Magpie, pairs: Pairs) -> None:
    """With --limit the input is as long as ever, and only the dialogues are fewer."""
    command = ("generate", pairs(5), "--engine", "echo", "--limit", "2", "--dry-run")
    numbers = numbers_of(magpie(*command).stdout)
    assert (numbers["pairs"], numbers["dialogues to make"]) == ("5", "2")


def test_it_says_what_of_the_model_is_to_be_fetched(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, tiny_model: Path
) -> None:
    """A model that runs here is here, or so large, or of unknown size; nothing is begun."""
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = ("generate", pairs(1), "--engine", "local", "--dry-run")
    before = snapshot(tmp_path)

    def model(*flags: str | Path) -> str:
        done = magpie(*command, *flags, **environment)
        assert (done.returncode, done.stderr) == (0, "")
        return numbers_of(done.stdout)["model"]

    assert model().startswith("qwen2.5:1.5b, to be fetched: 1.12 GB, licence Apache-2.0, from hf:")
    assert model("-m", tiny_model) == f"{tiny_model}, on this machine"
    unknown = model("-m", "gemma2:9b-instruct-fp16")
    assert unknown.startswith("gemma2:9b-instruct-fp16, to be fetched from library/gemma2:")
    assert "above 4 GB, magpie pull it first" in unknown
    assert snapshot(tmp_path) == before


def test_a_large_download_is_a_command_of_its_own() -> None:
    """Above 4 GB the rehearsal says what to type first, with what is missing yet."""
    wanted = replace(find_model("it/s:x", {"XDG_CACHE_HOME": "/nowhere"}), size=ASK_FIRST + 1)
    assert _pending(wanted) == (
        "it/s:x, to be fetched: 4 GB, licence not named, from it/s:x; magpie pull it/s:x first"
    )


def test_a_model_that_is_named_is_shown(magpie: Magpie, pairs: Pairs, server: ChatServer) -> None:
    """Of a server that nobody asks, and of the engines whose words are echo's."""
    for flags, name in (
        (("--base-url", server.url, "-m", "large"), "large"),
        (("--engine", "echo"), "echo"),
        (("--devnet",), "echo"),
    ):
        done = magpie("generate", pairs(1), *flags, "--dry-run")
        assert numbers_of(done.stdout)["model"] == name


def test_a_file_that_is_no_model_is_found_out(tmp_path: Path, magpie: Magpie, pairs: Pairs) -> None:
    """As the run itself would: exit 2."""
    (tmp_path / "page.gguf").write_text("<html>")
    command = ("generate", pairs(1), "--engine", "local", "-m", "page.gguf", "--dry-run")
    done = magpie(*command)
    assert (done.returncode, done.stdout) == (2, "")
    assert "page.gguf is no GGUF model" in done.stderr


@pytest.mark.parametrize("rehearsal", [("--dry-run",), ()], ids=["dry run", "run"])
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--engine", "local", "--rpc-url", "http://localhost:1"), "--rpc-url is for the dria"),
        (("--engine", "openai", "--rpc-url", "http://localhost:1"), "--rpc-url is for the dria"),
        (("--engine", "local", "--base-url", "http://localhost:1/v1"), "asks no server"),
        (("--engine", "echo", "--base-url", "http://localhost:1/v1"), "asks no server"),
        (("--engine", "local", "--echo-delay", "1"), "--echo-delay is for the echo engine"),
        (("--engine", "dria", "--echo-delay", "1"), "--echo-delay is for the echo engine"),
        (("--engine", "vllm", "--echo-failure-rate", "1"), "--echo-failure-rate is for the echo"),
        (("--devnet", "--rpc-url", "http://localhost:1"), "--devnet is a network of its own"),
        (("--devnet", "--prompts", "mine"), "with prompts of its own, without --prompts"),
        (("--engine", "dria", "--system", "Be brief."), "prompts of its own, without --system"),
        (("--devnet", "--end", "instructor"), "prompts of its own, without --end instructor"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_flag_that_nobody_heeds_is_an_error(
    magpie: Magpie,
    pairs: Pairs,
    flags: tuple[str, ...],
    words: str,
    rehearsal: tuple[str, ...],
) -> None:
    """Exit 2 before anything begins, with what to leave out."""
    done = magpie("generate", pairs(1), *flags, *rehearsal)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "hint: leave out" in done.stderr


def test_a_devnet_heeds_the_flags_of_echo(magpie: Magpie, pairs: Pairs) -> None:
    """Its writer is echo."""
    flags = ("--devnet", "--echo-delay", "0.1", "--echo-failure-rate", "0.1", "--dry-run")
    assert magpie("generate", pairs(1), *flags).returncode == 0


def test_it_stops_where_the_run_itself_would(magpie: Magpie, pairs: Pairs) -> None:
    """An engine that does not exist is exit 2 in the rehearsal too."""
    done = magpie("generate", pairs(1), "--engine", "nobody", "--dry-run")
    assert (done.returncode, done.stdout) == (2, "")
    assert "nobody" in done.stderr
