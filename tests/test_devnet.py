"""A devnet over real HTTP: who may call, what nodes sign and seal, and the faults asked for."""

import asyncio
import base64
import hashlib
import io
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import coincurve
import ecies
import pytest
from aiohttp import ClientSession
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
TAKEN = (200, '{"success": true}')
Signed = tuple[Json, str, Json]


class Writer:
    """A ChatModel that answers "said", or raises `error`, once `may_go` is set."""

    name = "writer"
    model = "its-own-model"

    def __init__(self, error: Exception | None = None, *, waits: bool = False) -> None:
        self.may_go = asyncio.Event()
        if not waits:
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


def verified(text: str) -> Signed:
    """An entry of a list, the address that its signature gives, and what was signed."""
    entry = json.loads(text)
    digest = hashlib.sha256(entry["message"].encode()).digest()
    signature = bytes.fromhex(entry["signature"]) + bytes([entry["recovery_id"]])
    key = coincurve.PublicKey.from_signature_and_message(signature, digest, hasher=None)
    hashed = keccak.new(digest_bits=256, data=key.format(compressed=False)[1:]).digest()
    return entry, hashed[-20:].hex(), json.loads(base64.b64decode(entry["message"]))


def body_of(task: bytes) -> bytes:
    """What a task travels in."""
    return b'{"value": {"payload": "%s"}}' % base64.b64encode(task)


@dataclass(frozen=True)
class Caller:
    """Somebody who calls a devnet."""

    session: ClientSession
    devnet: Devnet
    token: str | None = "mine"  # noqa: S105 - any will do

    async def call(self, path: str, body: bytes | None = None) -> tuple[int, str]:
        """The status and the text of a reply."""
        headers = {} if self.token is None else {"x-api-key": self.token}
        method, url = "POST" if path == TASK else "GET", self.devnet.url + path
        data = body and io.BytesIO(body)  # aiohttp warns of large bytes
        async with self.session.request(method, url, headers=headers, data=data) as reply:
            return reply.status, await reply.text()

    async def listed(self, path: str) -> list[Signed]:
        """What a list has, each entry verified."""
        _, text = await self.call(path)
        return [verified(entry) for entry in json.loads(text)["data"]["results"]]

    async def addresses(self) -> list[str]:
        """Of all nodes."""
        return [signer for _, signer, _ in await self.listed(PEERS)]

    async def post(self, *addresses: str, times: int = 1, **changes: Any) -> None:
        """A task of one turn for these nodes, else for the first one, as the SDK posts it."""
        picked = addresses or [*self.devnet._nodes][:1]
        task = {"taskId": "row", "pickedNodes": picked, "publicKey": PUBLIC_KEY}
        task |= {"input": {"workflow": dialogue(1)}} | changes
        for _ in range(times):
            assert await self.call(TASK, body_of(json.dumps(task).encode())) == TAKEN

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


@pytest.mark.parametrize(("accept", "bad"), [(None, [None, ""]), ("good", [None, "", "any"])])
async def test_all_but_health_needs_a_token(accept: str | None, bad: list[str | None]) -> None:
    """Without one, or with another than the one that is accepted, each call is 401."""
    async with network(accept=accept) as anyone:
        for token in ("good", *bad):
            caller = replace(anyone, token=token)
            calls = [await caller.call(path) for path in ("/health", PEERS, RESULTS, TASK, "/rpc/")]
            expected = [401] * 4 if token in bad else [200, 200, 400, 404]
            assert [status for status, _ in calls] == [200, *expected]


async def test_heartbeats_are_signed_by_their_nodes() -> None:
    """Each has a signer and a peer of its own, and says what its node serves."""
    async with network(nodes=5, models="a:1b, b:2b,") as caller:
        heartbeats = await caller.listed(PEERS)
    assert len({signer for _, signer, _ in heartbeats}) == 5
    assert len({entry["peer_id"] for entry, _, _ in heartbeats}) == 5
    assert all(content["models"] == ["a:1b", "b:2b"] for _, _, content in heartbeats)


async def test_a_task_is_answered_by_the_node_that_was_picked() -> None:
    """The answer is signed by that node, names the writing model, and opens with the task's key."""
    async with network() as caller:
        _, second = await caller.addresses()
        await caller.post(second)
        ((_, signer, content),) = await caller.answers(1)
    assert (signer, content["model"]) == (second, "its-own-model")
    opened = ecies.decrypt(KEY.to_hex(), bytes.fromhex(content["ciphertext"]))
    assert json.loads(opened) == ["said", "said"]
    task, word = content["taskId"].split("--")
    assert (task, bool(word), "error" in content) == ("row", True, False)
    names = ("receivedAt", "executionStartedAt", "executionEndedAt", "publishedAt")
    times = [content["stats"][name] for name in names]
    assert times == sorted(times)
    assert {(len(time), time[19], time[29]) for time in times} == {(30, ".", "Z")}


async def test_answers_wait_for_their_token_and_are_gone_once_read() -> None:
    """Nobody gets the answer to another's task, and nobody gets one twice."""
    async with network() as mine:
        theirs = replace(mine, token="theirs")  # noqa: S106 - any will do
        await mine.post(taskId="mine")
        await theirs.post(taskId="theirs")
        for caller in (theirs, mine):
            await until(lambda: mine.devnet.counts.answers == 2)
            ((_, _, content),) = await caller.answers(1)
            assert content["taskId"].startswith(f"{caller.token}--")
            assert await caller.listed(RESULTS) == []


