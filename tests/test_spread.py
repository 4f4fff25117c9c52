"""Several servers: the least busy gets the next dialogue, the dead lose theirs to the others."""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path

import pytest

from magpie_cli.engines import open_engine
from magpie_cli.errors import UsageError
from magpie_cli.pace import Pace
from magpie_cli.prompts import own_prompts
from magpie_cli.settings import Settings
from tests.chat_server import ChatServer, refuses
from tests.conftest import Magpie, rows_of

Pairs = Callable[..., Path]


@pytest.fixture
def servers() -> Iterator[list[ChatServer]]:
    """Three of them."""
    with ChatServer() as one, ChatServer() as two, ChatServer() as three:
        yield [one, two, three]


def urls(servers: list[ChatServer]) -> list[str]:
    """As on a command line."""
    return [part for server in servers for part in ("--base-url", server.url)]


def speakers(server: ChatServer) -> Counter[str]:
    """How many requests of each dialogue a server got, by the personas in it."""
    return Counter(asked.body["messages"][0]["content"] for asked in server.asked)


def test_all_servers_share_the_dialogues_and_each_dialogue_stays(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, servers: list[ChatServer]
) -> None:
    """No server gets much more than its part, and no dialogue two servers."""
    pairs(60)
    for server in servers:
        server.delay = 0.02
    done = magpie("generate", "pairs.jsonl", *urls(servers), "-o", "out.jsonl", "-t", "2")
    assert done.returncode == 0, done.stderr
    assert len(rows_of(tmp_path / "out.jsonl")) == 60
    shares = [len(server.asked) / 240 for server in servers]
    assert all(0.2 < share < 0.5 for share in shares)
    # The instructor's system message is of one pair, the responder's is the same in all.
    firsts = [set(speakers(server)) for server in servers]
    own = [{text for text in first if "scientist, number" in text} for first in firsts]
    assert sum(map(len, own)) == len(set.union(*own))


def test_a_server_that_dies_gives_its_dialogues_to_the_others(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, servers: list[ChatServer]
) -> None:
    """Every pair is made, none fails, and what the dead one had said is not asked again."""
    pairs(120)
    dead, *alive = servers
    dead.faults = chain(repeat(None, 30), repeat(refuses(500)))
    command = ("generate", "pairs.jsonl", *urls(servers), "-o", "out.jsonl", "-t", "2", "-j", "48")
    done = magpie(*command)
    assert done.returncode == 0, done.stderr
    assert len(rows_of(tmp_path / "out.jsonl")) == 120
    assert sum(len(server.asked) for server in alive) == 120 * 4 - 30


def test_one_that_is_down_from_the_start_is_done_without(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, server: ChatServer
) -> None:
    """The run says so, and goes on with the others."""
    pairs(4)
    down = "http://127.0.0.1:9/v1"
    command = ("generate", "pairs.jsonl", "--base-url", down, "--base-url", server.url)
    done = magpie(*command, "-m", "tiny", "-o", "out.jsonl")
    assert done.returncode == 0, done.stderr
    assert len(rows_of(tmp_path / "out.jsonl")) == 4


async def test_servers_with_different_models_are_a_usage_error(servers: list[ChatServer]) -> None:
    """Rows of two models would mix: the error lists both names."""
    servers[1].models = ["other"]
    settings = Settings("-", base_url=[server.url for server in servers[:2]])
    with pytest.raises(UsageError, match="other, tiny"):
        async with open_engine("openai", settings, own_prompts(), Pace()):
            pass
