"""A devnet over real HTTP: who may call, what nodes sign and seal, and the faults it is asked for."""

import asyncio
import base64
import hashlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import ClientSession

pytest.importorskip("coincurve", reason="the Dria SDK is not installed: Python 3.12 or later")

import coincurve
import ecies
from Crypto.Hash import keccak

from magpie_cli.devnet import MODEL, DevnetOptions
from magpie_cli.devnet.network import Devnet, open_devnet
from magpie_cli.engine import Completion, EngineError, Message, Sampling, Transient
from magpie_cli.errors import MagpieError
from magpie_cli.records import NO_TOKENS
from tests.test_devnet_workflow import Json, dialogue

KEY = coincurve.PrivateKey()
PUBLIC_KEY = KEY.public_key.format(compressed=False)[1:].hex()  # 64 bytes, as the SDK sends them
FAILED = "Workflow execution failed: "


class Writer:
    """A ChatModel that answers "said" once `may_go` is set, or raises `error`."""

    name = "writer"
    model = "its-own-model"

    def __init__(self, error: EngineError | None = None) -> None:
        self.may_go = asyncio.Event()
        self.may_go.set()
        self.asked: list[Sampling] = []
        self.most_at_once = self._at_once = 0
        self._error = error

    async def complete(self, _: Sequence[Message], sampling: Sampling) -> Completion:
        """One answer."""
        self.asked.append(sampling)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await asyncio.sleep(0)
            await self.may_go.wait()
        finally:
            self._at_once -= 1
        if self._error:
            raise self._error
        return Completion("said", "stop", NO_TOKENS)


@dataclass
class Opened:
    """What stood in one entry of a list: who signed it, the content, and what stood beside it."""

    signer: str
    content: Json
    entry: Json


@dataclass
class Caller:
    """Somebody with a token, and the answers that came for it."""

    session: ClientSession
    devnet: Devnet
    token: str = "a token"
    came: list[Opened] = field(default_factory=list)

    async def get(self, call: str) -> list[Opened]:
        """A list of the RPC."""
        headers = {"x-api-key": self.token}
        async with self.session.get(self.devnet.url + call, headers=headers) as reply:
            assert reply.status == 200
            return [opened(entry) for entry in (await reply.json())["data"]["results"]]

    async def addresses(self) -> list[str]:
        """Of all nodes, as their heartbeats are signed."""
        return [heartbeat.signer for heartbeat in await self.get("/rpc/get_alive_peers")]

    async def post(self, address: str, number: int = 1, **changes: Any) -> None:
        """So many tasks of one turn for a node."""
        for index in range(number):
            assert await self.send(task_for(address, taskId=f"task{index}") | changes) == 200

    async def send(self, task: Json) -> int:
        """The status that a task is answered with."""
        payload = base64.b64encode(json.dumps(task).encode()).decode()
        return await self.send_raw(json.dumps({"value": {"payload": payload}}).encode())

    async def send_raw(self, body: bytes) -> int:
        """The status that a body is answered with."""
        url, headers = f"{self.devnet.url}/rpc/task", {"x-api-key": self.token}
        async with self.session.post(url, data=body, headers=headers) as reply:
            return reply.status

    async def answers(self, number: int) -> list[Opened]:
        """Once so many have come."""
        async with asyncio.timeout(20):
            while len(self.came) < number:
                self.came += await self.get("/rpc/results")
        return self.came


def opened(entry: str) -> Opened:
    """An entry whose signature gives its signer."""
    parts = json.loads(entry)
    text = parts["message"]
    signature = bytes.fromhex(parts["signature"]) + bytes([parts["recovery_id"]])
    digest = hashlib.sha256(text.encode()).digest()
    key = coincurve.PublicKey.from_signature_and_message(signature, digest, hasher=None)
    point = key.format(compressed=False)[1:]
    signer = keccak.new(digest_bits=256, data=point).digest()[-20:].hex()
    return Opened(signer, json.loads(base64.b64decode(text)), parts)


def task_for(*addresses: str, **changes: Any) -> Json:
    """A task of one turn, as the SDK posts it."""
    workflow = {"workflow": dialogue(1), "model": [MODEL]}
    task = {"taskId": "task", "input": workflow, "pickedNodes": addresses, "publicKey": PUBLIC_KEY}
    return task | changes


def plain(answer: Opened) -> str:
    """What only the task's private key can read."""
    return ecies.decrypt(KEY.to_hex(), bytes.fromhex(answer.content["ciphertext"])).decode()


@asynccontextmanager
async def network(writer: Writer | None = None, **options: Any) -> AsyncIterator[Caller]:
    """A devnet of two nodes, and somebody to call it."""
    asked = DevnetOptions(**{"port": 0, "nodes": 2, **options})
    async with open_devnet(asked, writer or Writer()) as devnet, ClientSession() as session:
        yield Caller(session, devnet)


async def until(condition: Callable[[], object]) -> None:
    """Return once it is true."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def test_health_needs_no_token() -> None:
    """Whoever asks hears that it is there."""
    async with network(accept="secret") as caller:
        reply = await caller.session.get(f"{caller.devnet.url}/health")
        assert (reply.status, await reply.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("accept", "token", "status"),
    [
        (None, None, 401),
        (None, "", 401),
        (None, "any", 200),
        ("secret", None, 401),
        ("secret", "any", 401),
        ("secret", "secret", 200),
    ],
)
async def test_each_call_needs_a_token(accept: str | None, token: str | None, status: int) -> None:
    """Without one, or with another than the one that is accepted, it is 401 and nothing happens."""
    async with network(accept=accept) as caller:
        url = f"{caller.devnet.url}/rpc/"
        headers = {} if token is None else {"x-api-key": token}
        for method, call in (("GET", "get_alive_peers"), ("GET", "results"), ("POST", "task")):
            reply = await caller.session.request(method, url + call, headers=headers)
            assert reply.status == (400 if (status, call) == (200, "task") else status)
        async with caller.session.get(f"{url}none", headers=headers) as reply:
            assert reply.status == (404 if status == 200 else 401)


async def test_heartbeats_are_signed_by_their_nodes() -> None:
    """Each has a signer and a peer of its own, and says what its node serves and has to do."""
    async with network(nodes=5, models="a:1b, b:2b,") as caller:
        heartbeats = await caller.get("/rpc/get_alive_peers")
        assert [len(heartbeat.signer) for heartbeat in heartbeats] == [40] * 5
        assert len({heartbeat.signer for heartbeat in heartbeats}) == 5
        assert len({heartbeat.entry["peer_id"] for heartbeat in heartbeats}) == 5
        for heartbeat in heartbeats:
            assert heartbeat.content["models"] == ["a:1b", "b:2b"]
            assert heartbeat.content["pending_tasks"] == [0, 0]


async def test_a_task_is_answered_by_the_node_that_was_picked() -> None:
    """The answer is signed by that node, names the writing model, and opens with the task's key."""
    async with network() as caller:
        first, second = await caller.addresses()
        await caller.post(second)
        (answer,) = await caller.answers(1)
        assert answer.signer == second != first
        assert json.loads(plain(answer)) == ["said", "said"]
        assert answer.content["model"] == Writer.model
        assert set(answer.content) == {"taskId", "model", "ciphertext", "stats"}
        assert list(answer.content["stats"]) == sorted(
            ["receivedAt", "executionStartedAt", "executionEndedAt", "publishedAt"],
            key=lambda name: answer.content["stats"][name],
        )
