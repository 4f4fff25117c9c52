"""Fetching one model: who has it, what it is, and then the whole of it, once for all processes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from magpie_cli.engine import ignore_sentence
from magpie_cli.errors import MagpieError
from magpie_cli.models.cache import is_whole
from magpie_cli.models.hub import Hub
from magpie_cli.models.means import Means
from magpie_cli.models.names import HubFile, Source, near_names
from magpie_cli.models.ollama import Registry
from magpie_cli.models.origin import Origin
from magpie_cli.models.part import open_part
from magpie_cli.models.retry import retried
from magpie_cli.models.transfer import OnProgress, Transfer
from magpie_cli.models.wanted import Wanted
from magpie_cli.models.web import open_web


async def resolve(
    wanted: Wanted, *, say: Callable[[str], None] = ignore_sentence, means: Means | None = None
) -> Wanted:
    """`wanted` with size, checksum and licence, asked of the host where they are not known.

    Asks nobody about a file that is present. `say` hears of retries. Raises MagpieError.
    """
    means = means or Means()
    source = wanted.source
    known = wanted.sha256 and wanted.size and wanted.licence
    if wanted.present or source is None or wanted.asked or known:
        return wanted
    origin = origin_of(source, means)
    async with open_web(means.silence) as web:
        try:
            facts = await retried(
                lambda: origin.describe(web, wanted.licence), sleep=means.sleep, say=say
            )
        except MagpieError as error:
            near = near_names(wanted.name) if wanted.kind == "ollama" else []
            if near:  # a slip in a name of ours is asked of Ollama's registry
                error.hint = f"{' or '.join(near)}? Otherwise {error.hint}"
            raise
    return replace(wanted, size=facts.size, sha256=facts.sha256, licence=facts.licence, asked=True)


async def fetch(
    wanted: Wanted,
    on_progress: OnProgress,
    *,
    say: Callable[[str], None] = ignore_sentence,
    means: Means | None = None,
) -> Path:
    """The path of the whole, checked file.

    `on_progress` hears how many bytes are there, and how many there will be if that is known;
    `say` gets sentences for a person. Cancelled or killed, it leaves what it has for the next time.
    Raises MagpieError; NotFinished where the same command later may go on.
    """
    means = means or Means()
    wanted = await resolve(wanted, say=say, means=means)
    source = wanted.source
    if wanted.present or source is None:
        return wanted.path
    waiting = False

    def on_wait(size: int) -> None:
        nonlocal waiting
        if not waiting:
            say("another magpie is fetching it: waiting for that")
        waiting = True
        on_progress(size, wanted.size)

    async with open_part(wanted.path, wanted.name, means.sleep, on_wait) as part:
        if is_whole(wanted.path):  # the one that we waited for
            part.discard()
            return wanted.path
        async with open_web(means.silence) as web:
            origin = origin_of(source, means)
            await Transfer(wanted, origin, web, part, on_progress, say, means).run()
    return wanted.path


def origin_of(source: Source, means: Means) -> Origin:
    """Who has it. Raises UsageError where the environment names a host that is none."""
    if isinstance(source, HubFile):
        return Hub(source, means.environment)
    return Registry(source, means.environment)
