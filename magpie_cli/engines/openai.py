"""Any server that speaks OpenAI's chat completions, over aiohttp; presets are rows of the table.

Protocol: https://platform.openai.com/docs/api-reference/chat . One POST a completion, no streaming:
one body costs a fraction of the processor time of its chunks.
"""

import math
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from difflib import get_close_matches
from typing import Any

import aiohttp
import orjson

from magpie_cli.address import checked_url, find_proxy
from magpie_cli.engine import (
    Completion,
    EngineError,
    EngineRefused,
    EngineRow,
    Message,
    PairRefused,
    Sampling,
    Transient,
)
from magpie_cli.engines.http_errors import classify, error_in_reply, server_words
from magpie_cli.engines.http_reply import json_object, read_body, reason
from magpie_cli.engines.keys import find_key
from magpie_cli.errors import MagpieError, NotFinished, UsageError
from magpie_cli.records import Usage
from magpie_cli.settings import Settings

CONNECT_TIMEOUT = 5.0  # seconds, as all below
SILENCE_TIMEOUT = 120.0
LISTING_TIMEOUT = 10.0
MAX_REPLY_BYTES = 8 * 1024 * 1024
MODELS_SHOWN = 20
DRIA = "dria-inference"
DRIA_MAX_TOKENS = 2048  # its own default, said aloud
SHORTEST_SECRET = 8  # characters; shorter keys are placeholders like EMPTY

NO_LISTING = ("http_404", "http_405")  # kinds of a server that lists no models


@asynccontextmanager
async def connect(
    row: EngineRow, settings: Settings, environment: Mapping[str, str] = os.environ
) -> AsyncIterator["OpenAIModel"]:
    """A model of the server that the preset or --base-url names.

    Raises UsageError for a bad URL, a lacking key or an unknown model; MagpieError where nothing
    answers; EngineRefused where the key is not accepted.
    """
    base_url = checked_url(settings.base_url or row.base_url or "")
    limits = aiohttp.ClientTimeout(
        total=settings.timeout,
        sock_connect=CONNECT_TIMEOUT,
        sock_read=settings.timeout if row.name == DRIA else min(SILENCE_TIMEOUT, settings.timeout),
    )
    async with _open_server(row, base_url, environment, limits) as server:
        model = await _choose_model(server, row, settings.model)
        yield OpenAIModel(row, model, server, _extra(row, settings.timeout))


async def list_models(row: EngineRow, environment: Mapping[str, str], seconds: float) -> list[str]:
    """The models that the preset's own server lists. Raises UsageError or EngineError."""
    limits = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_TIMEOUT)
    async with _open_server(row, row.base_url or "", environment, limits) as server:
        return _names(await server.ask("GET", "/models"))


@asynccontextmanager
async def _open_server(
    row: EngineRow, base_url: str, environment: Mapping[str, str], limits: aiohttp.ClientTimeout
) -> AsyncIterator["_Server"]:
    key = find_key(row, base_url, environment)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=limits,
        proxy=find_proxy(base_url),
    ) as session:
        yield _Server(session, base_url, key, row.statuses)


def _extra(row: EngineRow, timeout: float) -> Mapping[str, object]:
    """What the body of each request holds besides, where a preset has its own ideas.

    Dria's: a node works so long, and writes so much where --max-tokens does not say
    (https://docs.dria.co/docs/api/chat-completions).
    """
    if row.name == DRIA:
        return {"timeout_secs": math.ceil(timeout), "max_tokens": DRIA_MAX_TOKENS}
    return {}


class OpenAIModel:
    """A ChatModel of one server and one model name. `extra` goes into the body of each request."""

    def __init__(
        self, row: EngineRow, model: str, server: "_Server", extra: Mapping[str, object]
    ) -> None:
        self.name = row.name
        self.model = model
        self._server = server
        self._extra = extra
        # OpenAI's newer models refuse `max_tokens`; every other server knows only that name.
        new_name = row.name == "openai" and server.base_url == row.base_url
        self._max_tokens = "max_completion_tokens" if new_name else "max_tokens"

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """One POST. Raises EngineError."""
        options = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self._max_tokens: sampling.max_tokens,
            "seed": sampling.seed,
        }
        body: dict[str, object] = {"model": self.model, "messages": messages, **self._extra}
        body.update((key, value) for key, value in options.items() if value is not None)
        return _completion(await self._server.ask("POST", "/chat/completions", body))


