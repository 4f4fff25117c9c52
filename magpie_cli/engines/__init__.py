"""The table of engines, and how one is opened.

A new engine is one file with a `connect(row, settings)` that yields a ChatModel (or, where whole
dialogues come from elsewhere, an Engine), and one row here.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from importlib import import_module
from types import ModuleType

from magpie_cli.converse import ChatEngine, CheckedEngine
from magpie_cli.devnet import NO_SDK
from magpie_cli.engine import (
    ChatModel,
    Engine,
    EngineRefused,
    EngineRow,
    Queueing,
    Sampling,
    StatusMeaning,
    ignore_sentence,
    processors,
)
from magpie_cli.engines.findings import demands_of, refuse_unheeded
from magpie_cli.errors import MagpieError, NotFinished, UsageError
from magpie_cli.pace import Pace
from magpie_cli.pace.paced import PacedChatModel, PacedEngine
from magpie_cli.prompts import Prompts
from magpie_cli.settings import Settings
from magpie_cli.spread import Server, SpreadEngine

OWN_KEY = "MAGPIE_API_KEY"  # for any address that is not a preset's own
FEW_CORES = 4
NO_SERVER = ("echo", "local")

_OPENAI = "magpie_cli.engines.openai"

_ROWS = (
    EngineRow(
        "echo", "magpie_cli.engines.echo", "offline demo text made from the personas; not data"
    ),
    EngineRow(
        "dria",
        "magpie_cli.engines.dria",
        "the Dria Network of the dria SDK (which seems to have ended in 2025), or one of your own",
        credential="DRIA_RPC_TOKEN",
        required=True,
        otherwise="add --devnet, a network inside this process",
        package="dria",
        absent=NO_SDK,
        prompts="MagPie of dria 0.0.124",
        concurrency=256,
    ),
    EngineRow(
        "dria-inference",
        _OPENAI,
        "the Dria Network's inference API, the network of today",
        base_url="https://inference.dria.co/v1",
        credential="DRIA_API_KEY",
        required=True,
        # https://docs.dria.co/docs/api/chat-completions ; 2048 is its own default, said aloud.
        statuses={
            402: StatusMeaning("the account has no credits left"),
            503: StatusMeaning("no node of the network serves this model at the moment", wait=True),
        },
        body={"max_tokens": 2048},
        timeout_field="timeout_secs",
    ),
    EngineRow(
        "local",
        "magpie_cli.engines.local",
        "a model inside this machine, fetched once; no server, no token",
        package="xllamacpp",
        concurrency=2 if processors() <= FEW_CORES else 4,
    ),
    EngineRow(
        "openai",
        _OPENAI,
        "OpenAI, or with --base-url any server that speaks its API",
        base_url="https://api.openai.com/v1",
        credential="OPENAI_API_KEY",
        required=True,
    ),
    EngineRow(
        "ollama",
        _OPENAI,
        "Ollama on this machine",
        base_url="http://localhost:11434/v1",
        start="ollama serve",
    ),
    EngineRow(
        "vllm",
        _OPENAI,
        "vLLM on this machine",
        base_url="http://localhost:8000/v1",
        credential="VLLM_API_KEY",
        start="vllm serve MODEL",
    ),
    EngineRow(
        "openrouter",
        _OPENAI,
        "OpenRouter",
        base_url="https://openrouter.ai/api/v1",
        credential="OPENROUTER_API_KEY",
        required=True,
    ),
)

ENGINES: Mapping[str, EngineRow] = {row.name: row for row in _ROWS}


def choose_engine(
    settings: Settings, environment: Mapping[str, str] = os.environ
) -> tuple[str, str]:
    """The engine's name and why it is this one.

    Raises UsageError where flags contradict, or the engine would do nothing with one.
    """
    name, why = _chosen(settings, environment)
    refuse_ignored(name, settings)
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


def refuse_ignored(name: str, settings: Settings) -> None:
    """Raises UsageError where a flag was given that the engine `name` would do nothing with."""
    refuse_unheeded(find_row(name), settings)
    echoes = name == "echo" or settings.devnet
    if name in NO_SERVER and settings.base_url:
        raise UsageError(f"the {name} engine asks no server", "leave out --base-url, or --engine")
    if settings.devnet and settings.rpc_url:
        raise UsageError(
            "--devnet is a network of its own, and --rpc-url another", "leave out one of them"
        )
    given = {
        "--rpc-url": (settings.rpc_url and name != "dria", "dria"),
        "--echo-delay": (settings.echo_delay and not echoes, "echo"),
        "--echo-failure-rate": (settings.echo_failure_rate and not echoes, "echo"),
    }
    for flag, (ignored, whose) in given.items():
        twin = "MAGPIE_" + flag[2:].replace("-", "_").upper()
        if ignored:
            raise UsageError(
                f"{flag} is for the {whose} engine, and the {name} engine would ignore it",
                f"leave out {flag} (or unset {twin}), or choose --engine {whose}",
            )


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

    `say` hears a sentence about what has to be fetched first.

    Raises UsageError for an unknown name or a lacking credential, EngineError where the engine
    itself refuses.
    """
    row = find_row(name, table)
    module = import_module(row.module)
    await _prepare(module, settings, say)
    sampling = Sampling(settings.temperature, settings.top_p, settings.max_tokens)
    demands = demands_of(settings)

    def paced(chat: ChatModel) -> Server:
        gate = pace.new_gate(settings.concurrency or row.concurrency)
        model = PacedChatModel(chat, pace, gate)
        return Server(ChatEngine(model, sampling, prompts, demands), gate)

    async with AsyncExitStack() as stack:

        async def connected(settings: Settings) -> Engine | ChatModel:
            return await pace.attempt(
                lambda: stack.enter_async_context(module.connect(row, settings))
            )

        if len(settings.base_url or ()) > 1:
            models = await _connect_all(settings, connected, say)
            yield SpreadEngine([paced(model) for model in models])
            return
        source = await connected(settings)
        if isinstance(source, ChatModel):
            yield paced(source).engine
        else:
            if isinstance(source, Queueing):
                pace.queues.append(source)
            yield CheckedEngine(PacedEngine(source, pace), demands)


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
    if row.prompts:
        raise UsageError(
            f"the {name} engine makes whole dialogues, and cannot write single answers",
            "choose another --writer; magpie doctor lists the engines",
        )
    refuse_ignored(name, settings)
    module = import_module(row.module)
    await _prepare(module, settings, say)
    async with module.connect(row, settings) as source:
        yield source


async def _prepare(module: ModuleType, settings: Settings, say: Callable[[str], None]) -> None:
    """What an engine does before it connects, if anything."""
    if hasattr(module, "prepare"):
        await module.prepare(settings, say)
