"""A hub, an Ollama registry and the host they redirect to, on loopback, that misbehave as told."""

import asyncio
import hashlib
import json
import random
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web

SIZE = 300_000
CONTENT = b"GGUF" + random.Random(7).randbytes(SIZE - 4)  # noqa: S311 - any bytes will do
SHA256 = hashlib.sha256(CONTENT).hexdigest()
REPOSITORY = "owner/small-GGUF"
FILE = "small-q4.gguf"
NAME = f"hf:{REPOSITORY}/{FILE}"
LICENCE_TEXT = b"\n   Small   Licence 1.0\n\nAll may be done.\n"
TOKEN = "hf_abcdefgh12345678"  # noqa: S105 - made up

Fault = Callable[["ModelHub", web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Asked:
    """One request as it arrived. `site` is "hub" or "store", which is where files are."""

    site: str
    method: str
    path: str
    headers: dict[str, str]

    @property
    def range(self) -> str | None:
        """The part that it asks for."""
        return self.headers.get("Range")


class ModelHub:
    """`with ModelHub() as hub:` listens until the block ends.

    `environment` points magpie to it. `faults` gives what the store does with each request for the
    file in turn, `hub_faults` what the hub does with every request; None, and the end of it, means
    a good answer. `token` is the only one that may read, None for anybody. `held` requests of
    `holds` go on after `release()`.
    """

    def __init__(self) -> None:
        self.content = CONTENT
        self.sha256: str | None = SHA256
        self.size: int | None = SIZE
        self.etag = '"v1"'
        self.token: str | None = None
        self.licence = LICENCE_TEXT
        self.licences = 1
        self.layers: list[dict[str, Any]] | None = None
        self.faults: Iterator[Fault | None] = iter(())
        self.hub_faults: Iterator[Fault | None] = iter(())
        self.asked: list[Asked] = []
        self.hub_url = self.store_url = ""
        self.released = asyncio.Event()
        self._runners: list[web.AppRunner] = []
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

    @property
    def environment(self) -> dict[str, str]:
        """What makes magpie come here."""
        return {"HF_ENDPOINT": self.hub_url, "OLLAMA_REGISTRY": self.hub_url}

    @property
    def fetched(self) -> list[Asked]:
        """The requests for the file's bytes."""
        return [each for each in self.asked if each.site == "store" and each.path == "/file"]

    def release(self) -> None:
        """Let every held answer go on."""
        self._loop.call_soon_threadsafe(self.released.set)

    async def _start(self) -> None:
        self.hub_url = await self._listen(
            "hub",
            web.route("*", "/owner/{name}/resolve/{revision}/{file:.+}", self._resolve),
            web.get("/api/models/{repository:.+}/revision/{revision}", self._card),
            web.get("/v2/{namespace}/{model}/manifests/{tag}", self._manifest),
            web.get("/v2/{namespace}/{model}/blobs/{digest}", self._blob),
        )
        self.store_url = await self._listen(
            "store", web.get("/file", self._file), web.get("/licence", self._licence)
        )

    async def _listen(self, site: str, *routes: web.RouteDef) -> str:
        @web.middleware
        async def note(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            self.asked.append(Asked(site, request.method, request.path, dict(request.headers)))
            fault = next(self.hub_faults, None) if site == "hub" else None
            return await (fault(self, request) if fault else handler(request))

        app = web.Application(middlewares=[note])
        app.add_routes(routes)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self._runners.append(runner)
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def _stop(self) -> None:
        for runner in self._runners:
            await runner.cleanup()
        hanging = asyncio.all_tasks() - {asyncio.current_task()}
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)

    async def _resolve(self, request: web.Request) -> web.StreamResponse:
        if refused := self._refusal(request):
            return refused
        if request.match_info["name"] == "Small-gguf":  # what it was called before
            renamed = request.path.replace("Small-gguf", "small-GGUF")
            return web.Response(status=307, headers={"Location": renamed})
        if request.match_info["revision"] not in ("main", "refs/pr/1"):
            return web.Response(status=404, headers={"X-Error-Code": "RevisionNotFound"})
        if request.match_info["file"] != FILE:
            return web.Response(status=404, headers={"X-Error-Code": "EntryNotFound"})
        headers = {"Location": f"{self.store_url}/file?signature=secret%2Bwords"}
        if self.sha256:
            headers["X-Linked-ETag"] = f'"{self.sha256}"'
        if self.size is not None:
            headers["X-Linked-Size"] = str(self.size)
        return web.Response(status=302, headers=headers)

    def _refusal(self, request: web.Request) -> web.Response | None:
        given = request.headers.get("Authorization")
        if self.token and given is None:
            return web.Response(status=401, headers={"X-Error-Code": "GatedRepo"})
        if self.token and given != f"Bearer {self.token}":
            words = f"Invalid credentials in Authorization header: {given}"
            return web.Response(status=401, text=words, headers={"X-Error-Message": words})
        if request.match_info.get("name") == "nobody":
            return web.Response(status=401, headers={"X-Error-Code": "RepoNotFound"})
        return None

    async def _card(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"cardData": {"license": "small-1.0"}, "tags": ["gguf"]})

    async def _manifest(self, request: web.Request) -> web.StreamResponse:
        if request.match_info["model"] != "small" or request.match_info["tag"] != "q4_K":
            errors = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
            return web.json_response(errors, status=404)
        licence = {"mediaType": "application/vnd.ollama.image.license", "size": len(LICENCE_TEXT)}
        licence["digest"] = f"sha256:{hashlib.sha256(LICENCE_TEXT).hexdigest()}"
        model = {"mediaType": "application/vnd.ollama.image.model", "size": self.size}
        model["digest"] = f"sha256:{self.sha256}"
        layers = self.layers if self.layers is not None else [model] + [licence] * self.licences
        body = json.dumps({"schemaVersion": 2, "layers": layers})
        return web.Response(text=body, content_type=request.headers["Accept"])

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        file = request.match_info["digest"] == f"sha256:{self.sha256}"
        path = "file" if file else "licence"
        return web.Response(status=307, headers={"Location": f"{self.store_url}/{path}"})

    async def _licence(self, _: web.Request) -> web.StreamResponse:
        return web.Response(body=self.licence)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        fault = next(self.faults, None)
        return await (fault or serves)(self, request)

    def begin(self, request: web.Request) -> tuple[int, web.StreamResponse]:
        """Where the answer begins, and the answer as a good server would begin it."""
        asked, whole = request.headers.get("Range"), len(self.content)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if request.headers.get("If-Range", self.etag) != self.etag:
            start = 0
        headers = {"Content-Length": str(whole - start), "ETag": self.etag}
        if start:
            headers["Content-Range"] = f"bytes {start}-{whole - 1}/{whole}"
        return start, web.StreamResponse(status=206 if start else 200, headers=headers)


async def serves(hub: ModelHub, request: web.Request) -> web.StreamResponse:
    """The file, or what is asked of it."""
    start, response = hub.begin(request)
    if start >= len(hub.content):
        return web.Response(status=416)
    await response.prepare(request)
    await response.write(hub.content[start:])
    return response


def cuts(after: int) -> Fault:
    """Drop the connection after so many bytes of the answer."""

    async def fault(hub: ModelHub, request: web.Request) -> web.StreamResponse:
        start, response = hub.begin(request)
        await response.prepare(request)
        await response.write(hub.content[start : start + after])
        await asyncio.sleep(0.02)  # so that they arrive before the news does
        assert request.transport
        request.transport.abort()
        return response

    return fault


def holds(after: int) -> Fault:
    """Send so many bytes, and the rest after `release()`."""

    async def fault(hub: ModelHub, request: web.Request) -> web.StreamResponse:
        start, response = hub.begin(request)
        await response.prepare(request)
        await response.write(hub.content[start : start + after])
        await hub.released.wait()
        await response.write(hub.content[start + after :])
        return response

    return fault


def slow(pieces: int, seconds: float) -> Fault:
    """Send it in so many pieces, with a pause after each."""

    async def fault(hub: ModelHub, request: web.Request) -> web.StreamResponse:
        start, response = hub.begin(request)
        await response.prepare(request)
        rest = hub.content[start:]
        step = len(rest) // pieces + 1
        for at in range(0, len(rest), step):
            await response.write(rest[at : at + step])
            await asyncio.sleep(seconds)
        return response

    return fault


async def flips(hub: ModelHub, request: web.Request) -> web.StreamResponse:
    """One byte is another."""
    start, response = hub.begin(request)
    await response.prepare(request)
    changed = bytearray(hub.content[start:])
    changed[len(changed) // 2] ^= 1
    await response.write(bytes(changed))
    return response


async def ignores_range(hub: ModelHub, request: web.Request) -> web.StreamResponse:
    """The whole file, whatever is asked."""
    response = web.StreamResponse(headers={"Content-Length": str(len(hub.content))})
    await response.prepare(request)
    await response.write(hub.content)
    return response


def sends(body: bytes, content_type: str = "application/octet-stream", status: int = 200) -> Fault:
    """These bytes instead."""

    async def fault(_hub: ModelHub, _: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type=content_type, status=status)

    return fault


def refuses(status: int, **headers: str) -> Fault:
    """A status; `Retry_After="3"` becomes a header."""
    named = {key.replace("_", "-"): value for key, value in headers.items()}

    async def fault(_hub: ModelHub, _: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers=named)

    return fault


async def unbounded(hub: ModelHub, request: web.Request) -> web.StreamResponse:
    """Without a length: the end of the connection is the end of the file."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(hub.content)
    return response


async def wrong_piece(hub: ModelHub, request: web.Request) -> web.StreamResponse:
    """206 with another piece than was asked for."""
    whole = len(hub.content)
    headers = {"Content-Range": f"bytes 0-{whole - 1}/{whole}", "Content-Length": str(whole)}
    response = web.StreamResponse(status=206, headers=headers)
    await response.prepare(request)
    await response.write(hub.content)
    return response


async def resets(_hub: ModelHub, request: web.Request) -> web.StreamResponse:
    """Drop the connection instead of answering."""
    assert request.transport
    request.transport.abort()
    return web.Response()


async def hangs(_hub: ModelHub, _: web.Request) -> web.StreamResponse:
    """Never answer."""
    await asyncio.sleep(3600)
    return web.Response()
