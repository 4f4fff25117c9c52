"""How much memory a model takes, and how much there is."""

from pathlib import Path

MODEL_FACTOR = 1.7  # of the file's size: weights, as they are repacked, and work space (measured)

_MEMINFO = Path("/proc/meminfo")
_CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


def needed(file_bytes: int, cache_bytes: int, context: int) -> int:
    """Bytes for a model of `file_bytes` with `context` tokens in all its slots."""
    return int(file_bytes * MODEL_FACTOR) + cache_bytes * context


def available() -> int | None:
    """Bytes that a new process may take, in this container too; None where nobody says."""
    try:
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    for limit, used in _CGROUPS:
        try:
            free = min(free, int(limit.read_text()) - int(used.read_text()))
        except (OSError, ValueError):  # another kind of system, or "max"
            continue
    return max(0, free)
