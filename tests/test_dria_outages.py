"""An RPC that is down, or odd, loses the dria engine no pair."""

import asyncio
from types import NoneType

import pytest
from aiohttp import web

from magpie_cli.devnet import DevnetOptions
from magpie_cli.engine import EngineError, EngineRefused, PairRefused, Throttled, Transient
from magpie_cli.engines.dria.asked import Asked, Task
from magpie_cli.engines.dria.tasks import LONGEST_SILENCE
from magpie_cli.engines.http_server import MAX_REPLY_BYTES
from magpie_cli.records import Dialogue
from tests.chat_server import Fault, Flood, refuses, sends
from tests.dria_engine import Says, connected, kinds, request, until


async def test_an_rpc_that_goes_down_uses_up_no_attempt() -> None:
    """However long the RPC answers 500 to everything, the pairs wait, and then are made."""
    options = DevnetOptions(port=0, rpc_error_rate=0.0)
    async with connected(options, patience=1e6) as on:
        object.__setattr__(options, "rpc_error_rate", 1.0)
        working = asyncio.create_task(on.make(8))
        await until(lambda: len(on.retries) >= 100)
        object.__setattr__(options, "rpc_error_rate", 0.0)
        outcomes = await working
    assert all(isinstance(each, Dialogue) for each in outcomes)
    assert "rpc_down" in kinds(on.retries)
    assert sum(error.kind == "http_500" for error in on.retries) < 3


@pytest.mark.parametrize("call", ["send", "ask"])
async def test_one_call_that_is_out_fails_no_pair(call: str) -> None:
    """Where tasks cannot be sent, or answers cannot be had, while the rest works, pairs wait."""
    async with connected(timeout=0.5) as on:
        server = on.rpc._server
        good = getattr(server, call)

        async def bad(*arguments: object) -> object:
            if "get_alive_peers" in str(arguments):
                return await good(*arguments)
            raise Transient("http_500", "out")

        setattr(server, call, bad)
        working = asyncio.create_task(on.make(6))
        await until(lambda: sum(error.kind == "rpc_down" for error in on.retries) > 20)
        setattr(server, call, good)
        outcomes = await working
    assert all(isinstance(each, Dialogue) for each in outcomes)


async def hangs_for_a_while(_: web.Request) -> web.StreamResponse:
    """Longer than the time of a task."""
    await asyncio.sleep(1.2)
    return web.Response(status=500)


