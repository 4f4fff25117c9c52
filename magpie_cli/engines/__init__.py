"""The table of engines, and how one is opened.

A new engine is one file with a `connect(row, settings)` that yields a ChatModel (or, where whole
dialogues come from elsewhere, an Engine), and one row here.
"""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib import import_module

from magpie_cli.converse import ChatEngine
from magpie_cli.engine import ChatModel, Engine, EngineRow, Sampling
from magpie_cli.errors import UsageError
from magpie_cli.pace import Pace, PacedChatModel, PacedEngine
from magpie_cli.prompts import Prompts
from magpie_cli.settings import Settings

OWN_KEY = "MAGPIE_API_KEY"  # for any address that is not a preset's own
LOOPBACK = ("localhost", "127.0.0.1", "::1")

_OPENAI = "magpie_cli.engines.openai"

_ROWS = (
    EngineRow(
        "echo", "magpie_cli.engines.echo", "offline demo text made from the personas; not data"
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
        "dria-inference",
        _OPENAI,
        "the Dria Network's inference API",
        base_url="https://inference.dria.co/v1",
        credential="DRIA_API_KEY",
        required=True,
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
    if settings.engine:
        return find_row(settings.engine).name, "as named"
    if settings.base_url:
        return "openai", "--base-url is given"
    if environment.get("DRIA_API_KEY"):
        return "dria-inference", "DRIA_API_KEY is set"
    raise UsageError(
        "no engine is named, and nothing in the environment points to one",
        "add --engine echo (offline demo), --engine ollama, or --base-url URL; "
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
    row = find_row(name, table)
    module = import_module(row.module)
    sampling = Sampling(settings.temperature, settings.top_p, settings.max_tokens)
    async with module.connect(row, settings) as source:
        if isinstance(source, ChatModel):
            yield ChatEngine(PacedChatModel(source, pace), sampling, prompts)
        else:
            yield PacedEngine(source, pace)
