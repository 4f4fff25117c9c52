"""How much memory a model takes, and how much there is."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

MODEL_FACTOR = 1.7  # of the file's size: weights, as they are repacked, and work space (measured)

_MEMINFO = Path("/proc/meminfo")


class Cgroup(NamedTuple):
    """Files in which the kernel keeps a container's limit; `cache` is what it gives up freely."""

    limit: Path
    used: Path
    statistics: Path
    cache: str


_CGROUPS = (
    Cgroup(
        Path("/sys/fs/cgroup/memory.max"),
        Path("/sys/fs/cgroup/memory.current"),
        Path("/sys/fs/cgroup/memory.stat"),
        "inactive_file",
    ),
    Cgroup(
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.stat"),
        "total_inactive_file",
    ),
)


def needed(file_bytes: int, cache_bytes: int, context: int) -> int:
    """Bytes for a model of `file_bytes` with `context` tokens in all its slots."""
    return int(file_bytes * MODEL_FACTOR) + cache_bytes * context


def available(meminfo: Path = _MEMINFO, cgroups: Iterable[Cgroup] = _CGROUPS) -> int | None:
    """Bytes that a new process may take, in this container too; None where nobody says."""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    for group in cgroups:
        try:
            used = int(group.used.read_text()) - _cache(group)
            free = min(free, int(group.limit.read_text()) - used)
        except (OSError, ValueError):  # another kind of system, or "max"
            continue
    return max(0, free)


def _cache(group: Cgroup) -> int:
    try:
        lines = [line.split() for line in group.statistics.read_text().splitlines()]
    except OSError:
        return 0
    return next((int(words[1]) for words in lines if words[0] == group.cache), 0)
