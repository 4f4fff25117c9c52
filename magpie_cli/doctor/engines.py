"""Each engine: what it is, and whether it is ready or what it lacks."""

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from urllib.parse import urlsplit

from magpie_cli.address import LOOPBACK
from magpie_cli.engine import EngineError, EngineRefused, EngineRow
from magpie_cli.engines.names import shown
from magpie_cli.errors import UsageError

ANSWER_SECONDS = 0.5
LISTING_SECONDS = 5.0
MODELS_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Checkup:
    """One engine. `lacks` says what is missing and what to type; None where nothing is.

    `credential` is the name of an environment variable, never its value, and `credential_set`
    whether it has one. `models` are those that its server lists, None where none was asked or it
    did not say; `trouble` says why it did not.
    """

    engine: str
    what: str
    credential: str | None
    required: bool
    lacks: str | None
    models: tuple[str, ...] | None = None
    trouble: str | None = None
    credential_set: bool = False

    @property
    def ready(self) -> bool:
        """Whether `generate` could begin."""
        return self.lacks is None


async def examine_engines(
    table: Mapping[str, EngineRow], environment: Mapping[str, str]
) -> list[Checkup]:
    """Every engine of the table.

    Of servers on this machine it tries whether they listen; those, and those whose key is set, it
    asks for their models.
    """
    return await asyncio.gather(*(_checkup(row, environment) for row in table.values()))


async def _checkup(row: EngineRow, environment: Mapping[str, str]) -> Checkup:
    lacks = _lacks(row, environment)
    models: tuple[str, ...] | None = None
    trouble = None
    if not lacks and _may_be_asked(row, environment):
        from magpie_cli.engines.openai import NO_LISTING, list_models

        try:
            models = tuple(await list_models(row, environment, LISTING_SECONDS))
        except UsageError as error:
            lacks = f"{error.message}: {error.hint}"
        except EngineError as error:
            if isinstance(error, EngineRefused) and error.kind not in NO_LISTING:
                lacks = f"{error.message}: {error.hint}"
            else:
                trouble = error.message
    there = _has_key(row, environment)
    return Checkup(row.name, row.what, row.credential, row.required, lacks, models, trouble, there)


def _may_be_asked(row: EngineRow, environment: Mapping[str, str]) -> bool:
    """Nobody beyond this machine hears of us without the user's key."""
    here = urlsplit(row.base_url or "").hostname in LOOPBACK
    return here or bool(row.base_url and _has_key(row, environment))


def _has_key(row: EngineRow, environment: Mapping[str, str]) -> bool:
    return bool(environment.get(row.credential or "", "").strip())


def engines_text(checkups: list[Checkup]) -> str:
    """For a person: a line or two an engine."""
    lines = []
    for checkup in checkups:
        lines.append(f"{checkup.engine:<15} {'ready' if checkup.ready else 'NOT READY'}")
        lines.append(f"{'':<15} {checkup.what}")
        if checkup.credential:
            there = "set" if checkup.credential_set else "not set"
            optional = "" if checkup.required else " (if it asks for one)"
            lines.append(f"{'':<15} key: {checkup.credential}{optional}, {there}")
        if checkup.models is not None:
            lines.append(f"{'':<15} models: {shown(checkup.models, MODELS_SHOWN) or 'none'}")
        if checkup.trouble:
            lines.append(f"{'':<15} its models could not be listed: {checkup.trouble}")
        if checkup.lacks:
            lines.append(f"{'':<15} {checkup.lacks}")
    return "\n".join(lines)


def _lacks(row: EngineRow, environment: Mapping[str, str]) -> str | None:
    if row.package and find_spec(row.package) is None:
        return f"the package {row.package} is not installed: {row.absent or 'pip install it'}"
    if row.required and row.credential and not _has_key(row, environment):
        otherwise = f", or {row.otherwise}" if row.otherwise else ""
        return f"{row.credential} is not set: export {row.credential}=...{otherwise}"
    url = urlsplit(row.base_url or "")
    if url.hostname in LOOPBACK and not _listens(url.hostname, url.port or 80):
        start = f": {row.start}" if row.start else ""
        return f"nothing listens at {url.hostname}:{url.port}{start}"
    return None


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=ANSWER_SECONDS).close()
    except OSError:
        return False
    return True
