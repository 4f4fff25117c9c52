"""What a download works with, so that tests can put in their own."""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SILENCE = 60.0  # seconds


def free_space(folder: Path) -> int:
    """Bytes that this user can still write there."""
    return shutil.disk_usage(folder).free


@dataclass(frozen=True, slots=True)
class Means:
    """`silence` is how long, in seconds, a server may say nothing."""

    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    silence: float = SILENCE
    free_space: Callable[[Path], int] = free_space
