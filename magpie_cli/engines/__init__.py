"""Which engine it is to be, and how one is opened.

A new engine is one file with a `connect(row, settings)` that yields a ChatModel (or, where whole
dialogues come from elsewhere, an Engine), and one row in table.py.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from importlib import import_module
from types import ModuleType

from magpie_cli.converse import ChatEngine, CheckedEngine
from magpie_cli.engine import (
    ChatModel,
    Engine,
    EngineRefused,
    EngineRow,
    Queueing,
    Sampling,
    ignore_sentence,
)
from magpie_cli.engines.findings import demands_of
from magpie_cli.engines.ignored import refuse_ignored
from magpie_cli.engines.sockets import ceiling
from magpie_cli.engines.table import ENGINES
from magpie_cli.errors import MagpieError, NotFinished, UsageError
from magpie_cli.pace import Pace
from magpie_cli.pace.paced import PacedChatModel, PacedEngine
from magpie_cli.prompts import Prompts
from magpie_cli.settings import Settings
from magpie_cli.spread import Server, Servers, SpreadEngine
from magpie_cli.system_role import FoldingChatModel, SystemRole

__all__ = [
    "ENGINES",
    "OWN_KEY",
    "choose_engine",
    "find_row",
    "key_variable",
    "open_chat_model",
    "open_chat_models",
    "open_engine",
    "prompts_name",
    "refuse_whole_dialogues",
]

OWN_KEY = "MAGPIE_API_KEY"  # for any address that is not a preset's own


def choose_engine(
    settings: Settings, environment: Mapping[str, str] = os.environ
) -> tuple[str, str]:
    """The engine's name and why it is this one.

    Raises UsageError where flags contradict, or the engine would do nothing with one.
    """
    name, why = _chosen(settings, environment)
    refuse_ignored(find_row(name), settings)
    return name, why


def _chosen(settings: Settings, environment: Mapping[str, str]) -> tuple[str, str]:
    if settings.devnet:
        if settings.engine not in (None, "dria"):
            raise UsageError(
                f"--devnet is a Dria network, and --engine {settings.engine} does not ask one",
                "leave out --devnet, or --engine",
            )
        return "dria", "--devnet: a network inside this process, on which echo writes"
    if settings.engine:
        return find_row(settings.engine).name, "as named"
    if settings.rpc_url and settings.base_url:
        raise UsageError(
            "--rpc-url is for the dria engine, and --base-url for another",
            "leave out one of them, or name the --engine",
        )
    reasons = (
        ("dria", settings.rpc_url, "--rpc-url is given"),
        ("openai", settings.base_url, "--base-url is given"),
        ("dria", environment.get("DRIA_RPC_TOKEN"), "DRIA_RPC_TOKEN is set"),
        ("dria-inference", environment.get("DRIA_API_KEY"), "DRIA_API_KEY is set"),
    )
    chosen = ((name, why) for name, given, why in reasons if given)
    return next(chosen, ("local", "no other is named, and no token is set"))


def key_variable(name: str, settings: Settings) -> str:
    """Which variable holds the key of this run. Raises UsageError where the engine takes none."""
    row = find_row(name)
    variable = OWN_KEY if settings.base_url else row.credential
    if not variable or settings.devnet:
        raise UsageError(f"the {name} engine takes no key", "leave out --token-file")
    return variable


def find_row(name: str, table: Mapping[str, EngineRow] = ENGINES) -> EngineRow:
    """The engine called `name`. Raises UsageError with the names there are."""
    if name not in table:
        raise UsageError(f"there is no engine {name!r}", f"choose from: {', '.join(table)}")
    return table[name]


def prompts_name(row: EngineRow, prompts: Prompts) -> str:
    """What the speakers of an engine are told, by a name that changes when the prompts do."""
    return row.prompts or prompts.digest()


@asynccontextmanager
async def open_engine(  # noqa: PLR0913 - all that an engine has to be told
    name: str,
    settings: Settings,
    prompts: Prompts,
    pace: Pace,
    table: Mapping[str, EngineRow] = ENGINES,
    *,
    say: Callable[[str], None] = ignore_sentence,
) -> AsyncIterator[Engine]:
    """The engine `name`, connected, every request of it behind `pace`.

    `say` hears a sentence about what has to be fetched first, and what the model does not take.

    Raises UsageError for an unknown name or a lacking credential, EngineError where the engine
    itself refuses.
    """
    row = find_row(name, table)
    sampling = Sampling(settings.temperature, settings.top_p, settings.max_tokens)
    demands = demands_of(settings)
    most = ceiling(row, settings, say)
    role = SystemRole(say)

    def paced(chat: ChatModel) -> Server[Engine]:
        gate = pace.new_gate(most)
        polite = PacedChatModel(FoldingChatModel(chat, role), pace, gate)
        return Server(ChatEngine(polite, sampling, prompts, demands), gate)

    async with _connected(row, settings, pace, say) as sources:
        servers = [paced(source) for source in sources if isinstance(source, ChatModel)]
        if servers:
            yield servers[0].engine if len(servers) == 1 else SpreadEngine(servers)
            return
        (source,) = (source for source in sources if isinstance(source, Engine))
        if isinstance(source, Queueing):
            pace.queues.append(source)
        yield CheckedEngine(PacedEngine(source, pace), demands)


@asynccontextmanager
async def open_chat_models(
    name: str, settings: Settings, pace: Pace, *, say: Callable[[str], None] = ignore_sentence
) -> AsyncIterator[Servers[ChatModel]]:
    """The engine `name` for single completions, each through `pace` and the gate of its server.

    As `open_engine`; UsageError also where the engine makes whole dialogues.
    """
    row = find_row(name)
    refuse_whole_dialogues(name)
    most = ceiling(row, settings, say)
    role = SystemRole(say)
    async with _connected(row, settings, pace, say) as sources:
        chats = [FoldingChatModel(chat, role) for chat in sources if isinstance(chat, ChatModel)]
        yield Servers([Server(chat, pace.new_gate(most)) for chat in chats])


@asynccontextmanager
async def _connected(
    row: EngineRow, settings: Settings, pace: Pace, say: Callable[[str], None]
) -> AsyncIterator[Sequence[Engine | ChatModel]]:
    """All that the engine is made of: one for each --base-url, or its only one."""
    module = import_module(row.module)
    await _prepare(module, settings, say)
    async with AsyncExitStack() as stack:

        async def connected(settings: Settings) -> Engine | ChatModel:
            return await pace.attempt(
                lambda: stack.enter_async_context(module.connect(row, settings))
            )

        if len(settings.base_url or ()) > 1:
            yield await _connect_all(settings, connected, say)
        else:
            yield [await connected(settings)]


async def _connect_all(
    settings: Settings,
    connected: Callable[[Settings], Awaitable[Engine | ChatModel]],
    say: Callable[[str], None],
) -> list[ChatModel]:
    """The same model on each of the servers that answer; all of them must have it."""
    models: list[ChatModel] = []
    for url in settings.base_url or ():
        try:
            source = await connected(replace(settings, base_url=[url]))
        except (UsageError, NotFinished, EngineRefused):
            raise
        except MagpieError as error:
            lost = error
            say(f"going on without one server: {error.message}")
        else:
            models += [source] if isinstance(source, ChatModel) else []
    if not models:
        raise lost
    if len(names := {model.model for model in models}) > 1:
        raise UsageError(
            f"the servers have different models: {', '.join(sorted(names))}",
            "name one that all of them have with --model",
        )
    return models


@asynccontextmanager
async def open_chat_model(
    name: str, settings: Settings, *, say: Callable[[str], None] = ignore_sentence
) -> AsyncIterator[ChatModel]:
    """The engine `name` for single completions, with no retries. As `open_engine`."""
    row = find_row(name)
    refuse_whole_dialogues(name)
    refuse_ignored(row, settings)
    module = import_module(row.module)
    await _prepare(module, settings, say)
    async with module.connect(row, settings) as source:
        yield source


def refuse_whole_dialogues(name: str) -> None:
    """Raises UsageError where the engine `name` has nothing to say but whole dialogues."""
    if find_row(name).prompts:
        raise UsageError(
            f"the {name} engine makes whole dialogues, and cannot write single answers",
            "choose another engine; magpie doctor lists them",
        )


async def _prepare(module: ModuleType, settings: Settings, say: Callable[[str], None]) -> None:
    """What an engine does before it connects, if anything."""
    if hasattr(module, "prepare"):
        await module.prepare(settings, say)