@pytest.mark.parametrize(
    ("fault", "silence"),
    [(refuses(400), LONGEST_SILENCE), (refuses(429), LONGEST_SILENCE), (hangs_for_a_while, 0.15)],
    ids=["400", "429", "hangs"],
)
async def test_answers_that_cannot_be_had_are_not_missing(
    fault: Fault, silence: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While they cannot be fetched no task is overdue, and once they can, every pair is made."""
    monkeypatch.setattr("magpie_cli.engines.dria.tasks.LONGEST_SILENCE", silence)
    faults = {"/rpc/results": fault}
    async with connected(faults=faults, timeout=1.0) as on:
        working = asyncio.create_task(on.make(6))
        long_enough = asyncio.get_running_loop().time() + 1.5
        await until(lambda: asyncio.get_running_loop().time() > long_enough and on.retries)
        faults.clear()
        outcomes = await working
    assert all(isinstance(each, Dialogue) for each in outcomes)
    assert {type(error) for error in on.retries} == {Throttled}


async def test_a_network_of_another_protocol_refuses_the_run() -> None:
    """An RPC that calls three tasks none, and has taken none, stops the run, with a way out."""
    no_task = "bm8gdGFzaw=="
    async with connected() as on:
        for _ in range(2):
            with pytest.raises(PairRefused):
                await on.rpc.publish(no_task)
        with pytest.raises(
            EngineRefused, match=r"takes no tasks of the Dria SDK 0\.0\.124"
        ) as last:
            await on.rpc.publish(no_task)
        assert "--engine dria-inference" in str(last.value.hint)
        assert isinstance(await on.engine.dialogue(request()), Dialogue)
        with pytest.raises(PairRefused):  # now it is the pair's own fault
            await on.rpc.publish(no_task)


@pytest.mark.parametrize("status", [400, 413])
async def test_a_network_that_takes_no_more_tasks_refuses_the_run(status: int) -> None:
    """After some were taken, twenty that are refused in a row are no fault of their pairs."""
    faults: dict[str, Fault] = {}
    async with connected(faults=faults) as on:
        assert isinstance(await on.engine.dialogue(request()), Dialogue)
        faults["/rpc/task"] = refuses(status)
        for number in range(19):
            with pytest.raises(PairRefused):
                await on.engine.dialogue(request(number))
        with pytest.raises(EngineRefused, match="takes no tasks"):
            await on.engine.dialogue(request())


async def page(_: web.Request) -> web.StreamResponse:
    """What a hotel's network says to everything."""
    return web.Response(text="<html>please log in</html>", content_type="text/html")


async def test_a_page_takes_no_task() -> None:
    """Status 200 with HTML is a fault that may pass, and no sign that this network takes tasks."""
    faults: dict[str, Fault] = {"/rpc/task": page}
    async with connected(faults=faults) as on:
        with pytest.raises(Transient) as caught:
            await on.rpc.publish("")
        assert caught.value.kind == "bad_reply"
        faults["/rpc/task"] = refuses(400)
        for kind in (PairRefused, PairRefused, EngineRefused):
            with pytest.raises(kind):
                await on.rpc.publish("")


@pytest.mark.parametrize("call", ["results", "get_alive_peers"])
async def test_an_error_that_is_nested_too_deep_is_an_error(call: str) -> None:
    """One with status 200 whose words cannot be written down again is a fault like any other."""
    deep = b'{"error": 1, "x": ' + b"[" * 500 + b"]" * 500 + b"}"
    faults: dict[str, Fault] = {}
    async with connected(faults=faults) as on:
        faults[f"/rpc/{call}"] = sends(deep)
        asks = on.rpc.answers if call == "results" else on.rpc.heartbeats
        with pytest.raises(EngineError) as caught:
            await asks()
        assert caught.value.kind == "error_in_reply"


@pytest.mark.parametrize("status", [200, 500])
async def test_no_more_is_read_of_a_reply_than_its_words(status: int) -> None:
    """An RPC that never stops answering a task is left after the first 64 KiB."""
    flood = Flood(status)
    faults: dict[str, Fault] = {"/rpc/task": flood}
    async with connected(faults=faults) as on:
        outcomes = await asyncio.gather(on.rpc.publish(""), return_exceptions=True)
        assert [type(each) for each in outcomes] == [NoneType if status == 200 else Transient]
        await until(lambda: flood.is_over)
    assert flood.sent < MAX_REPLY_BYTES


async def test_an_outage_does_not_silence_a_node() -> None:
    """What a node said is raised, also where answers cannot be had from then on."""
    async with connected(DevnetOptions(port=0, nodes=1)) as on:
        (node,) = on.nodes._nodes.values()
        asked = Asked(2, pending=Task("task", node, "0x1", 0.0))
        on.tasks._asked["pair"] = asked
        said = Transient("node_error", "no memory")
        asked.tell(said)
        on.tasks._say_that_none_come(Transient("http_500", "out"))
        assert asked.failure is said


async def test_an_outage_that_is_over_is_not_told() -> None:
    """A dialogue that was to wait for the RPC goes on where it was, once it is asked for again."""
    async with connected(DevnetOptions(port=0, nodes=1), Says(seconds=0.2)) as on:
        engine, out = on.engine._engine, Transient("http_500", "out")
        working = asyncio.create_task(engine.dialogue(request()))
        await until(lambda: on.devnet.counts.tasks)
        on.tasks._say_that_none_come(out)
        with pytest.raises(Throttled):
            await working
        on.tasks._say_that_none_come(out)
        assert isinstance(await engine.dialogue(request()), Dialogue)
        assert on.devnet.counts.tasks == 1
