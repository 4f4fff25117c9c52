"""The RPC of a devnet, on loopback, and the nodes behind it.

Endpoints as dria 0.0.124 calls them: GET /health, GET /rpc/get_alive_peers, POST /rpc/task,
GET /rpc/results. Answers wait for the token that their task came with, and are gone once read.
"""

import asyncio
import base64
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import orjson
from aiohttp import web

from magpie_cli.devnet.node import Counts, Node
from magpie_cli.devnet.options import DevnetOptions
from magpie_cli.engine import ChatModel
from magpie_cli.errors import MagpieError

HOST = "127.0.0.1"  # and no other: this is no network for others to use
MAX_BODY_BYTES = 1024 * 1024
MAX_PAYLOAD = 256 * 1024  # base64 characters


class Devnet:
    """A running network. `url` is its RPC's address, `counts` what its nodes have done."""

    def __init__(self, options: DevnetOptions, writer: ChatModel) -> None:
        self.url = ""
        self.counts = Counts()
        self._options = options
        self._writer = writer
        # Two streams: how often somebody calls must not change what the nodes do.
        self._chance = Random(options.seed)  # noqa: S311 - faults, and keys that guard nothing
        self._calls = Random(options.seed)  # noqa: S311 - as above
        self._nodes: dict[str, Node] = {}
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._answers: defaultdict[str, list[str]] = defaultdict(list)

    def __len__(self) -> int:
        return len(self._nodes)

    def add_nodes(self, number: int) -> None:
        """So many more nodes."""
        for _ in range(number):
            node = Node(self._options, self._writer, self._chance, self.counts, self._publish)
            self._nodes[node.address] = node
            self._workers[node.address] = asyncio.create_task(node.work())

    async def remove_nodes(self, number: int) -> None:
        """So many nodes go away without a word, and with them all that they had to do."""
        gone = [*self._nodes][:number]
        for address in gone:
            del self._nodes[address]
            self._workers[address].cancel()
        workers = [self._workers.pop(address) for address in gone]
        for end in await asyncio.gather(*workers, return_exceptions=True):
            if end and not isinstance(end, asyncio.CancelledError):  # a bug, which broke a worker
                raise end

    def application(self) -> web.Application:
        """The RPC."""
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._guard])
        app.router.add_get("/health", self._health)
        app.router.add_get("/rpc/get_alive_peers", self._alive_peers)
        app.router.add_get("/rpc/results", self._results)
        app.router.add_post("/rpc/task", self._task)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:  # noqa: ANN401 - aiohttp's
        token = request.headers.get("x-api-key")
        if request.path.startswith("/rpc/") and (
            not token or self._options.accept not in (None, token)
        ):
            return web.json_response({"error": "Unauthorized"}, status=401)
        if self._calls.random() < self._options.rpc_error_rate:
            return web.json_response({"error": "an error, as --rpc-error-rate asks"}, status=500)
        response: web.StreamResponse = await handler(request)
        return response

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _alive_peers(self, _: web.Request) -> web.Response:
        return _listed([node.heartbeat() for node in self._nodes.values()])

    async def _results(self, request: web.Request) -> web.Response:
        return _listed(self._answers.pop(request.headers["x-api-key"], []))

    async def _task(self, request: web.Request) -> web.Response:
        try:
            payload = orjson.loads(await request.read())["value"]["payload"]
            task = orjson.loads(base64.b64decode(payload))
            task_id = task["taskId"]
            # One that is gone takes the task with it.
            nodes = [self._nodes[each] for each in task["pickedNodes"] if each in self._nodes]
        except (ValueError, KeyError, TypeError):
            return web.json_response({"error": "Bad Request"}, status=400)
        if len(payload) > MAX_PAYLOAD:
            return web.json_response({"error": "Payload Too Large"}, status=413)
        # The RPC adds a word of its own, which comes back with the answer.
        task["taskId"] = f"{task_id}--{self._calls.getrandbits(32):08x}"
        for node in nodes:
            node.take(request.headers["x-api-key"], task)
        return web.json_response({"success": True})

    def _publish(self, token: str, answer: str) -> None:
        self._answers[token].append(answer)


def _listed(results: list[str]) -> web.Response:
    return web.Response(
        body=orjson.dumps({"data": {"results": results}}), content_type="application/json"
    )


@asynccontextmanager
async def open_devnet(options: DevnetOptions, writer: ChatModel) -> AsyncIterator[Devnet]:
    """A network on loopback whose nodes write with `writer`, until the block ends.

    Raises MagpieError where its port is taken.
    """
    devnet = Devnet(options, writer)
    runner = web.AppRunner(devnet.application(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        devnet.add_nodes(options.nodes)
        try:
            await web.TCPSite(runner, HOST, options.port).start()
        except OSError as error:
            raise MagpieError(
                f"port {options.port} of {HOST} cannot be used: {error.strerror}",
                "--port 0 takes any free one",
            ) from error
        devnet.url = f"http://{HOST}:{runner.addresses[0][1]}"
        yield devnet
    finally:
        await devnet.remove_nodes(len(devnet))
        await runner.cleanup()
