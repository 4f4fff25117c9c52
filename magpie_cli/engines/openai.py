"""Any server that speaks OpenAI's chat completions; presets are rows of the table.

Without streaming: one body costs a fraction of the processor time of its pieces.
"""

import math
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from difflib import get_close_matches
from typing import Any

from magpie_cli.address import checked_url
from magpie_cli.engine import EngineError, EngineRefused, EngineRow
from magpie_cli.engines import OWN_KEY
from magpie_cli.engines.http_chat import HttpChatModel
from magpie_cli.engines.http_client import open_client
from magpie_cli.engines.http_server import HttpServer
from magpie_cli.engines.keys import find_key
from magpie_cli.engines.names import shown
from magpie_cli.errors import MagpieError, NotFinished, UsageError
from magpie_cli.settings import Settings

SILENCE_TIMEOUT = 120.0  # seconds, as below
LISTING_TIMEOUT = 10.0
MODELS_SHOWN = 20
NO_LISTING = ("http_404", "http_405")  # kinds of a server that lists no models


@asynccontextmanager
async def connect(
    row: EngineRow, settings: Settings, environment: Mapping[str, str] = os.environ
) -> AsyncIterator[HttpChatModel]:
    """A model of the server that the preset or the first --base-url names.

    Raises UsageError for a bad URL, a lacking key or an unknown model; MagpieError where nothing
    answers; EngineRefused where the key is not accepted.
    """
    base_url = checked_url(settings.base_url[0] if settings.base_url else row.base_url or "")
    silence = None if row.timeout_field else SILENCE_TIMEOUT
    opened = _open_server(row, base_url, environment, settings.timeout, silence)
    async with opened as server:
        model = await _choose_model(server, row, settings.model)
        field = row.timeout_field
        # OpenAI's newer models refuse `max_tokens`; every other server knows only that name.
        new_name = row.name == "openai" and server.base_url == row.base_url
        yield HttpChatModel(
            row.name,
            model,
            server,
            dict(row.body) | ({field: math.ceil(settings.timeout)} if field else {}),
            max_tokens="max_completion_tokens" if new_name else "max_tokens",
        )


async def list_models(row: EngineRow, environment: Mapping[str, str], seconds: float) -> list[str]:
    """The models that the preset's own server lists. Raises UsageError or EngineError."""
    async with _open_server(row, row.base_url or "", environment, seconds) as server:
        return _names(await server.ask("GET", "/models"))


@asynccontextmanager
async def _open_server(
    row: EngineRow,
    base_url: str,
    environment: Mapping[str, str],
    seconds: float,
    silence: float | None = None,
) -> AsyncIterator[HttpServer]:
    key = find_key(row, base_url, environment)
    async with open_client(base_url, seconds, silence=silence) as client:
        variable = row.credential if base_url == row.base_url else OWN_KEY
        no_key = f"it wants a key, and none was sent: export {variable}=..., or --token-file FILE"
        yield HttpServer(client, base_url, key, row.statuses, no_key=no_key)


async def _choose_model(server: HttpServer, row: EngineRow, asked: str | None) -> str:
    """`asked` if the server has it, or the only one it has. Raises UsageError with the list."""
    listed, trouble = await _listed(server, row)
    if asked is None:
        if len(listed) == 1:
            return listed[0]
        if trouble is None:
            raise UsageError(f"{server.base_url}: which model?", _model_hint(listed, ""))
        if trouble.kind.startswith("http_") and trouble.kind not in NO_LISTING:
            which = f"{server.base_url}: which model? {trouble.message}"
            raise NotFinished(which, "name one with --model, or try later")
        raise UsageError(
            f"{trouble.message}: it lists no models",
            "check that --base-url ends as it should (usually in /v1), or name a --model",
        ) from trouble
    if listed and asked not in listed and f"{asked}:latest" not in listed:
        raise UsageError(f"{server.base_url} has no model {asked!r}", _model_hint(listed, asked))
    return asked


async def _listed(server: HttpServer, row: EngineRow) -> tuple[list[str], EngineError | None]:
    """The models that it lists, and why it lists none. Raises where asking on is of no use."""
    try:
        return _names(await server.ask("GET", "/models", seconds=LISTING_TIMEOUT)), None
    except EngineRefused as error:
        if error.kind not in NO_LISTING:
            raise
        return [], error
    except EngineError as error:
        if error.kind in ("connection", "timeout"):
            start = f"start it with {row.start}, or " if row.start else ""
            raise MagpieError(
                f"nothing answers: {error.message}",
                error.hint or f"{start}check --base-url",
            ) from error
        return [], error


def _names(answer: dict[str, Any]) -> list[str]:
    entries = answer.get("data")
    return [
        entry["id"]
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict) and isinstance(entry.get("id"), str)
    ]


def _model_hint(listed: list[str], asked: str) -> str:
    if not listed:
        return "it lists none: load one there, or name one with --model"
    if len(listed) > MODELS_SHOWN:
        near = get_close_matches(asked, listed, n=MODELS_SHOWN, cutoff=0.4) or sorted(listed)
        listed = [*near, *(name for name in listed if name not in near)]
    return f"--model with one of: {shown(listed, MODELS_SHOWN)}"
