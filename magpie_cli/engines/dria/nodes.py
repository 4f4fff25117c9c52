"""The nodes that are there, what each serves, and which one takes the next task."""

import asyncio
import re
from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from magpie_cli.engine import EngineError, Throttled
from magpie_cli.engines.dria.sdk import Sdk
from magpie_cli.engines.names import shown

MISSES_OF_THE_GONE = 3  # listings in a row without it: its tasks are given to others
LONGEST_REST = 60.0  # seconds
FAILURES_OF_A_BAD_NODE = 2  # in a row
TRIALS = 3  # nodes that a pair may be tried on before it is kept from bad ones
MODELS_SHOWN = 12
LONGEST_NAME = 200  # letters

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(slots=True, eq=False)
class Node:
    """One node of the network.

    `in_flight` counts our tasks there now, `given` all of them, `failures` the last ones in a row.
    `rests_until` is a time of the event loop.
    """

    address: str
    peer_id: str
    models: frozenset[str]
    in_flight: int = 0
    given: int = 0
    misses: int = 0
    failures: int = 0
    rests_until: float = 0.0

    @property
    def is_bad(self) -> bool:
        """Whether it failed again and again."""
        return self.failures >= FAILURES_OF_A_BAD_NODE

    @property
    def is_gone(self) -> bool:
        """Whether the network has not listed it for a while."""
        return self.misses >= MISSES_OF_THE_GONE

    def is_full(self, limit: int) -> bool:
        """Whether it has all the tasks that it may have; a bad one has one at a time."""
        return self.in_flight >= (1 if self.is_bad else limit)

    def reluctance(
        self, avoid: Collection[str], now: float, limit: int
    ) -> tuple[bool, bool, bool, int, int]:
        """The node with the least takes the next task; not one of `avoid`, not one that rests."""
        is_full = self.is_full(limit)
        return self.address in avoid, self.rests_until > now, is_full, self.in_flight, self.given


@dataclass(slots=True)
class Nodes:
    """Every node of the latest listing, and for a while those that it lacks but have our tasks.

    The least busy one takes the next task.

    A node has at most the SDK's own number of our tasks at a time (3 where it runs Ollama), for the
    counts in heartbeats are up to a minute old.
    """

    sdk: Sdk
    remark: str = ""  # about a network that has nobody to offer
    hide: Callable[[str], str] = str  # takes out of a name what must not be repeated
    _nodes: dict[str, Node] = field(default_factory=dict)
    _read: dict[str, list[Node]] = field(default_factory=dict)
    _trouble: str | None = None
    _closed: BaseException | None = None
    _waiting: deque[asyncio.Future[None]] = field(default_factory=deque)

    def refresh(self, heartbeats: Collection[str]) -> None:
        """Take the latest listing for the truth: who is not in it gets no more tasks."""
        self._trouble = None
        self._read = {
            heartbeat: self._read.get(heartbeat) or self._read_heartbeat(heartbeat)
            for heartbeat in heartbeats
        }
        before, self._nodes = self._nodes, {}
        for seen in self._read.values():
            for node in seen:
                known = (
                    self._nodes.get(node.address)
                    or before.pop(node.address, None)
                    or replace(node)  # another heartbeat of the same address may be read as well
                )
                known.peer_id, known.models, known.misses = node.peer_id, node.models, 0
                self._nodes[node.address] = known
        for node in before.values():
            node.misses += 1
            if node.in_flight and not node.is_gone:
                node.models = frozenset()
                self._nodes[node.address] = node
        self._wake_all()

    def not_listed(self, error: EngineError) -> None:
        """There is no new listing, and this is why."""
        self._trouble = error.message

    def close(self, error: BaseException) -> None:
        """Nobody takes a node any more: whoever waits for one, or comes for one, meets `error`."""
        self._closed = error
        self._wake_all()

    def served(self) -> dict[str, int]:
        """How many nodes take tasks for each model, the most served first."""
        counts = Counter(model for node in self._nodes.values() for model in node.models)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    async def take(self, model: str, avoid: Collection[str]) -> Node:
        """A node for one task, which must be given back.

        Not one of `avoid` where another serves the model. Raises Throttled where none serves it.
        Waits while all are busy, for as long as they are listed: each task there has its own time.
        One that fails again and again is tried with one task at a time, and not with a pair that
        has been such a trial often enough.
        """
        limit = self.sdk.queue_limit(model)
        while True:
            if self._closed:
                raise self._closed
            serving = [node for node in self._nodes.values() if model in node.models]
            if not serving:
                raise self.lack(model)
            now = asyncio.get_running_loop().time()
            if len(avoid) >= TRIALS:
                good = [node for node in serving if not (node.is_bad or node.address in avoid)]
                serving = good or serving
            node = min(serving, key=lambda node: node.reluctance(avoid, now, limit))
            if not node.is_full(limit):
                node.in_flight += 1
                node.given += 1
                return node
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn

    def give_back(self, node: Node, *, worked: bool | None) -> None:
        """The node's task is over; None where nothing can be said of how the node did it.

        One that fails again and again rests, while others serve: it would be the least busy of all,
        and draw every pair to itself.
        """
        node.in_flight -= 1
        if worked is not None:
            node.failures = 0 if worked else node.failures + 1
        if worked is False and node.is_bad:
            rest = min(LONGEST_REST, 2.0 ** min(node.failures, 10))
            node.rests_until = asyncio.get_running_loop().time() + rest
        self._wake_one()

    def _wake_all(self) -> None:
        while self._waiting:
            self._wake_one()

    def _wake_one(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _read_heartbeat(self, heartbeat: str) -> list[Node]:
        models, peers = self.sdk.read_heartbeat(heartbeat)
        names = [*filter(_is_name, models)]
        return [
            Node(
                address,
                peer_id,
                frozenset(self.hide(name) for name in names if address in models[name]),
            )
            for address, peer_id in peers.items()
            if _is_name(peer_id)
        ]

    def lack(self, model: str | None) -> Throttled:
        """Why no node takes a task for `model`, or for any; worth waiting for."""
        served = self.served()
        what = f"no node serves {model}" if model else "no node serves a model of the Dria SDK's"
        if self._trouble:
            asked = f"who is there cannot be asked: {self._trouble}"
            return Throttled("rpc_down", f"{what}: {asked}{self.remark}")
        if not served:
            many = f"{len(self._nodes):,} nodes, all of them busy" if self._nodes else "no nodes"
            text = f"{what}: the network has {many} at the moment{self.remark}"
            return Throttled("no_nodes", text)
        names = shown((f"{name} ({number:,})" for name, number in served.items()), MODELS_SHOWN)
        return Throttled("no_nodes", f"{what}; the network serves {names}")


def _is_name(name: object) -> bool:
    return isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and not _SURROGATE.search(name)
