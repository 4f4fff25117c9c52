"""`magpie pull`: one model, fetched while somebody looks on."""

import asyncio
import signal
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM, Signals
from typing import Protocol

from magpie_cli.models.catalogue import DEFAULT_MODEL
from magpie_cli.models.download import fetch, resolve
from magpie_cli.models.header import read_header
from magpie_cli.models.means import Means
from magpie_cli.models.wanted import find_model, size_text


class PullDisplay(Protocol):
    """What shows it."""

    def say(self, sentence: str) -> None:
        """A sentence for a person."""
        ...

    def progress(self, done: int, total: int | None) -> None:
        """So many bytes are there, of so many if that is known."""
        ...


def pull(name: str | None, display: PullDisplay, means: Means | None = None) -> Path | Signals:
    """The path of the model, or the signal that ended it; without a name, of the default one.

    A file of the user's own is looked at, and left where it is. Raises MagpieError.
    """
    return asyncio.run(_until_a_signal(name or DEFAULT_MODEL, display, means or Means()))


async def _until_a_signal(name: str, display: PullDisplay, means: Means) -> Path | Signals:
    stopped: list[Signals] = []
    task = asyncio.current_task()

    def stop(number: Signals) -> None:
        stopped.append(number)
        for each in caught:  # once more ends it even where a thread hangs
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        if task:
            task.cancel()

    loop = asyncio.get_running_loop()
    caught = [n for n in (SIGINT, SIGTERM, SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    for number in caught:
        loop.add_signal_handler(number, stop, number)
    try:
        return await _pull(name, display, means)
    except asyncio.CancelledError:
        if not stopped:
            raise
        display.say(f"stopped by {stopped[0].name}; the same command goes on where it stopped")
        return stopped[0]


async def _pull(name: str, display: PullDisplay, means: Means) -> Path:
    wanted = find_model(name, means.environment)
    if wanted.kind == "file":
        read_header(wanted.path)
        size = size_text(wanted.size or 0)
        display.say(f"{wanted.name} ({size}) is a model on this machine already: nothing to fetch")
        return wanted.path
    if wanted.present:
        display.say(f"{wanted.sentence()}: it is here already")
        return wanted.path
    wanted = await resolve(wanted, say=display.say, means=means)
    display.say(f"fetching {wanted.sentence()}")
    path = await fetch(wanted, display.progress, say=display.say, means=means)
    checked = "its checksum is right" if wanted.sha256 else "its length alone could be checked"
    display.say(f"{wanted.name} is here, and {checked}")
    return path
