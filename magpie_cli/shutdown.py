"""How a run ends before its input does: a signal, or an engine that refuses everything.

The first signal drains: no new dialogues, those in flight are finished. The second stops at once.
Afterwards the process dies *by* the signal, because a shell loop goes on after `exit(130)` but
stops when its child died of SIGINT.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NoReturn, Self

from magpie_cli.errors import MagpieError

DRAIN_SECONDS = {signal.SIGINT: 120.0, signal.SIGTERM: 25.0, signal.SIGHUP: 25.0}
LAST_SECONDS = (
    1.5  # from the second signal, or the end of the drain, until the process dies, finished or not
)


class Shutdown:
    """Ends the run of the task that makes it. Until `dialogues_begin`, signals do what they did.

    `requested` turns true once no new dialogue may begin; `signal` and `error` say why. Each of
    `listeners` hears a sentence about it. A signal that was ignored before stays so.
    """

    def __init__(self, drain_seconds: Mapping[signal.Signals, float] = DRAIN_SECONDS) -> None:
        self.listeners: list[Callable[[str], None]] = []
        self.requested = False
        self.signal: signal.Signals | None = None
        self.error: MagpieError | None = None
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._drain_seconds = drain_seconds
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            self._loop.remove_signal_handler(number)
            signal.signal(number, handler)

    def dialogues_begin(self) -> None:
        """From now on a first signal waits for what is in flight."""
        for number in self._drain_seconds:
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.getsignal(number)
                self._loop.add_signal_handler(number, self._on_signal, number)

    def refuse(self, error: MagpieError) -> None:
        """Nothing more will pass: drain, then raise `error`."""
        if not self.requested:
            self.error = error
            self._loop.call_later(self._drain_seconds[signal.SIGINT], self._cancel)
            self._request(f"stopping after the dialogues in flight: {error.message}")

    def _on_signal(self, number: signal.Signals) -> None:
        if self.signal is not None:
            self._stop_now(self.signal)
            return
        self.signal = number
        seconds = self._drain_seconds[number]
        self._loop.call_later(seconds, self._stop_now, number)
        self._request(
            f"{number.name}: finishing the dialogues in flight (at most {seconds:.0f} s); "
            "once more stops at once"
        )

    def _request(self, sentence: str) -> None:
        self.requested = True
        for listener in self.listeners:
            listener(sentence)

    def _stop_now(self, number: signal.Signals) -> None:
        """Even where a thread hangs in a write that nobody reads."""
        self._loop.call_later(LAST_SECONDS, die_by, number)
        self._cancel()

    def _cancel(self) -> None:
        if self._task:
            self._task.cancel()


def die_by(number: signal.Signals) -> NoReturn:
    """End this process by `number`, as if nobody had caught it."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    raise SystemExit(128 + number)  # where the signal is blocked
