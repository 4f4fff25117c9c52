"""Several servers: the least busy gets the next dialogue, the dead lose theirs to the others."""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat
from pathlib import Path

import pytest

from magpie_cli.converse import ChatEngine
from magpie_cli.engine import (
    Completion,
    DialogueRequest,
    Engine,
    EngineError,
    Message,
    Sampling,
    Throttled,
    Transient,
)
from magpie_cli.engines import open_engine
from magpie_cli.errors import UsageError
from magpie_cli.pace import Pace
from magpie_cli.pace.paced import PacedChatModel
from magpie_cli.prompts import own_prompts
from magpie_cli.records import PersonaPair, Usage
from magpie_cli.settings import Settings
from magpie_cli.spread import Server, SpreadEngine
from tests.chat_server import ChatServer, answers_after, refuses
from tests.conftest import Magpie, rows_of
from tests.processes import end, started, wait_until
from tests.virtual_time import run_virtually

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
    tmp_path: Path, pairs: Pairs, servers: list[ChatServer]
) -> None:
    """Each has as many in flight, the next dialogue goes where one has ended, and none to two."""
    pairs(60)
    answers = [threading.Event() for _ in servers]
    for server, may_answer in zip(servers, answers, strict=True):
        server.faults = repeat(answers_after(may_answer))
    command = ("generate", "pairs.jsonl", *urls(servers), "-o", "out.jsonl", "-t", "2")
    with started(tmp_path, *command) as process:
        wait_until(lambda: sum(server.in_flight for server in servers) == 24, "all are busy")
        assert [server.in_flight for server in servers] == [8, 8, 8]
        answers[0].set()
        wait_until(lambda: len(servers[0].asked) == (60 - 16) * 4, "one makes all the others' rest")
        assert [len(server.asked) for server in servers[1:]] == [8, 8]
        for may_answer in answers:
            may_answer.set()
        code, said = end(process)
    assert code == 0, said
    assert len(rows_of(tmp_path / "out.jsonl")) == 60
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
    [said] = [line for line in done.stderr.splitlines() if line.startswith("waiting: ")]
    assert dead.url in said
    assert said.endswith("; the other servers go on")


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


class Scripted:
    """A ChatModel that does what `act` does at that time, and then answers after half a second."""

    name = model = "scripted"

    def __init__(self, act: Callable[[float], None] = lambda _: None) -> None:
        self.act = act
        self.asked_at: list[float] = []

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """One answer, or what the script raises."""
        del messages, sampling
        now = asyncio.get_running_loop().time()
        self.asked_at.append(now)
        self.act(now)
        await asyncio.sleep(0.5)
        return Completion("words", "stop", Usage(1, 1))


def spread(models: Sequence[Scripted], workers: int, until: float) -> list[str]:
    """What becomes of dialogues that so many workers ask for, up to that virtual second."""

    async def work() -> list[str]:
        loop = asyncio.get_running_loop()
        pace = Pace(clock=loop.time, patience=3600.0, uniform=random.Random(1).uniform)  # noqa: S311
        servers: list[Server[Engine]] = []
        for model in models:
            gate = pace.new_gate(workers)
            chat = PacedChatModel(model, pace, gate)
            servers.append(Server(ChatEngine(chat, Sampling(), own_prompts()), gate))
        engine, outcomes = SpreadEngine(servers), []

        async def worker(number: int) -> None:
            while loop.time() < until:
                pair = PersonaPair(f"{number}", "a scientist", "a librarian", None, {}, 1, "{}")
                try:
                    await engine.dialogue(DialogueRequest(pair.id, pair, 2))
                    outcomes.append("made")
                except EngineError as error:
                    outcomes.append(error.kind)

        await asyncio.gather(*map(worker, range(workers)))
        return outcomes

    return run_virtually(work())


def test_a_server_that_asks_for_minutes_is_left_alone_for_them() -> None:
    """The others make the dialogues meanwhile, and nobody goes round in circles."""

    def busy(now: float) -> None:
        if now < 1:
            raise Throttled("http_429", "busy", 300.0)

    asks, works = Scripted(busy), Scripted()
    outcomes = spread([asks, works], 4, until=600)
    assert set(outcomes) == {"made"}
    assert not [at for at in asks.asked_at if 1 < at < 300]
    assert [at for at in asks.asked_at if at > 301]


@pytest.mark.parametrize("workers", [1, 2, 16])
def test_a_dead_server_fails_no_pair_and_is_found_when_it_lives_again(workers: int) -> None:
    """With few dialogues in flight or many: the other makes them, and probes find the first."""

    def dead(now: float) -> None:
        if now < 200:
            raise Transient("connection", "refused")

    dies, works = Scripted(dead), Scripted()
    outcomes = spread([dies, works], workers, until=1500)
    assert set(outcomes) == {"made"}
    assert len([at for at in dies.asked_at if at < 200]) < 80
    assert len([at for at in dies.asked_at if at > 800]) > 500 * min(workers, 2) / 2
