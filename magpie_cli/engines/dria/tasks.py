"""Tasks on their way: published to a node, matched with their answers by id.

An answer is given its dialogue whichever attempt it belongs to: one that comes after its time was
up still counts, until the dialogue has one. A second one is passed over.
"""

import asyncio
import hashlib
import math
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from magpie_cli.engine import EngineError, EngineRefused, PairRefused, Throttled, Transient
from magpie_cli.engines.dria.answers import Answer, open_answer, read_answer
from magpie_cli.engines.dria.asked import Asked, Task
from magpie_cli.engines.dria.nodes import Nodes
from magpie_cli.engines.dria.rpc import Rpc
from magpie_cli.engines.dria.sdk import Sdk
from magpie_cli.errors import NotFinished

DATASET = "magpie"  # any name; the SDK's own way to publish fails without one
LISTING_SECONDS = 5.0  # between two looks at who is there
SOONEST_POLL = 0.1  # seconds, as below; after answers came
LATEST_POLL = 1.0  # after none came, again and again
LONGEST_SILENCE = 5.0  # of the RPC, where no task is called overdue for want of an answer
POLLS_OF_AN_OUTAGE = 3  # that failed in a row
SENDING = 64  # tasks that are being sent at one time: each takes a connection
LONGEST_PAUSE = 120.0  # that the RPC may ask for
FORGET_AFTER = 300.0  # a dialogue that nobody waits for, at least: longer than any pause of a pace
ANSWERS_IN_A_ROW = 8  # that are opened before the event loop gets its turn


