"""When a write counts as durable, with --fsync always."""

import asyncio
import threading

import pytest

from magpie_cli.store.commit import Commit

SECONDS = 5  # after which a sync that should begin, or end, has not


class SlowDisk:
    """Each sync covers what was written when it began, and ends when it is let go."""

    def __init__(self) -> None:
        self.written = 0
        self.durable = 0
        self.syncs = 0
        self.began = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def sync(self) -> None:
        """Called in a thread."""
        self.syncs += 1
        covered = self.written
        self.began.release()
        assert self.go.acquire(timeout=SECONDS)
        self.durable = covered


async def _write(disk: SlowDisk, commit: Commit) -> bool:
    """Whether it was durable when it counted as written."""
    disk.written += 1
    mine = disk.written
    await commit.written()
    return disk.durable >= mine


async def test_a_write_returns_when_a_sync_after_it_is_through() -> None:
    """I5: a sync that was running already when the line was written does not count for it."""
    disk = SlowDisk()
    commit = Commit("always", disk.sync)
    first = asyncio.create_task(_write(disk, commit))
    assert await asyncio.to_thread(disk.began.acquire, timeout=SECONDS)
    later = [asyncio.create_task(_write(disk, commit)) for _ in range(5)]
    await asyncio.sleep(0)
    disk.go.release()
    assert await asyncio.to_thread(disk.began.acquire, timeout=SECONDS)
    assert await first
    disk.go.release()
    assert await asyncio.gather(*later) == [True] * 5
    assert disk.syncs == 2


async def test_no_write_returns_before_the_sync() -> None:
    """I5: with --fsync always a write waits as long as the disk does."""
    disk = SlowDisk()
    commit = Commit("always", disk.sync)
    write = asyncio.create_task(_write(disk, commit))
    assert await asyncio.to_thread(disk.began.acquire, timeout=SECONDS)
    assert not write.done()
    disk.go.release()
    assert await write


async def test_an_error_of_a_sync_reaches_who_waits_and_who_writes_next() -> None:
    """A sync that failed is nobody's success, and no later write is taken."""

    def fails() -> None:
        raise OSError(5, "Input/output error")

    commit = Commit("always", fails)
    for _ in range(2):
        with pytest.raises(OSError, match="Input/output"):
            await commit.written()
