"""Bad nodes cost the others a try, and no pair its dialogue."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from magpie_cli.devnet import MODEL, DevnetOptions
from magpie_cli.devnet.node import Node
from magpie_cli.devnet.workflow import WorkflowFailed
from magpie_cli.engine import PairRefused
from magpie_cli.records import Dialogue
from tests.dria_engine import Says, connected, kinds
from tests.processes import PATIENCE


def all_say(nodes: Iterable[Node], error: str) -> None:
    """Each of these nodes fails whatever it is given, at once, and says so."""

    async def fails(_: Mapping[str, Any]) -> str:
        raise WorkflowFailed(error)

    for node in nodes:
        setattr(node, "_result", fails)  # noqa: B010 - a method, for mypy


async def test_many_nodes_that_fail_at_once_fail_no_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """One good node among twenty, so slow that no rest outlasts it, makes what the others fail."""
    monkeypatch.setattr("magpie_cli.engines.dria.nodes.LONGEST_REST", 0.01)
    options = DevnetOptions(port=0, nodes=20)
    async with connected(options, Says(seconds=0.005)) as on:
        _, *bad = on.devnet._nodes.values()
        all_say(bad, "no memory")
        outcomes = await on.make(40)
    assert all(isinstance(each, Dialogue) for each in outcomes)
    assert kinds(on.retries) == {"node_error"}


async def test_a_node_that_failed_twice_gets_one_task_at_a_time() -> None:
    """Until one works: then it is a node like the others."""
    async with connected(DevnetOptions(port=0, nodes=1)) as on:
        for _ in range(2):
            on.nodes.give_back(await on.nodes.take(MODEL, ()), worked=False)
        node = await on.nodes.take(MODEL, ())
        waiting = asyncio.create_task(on.nodes.take(MODEL, ()))
        await asyncio.sleep(0)
        assert not waiting.done()
        on.nodes.give_back(node, worked=True)
        assert await waiting is await on.nodes.take(MODEL, ()) is node


async def test_a_bad_node_at_work_holds_up_no_other() -> None:
    """While one that failed twice has its one task, the others still take as many as they may."""
    async with connected(DevnetOptions(port=0, nodes=2)) as on:
        bad, good = on.nodes._nodes.values()
        bad.failures, bad.in_flight = 2, 1
        taken = [await asyncio.wait_for(on.nodes.take(MODEL, ()), PATIENCE) for _ in range(3)]
        assert taken == [good] * 3


async def test_one_node_refuses_no_pair() -> None:
    """What a single node calls an invalid prompt is asked of another."""
    async with connected(DevnetOptions(port=0, nodes=4)) as on:
        all_say([*on.devnet._nodes.values()][:1], "Invalid prompt")
        outcomes = await on.make(30)
    assert all(isinstance(each, Dialogue) for each in outcomes)
    assert kinds(on.retries) == {"invalid_prompt"}


async def test_two_nodes_refuse_a_pair() -> None:
    """Where a second one says the same, no third is asked, and nothing of the pair is kept."""
    async with connected(DevnetOptions(port=0, nodes=4)) as on:
        all_say(on.devnet._nodes.values(), "Invalid prompt")
        (failed,) = await on.make(1)
        assert isinstance(failed, PairRefused)
        assert (failed.kind, failed.attempts) == ("invalid_prompt", 2)
        assert on.devnet.counts.tasks == 2
        assert (on.tasks._asked, on.tasks._tasks) == ({}, {})
