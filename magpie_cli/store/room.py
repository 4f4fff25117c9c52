"""A full disk: rows wait for room in memory, as many as dialogues are in flight."""

import asyncio
from collections.abc import Callable

from magpie_cli.store import disk
from magpie_cli.store.append_file import AppendFile

RETRY_SECONDS = 10.0
SAY_SECONDS = 30.0


class Room:
    """Appends lines, and where there is no room tries again for `patience` seconds.

    `say` hears now and then that it waits.
    """

    def __init__(self, patience: float, say: Callable[[str], None]) -> None:
        self._patience = patience
        self._say = say
        self._waiting = 0  # bytes
        self._silent_until = 0.0

    async def append(self, file: AppendFile, line: bytes) -> None:
        """Write a whole line. Raises OSError, at last also where the disk stays full."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._waiting += len(line)
        try:
            while True:
                try:
                    file.append(line)
                except OSError as error:
                    left = began + self._patience - loop.time()
                    if error.errno not in disk.FULL:
                        raise
                    if left <= 0:
                        error.strerror = f"{error.strerror} ({self._waiting:,} bytes wait for room)"
                        raise
                else:
                    return
                self._tell(file, loop.time())
                await asyncio.sleep(min(RETRY_SECONDS, left))
        finally:
            self._waiting -= len(line)

    def _tell(self, file: AppendFile, now: float) -> None:
        if now >= self._silent_until:
            self._silent_until = now + SAY_SECONDS
            self._say(
                f"waiting: no room for {file.path}; make some, {self._waiting:,} bytes are needed "
                f"so far (giving up after {self._patience:g} s, --disk-wait)"
            )