class _Server:
    """One base URL: asks it, and says what went wrong in words that never hold the key."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str,
        key: str | None,
        statuses: Mapping[int, str],
    ) -> None:
        self.base_url = base_url
        self._statuses = statuses
        self._session = session
        self._key = key
        # Not the session's: aiohttp shows a session's headers to the proxy, unencrypted.
        self._headers = {"Content-Type": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"

    async def ask(
        self, method: str, path: str, body: object = None, seconds: float | None = None
    ) -> dict[str, Any]:
        """The JSON object that it answers with. Raises EngineError."""
        try:
            return await self._ask(method, self.base_url + path, body, seconds)
        except EngineError as error:
            error.message = self._hide(error.message)
            error.hint = error.hint and self._hide(error.hint)
            error.args = (error.message,)
            raise

    async def _ask(
        self, method: str, url: str, body: object, seconds: float | None
    ) -> dict[str, Any]:
        options: dict[str, Any] = {"data": orjson.dumps(body)} if body else {}
        if seconds:
            options["timeout"] = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_TIMEOUT)
        try:
            async with self._session.request(
                method,
                url,
                headers=self._headers,
                allow_redirects=False,
                **options,
            ) as response:
                reply = await read_body(response, MAX_REPLY_BYTES)
                if response.status != 200:
                    words = server_words(reply, self._hide)
                    raise classify(response.status, words, response.headers, url, self._statuses)
        except TimeoutError as error:
            raise Transient("timeout", f"no answer in time from {url}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Transient("connection", f"{url}: {reason(error)}") from error
        answer = json_object(reply, url)
        if answer.get("error"):  # some servers send their errors with status 200
            raise error_in_reply(reply, url, self._hide, self._statuses)
        return answer

    def _hide(self, text: str) -> str:
        """Without the key: some servers quote the one that they refuse."""
        secret = self._key or ""
        return text.replace(secret, "***") if len(secret) >= SHORTEST_SECRET else text


def _completion(answer: dict[str, Any]) -> Completion:
    try:
        choice = answer["choices"][0]
        text = choice["message"]["content"]
        finish_reason = choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise Transient("bad_reply", "the answer has no choices[0].message.content") from error
    if finish_reason == "content_filter":
        raise PairRefused("content_filter", "the server's content filter stopped the answer")
    if text is not None and not isinstance(text, str):
        raise Transient("bad_reply", f"the answer's content is a {type(text).__name__}")
    if not text or not text.strip():
        raise Transient("empty_reply", f"an empty answer (finish_reason {finish_reason!r})")
    return Completion(text.strip(), finish_reason, _usage(answer.get("usage")))


def _usage(usage: object) -> Usage:
    counts = usage if isinstance(usage, dict) else {}
    prompt, completion = counts.get("prompt_tokens"), counts.get("completion_tokens")
    return Usage(
        prompt if isinstance(prompt, int) else None,
        completion if isinstance(completion, int) else None,
    )


async def _choose_model(server: _Server, row: EngineRow, asked: str | None) -> str:
    """`asked` if the server has it, or the only one it has. Raises UsageError with the list."""
    trouble = ""
    listed: list[str] = []
    try:
        listed = _names(await server.ask("GET", "/models", seconds=LISTING_TIMEOUT))
    except EngineRefused as error:
        if error.kind not in NO_LISTING:
            raise
        if asked is None:
            raise UsageError(
                f"{error.message}: it lists no models",
                "check that --base-url ends as it should (usually in /v1), or name a --model",
            ) from error
    except EngineError as error:
        if error.kind in ("connection", "timeout"):
            start = f"start it with {row.start}, or " if row.start else ""
            raise MagpieError(
                f"nothing answers: {error.message}",
                f"{start}check --base-url",
            ) from error
        trouble = error.message if error.kind.startswith("http_") else ""
    if asked is None:
        if len(listed) == 1:
            return listed[0]
        if trouble:
            raise NotFinished(
                f"{server.base_url}: which model? {trouble}", "name one with --model, or try later"
            )
        raise UsageError(f"{server.base_url}: which model?", _model_hint(listed, ""))
    if listed and asked not in listed and f"{asked}:latest" not in listed:
        raise UsageError(f"{server.base_url} has no model {asked!r}", _model_hint(listed, asked))
    return asked


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
    shown = listed
    if len(listed) > MODELS_SHOWN:
        shown = get_close_matches(asked, listed, n=MODELS_SHOWN, cutoff=0.4) or sorted(listed)
    more = len(listed) - len(shown[:MODELS_SHOWN])
    names = ", ".join(shown[:MODELS_SHOWN]) + (f" and {more} more" if more else "")
    return f"--model with one of: {names}"