async def test_a_node_does_one_task_after_another() -> None:
    """While one task is in hand the others wait, as its heartbeat says; another node goes on."""
    async with network(writer := Writer(waits=True)) as caller:
        busy, free = await caller.addresses()
        await caller.post(busy, times=3)
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
    async with network(writer := Writer(waits=True)) as caller:
        gone, left = await caller.addresses()
        await caller.post(gone, times=2)
        await until(lambda: writer.asked)
        await caller.devnet.remove_nodes(1)
        writer.may_go.set()
        assert (len(caller.devnet), await caller.addresses()) == (1, [left])
        await caller.post(gone)
        await caller.post(gone, left)
        assert [signer for _, signer, _ in await caller.answers(1)] == [left]
        assert (caller.devnet.counts.tasks, len(writer.asked)) == (2, 3)


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"error_rate": 1}, {"errors": 3, "answers": 3}),
        ({"lost_rate": 1}, {"lost": 3}),
        ({"duplicate_rate": 1}, {"answers": 3, "duplicated": 3}),
    ],
)
async def test_faults_come_as_asked_for(options: Json, sent: Json) -> None:
    """Errors begin as a node's do, what is lost never comes, and what comes twice is the same."""
    async with network(**options) as caller:
        await caller.post(times=3)
        counts = caller.devnet.counts
        await until(lambda: counts.answers + counts.lost == 3)
        answers = await caller.listed(RESULTS)
    nothing = {"answers": 0, "errors": 0, "lost": 0, "duplicated": 0}
    assert asdict(counts) == {"tasks": 3} | nothing | sent
    assert len(answers) == counts.answers + counts.duplicated
    assert answers[::2] == answers[1::2] or not counts.duplicated
    for _, _, content in answers:
        assert ("ciphertext" in content) == (counts.errors == 0)
        assert content.get("error", FAILED).startswith(FAILED)


async def test_rpc_errors_come_as_asked_for() -> None:
    """Each call is 500 where all are to fail."""
    async with network(rpc_error_rate=1) as caller:
        assert [(await caller.call(path))[0] for path in (PEERS, RESULTS, TASK)] == [500] * 3


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({}, "the model is away"),
        ({"input": {}}, "the task is malformed: KeyError('workflow')"),
        ({"input": {"workflow": []}}, "the task is malformed: TypeError"),
        ({"input": {"workflow": dialogue(1, max_steps=2)}}, "Max steps reached"),
        ({"publicKey": "ab" * 64}, "the task is malformed: ValueError"),
    ],
)
async def test_what_a_node_cannot_do_is_its_answer(changes: Json, error: str) -> None:
    """The task is answered with an error that says why, and the node goes on to the next."""
    writer = Writer(None if changes else Transient("away", "the model is away"))
    async with network(writer) as caller:
        await caller.post(**changes)
        await caller.post()
        (_, _, first), (_, _, second) = await caller.answers(2)
    assert first["error"].startswith(FAILED + error)
    assert ("error" in second) == (not changes)


async def test_the_limit_of_tokens_reaches_the_writer() -> None:
    """A text may be as long as the task says, and 250 tokens where it does not."""
    async with network(writer := Writer()) as caller:
        await caller.post()
        await caller.post(input={"workflow": dialogue(1, max_tokens=77)})
        await caller.answers(2)
    assert writer.asked == [Sampling(max_tokens=limit) for limit in (250, 250, 77, 77)]


async def test_latency_is_waited() -> None:
    """An answer that is an hour away is not there yet, and a short delay ends."""
    async with network(latency=3600) as slow, network(latency=0.001) as quick:
        await asyncio.gather(slow.post(), quick.post())
        await until(lambda: slow.devnet.counts.tasks)
        await quick.answers(1)
        assert (await slow.listed(RESULTS), slow.devnet.counts.answers) == ([], 0)


async def test_a_body_that_is_no_task_is_refused() -> None:
    """It is base64 of JSON with an id and nodes, else 400, of at most 256 KiB, else 413."""
    bad = [b"", b"\xff", b"null", b"[]", b'{"value": 1}', b'{"value": {"payload": 1}}']
    bad += [body_of(task) for task in (b"", b"no", b"[]", b'{"taskId": 1}', b'{"pickedNodes": []}')]
    bad += [
        body_of(b'{"taskId": 1, "pickedNodes": %s}' % each) for each in (b"5", b"null", b"[{}]")
    ]
    async with network() as caller:
        assert {(await caller.call(TASK, body))[0] for body in bad} == {400}
        for size, status in ((192 * 1024, 200), (192 * 1024 + 1, 413), (1024 * 1024, 413)):
            task = b'{"taskId": "row", "pickedNodes": []}'.ljust(size)
            assert (await caller.call(TASK, body_of(task)))[0] == status


async def test_the_seed_makes_the_nodes_and_the_faults() -> None:
    """The same seed gives the same addresses and failures, and another one gives others."""
    runs = []
    for seed in (7, 7, 8):
        async with network(seed=seed, error_rate=0.5) as caller:
            await caller.post(times=30)
            failed = ["error" in content for _, _, content in await caller.answers(30)]
            runs.append((await caller.addresses(), failed))
    (nodes, failed), again, (other_nodes, other_failed) = runs
    assert again == (nodes, failed)
    assert (nodes == other_nodes, failed == other_failed) == (False, False)
