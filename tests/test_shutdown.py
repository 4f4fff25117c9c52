"""A drain ends by itself, whatever hangs."""

import asyncio
import os
from signal import SIGINT, SIGTERM, Signals, getsignal

import pytest

from magpie_cli.errors import MagpieError
from magpie_cli.shutdown import Shutdown

SOON = {SIGINT: 0.05, SIGTERM: 0.05}


async def refused(stop: Shutdown) -> None:
    """An engine refuses while a dialogue is in flight that never ends."""
    stop.refuse(MagpieError("no"))
    await asyncio.Event().wait()


async def test_an_engine_that_refuses_does_not_wait_for_ever() -> None:
    """What is in flight when the engine refuses gets the time of a drain, and no more."""
    with Shutdown(SOON) as stop, pytest.raises(asyncio.CancelledError):
        await refused(stop)
    assert stop.requested
    assert stop.error
    assert stop.error.message == "no"


async def test_a_signal_reaches_every_listener_at_once() -> None:
    """Each listener hears one sentence that names the signal and how long it may take."""
    heard: list[str] = []
    with Shutdown(dict.fromkeys(SOON, 20.0)) as stop:
        stop.listeners += [heard.append, heard.append]
        stop.dialogues_begin()
        os.kill(os.getpid(), SIGTERM)
        await asyncio.sleep(0.1)
    assert heard[0] == heard[1]
    assert heard[0].startswith("SIGTERM: finishing the dialogues in flight (at most 20 s)")
    assert (stop.requested, stop.signal, stop.error) == (True, SIGTERM, None)


@pytest.mark.parametrize("number", SOON)
async def test_signals_are_given_back(number: Signals) -> None:
    """Before the first dialogue and after the last, a signal does what it always did."""
    before = getsignal(number)
    with Shutdown(SOON) as stop:
        assert getsignal(number) == before
        stop.dialogues_begin()
        assert getsignal(number) != before
    assert getsignal(number) == before


async def test_the_first_reason_stands() -> None:
    """A second refusal changes nothing."""
    heard: list[str] = []
    with Shutdown(dict.fromkeys(SOON, 20.0)) as stop:
        stop.listeners.append(heard.append)
        stop.refuse(MagpieError("first"))
        stop.refuse(MagpieError("second"))
    assert len(heard) == 1
    assert stop.error
    assert stop.error.message == "first"
