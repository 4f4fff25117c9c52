"""`dria`: dialogues from the Dria Network, one task of the SDK's MagPie workflow each.

sdk.py        what is used of the package dria, and the quarantine it is kept in
rpc.py        the network's three calls
nodes.py      who is there, and who takes the next task
workflow.py   a pair -> the workflow that a node executes
tasks.py      publish, match, ask again
answers.py    the signed and encrypted answer of a node
"""

import os
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from difflib import get_close_matches

import aiohttp

from magpie_cli.address import check_key, checked_url, find_proxy
from magpie_cli.devnet import MODEL, DevnetOptions
from magpie_cli.engine import DialogueRequest, EngineError, EngineRefused, EngineRow
from magpie_cli.engines import open_chat_model
from magpie_cli.engines.dria.nodes import Nodes
from magpie_cli.engines.dria.rpc import CALL_TIMEOUT, CONNECT_TIMEOUT, Rpc
from magpie_cli.engines.dria.sdk import Sdk
from magpie_cli.engines.dria.tasks import Tasks
from magpie_cli.engines.dria.workflow import Workflows
from magpie_cli.errors import NotFinished, UsageError
from magpie_cli.records import NO_TOKENS, Dialogue, Usage
from magpie_cli.settings import Settings

NAMES_SHOWN = 5


@asynccontextmanager
async def connect(
    row: EngineRow, settings: Settings, environment: Mapping[str, str] = os.environ
) -> AsyncIterator["DriaEngine"]:
    """The network that the token is for, that --rpc-url names, or one of its own inside --devnet.

    Raises UsageError for a lacking token or an unknown model; EngineRefused where the token is not
    accepted; NotFinished where nobody can say which model there is.
    """
    _refuse_what_no_node_does(settings)
    sdk = Sdk()
    if settings.model is not None:
        _check_model(settings.model, sdk)
    async with AsyncExitStack() as stack:
        writes = None
        if settings.devnet:
            token = secrets.token_hex(8)
            from magpie_cli.devnet.network import open_devnet

            options = DevnetOptions(port=0, models=settings.model or MODEL, accept=token)
            writer = await stack.enter_async_context(open_chat_model(options.writer, Settings("-")))
            url = (await stack.enter_async_context(open_devnet(options, writer))).url
            writes = writer.model
        else:
            token = _find_token(row, environment)
            url = checked_url(settings.rpc_url or sdk.address(token), "--rpc-url", "")
            check_key(row.credential or "", token, url)
        session = await stack.enter_async_context(_session(url))
        rpc, nodes = Rpc(session, url, token), Nodes(sdk)
        model = await _choose_model(rpc, nodes, settings.model, sdk)
        tasks = Tasks(sdk, rpc, nodes, token, timeout=settings.timeout)
        tasks.start()
        stack.push_async_callback(tasks.stop)
        workflows = Workflows(sdk, settings.timeout, settings.max_tokens)
        yield DriaEngine(row.name, model, writes or model, tasks, workflows)


class DriaEngine:
    """An Engine whose dialogues are made whole, by the nodes of one network.

    `asks` is the model that nodes are asked for, `model` the one that writes: they differ on a
    network inside this process alone.
    """

    def __init__(
        self, name: str, asks: str, model: str, tasks: Tasks, workflows: Workflows
    ) -> None:
        self.name = name
        self.model = model
        self._asks = asks
        self._tasks = tasks
        self._workflows = workflows

    async def dialogue(self, request: DialogueRequest) -> Dialogue:
        """One task, on one node. The network does not count tokens. Raises EngineError."""
        had = request.utterances
        if len(had) == 2 * request.num_turns:
            return Dialogue.from_utterances(had, self.model, NO_TOKENS)
        workflow = self._workflows.fill(request)
        answer = await self._tasks.ask(request.id, self._asks, workflow, 2 * request.num_turns)
        new = answer.utterances[len(had) :]
        for utterance in new:
            request.on_utterance(utterance, Usage())
        return Dialogue.from_utterances([*had, *new], answer.model or self._asks, Usage())


def _session(url: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=CALL_TIMEOUT, sock_connect=CONNECT_TIMEOUT),
        proxy=find_proxy(url),
    )


def _refuse_what_no_node_does(settings: Settings) -> None:
    given = {
        "--base-url": settings.base_url,
        "--temperature": settings.temperature,
        "--top-p": settings.top_p,
        "--seed": settings.seed,
    }
    for flag, value in given.items():
        if value is not None:
            what = "it has --rpc-url" if flag == "--base-url" else "its nodes take none"
            raise UsageError(f"the dria engine has no {flag}: {what}", f"leave out {flag}")
    if settings.devnet and settings.rpc_url:
        raise UsageError(
            "--devnet is a network of its own, and --rpc-url names another", "leave out one of them"
        )


def _find_token(row: EngineRow, environment: Mapping[str, str]) -> str:
    token = environment.get(row.credential or "", "").strip()
    if not token:
        raise UsageError(
            f"the {row.name} engine needs a token, and {row.credential} is not set",
            f"export {row.credential}=..., or {row.otherwise}",
        )
    return token


def _check_model(asked: str, sdk: Sdk) -> None:
    if asked not in sdk.models:
        near = get_close_matches(asked, sdk.models, n=NAMES_SHOWN, cutoff=0.0)
        raise UsageError(
            f"the Dria SDK knows no model {asked!r}",
            f"--model with one of its names; the nearest are {', '.join(near)}",
        )


async def _choose_model(rpc: Rpc, nodes: Nodes, asked: str | None, sdk: Sdk) -> str:
    """`asked`, or the only one that the network serves. Raises UsageError with the list."""
    try:
        nodes.refresh(await rpc.heartbeats())
    except EngineRefused:
        raise
    except EngineError as error:
        if asked is None:
            raise NotFinished(
                f"which model? {error.message}", "name one with --model, or try later"
            ) from error
    if asked is not None:
        return asked
    served = [model for model in nodes.served() if model in sdk.models]
    if len(served) == 1:
        return served[0]
    if not served:
        raise NotFinished("which model? the network has no nodes at the moment", "try later")
    raise UsageError("which model?", f"--model with one of: {', '.join(served)}")
