"""A real OpenAI-compatible server on loopback, in a thread, that misbehaves as it is told."""

import asyncio
import json
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web

Fault = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str]


class ChatServer:
    """`with ChatServer() as server:` listens at `server.url` until the block ends.

    `faults` gives what to do with each chat request in turn; None, and the end of it, means a good
    answer. `asked` holds all chat requests, `most_in_flight` how many there were at once. With
    `tls` its address is an https one.
    """

    def __init__(
        self, models: Iterable[str] = ("tiny",), tls: ssl.SSLContext | None = None
    ) -> None:
        self._tls = tls
        self.models = list(models)
        self.faults: Iterator[Fault | None] = iter(())
        self.listing: Fault | None = None
        self.key: str | None = None
        self.delay = 0.0
        self.asked: list[Asked] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        port = self._runner.addresses[0][1]
        scheme = "https" if self._tls else "http"
        self.url = f"{scheme}://127.0.0.1:{port}/v1"

    async def _stop(self) -> None:
        await self._runner.cleanup()
        hanging = asyncio.all_tasks() - {asyncio.current_task()}
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)

    async def _models(self, request: web.Request) -> web.StreamResponse:
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return _wrong_key(request)
        if self.listing:
            return await self.listing(request)
        return web.json_response({"data": [{"id": name} for name in self.models]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            body = await request.json()
            self.asked.append(Asked(request.path, body, dict(request.headers)))
            if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
                return _wrong_key(request)
            fault = next(self.faults, None)
            if fault:
                return await fault(request)
            await asyncio.sleep(self.delay)
            return web.json_response(answer(words(body["messages"])))
        finally:
            self.in_flight -= 1


def _wrong_key(request: web.Request) -> web.Response:
    """As OpenAI does, it quotes what it refuses."""
    message = f"Incorrect API key provided: {request.headers.get('Authorization')}"
    return web.json_response({"error": {"message": message, "code": "invalid_api_key"}}, status=401)


def words(messages: list[dict[str, str]]) -> str:
    """A deterministic utterance: how many messages the speaker has seen, and a piece of its own."""
    system = messages[0]["content"]
    return f"Utterance after {len(messages)} messages, {sum(system.encode()) % 9973}."


def answer(text: object, finish_reason: str = "stop") -> dict[str, Any]:
    """A whole chat completion."""
    return {
        "choices": [
            {"message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5},
    }


def says(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Fault:
    """Answer with this JSON."""

    async def fault(_: web.Request) -> web.StreamResponse:
        return web.json_response(value, status=status, headers=headers)

    return fault


def refuses(status: int, message: str = "no", code: str = "", **headers: str) -> Fault:
    """Answer with an error in OpenAI's shape; `Retry_After="3"` becomes a header."""
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return says({"error": {"message": message, "code": code}}, status, named)


def sends(raw: bytes) -> Fault:
    """Answer 200 with these bytes."""

    async def fault(_: web.Request) -> web.StreamResponse:
        return web.Response(body=raw, content_type="application/json")

    return fault


async def resets(request: web.Request) -> web.StreamResponse:
    """Drop the connection instead of answering."""
    assert request.transport
    request.transport.abort()
    return web.Response()


async def cuts(request: web.Request) -> web.StreamResponse:
    """Promise a thousand bytes, send half a JSON object, and drop the connection."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(json.dumps(answer("cut")).encode()[:40])
    assert request.transport
    request.transport.abort()
    return response


async def hangs(_: web.Request) -> web.StreamResponse:
    """Never answer."""
    await asyncio.sleep(3600)
    return web.Response()


class Flood:
    """Send for ever, with this status; how many bytes went out until nobody read on."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.sent = 0
        self.is_over = False

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """The fault."""
        response = web.StreamResponse(status=self.status)
        await response.prepare(request)
        piece = b" " * 64 * 1024
        try:
            while True:
                await response.write(piece)
                self.sent += len(piece)
        finally:
            self.is_over = True


def answers_after(event: threading.Event) -> Fault:
    """Answer well, but not before a test lets go."""

    async def fault(request: web.Request) -> web.StreamResponse:
        while not event.is_set():  # noqa: ASYNC110 - it is of the test's thread
            await asyncio.sleep(0.01)
        body = await request.json()
        return web.json_response(answer(words(body["messages"])))

    return fault
