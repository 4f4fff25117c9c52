"""One iterator over the input, shared by all workers.

A pipe is read in a thread: whoever writes it may be slow, and the requests in flight go on.
"""

import asyncio
import threading
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

READ_AHEAD = 256  # items that wait at most
MOST_IN_A_ROW = 64  # items that are given out before the event loop gets its turn

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)


class Feed(Protocol[_T_co]):
    """Gives each item to one worker."""

    async def take(self) -> _T_co | None:
        """The next item, None at the end. Raises what the iterator raised."""
        ...

    def close(self) -> None:
        """Whoever waits gets None; so does everybody after."""
        ...


class FileFeed(Generic[_T]):
    """Items of an iterator that never waits long.

    A None among them means that nothing came of a long stretch. Then, and after every few items,
    the event loop gets its turn: signals and the display must not wait for a million lines.
    """

    def __init__(self, items: Iterator[_T | None]) -> None:
        self._items = items
        self._closed = False
        self._in_a_row = 0

    async def take(self) -> _T | None:
        """The next item, None at the end."""
        while not self._closed:
            if self._in_a_row == MOST_IN_A_ROW:
                self._in_a_row = 0
                await asyncio.sleep(0)
                continue
            try:
                item = next(self._items)
            except StopIteration:
                return None
            self._in_a_row = MOST_IN_A_ROW if item is None else self._in_a_row + 1
            if item is not None:
                return item
        return None

    def close(self) -> None:
        """No more items."""
        self._closed = True


class PipeFeed(Generic[_T]):
    """Items of an iterator that may wait for ever: it runs in a thread that dies with us."""

    def __init__(self, items: Iterator[_T | None]) -> None:
        self._items = items
        self._queue: asyncio.Queue[_T | Exception | None] = asyncio.Queue()
        self._space = threading.Semaphore(READ_AHEAD)
        self._loop = asyncio.get_running_loop()
        self._closed = False
        threading.Thread(target=self._read, name="pipe-feed", daemon=True).start()

    async def take(self) -> _T | None:
        """The next item, None at the end."""
        item = None if self._closed else await self._queue.get()
        if item is None or self._closed:
            self._queue.put_nowait(None)  # for the next worker that waits
            return None
        self._space.release()
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        """Stop waiting; the thread may still be waiting for its pipe."""
        self._closed = True
        self._queue.put_nowait(None)

    def _read(self) -> None:
        last: Exception | None = None
        try:
            for item in self._items:
                if item is not None:
                    self._space.acquire()
                    self._put(item)
        except Exception as error:  # noqa: BLE001 - raised again by take(), in the worker
            last = error
        if last:
            self._put(last)
        self._put(None)

    def _put(self, item: _T | Exception | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)
        except RuntimeError:  # the run is over and its loop closed
            return
