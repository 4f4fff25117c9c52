"""I5: a power cut at any moment costs nothing that was durable, and the next run makes the rest."""

import pytest

from tests.power.__main__ import states_without_mismatch
from tests.power.cuts import cut
from tests.power.recording import PAGE, Folder, Inode, with_pages

pytestmark = pytest.mark.crash

STATES = 20_000


def test_a_power_cut_at_any_moment_is_made_good() -> None:
    """I5: whichever unsynced pages, sizes and names are lost, the next run ends as undisturbed.

    Nothing durable is made again, nothing is there twice, what is taken out is in quarantine. A
    twentieth of the states must hold bytes that are no line, or the cuts were too kind.
    """
    total, damaged = states_without_mismatch(STATES, seed=0)
    assert total >= STATES
    assert damaged > STATES / 20


def test_a_full_disk_does_not_glue_an_utterance_to_a_torn_one() -> None:
    """I6: here a turn log with a torn end cannot be written anew, and yet goes on with whole lines.

    Seed and scenario are those in which it was found.
    """
    total, _ = states_without_mismatch(60, seed=7, only=97)
    assert total == 60


def test_what_is_synced_is_never_lost() -> None:
    """The simulator keeps what a sync covered, whatever luck it has."""
    file, folder = Inode(1), Folder(0)
    folder.change(1, {"a": file})
    folder.synced.append(2)
    file.write(3, b"x" * PAGE)
    file.sync(4)
    file.write(5, b"y" * PAGE)
    for luck in (0.0, 0.3, 0.45, 0.55, 0.65, 0.85, 0.95):
        left = cut(folder, 5, lambda luck=luck: luck)["a"]  # type: ignore[misc]
        assert isinstance(left, bytes)
        assert left.startswith(b"x" * PAGE)


def test_what_a_failed_sync_dropped_stays_lost() -> None:
    """A later sync that succeeds does not bring back pages that the kernel took for clean."""
    file = Inode(0)
    file.write(1, b"x" * PAGE)
    file.sync_fails(2, lambda: False)
    file.write(3, b"y" * PAGE)
    file.sync(4)
    assert file.synced[-1] == (4, b"\0" * PAGE + b"y" * PAGE)


def test_a_page_that_never_arrived_is_zeros() -> None:
    """A file may be longer than what was written of it."""
    assert with_pages(b"ab", 6, {}) == b"ab\0\0\0\0"
    assert with_pages(b"ab", 3, {0: b"abcdef"}) == b"abc"
