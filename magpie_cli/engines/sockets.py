"""How many requests may be out at a time: each holds a file, of which a process may have so many.

Without a bound, a run with more would find no file for its own output either, and end.
"""

import resource
from collections.abc import Callable

from magpie_cli.engine import EngineRow
from magpie_cli.settings import Settings

SHARE = 0.75  # of all files; the rest is for connections that are closing
OWN = 32  # files at least that are no connections


def ceiling(row: EngineRow, settings: Settings, say: Callable[[str], None]) -> int:
    """For each server: what is wanted, or fewer, and then `say` hears why."""
    each = settings.concurrency or row.concurrency
    if not (settings.base_url or row.base_url):  # no server that is asked over sockets
        return each
    servers = max(1, len(settings.base_url or ()))
    wanted = settings.concurrency or each * servers
    files = _allowed(OWN + round(wanted / SHARE))
    room = int(min(files * SHARE, files - OWN))
    if wanted <= room:
        return each
    most = max(1, room // servers)
    say(f"at most {most * servers} requests at a time: ulimit -n allows {files} open files")
    return most


def _allowed(wanted: int) -> int:
    """How many files may be open: `wanted`, if the limit is there already or can be raised."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if now == resource.RLIM_INFINITY or now >= wanted:
        return wanted
    higher = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (higher, most))
    except (OSError, ValueError):  # a system with a bound of its own
        return now
    return higher
