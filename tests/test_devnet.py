"""A devnet over real HTTP: who may call, what nodes sign and seal, and the faults asked for."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import pytest
from aiohttp import ClientSession

pytest.importorskip("coincurve", reason="the Dria SDK is not installed: Python 3.12 or later")

import coincurve
import ecies
from Crypto.Hash import keccak

from magpie_cli.devnet import DevnetOptions
from magpie_cli.devnet.network import Devnet, open_devnet
from magpie_cli.engine import Completion, Message, Sampling, Transient
from magpie_cli.records import NO_TOKENS
from tests.test_devnet_workflow import Json, dialogue

KEY = coincurve.PrivateKey()
PUBLIC_KEY = KEY.public_key.format(compressed=False)[1:].hex()  # 64 bytes, as the SDK sends it
PEERS, RESULTS, TASK = "/rpc/get_alive_peers", "/rpc/results", "/rpc/task"
FAILED = "Workflow execution failed: "


class Writer:
    """A ChatModel that answers "said", or raises `error`, while `may_go` is set."""

    name = "writer"
    model = "its-own-model"

    def __init__(self, error: Exception | None = None) -> None:
        self.may_go = asyncio.Event()
        self.may_go.set()
        self.asked: list[Sampling] = []
        self._error = error

    async def complete(self, _: Sequence[Message], sampling: Sampling) -> Completion:
        """One answer."""
        self.asked.append(sampling)
        await self.may_go.wait()
        if self._error:
            raise self._error
        return Completion("said", "stop", NO_TOKENS)


class Signed(NamedTuple):
    """An entry of a list, the address that its signature gives, and what was signed."""

    entry: Json
    signer: str
    content: Json


def verified(text: str) -> Signed:
    """An entry as it came, and who signed it."""
    entry = json.loads(text)
    digest = hashlib.sha256(entry["message"].encode()).digest()
    signature = bytes.fromhex(entry["signature"]) + bytes([entry["recovery_id"]])
    key = coincurve.PublicKey.from_signature_and_message(signature, digest, hasher=None)
    hashed = keccak.new(digest_bits=256, data=key.format(compressed=False)[1:]).digest()
    return Signed(entry, hashed[-20:].hex(), json.loads(base64.b64decode(entry["message"])))


@dataclass(frozen=True)
class Caller:
    """Somebody who calls a devnet."""

    session: ClientSession
    devnet: Devnet
    token: str | None = "mine"

    async def call(self, path: str, body: bytes | None = None) -> tuple[int, str]:
        """The status and the text of a reply."""
        headers = {} if self.token is None else {"x-api-key": self.token}
        method, url = "POST" if path == TASK else "GET", self.devnet.url + path
        async with self.session.request(method, url, headers=headers, data=body) as reply:
            return reply.status, await reply.text()

    async def listed(self, path: str) -> list[Signed]:
        """What a list has, each entry verified."""
        status, text = await self.call(path)
        assert status == 200, text
        return [verified(entry) for entry in json.loads(text)["data"]["results"]]

    async def addresses(self) -> list[str]:
        """Of all nodes."""
        return [heartbeat.signer for heartbeat in await self.listed(PEERS)]

    async def post(self, *addresses: str, **changes: Any) -> int:
        """The status for a task of one turn, posted to these nodes as the SDK does."""
        task = {"taskId": "row", "pickedNodes": addresses, "publicKey": PUBLIC_KEY}
        task |= {"input": {"workflow": dialogue(1)}} | changes
        payload = base64.b64encode(json.dumps(task).encode()).decode()
        status, _ = await self.call(TASK, json.dumps({"value": {"payload": payload}}).encode())
        return status

    async def answers(self, number: int) -> list[Signed]:
        """So many, once they have come."""
        came: list[Signed] = []
        async with asyncio.timeout(20):
            while len(came) < number:
                came += await self.listed(RESULTS)
        return came


@asynccontextmanager
async def network(writer: Writer | None = None, **options: Any) -> AsyncIterator[Caller]:
    """A devnet of two nodes, and somebody to call it."""
    asked = DevnetOptions(**{"port": 0, "nodes": 2, **options})
    async with open_devnet(asked, writer or Writer()) as devnet, ClientSession() as session:
        yield Caller(session, devnet)


async def until(condition: Callable[[], object]) -> None:
    """Return once it is true."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the devnet has no event for tests
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("accept", [None, "good"])
@pytest.mark.parametrize("token", [None, "", "any", "good"])
async def test_all_but_health_needs_a_token(accept: str | None, token: str | None) -> None:
    """Without one, or with another than the one that is accepted, each call is 401."""
    async with network(accept=accept) as caller:
        bearer = replace(caller, token=token)
        statuses = [(await bearer.call(path))[0] for path in (PEERS, RESULTS, TASK, "/rpc/", "/")]
        assert (await bearer.call("/health"))[0] == 200
    passes = token == "good" or (token == "any" and accept is None)
    assert statuses == ([200, 200, 400, 404, 404] if passes else [401, 401, 401, 401, 404])


