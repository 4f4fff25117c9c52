"""One HTTP connection: a request at a time, and its answer, or the OSError that came instead.

An answer that is given up, at whatever moment, closes it: no server works on for nobody.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import NamedTuple, cast

from magpie_cli.engines.http_answer import MAX_WORDS_BYTES, Answer, Reply


class Patience(NamedTuple):
    """How long an answer may take in all, and say nothing, in seconds."""

    total: float
    silence: float


class Connection(asyncio.Protocol):
    """Made by the event loop; `rest` is to be called after each answer, good or bad."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._is_open = True
        self._idle_since = self._loop.time()
        self._answer = Answer()
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = self._silence = self._heard_at = 0.0
        self.has_heard = False  # anything of the latest answer

    @property
    def transport(self) -> asyncio.Transport:
        """Where its bytes go."""
        return cast("asyncio.Transport", self._transport)

    def is_usable(self, kept_for: float) -> bool:
        """Whether it is open, and has not been idle for longer than so many seconds."""
        return self._is_open and self._loop.time() - self._idle_since < kept_for

    async def ask(
        self, request: bytes, most: int, patience: Patience, *, has_body: bool = True
    ) -> Reply:
        """The whole answer, but no more than `most` bytes of its body. Raises OSError."""
        answer = self._answer
        answer.begin(most, has_body=has_body)
        self._send(request, patience)
        while not answer.is_done:
            await self._news()
        return answer.reply()

    async def tunnel(self, request: bytes, patience: Patience) -> Reply:
        """The answer to a CONNECT: after a good one the bytes are another's. Raises OSError."""
        reply = await self.ask(request, MAX_WORDS_BYTES, patience, has_body=False)
        if self._answer.is_last:  # bytes behind a good one are no TLS: there the client begins
            self.abort()
        self._answer = Answer()
        return reply

    async def open(self, request: bytes, patience: Patience) -> Reply | None:
        """None once a good answer has begun, for `pieces`; another is whole. Raises OSError."""
        answer = self._answer
        answer.begin(MAX_WORDS_BYTES, flows=True)
        self._send(request, patience)
        while not (answer.is_done or answer.is_flowing):
            await self._news()
        return None if answer.is_flowing else answer.reply()

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The body of the answer that `open` began, as it comes. Raises OSError."""
        answer = self._answer
        while True:
            if piece := answer.take():
                yield piece
            elif not answer.is_done:
                await self._news()
            elif answer.error:
                raise answer.error
            else:
                return

    def rest(self) -> bool:
        """Nobody waits any more: whether it can take another request, or was closed."""
        self._waiter = None
        if self._is_open and self._answer.is_done and not self._answer.is_last:
            self._idle_since = self._loop.time()
            return True
        self.abort()
        return False

    def abort(self) -> None:
        """Close it at once, whatever is under way."""
        self._is_open = False
        if self._timer:
            self._timer.cancel()
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Bytes can be sent; said again where TLS was put in between."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        answer = self._answer
        if answer.is_done:  # nobody asked for them
            self.abort()
            return
        self.has_heard = True
        self._heard_at = self._loop.time()
        answer.feed(data)
        if answer.is_done or answer.is_flowing:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        self._is_open = False
        if self._timer:
            self._timer.cancel()
        if not self._answer.is_done:
            if isinstance(exc, OSError):
                self._answer.fail(exc)
            else:
                self._answer.end()
            self._wake()

    def _send(self, request: bytes, patience: Patience) -> None:
        self.has_heard = False
        self._heard_at = self._loop.time()
        self._deadline = self._heard_at + patience.total
        self._silence = patience.silence
        late_at = self._heard_at + min(patience)
        # Most timers would be cancelled: the one of an earlier request looks at this one too.
        if self._timer is None or self._timer.when() > late_at:
            self._look_at(late_at)
        self.transport.write(request)

    def _look_at(self, when: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        """Whether the answer is late, and again once it may be."""
        self._timer = None
        if self._answer.is_done:
            return
        late_at = min(self._deadline, self._heard_at + self._silence)
        if self._loop.time() < late_at:
            self._look_at(late_at)
        else:
            self._answer.fail(TimeoutError("no answer in time"))
            self._wake()

    def _news(self) -> asyncio.Future[None]:
        """Done when there is more of the answer; no coroutine, of which each request has enough."""
        self._waiter = self._loop.create_future()
        return self._waiter

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)
