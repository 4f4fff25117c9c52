"""`dria`: dialogues from the Dria Network, one task of the SDK's MagPie workflow each.

sdk.py        what is used of the package dria, and the quarantine it is kept in
rpc.py        the network's three calls
nodes.py      who is there, and who takes the next task
workflow.py   a pair -> the workflow that a node executes
asked.py      a dialogue that is asked for, and its tasks
tasks.py      send them, match them with their answers, ask again
answers.py    the signed and encrypted answer of a node
"""

import os
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from difflib import get_close_matches

from magpie_cli.address import check_key, checked_url
from magpie_cli.devnet import MODEL, DevnetOptions
from magpie_cli.engine import DialogueRequest, EngineError, EngineRefused, EngineRow, Throttled
from magpie_cli.engines import open_chat_model
from magpie_cli.engines.dria.nodes import Nodes
from magpie_cli.engines.dria.rpc import CALL_TIMEOUT, Rpc
from magpie_cli.engines.dria.sdk import Sdk
from magpie_cli.engines.dria.tasks import Tasks
from magpie_cli.engines.dria.workflow import Workflows
from magpie_cli.engines.http_client import open_client
from magpie_cli.engines.names import shown
from magpie_cli.errors import NotFinished, UsageError
from magpie_cli.records import Dialogue
from magpie_cli.settings import Settings

NAMES_SHOWN = 5
_ENDED = (
    " (by all that is public, this network ended in 2025: --engine dria-inference asks today's, "
    "--devnet makes one of its own)"
)


@asynccontextmanager
async def connect(
    row: EngineRow, settings: Settings, environment: Mapping[str, str] = os.environ
) -> AsyncIterator["DriaEngine"]:
    """The network that the token is for, that --rpc-url names, or one of its own inside --devnet.

    Raises UsageError for a lacking token or an unknown model; EngineRefused where the token is not
    accepted; Throttled where nobody can say yet which model there is.
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
            words = replace(settings, model=None)  # --echo-delay and its like are the writer's
            writer = await stack.enter_async_context(open_chat_model(options.writer, words))
            url = (await stack.enter_async_context(open_devnet(options, writer))).url
            writes = writer.model
        else:
            token = _find_token(row, environment)
            url = settings.rpc_url or sdk.address(token)
            url = checked_url(url, "--rpc-url", "http://localhost:8006")
            check_key(row.credential or "", token, url)
        client = await stack.enter_async_context(open_client(url, CALL_TIMEOUT))
        theirs = not settings.devnet and url == sdk.address(token)
        rpc = Rpc(client, url, token)
        nodes = Nodes(sdk, _ENDED if theirs else "", rpc.hide)
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

    def close_queue(self, error: NotFinished) -> None:
        """As Queueing: what waits for a node waits no longer."""
        self._tasks.close_queue(error)

    async def dialogue(self, request: DialogueRequest) -> Dialogue:
        """One task, on one node. The network does not count tokens. Raises EngineError."""
        had = request.utterances
        if len(had) == 2 * request.num_turns:
            return Dialogue.from_utterances(had, self.model)
        workflow = self._workflows.fill(request)
        answer = await self._tasks.ask(request.id, self._asks, workflow, 2 * request.num_turns)
        new = answer.utterances[len(had) :]
        return Dialogue.from_utterances([*had, *new], answer.model or self._asks)


def _refuse_what_no_node_does(settings: Settings) -> None:
    given = {
        "--base-url": settings.base_url,
        "--temperature": settings.temperature,
        "--top-p": settings.top_p,
        "--seed": settings.seed,
    }
    flags = " and ".join(flag for flag, value in given.items() if value is not None)
    if flags:
        raise UsageError(
            f"the dria engine has no {flags}: its nodes take none, and its address is --rpc-url",
            f"leave out {flags}",
        )


def _find_token(row: EngineRow, environment: Mapping[str, str]) -> str:
    token = environment.get(row.credential or "", "").strip()
    if not token:
        raise UsageError(
            f"the {row.name} engine needs a token, and {row.credential} is not set",
            f"export {row.credential}=... (a devnet takes any word), or {row.otherwise}",
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
    """`asked`, or the only one that the network serves. Raises UsageError with the list.

    Raises EngineError where the token is refused, or the only one cannot be known yet.
    """
    try:
        nodes.refresh(await rpc.heartbeats())
    except EngineRefused:
        raise
    except EngineError as error:
        if asked is None:  # each try of the caller's begins anew: all that helps is patience
            message = f"the Dria RPC is down: {error.message}{nodes.remark}"
            raise Throttled("rpc_down", message) from error
        nodes.not_listed(error)
    if asked is not None:
        return asked
    known = [model for model in nodes.served() if model in sdk.models]
    if not known:
        raise nodes.lack(None)
    if len(known) > 1:
        raise UsageError("which model?", f"--model with one of: {shown(known, len(known))}")
    return known[0]