class Tasks:
    """All tasks of one run. `start()` it, and `stop()` it at the end.

    `timeout` in seconds, for one task on one node; the nodes are listed anew every `listing`.
    """

    def __init__(  # noqa: PLR0913 - the parts that it is made of, and two times
        self,
        sdk: Sdk,
        rpc: Rpc,
        nodes: Nodes,
        token: str,
        *,
        timeout: float,
        listing: float = LISTING_SECONDS,
    ) -> None:
        self._sdk = sdk
        self._rpc = rpc
        self._nodes = nodes
        self._timeout = timeout
        self._listing = listing
        self._dataset = hashlib.sha256(f"{token}{DATASET}".encode()).hexdigest()
        self._run = secrets.token_hex(4)  # how the ids of all our tasks begin
        self._asked: dict[str, Asked] = {}
        self._tasks: dict[str, Asked] = {}
        self._strangers = 0
        self._work = asyncio.Event()
        self._sending = asyncio.Semaphore(SENDING)
        self._polls_failed = 0
        self._polled_at = _now()
        self._background: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Look for nodes and answers from now on."""
        self._background = [
            asyncio.create_task(self._watch_nodes()),
            asyncio.create_task(self._poll()),
        ]
        for task in self._background:
            task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """No more."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    def close_queue(self, error: EngineError | NotFinished) -> None:
        """Send no more tasks: who waits to, or comes to, meets `error`."""
        self._nodes.close(error)

    async def ask(
        self, dialogue: str, model: str, workflow: Mapping[str, Any], number: int
    ) -> Answer:
        """The answer of `number` utterances for the dialogue of that id: one more attempt at it.

        Raises EngineError; and whatever broke the search for answers, which would be a bug.
        """
        asked = self._asked.setdefault(dialogue, Asked(number))
        asked.forget_at = math.inf
        try:
            answer = asked.answer or await self._attempt(asked, model, workflow)
        except (EngineError, NotFinished) as error:
            if asked.answer is None:
                if isinstance(error, PairRefused):
                    self._forget(dialogue)  # nobody will ask for it again
                raise
            answer = asked.answer  # it came although its task seemed not to get through
        finally:
            asked.forget_at = _now() + max(FORGET_AFTER, self._timeout)
        self._forget(dialogue)
        return answer

    async def _attempt(self, asked: Asked, model: str, workflow: Mapping[str, Any]) -> Answer:
        if isinstance(asked.failure, Throttled):  # that may be over
            asked.hear()
        # After an outage the task may still be worked at: it is not sent again in its time.
        task = asked.pending or await self._begin(asked, model, workflow)
        failure: BaseException
        try:
            async with asyncio.timeout_at(task.overdue_at):
                await asked.news.wait()
            failure = asked.failure or _no_answers()
        except TimeoutError:
            in_vain = Transient("timeout", self._overdue(task))
            failure = _no_answers() if self._hears_nothing() else in_vain
        asked.hear()
        if asked.answer:
            return asked.answer
        if not isinstance(failure, Throttled):
            self._end(asked, worked=False if isinstance(failure, Transient) else None)
        raise failure

    async def _begin(self, asked: Asked, model: str, workflow: Mapping[str, Any]) -> Task:
        """Send a task to the node that takes the next one."""
        async with self._sending:
            node = await self._nodes.take(model, asked.tried)
            keys = self._sdk.new_keys()
            overdue_at = _now() + self._timeout
            task = Task(self._run + secrets.token_hex(12), node, keys.private, overdue_at)
            # Known before it is sent: its answer may be faster than the reply to the POST.
            asked.pending = asked.tasks[task.id] = task
            self._tasks[task.id] = asked
            sent = False
            try:
                if not asked.answer:  # to an earlier task, while all nodes were busy
                    await self._send(task, keys.public, model, workflow)
                sent = True
            finally:
                if not sent:
                    self._end(asked, worked=None)
        return task

    async def _send(
        self, task: Task, public_key: str, model: str, workflow: Mapping[str, Any]
    ) -> None:
        fields = {
            "taskId": task.id,
            "input": {"workflow": workflow, "model": [model]},
            "pickedNodes": [task.node.address],
            "nodePeerIds": [task.node.peer_id],
            "deadline": (datetime.now(UTC) + timedelta(seconds=self._timeout)).isoformat(),
            "datasetId": self._dataset,
            "publicKey": public_key.removeprefix("0x"),
            "privateKey": task.private_key,
        }
        payload = self._sdk.payload(fields)
        self._work.set()
        await self._rpc.publish(payload)

    def _end(self, asked: Asked, *, worked: bool | None) -> None:
        """The pending task is over; None where nothing can be said of its node."""
        if asked.pending:
            self._nodes.give_back(asked.pending.node, worked=worked)
            if worked is False:
                asked.tried.add(asked.pending.node.address)
            asked.pending = None

    def _overdue(self, task: Task) -> str:
        message = (
            f"no answer from node {task.node.address} within {self._timeout:g} s "
            "(--timeout SECONDS waits longer)"
        )
        if self._strangers:
            message += "; answers to tasks of another run came: does one use the same token now?"
        return message

    def _forget(self, dialogue: str) -> None:
        asked = self._asked.pop(dialogue)
        self._end(asked, worked=None)
        for task in asked.tasks:
            self._tasks.pop(task, None)

    async def _watch_nodes(self) -> None:
        delay = self._listing
        while True:
            await asyncio.sleep(delay)
            delay = self._listing
            try:
                self._nodes.refresh(await self._rpc.heartbeats())
            except EngineRefused as error:
                self._refuse(error)
            except EngineError as error:
                self._nodes.not_listed(error)
                delay = max(delay, _pause(error))
            else:
                for asked in [*self._asked.values()]:
                    self._give_up_on_the_gone(asked)
            for dialogue, asked in [*self._asked.items()]:
                if asked.forget_at < _now():
                    self._forget(dialogue)

    def _give_up_on_the_gone(self, asked: Asked) -> None:
        if asked.pending and asked.pending.node.is_gone:
            message = f"node {asked.pending.node.address} has left the network"
            asked.tell(Transient("node_gone", message))

    async def _poll(self) -> None:
        delay = SOONEST_POLL
        while True:
            if not self._tasks:
                self._work.clear()
                delay = SOONEST_POLL
            await self._work.wait()
            await asyncio.sleep(delay)
            delay = min(LATEST_POLL, delay * 2)
            try:
                answers = await self._rpc.answers()
            except EngineRefused as error:
                self._refuse(error)
            except EngineError as error:
                delay = max(delay, _pause(error))
                self._polls_failed += 1
                if self._polls_failed >= POLLS_OF_AN_OUTAGE:
                    self._say_that_none_come(error)
            else:
                if answers:
                    delay = SOONEST_POLL
                    await self._take_all(answers)
                self._polls_failed = 0  # not before: who is overdue may be among them
                self._polled_at = _now()

    def _say_that_none_come(self, error: EngineError) -> None:
        for asked in self._asked.values():
            if asked.pending and not asked.news.is_set():
                asked.tell(Throttled(error.kind, error.message))

    def _hears_nothing(self) -> bool:
        """Whether an answer may wait where it cannot be had: that is not its node's fault."""
        return self._polls_failed > 0 or _now() - self._polled_at > LONGEST_SILENCE

    async def _take_all(self, answers: list[str]) -> None:
        for number, answer in enumerate(dict.fromkeys(answers)):
            if number % ANSWERS_IN_A_ROW == 0:
                await asyncio.sleep(0)
            self._take(answer)

    def _take(self, answer: str) -> None:
        """Match one answer with its task; what is malformed, forged or not ours is passed over."""
        sealed = read_answer(answer)
        if sealed is None:
            return
        asked = self._tasks.get(sealed.task_id)
        if asked is None:
            self._strangers += not sealed.task_id.startswith(self._run)
            return
        task = asked.tasks[sealed.task_id]
        address, hide = task.node.address, self._rpc.hide
        opened = open_answer(self._sdk, sealed, task.private_key, address, asked.number, hide=hide)
        if isinstance(opened, Answer):
            asked.answer = asked.answer or opened
            if task is asked.pending:
                self._end(asked, worked=True)
            asked.tell()
        elif opened and task is asked.pending:  # of an earlier attempt it is no news
            if isinstance(opened, PairRefused):
                asked.refused.add(address)
                if len(asked.refused) == 1:  # one node's word is not enough
                    opened = Transient(opened.kind, opened.message)
            asked.tell(opened)

    def _refuse(self, error: BaseException) -> None:
        """Nothing will come any more: not for those that wait, nor for those to come."""
        self._nodes.close(error)
        for asked in self._asked.values():
            asked.tell(error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A loop that breaks is a bug, which whoever waits must meet."""
        if not task.cancelled() and (error := task.exception()):
            self._refuse(error)


def _no_answers() -> Throttled:
    return Throttled("rpc_down", "the Dria RPC is down: no answers come")


def _pause(error: EngineError) -> float:
    """Seconds that the RPC asks for."""
    asked = error.retry_after if isinstance(error, Throttled) else None
    return min(LONGEST_PAUSE, asked or 0.0)


def _now() -> float:
    return asyncio.get_running_loop().time()
