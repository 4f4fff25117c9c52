"""`magpie devnet`: a network that runs until it is told to stop."""

import asyncio
import shlex
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from signal import SIG_IGN, SIGHUP, SIGINT, SIGTERM, Signals, getsignal
from typing import TYPE_CHECKING

from magpie_cli.devnet import DevnetOptions, check_sdk
from magpie_cli.engine import ChatModel
from magpie_cli.errors import MagpieError, UsageError
from magpie_cli.settings import Settings

if TYPE_CHECKING:
    from magpie_cli.devnet.network import Devnet

TOKEN = "devnet"  # noqa: S105 - any will do

OpenWriter = Callable[[str, Settings], AbstractAsyncContextManager[ChatModel]]


def serve(options: DevnetOptions, open_writer: OpenWriter, say: Callable[[str], None]) -> Signals:
    """Run a devnet until a signal comes, which is returned. `say` takes sentences for a person.

    Raises MagpieError where it cannot begin. A signal that was ignored before stays so.
    """
    check_sdk("magpie devnet")
    if not options.names:
        raise UsageError("--models names none", "leave it out, or --models NAME,...")
    if options.accept == "":
        raise UsageError("--accept names no token", "leave it out, or --accept TOKEN")
    try:
        return asyncio.run(_serve(options, open_writer, say))
    except MagpieError as error:
        error.hint = error.hint and _in_own_flags(error.hint)
        raise


async def _serve(
    options: DevnetOptions, open_writer: OpenWriter, say: Callable[[str], None]
) -> Signals:
    from magpie_cli.devnet.network import open_devnet

    stopped: asyncio.Future[Signals] = asyncio.get_running_loop().create_future()
    settings = Settings(
        "-", model=options.writer_model, base_url=options.writer_url and [options.writer_url]
    )
    async with (
        open_writer(options.writer, settings) as model,
        open_devnet(options, model) as devnet,
    ):
        for number in (SIGINT, SIGTERM, SIGHUP):
            if getsignal(number) != SIG_IGN:
                asyncio.get_running_loop().add_signal_handler(number, _stop, stopped, number)
        say(_welcome(options, model, devnet))
        number = await stopped
        say(_farewell(devnet))
    return number


def _in_own_flags(hint: str) -> str:
    """What an engine says of generate's flags, in those of devnet."""
    for theirs, ours in (("--base-url", "--writer-url"), ("--model", "--writer-model")):
        hint = hint.replace(theirs, ours)
    return hint.replace("--engine", "--writer")


def _stop(stopped: asyncio.Future[Signals], number: Signals) -> None:
    if not stopped.done():
        stopped.set_result(number)


def _welcome(options: DevnetOptions, writer: ChatModel, devnet: "Devnet") -> str:
    token = options.accept or TOKEN
    timeout = " --timeout 10" if options.lost_rate else ""  # or it takes 10 minutes to notice
    names = options.names
    model = "" if len(names) == 1 else f" --model {shlex.quote(names[0])}"
    return (
        f"a Dria network of {len(devnet):,} nodes at {devnet.url}, for this machine alone\n"
        f"serving {', '.join(names)}; all words by {writer.name}, model {writer.model}"
        f"{_faults(options)}\n"
        f"try: DRIA_RPC_TOKEN={shlex.quote(token)} magpie generate personas.example.jsonl "
        f"-o devnet.jsonl --engine dria --rpc-url {devnet.url}{model}{timeout}\n"
        "Ctrl-C ends it"
    )


def _faults(options: DevnetOptions) -> str:
    rates = {
        "errors": options.error_rate,
        "lost": options.lost_rate,
        "duplicated": options.duplicate_rate,
        "RPC errors": options.rpc_error_rate,
    }
    faults = ", ".join(f"{name} {rate:g}" for name, rate in rates.items() if rate)
    return f"; faults: {faults}" if faults else ""


def _farewell(devnet: "Devnet") -> str:
    counts = devnet.counts
    return (
        f"{counts.tasks:,} tasks begun: {counts.answers:,} answers sent ({counts.errors:,} of them "
        f"errors, {counts.duplicated:,} sent twice), {counts.lost:,} lost"
    )