async def test_heartbeats_are_signed_by_their_nodes() -> None:
    """Each has a signer and a peer of its own, and says what its node serves."""
    async with network(nodes=5, models="a:1b, b:2b,") as caller:
        heartbeats = await caller.listed(PEERS)
    assert len({signer for _, signer, _ in heartbeats}) == 5
    assert len({entry["peer_id"] for entry, _, _ in heartbeats}) == 5
    assert all(content["models"] == ["a:1b", "b:2b"] for _, _, content in heartbeats)
    assert all(content["pending_tasks"] == [0, 0] for _, _, content in heartbeats)


async def test_a_task_is_answered_by_the_node_that_was_picked() -> None:
    """The answer is signed by that node, names the writing model, and opens with the task's key."""
    async with network() as caller:
        first, second = await caller.addresses()
        assert await caller.post(second) == 200
        ((_, signer, content),) = await caller.answers(1)
    assert signer == second != first
    assert content["model"] == "its-own-model"
    opened = ecies.decrypt(KEY.to_hex(), bytes.fromhex(content["ciphertext"]))
    assert json.loads(opened) == ["said", "said"]
    task, word = content["taskId"].split("--")
    assert (task, bool(word), "error" in content) == ("row", True, False)
    names = ("receivedAt", "executionStartedAt", "executionEndedAt", "publishedAt")
    times = [content["stats"][name] for name in names]
    assert times == sorted(times)
    assert all(len(time) == len("2025-01-01T00:00:00.123456789Z") for time in times)


async def test_answers_wait_for_their_token_and_are_gone_once_read() -> None:
    """Nobody gets the answer to another's task, and nobody gets one twice."""
    async with network() as mine:
        theirs = replace(mine, token="theirs")  # noqa: S106 - any will do
        (address, _) = await mine.addresses()
        await mine.post(address, taskId="mine")
        await theirs.post(address, taskId="theirs")
        for caller in (theirs, mine):
            await until(lambda: mine.devnet.counts.answers == 2)
            (answer,) = await caller.answers(1)
            assert answer.content["taskId"].startswith(f"{caller.token}--")
            assert await caller.listed(RESULTS) == []


async def test_a_node_does_one_task_after_another() -> None:
    """While one task is in hand the others wait, as its heartbeat says; another node goes on."""
    writer = Writer()
    writer.may_go.clear()
    async with network(writer) as caller:
        busy, free = await caller.addresses()
        for _ in range(3):
            await caller.post(busy)
        await until(lambda: writer.asked)
        pending = {signer: it["pending_tasks"] for _, signer, it in await caller.listed(PEERS)}
        assert (pending, len(writer.asked)) == ({busy: [2, 0], free: [0, 0]}, 1)
        await caller.post(free)
        await until(lambda: len(writer.asked) == 2)
        writer.may_go.set()
        await caller.answers(4)
        assert all(it["pending_tasks"] == [0, 0] for _, _, it in await caller.listed(PEERS))


async def test_a_node_that_goes_takes_its_tasks_with_it() -> None:
    """It is no longer listed, and what it had and what is sent to it is never answered."""
    writer = Writer()
    writer.may_go.clear()
    async with network(writer) as caller:
        gone, left = await caller.addresses()
        await caller.post(gone)
        await caller.post(gone)
        await until(lambda: writer.asked)
        await caller.devnet.remove_nodes(1)
        writer.may_go.set()
        assert (len(caller.devnet), await caller.addresses()) == (1, [left])
        assert await caller.post(gone) == 200
        await caller.post(gone, left)
        assert [answer.signer for answer in await caller.answers(1)] == [left]
        assert (caller.devnet.counts.tasks, len(writer.asked)) == (2, 3)


