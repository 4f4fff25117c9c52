"""`magpie doctor`: each engine, what it is, and whether it is ready or what it lacks."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from magpie_cli.engine import EngineRow
from magpie_cli.engines import ENGINES, LOOPBACK

ANSWER_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Checkup:
    """One engine. `lacks` says what is missing and what to type; None where nothing is.

    `credential` is the name of an environment variable, never its value.
    """

    engine: str
    what: str
    credential: str | None
    required: bool
    lacks: str | None

    @property
    def ready(self) -> bool:
        """Whether `generate` could begin."""
        return self.lacks is None


def doctor(
    table: Mapping[str, EngineRow] = ENGINES, environment: Mapping[str, str] = os.environ
) -> list[Checkup]:
    """Every engine of the table. Of servers on this machine it tries whether they listen."""
    return [
        Checkup(row.name, row.what, row.credential, row.required, _lacks(row, environment))
        for row in table.values()
    ]


def text(checkups: list[Checkup]) -> str:
    """For a person: a line or two an engine."""
    lines = []
    for checkup in checkups:
        lines.append(f"{checkup.engine:<15} {'ready' if checkup.ready else 'NOT READY'}")
        lines.append(f"{'':<15} {checkup.what}")
        if checkup.credential:
            optional = "" if checkup.required else ", if it asks for one"
            lines.append(f"{'':<15} key: {checkup.credential}{optional}")
        if checkup.lacks:
            lines.append(f"{'':<15} {checkup.lacks}")
    return "\n".join(lines)


def _lacks(row: EngineRow, environment: Mapping[str, str]) -> str | None:
    if row.required and row.credential and not environment.get(row.credential, "").strip():
        return f"{row.credential} is not set: export {row.credential}=..."
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
