"""The table of engines, and how one is opened.

A new engine is one file with a `connect(row, settings)` that yields a ChatModel (or, where whole
dialogues come from elsewhere, an Engine), and one row here.
"""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module

from magpie_cli.converse import ChatEngine
from magpie_cli.engine import ChatModel, Engine, EngineRow, Sampling
from magpie_cli.errors import UsageError
from magpie_cli.pace import Pace, PacedChatModel, PacedEngine
from magpie_cli.prompts import Prompts
from magpie_cli.settings import Settings

OWN_KEY = "MAGPIE_API_KEY"  # for any address that is not a preset's own

_OPENAI = "magpie_cli.engines.openai"

_ROWS = (
    EngineRow(
        "echo", "magpie_cli.engines.echo", "offline demo text made from the personas; not data"
    ),
    EngineRow(
        "dria",
        "magpie_cli.engines.dria",
        "the Dria Network of the dria SDK, one task a dialogue; or one of your own",
        credential="DRIA_RPC_TOKEN",
        required=True,
        otherwise="add --devnet, a network inside this process",
        package="dria",
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
        statuses={
            402: "the account has no credits left",
            503: "no node of the network serves this model at the moment",
        },
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
    """The engine's name and why it is this one. Raises UsageError where there is none."""
    if settings.engine and not settings.devnet:
        return find_row(settings.engine).name, "as named"
    if settings.devnet:
        if settings.engine not in (None, "dria"):
            raise UsageError(
                f"--devnet is a Dria network, and --engine {settings.engine} does not ask one",
                "leave out --devnet, or --engine",
            )
        return "dria", "--devnet: a network inside this process, on which echo writes"
    if settings.rpc_url:
        return "dria", "--rpc-url is given"
    if settings.base_url:
        return "openai", "--base-url is given"
    if environment.get("DRIA_RPC_TOKEN"):
        return "dria", "DRIA_RPC_TOKEN is set"
    if environment.get("DRIA_API_KEY"):
        return "dria-inference", "DRIA_API_KEY is set"
    raise UsageError(
        "no engine is named, and nothing in the environment points to one",
        "add --engine echo (offline demo), --devnet, --engine ollama, or --base-url URL; "
        "magpie doctor shows all",
    )


def find_row(name: str, table: Mapping[str, EngineRow] = ENGINES) -> EngineRow:
    """The engine called `name`. Raises UsageError with the names there are."""
    if name not in table:
        raise UsageError(f"there is no engine {name!r}", f"choose from: {', '.join(table)}")
    return table[name]


@asynccontextmanager
async def open_engine(
    name: str,
    settings: Settings,
    prompts: Prompts,
    pace: Pace,
    table: Mapping[str, EngineRow] = ENGINES,
) -> AsyncIterator[Engine]:
    """The engine `name`, connected, every request of it behind `pace`.

    Raises UsageError for an unknown name or a lacking credential, EngineError where the engine
    itself refuses.
    """
    sampling = Sampling(settings.temperature, settings.top_p, settings.max_tokens)
    async with _connect(name, settings, table) as source:
        if isinstance(source, ChatModel):
            yield ChatEngine(PacedChatModel(source, pace), sampling, prompts)
        else:
            yield PacedEngine(source, pace)


@asynccontextmanager
async def open_chat_model(name: str, settings: Settings) -> AsyncIterator[ChatModel]:
    """The engine `name` for single completions, with no retries. Raises as `open_engine`."""
    async with _connect(name, settings, ENGINES) as source:
        if not isinstance(source, ChatModel):
            raise UsageError(
                f"the {name} engine makes whole dialogues, and cannot write single answers",
                "choose another --writer; magpie doctor lists the engines",
            )
        yield source


def _connect(
    name: str, settings: Settings, table: Mapping[str, EngineRow]
) -> AbstractAsyncContextManager[ChatModel | Engine]:
    row = find_row(name, table)
    opened: AbstractAsyncContextManager[ChatModel | Engine]
    opened = import_module(row.module).connect(row, settings)
    return opened