@pytest.mark.parametrize(
    ("rates", "sent"),
    [
        ({"error_rate": 1}, {"errors": 3, "answers": 3}),
        ({"lost_rate": 1}, {"lost": 3}),
        ({"duplicate_rate": 1}, {"answers": 3, "duplicated": 3}),
    ],
)
async def test_faults_come_as_asked_for(rates: dict[str, int], sent: dict[str, int]) -> None:
    """Errors begin as a node's do, what is lost never comes, and what comes twice is the same."""
    async with network(nodes=1, **rates) as caller:
        (address,) = await caller.addresses()
        for _ in range(3):
            await caller.post(address)
        counts = caller.devnet.counts
        await until(lambda: counts.answers + counts.lost == 3)
        answers = await caller.listed(RESULTS)
    expected = {"tasks": 3, "answers": 0, "errors": 0, "lost": 0, "duplicated": 0} | sent
    assert asdict(counts) == expected
    assert len(answers) == counts.answers + counts.duplicated
    if counts.duplicated:
        assert answers[::2] == answers[1::2]
    for answer in answers:
        assert answer.content.get("error", "").startswith(FAILED if counts.errors else "")
        assert ("ciphertext" in answer.content) == (counts.errors == 0)


async def test_rpc_errors_come_as_asked_for() -> None:
    """Every call is 500, and no task arrives."""
    async with network(rpc_error_rate=1) as caller:
        assert [(await caller.call(path))[0] for path in (PEERS, RESULTS)] == [500, 500]
        assert await caller.post(*caller.devnet._nodes) == 500
        assert caller.devnet.counts.tasks == 0


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({}, "the model is away"),
        ({"input": {}}, "the task is malformed: KeyError('workflow')"),
        ({"input": {"workflow": dialogue(1, max_steps=2)}}, "Max steps reached"),
        ({"publicKey": "ab" * 64}, "the task is malformed: ValueError"),
    ],
)
async def test_what_a_node_cannot_do_is_its_answer(changes: Json, error: str) -> None:
    """The task is answered with an error that says why, and the node goes on to the next."""
    writer = Writer(None if changes else Transient("away", "the model is away"))
    async with network(writer, nodes=1) as caller:
        (address,) = await caller.addresses()
        assert await caller.post(address, **changes) == 200
        assert await caller.post(address) == 200
        first, second = await caller.answers(2)
    assert first.content["error"].startswith(f"Workflow execution failed: {error}")
    assert ("error" in second.content) == (not changes)


async def test_the_limit_of_tokens_reaches_the_writer() -> None:
    """A text may be as long as the task says, and 250 tokens where it does not."""
    writer = Writer()
    async with network(writer) as caller:
        addresses = await caller.addresses()
        await caller.post(*addresses[:1])
        await caller.post(*addresses[:1], input={"workflow": dialogue(1, max_tokens=77)})
        await caller.answers(2)
    assert writer.asked == [Sampling(max_tokens=limit) for limit in (250, 250, 77, 77)]


async def test_latency_is_waited() -> None:
    """An answer that is an hour away is not there yet, and a short delay ends."""
    async with network(latency=3600) as slow, network(latency=0.001) as quick:
        for caller in (slow, quick):
            await caller.post(*(await caller.addresses())[:1])
        await until(lambda: slow.devnet.counts.tasks)
        await quick.answers(1)
        assert (await slow.listed(RESULTS), slow.devnet.counts.answers) == ([], 0)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"\xff", b"null", b"[]", b'{"value": 1}', b'{"value": {"payload": 1}}'),
        *(b'{"value": {"payload": "%s"}}' % bad for bad in (b"?", b"e30=", b"bm8=", b"\xc3\xa4")),
    ],
)
async def test_a_body_that_is_no_task_is_400(body: bytes) -> None:
    """What is not base64 of JSON with the picked nodes and an id reaches no node."""
    async with network() as caller:
        assert (await caller.call(TASK, body))[0] == 400


async def test_a_task_has_at_most_256_kib() -> None:
    """A payload that is one base64 block longer is 413, and so is a body beyond all measure."""
    async with network() as caller:
        (address, _) = await caller.addresses()
        statuses = [await caller.post(address, x="x" * n) for n in LENGTHS]
        assert statuses == [200, 413, 413]


async def test_the_seed_makes_the_nodes_and_the_faults() -> None:
    """The same seed gives the same addresses and failures, and another one gives others."""
    runs = []
    for seed in (7, 7, 8):
        async with network(seed=seed, nodes=1, error_rate=0.5) as caller:
            (address,) = await caller.addresses()
            for _ in range(30):
                await caller.post(address)
            failures = ["error" in answer.content for answer in await caller.answers(30)]
            runs.append((address, failures))
    assert runs[0] == runs[1]
    assert runs[0][0] != runs[2][0]
    assert {True, False} == set(runs[0][1])
