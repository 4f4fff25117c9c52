"""`magpie generate --dry-run`: what there would be to do."""

import re
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

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
    arguments = ("--base-url", server.url, "-o", "out.jsonl", "--samples", "2", "--turns", "4")
    done = magpie("generate", "pairs.jsonl", *arguments, "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert numbers_of(done.stdout) == {
        "engine": "openai",
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


def test_it_stops_where_the_run_itself_would(magpie: Magpie, pairs: Pairs) -> None:
    """An engine that does not exist is exit 2 in the rehearsal too."""
    done = magpie("generate", pairs(1), "--engine", "nobody", "--dry-run")
    assert (done.returncode, done.stdout) == (2, "")
    assert "nobody" in done.stderr
