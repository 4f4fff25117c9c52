"""When what was written is made durable: about each second, before it counts, or at the end."""

import asyncio
import threading
from collections.abc import Callable

from magpie_cli.settings import Fsync

INTERVAL = 1.0  # seconds


class Commit:
    """Calls `sync` in a thread, for everything that was written before it begins.

    What `sync` raises is raised by the `written` that waits for it, or by the next one.
    """

    def __init__(self, fsync: Fsync, sync: Callable[[], None]) -> None:
        self._fsync = fsync
        self._sync = sync
        self._one_at_a_time = threading.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        self._error: Exception | None = None

    async def written(self) -> None:
        """Something was written. With `always`, return when it is durable."""
        if self._error:
            raise self._error
        if self._fsync == "interval" and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._on_timer)
        elif self._fsync == "always":
            # A sync that is running may have begun before this: the one after it counts.
            await asyncio.shield(self._after_this())

    def end(self) -> None:
        """No more of them, and none is running any more."""
        if self._timer:
            self._timer.cancel()
        with self._one_at_a_time:
            self._fsync = "off"

    def _on_timer(self) -> None:
        self._timer = None
        self._after_this()

    def _after_this(self) -> "asyncio.Task[None]":
        if self._next is None:
            self._next = asyncio.create_task(self._commit(self._running))
            self._next.add_done_callback(self._ended)
        return self._next

    async def _commit(self, before: "asyncio.Task[None] | None") -> None:
        if before:
            await asyncio.wait([before])
        self._running, self._next = self._next, None
        await asyncio.to_thread(self._sync_once)

    def _sync_once(self) -> None:
        with self._one_at_a_time:
            if self._fsync != "off":
                self._sync()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self._error = error
