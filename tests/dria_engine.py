"""The dria engine on a devnet, with the times of a test instead of a user's."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from magpie_cli.devnet import MODEL, DevnetOptions
from magpie_cli.devnet.network import Devnet, open_devnet
from magpie_cli.engine import ChatModel, Completion, DialogueRequest, EngineError, Message, Sampling
from magpie_cli.engines.dria import DriaEngine
from magpie_cli.engines.dria.nodes import Nodes
from magpie_cli.engines.dria.rpc import CALL_TIMEOUT, Rpc
from magpie_cli.engines.dria.sdk import Sdk
from magpie_cli.engines.dria.tasks import Tasks
from magpie_cli.engines.dria.workflow import Workflows
from magpie_cli.engines.echo import EchoModel
from magpie_cli.engines.http_client import open_client
from magpie_cli.pace import Pace
from magpie_cli.pace.paced import PacedEngine
from magpie_cli.records import Dialogue, PersonaPair, Usage
from tests.chat_server import Fault
from tests.processes import PATIENCE

TOKEN = "devnet"  # noqa: S105 - any will do


class Says:
    """A writer that says the same, or says nothing for a time."""

    name = "says"

    def __init__(self, text: str = "words", seconds: float = 0.0, model: str = "says") -> None:
        self.text = text
        self.seconds = seconds
        self.model = model
        self.asked: list[tuple[Sequence[Message], Sampling]] = []

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """The words, late."""
        self.asked.append((messages, sampling))
        await asyncio.sleep(self.seconds)
        return Completion(self.text, "stop", Usage())


@dataclass
class Connected:
    """A devnet, an engine on it with retries, and what was tried again."""

    devnet: Devnet
    engine: PacedEngine
    rpc: Rpc
    nodes: Nodes
    tasks: Tasks
    pace: Pace
    retries: list[EngineError]

    async def make(self, number: int, num_turns: int = 2) -> list[Dialogue | EngineError]:
        """So many dialogues at once, each the dialogue or what it failed for."""
        made = (self.engine.dialogue(request(n, num_turns)) for n in range(number))
        outcomes = await asyncio.gather(*made, return_exceptions=True)
        bugs = [each for each in outcomes if not isinstance(each, Dialogue | EngineError)]
        assert not bugs, repr(bugs[0])
        return [each for each in outcomes if isinstance(each, Dialogue | EngineError)]


@asynccontextmanager
async def connected(
    options: DevnetOptions | None = None,
    writer: ChatModel | None = None,
    *,
    faults: Mapping[str, Fault] | None = None,
    timeout: float = 30.0,  # noqa: ASYNC109 - the engine's own, for one task
    listing: float = 0.1,
    patience: float = 1e6,
) -> AsyncIterator[Connected]:
    """A devnet in this event loop, and the engine on it.

    `faults` are what the RPC does instead, by path, while they stand there.
    """
    retries: list[EngineError] = []
    pace = Pace(lambda error, _: retries.append(error), patience=patience, sleep=shortly)
    sdk = Sdk()
    nodes = Nodes(sdk)
    async with AsyncExitStack() as stack:
        opened = open_devnet(options or DevnetOptions(port=0), writer or EchoModel("echo"))
        devnet = await stack.enter_async_context(opened)
        url = devnet.url
        if faults is not None:
            url = await stack.enter_async_context(in_front_of(url, faults))
        client = await stack.enter_async_context(open_client(url, CALL_TIMEOUT))
        rpc = Rpc(client, url, TOKEN)
        nodes.refresh(await rpc.heartbeats())
        tasks = Tasks(sdk, rpc, nodes, TOKEN, timeout=timeout, listing=listing)
        tasks.start()
        stack.push_async_callback(tasks.stop)
        engine = DriaEngine("dria", MODEL, MODEL, tasks, Workflows(sdk, timeout, None))
        pace.queues.append(engine)
        yield Connected(devnet, PacedEngine(engine, pace), rpc, nodes, tasks, pace, retries)


@asynccontextmanager
async def in_front_of(url: str, faults: Mapping[str, Fault]) -> AsyncIterator[str]:
    """Another address of the RPC at `url`, where some paths have faults."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path in faults:
            return await faults[request.path](request)
        key = {"x-api-key": request.headers["x-api-key"]}
        body = await request.read()
        to = url + request.path
        async with session.request(request.method, to, data=body, headers=key) as theirs:
            body = await theirs.read()
            return web.Response(body=body, status=theirs.status, content_type=theirs.content_type)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with aiohttp.ClientSession() as session, TestServer(app) as server:
        yield str(server.make_url("/")).rstrip("/")


async def shortly(delay: float) -> None:
    """A hundredth of any wait that a pace asks for."""
    await asyncio.sleep(delay / 100)


async def until(condition: Callable[[], object]) -> None:
    """Return once it is true; the test fails where that takes too long."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what it looks at tells nobody
            await asyncio.sleep(0.01)


def kinds(errors: Sequence[EngineError]) -> set[str]:
    """What went wrong, each once."""
    return {error.kind for error in errors}


def request(number: int = 0, num_turns: int = 2, persona: str = "") -> DialogueRequest:
    """A dialogue of a pair of its own."""
    pair = PersonaPair(
        id=f"pair-{number}",
        instructor_persona=persona or f"A scientist who studies {'b' * (5 + number)}",
        responding_persona=f"A librarian who collects {'c' * (5 + number)}",
        num_turns=None,
        metadata={},
        line_number=number + 1,
        line="{}",
    )
    return DialogueRequest(pair.id, pair, num_turns)
