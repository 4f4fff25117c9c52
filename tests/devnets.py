"""Devnets for tests: in a thread of their own, for processes and other event loops to ask."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from magpie_cli.devnet import DevnetOptions
from magpie_cli.devnet.network import Devnet, open_devnet
from magpie_cli.engine import ChatModel
from magpie_cli.engines.echo import EchoModel

T = TypeVar("T")


@dataclass
class RunningDevnet:
    """A devnet in a thread. `url` is its RPC's."""

    devnet: Devnet
    loop: asyncio.AbstractEventLoop
    opened: AbstractAsyncContextManager[Devnet]
    is_open: bool = True

    @property
    def url(self) -> str:
        """Where its RPC is."""
        return self.devnet.url

    @property
    def tasks(self) -> int:
        """How many tasks its nodes have begun."""
        return self.devnet.counts.tasks

    def add_nodes(self, number: int) -> None:
        """So many nodes join."""
        self._call(self._add(number))

    def remove_nodes(self, number: int) -> None:
        """So many nodes go away."""
        self._call(self.devnet.remove_nodes(number))

    def close(self) -> None:
        """It is gone from now on."""
        if self.is_open:
            self.is_open = False
            self._call(self.opened.__aexit__(None, None, None))

    async def _add(self, number: int) -> None:
        self.devnet.add_nodes(number)

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)


@contextmanager
def running_devnet(
    options: DevnetOptions | None = None, writer: ChatModel | None = None
) -> Iterator[RunningDevnet]:
    """A devnet of 8 nodes on any free port, or as `options` say, until the block ends."""
    options = options or DevnetOptions(port=0, nodes=8)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def call(work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, loop).result(10)

    opened = open_devnet(options, writer or EchoModel("echo"))
    try:
        running = RunningDevnet(call(opened.__aenter__()), loop, opened)
        try:
            yield running
        finally:
            running.close()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
