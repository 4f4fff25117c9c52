"""The dria engine on a devnet, with the times of a test instead of a user's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from magpie_cli.devnet import MODEL, DevnetOptions
from magpie_cli.devnet.network import Devnet, open_devnet
from magpie_cli.engine import ChatModel, DialogueRequest, EngineError
from magpie_cli.engines.dria import DriaEngine
from magpie_cli.engines.dria.nodes import Nodes
from magpie_cli.engines.dria.rpc import Rpc
from magpie_cli.engines.dria.sdk import Sdk
from magpie_cli.engines.dria.tasks import Tasks
from magpie_cli.engines.dria.workflow import Workflows
from magpie_cli.engines.echo import EchoModel
from magpie_cli.pace import Pace, PacedEngine
from magpie_cli.records import Dialogue, PersonaPair

TOKEN = "devnet"  # noqa: S105 - any will do


@dataclass
class Connected:
    """A devnet, an engine on it with retries, and what was tried again."""

    devnet: Devnet
    engine: PacedEngine
    rpc: Rpc
    nodes: Nodes
    tasks: Tasks
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
    timeout: float = 30.0,  # noqa: ASYNC109 - the engine's own, for one task
    listing: float = 0.1,
    patience: float = 1e6,
) -> AsyncIterator[Connected]:
    """A devnet in this event loop, and the engine on it."""
    retries: list[EngineError] = []
    pace = Pace(lambda error, _: retries.append(error), patience=patience, sleep=shortly)
    sdk = Sdk()
    nodes = Nodes(sdk)
    async with (
        open_devnet(options or DevnetOptions(port=0), writer or EchoModel("echo")) as devnet,
        aiohttp.ClientSession() as session,
    ):
        rpc = Rpc(session, devnet.url, TOKEN)
        nodes.refresh(await rpc.heartbeats())
        tasks = Tasks(sdk, rpc, nodes, TOKEN, timeout=timeout, listing=listing)
        tasks.start()
        engine = DriaEngine("dria", MODEL, MODEL, tasks, Workflows(sdk, timeout, None))
        try:
            yield Connected(devnet, PacedEngine(engine, pace), rpc, nodes, tasks, retries)
        finally:
            await tasks.stop()


async def shortly(delay: float) -> None:
    """A hundredth of any wait that a pace asks for."""
    await asyncio.sleep(delay / 100)


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
