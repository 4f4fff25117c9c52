"""One node: a secp256k1 key, a queue, and a writer that it makes answers with.

Wire format (dria 0.0.124 and dkn-compute-node 0.4): a message is base64 of JSON, signed by the
node's key over sha256 of the base64 text; a result in it is encrypted to the task's public key
(ECIES: secp256k1, HKDF-SHA256, AES-256-GCM). A node's address is the end of its key's keccak-256.
"""

import asyncio
import base64
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import coincurve
import ecies
import orjson
from Crypto.Hash import keccak

from magpie_cli.devnet.options import DevnetOptions
from magpie_cli.devnet.workflow import MALFORMED, WorkflowFailed, execute
from magpie_cli.engine import ChatModel, EngineError, Message, Sampling

HEARTBEAT_SECONDS = 60.0  # how long one is good for
ERROR_START = "Workflow execution failed"  # how nodes begin

Publish = Callable[[str, str], None]


@dataclass(slots=True)
class Counts:
    """What all nodes of a network have done: tasks taken and answered, and the faults asked for."""

    tasks: int = 0
    answers: int = 0
    errors: int = 0
    lost: int = 0
    duplicated: int = 0


class Node:
    """A node that does one task after another.

    `publish(token, answer)` takes each answer to the RPC, for whoever sent the task.
    """

    def __init__(
        self,
        options: DevnetOptions,
        writer: ChatModel,
        chance: Random,
        counts: Counts,
        publish: Publish,
    ) -> None:
        self._options = options
        self._writer = writer
        self._chance = chance
        self._counts = counts
        self._publish = publish
        self._key = coincurve.PrivateKey(chance.randbytes(32))
        public = self._key.public_key.format(compressed=False)
        self.address = keccak.new(digest_bits=256, data=public[1:]).hexdigest()[-40:]
        self.peer_id = f"16Uiu2HAm{chance.randbytes(22).hex()}"
        self._queue: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        self._heartbeat = ""
        self._heartbeat_of = (
            -1,
            0.0,
        )  # how many tasks were waiting then, and until when it is good

    def take(self, token: str, task: dict[str, Any]) -> None:
        """Queue a task, as it came with `token`."""
        self._queue.put_nowait((token, task))

    def heartbeat(self) -> str:
        """Who it is and what it serves, as the RPC lists it; new where it is old or untrue."""
        pending, now = self._queue.qsize(), time.monotonic()
        if pending != self._heartbeat_of[0] or now > self._heartbeat_of[1]:
            content = {
                "heartbeat_id": f"{self.address[:8]}-{now:.6f}",
                "deadline": _timestamp(HEARTBEAT_SECONDS),
                "models": self._options.names,
                "pending_tasks": [pending, 0],
            }
            self._heartbeat = self._signed(content, peer_id=self.peer_id)
            self._heartbeat_of = pending, now + HEARTBEAT_SECONDS / 2
        return self._heartbeat

    async def work(self) -> None:
        """Do tasks until cancelled."""
        while True:
            token, task = await self._queue.get()
            self._counts.tasks += 1
            done = await self._done(task)
            answer = self._signed(done)
            copies = self._copies()
            self._counts.errors += copies > 0 and "error" in done
            for _ in range(copies):
                self._publish(token, answer)

    async def _done(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """What is signed: the result, encrypted, or an error."""
        answer: dict[str, Any] = {"taskId": task["taskId"], "model": self._writer.model}
        stats = {"receivedAt": _timestamp()}
        if self._options.latency:
            await asyncio.sleep(self._options.latency * self._chance.uniform(0.5, 1.5))
        stats["executionStartedAt"] = _timestamp()
        try:
            text = await self._result(task)
            answer["ciphertext"] = ecies.encrypt(task["publicKey"], text.encode()).hex()
        except WorkflowFailed as failure:
            answer["error"] = f"{ERROR_START}: {failure}"
        except MALFORMED as failure:
            answer["error"] = f"{ERROR_START}: the task is malformed: {failure!r}"
        stats["executionEndedAt"] = stats["publishedAt"] = _timestamp()
        return answer | {"stats": stats}

    async def _result(self, task: Mapping[str, Any]) -> str:
        if self._chance.random() < self._options.error_rate:
            raise WorkflowFailed("an error, as --error-rate asks")
        return await execute(task["input"]["workflow"], self._write)

    async def _write(self, messages: Sequence[Message], max_tokens: int) -> str:
        try:
            completion = await self._writer.complete(messages, Sampling(max_tokens=max_tokens))
        except EngineError as error:
            raise WorkflowFailed(error.message) from error
        return completion.text

    def _copies(self) -> int:
        """How often an answer is sent: once, or as the faults asked for have it."""
        if self._chance.random() < self._options.lost_rate:
            self._counts.lost += 1
            return 0
        self._counts.answers += 1
        if self._chance.random() < self._options.duplicate_rate:
            self._counts.duplicated += 1
            return 2
        return 1

    def _signed(self, content: Mapping[str, object], **beside: str) -> str:
        message = base64.b64encode(orjson.dumps(content))
        signature = self._key.sign_recoverable(message)
        signed = {
            "message": message.decode(),
            "signature": signature[:64].hex(),
            "recovery_id": signature[64],
        }
        return orjson.dumps(signed | beside).decode()


def _timestamp(ahead: float = 0.0) -> str:
    """RFC 3339 with nine digits, as nodes write it."""
    moment = datetime.now(UTC) + timedelta(seconds=ahead)
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}000Z"
