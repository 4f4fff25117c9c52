"""What nodes say of themselves, however odd, is taken for no more than that."""

import json

import orjson
import pytest

from magpie_cli.devnet import MODEL, DevnetOptions
from magpie_cli.devnet.node import Node
from magpie_cli.engines.dria.nodes import Nodes
from magpie_cli.engines.dria.sdk import Sdk
from magpie_cli.records import Dialogue
from tests.dria_engine import connected, request


def heartbeat_of(node: Node, *models: object) -> str:
    """A heartbeat that the node signs, with these models."""
    listed = orjson.Fragment(json.dumps(models))  # orjson itself writes no lone surrogate
    return node._signed({"models": listed, "pending_tasks": [0, 0]}, peer_id=node.peer_id)


@pytest.mark.parametrize(
    "beside",
    [
        *({"peer_id": 5}, {"peer_id": None}, {"peer_id": "\ud800"}, {"peer_id": "x" * 300_000}),
        *({"message": "oops"}, {"message": "x" * 300_000}, {"recovery_id": 7}, {"signature": ""}),
    ],
    ids=lambda beside: str(beside)[:20].encode("ascii", "backslashreplace").decode(),
)
async def test_odd_heartbeats_are_passed_over(beside: dict[str, object]) -> None:
    """What one node says of itself, however odd, takes nothing from the others."""
    async with connected() as on:
        heartbeats = await on.rpc.heartbeats()
        odd = json.dumps(json.loads(heartbeats[0]) | beside)
        on.nodes.refresh([odd, "oops", "{}", *heartbeats[1:]])
        assert on.nodes.served() == {MODEL: len(heartbeats) - 1}
        assert isinstance(await on.engine.dialogue(request()), Dialogue)


async def test_models_that_are_no_names_are_passed_over() -> None:
    """A node that lists numbers among its models, or what is no text or too long, serves others."""
    async with connected(DevnetOptions(port=0, nodes=1)) as on:
        (node,) = on.devnet._nodes.values()
        odd = [5, MODEL, "a\nb", "\ud800", "x" * 300_000]
        on.nodes.refresh([heartbeat_of(node, *odd)])
        assert on.nodes.served() == {"a\nb": 1, MODEL: 1}
        lack = on.nodes.lack("qwq").message
    assert lack == f"no node serves qwq; the network serves a b (1), {MODEL} (1)"


async def test_two_heartbeats_of_one_node_stay_apart() -> None:
    """Listed together the last one counts; the first, listed alone again, still says its own."""
    async with connected(DevnetOptions(port=0, nodes=1)) as on:
        (node,) = on.devnet._nodes.values()
    nodes = Nodes(Sdk())
    old, new = heartbeat_of(node, "qwq"), heartbeat_of(node, MODEL)
    nodes.refresh([old, new])
    assert nodes.served() == {MODEL: 1}
    nodes.refresh([old])
    assert nodes.served() == {"qwq": 1}


async def test_a_model_name_does_not_spread_the_token() -> None:
    """A node that lists the token among its models is not quoted with it."""
    async with connected(DevnetOptions(port=0, nodes=1)) as on:
        (node,) = on.devnet._nodes.values()
    nodes = Nodes(Sdk(), "", lambda text: text.replace("sk-canary", "***"))
    nodes.refresh([heartbeat_of(node, "a sk-canary b")])
    assert nodes.served() == {"a *** b": 1}
    assert nodes.lack(MODEL).message.endswith("the network serves a *** b (1)")
