"""The quick round: each way to break the store, often enough to see that it holds."""

import os
from collections.abc import Iterator

import pytest

from magpie_cli.errors import MagpieError
from magpie_cli.store import Facts, StoreOptions, open_store
from tests.crash import errors, kills, points, requests, room, starters
from tests.crash.__main__ import TORN_SHARE
from tests.crash.nursery import Nursery, open_nursery
from tests.crash.scene import Scene
from tests.test_store import IDENTITY, keep, record

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(os.uname().sysname != "Linux", reason="only Linux has all it takes"),
]


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    """Where the processes come from."""
    with open_nursery() as opened:
        yield opened


def test_i2_i3_i4_kill_9_at_any_moment_loses_nothing(nursery: Nursery) -> None:
    """200 times, until a run ends by itself: its rows are those of an undisturbed run."""
    found = kills.kill_at_random(nursery, 200)
    assert found.wrong == []
    assert found.kills >= 200
    assert found.torn_share >= TORN_SHARE  # or the kills proved little


@pytest.mark.parametrize("scene", [points.SYNCED, points.UNSYNCED], ids=["always", "off"])
def test_i4_kill_9_at_every_system_call_of_the_first_run(nursery: Nursery, scene: Scene) -> None:
    """Before each, in the middle of each write, and after the last: the next run makes it whole."""
    found = points.kill_at_every_call(nursery, scene, (points.first_run,))
    assert found.wrong == []
    assert found.kills >= 60
    assert found.kinds >= {"open", "write", "fdatasync", "fsync", "rename", "mkdir", "unlink"}


@pytest.mark.parametrize("setting", points.SETTINGS[1:], ids=lambda setting: setting.__name__)
def test_i3_i4_kill_9_at_every_system_call_of_a_run_that_mends(
    nursery: Nursery, setting: points.Setting
) -> None:
    """A crash while what a crash left is put right costs nothing either."""
    found = points.kill_at_every_call(nursery, points.UNSYNCED, (setting,))
    assert found.wrong == []
    assert found.kills >= 40


def test_i4_a_full_disk_at_50_sizes_loses_nothing(nursery: Nursery) -> None:
    """Each run says what it lacks and exits 1; the same command with room makes the rest."""
    found = room.fill_by_limit(nursery, 50)
    assert found.wrong == []
    assert found.full >= 45


def test_i4_a_file_system_without_room_for_anything_loses_nothing(nursery: Nursery) -> None:
    """Manifest, turn log and quarantine want room as well, and share what there is."""
    if why := room.why_no_tmpfs():
        pytest.skip(f"no tmpfs: {why}")
    found = room.fill_tmpfs(nursery, 12)
    assert found.wrong == []
    assert found.full >= 10


def test_i10_a_run_that_waits_for_room_goes_on_by_itself(nursery: Nursery) -> None:
    """It says that it waits, and needs no second command."""
    assert room.make_room_later(nursery) == []


def test_i4_a_full_turn_log_costs_no_row(nursery: Nursery) -> None:
    """Where only utterances find no room, the run ends as if nothing had been."""
    assert room.fill_turn_log(nursery) == []


def test_a_device_that_is_always_full_is_a_plain_error() -> None:
    """Each row to /dev/full is refused anew, with what to do about it."""
    for _ in range(2):
        with (
            pytest.raises(MagpieError, match="No space left") as full,
            open_store("/dev/full", None, Facts(IDENTITY), StoreOptions()) as store,
        ):
            keep(store, record("a"))
        assert full.value.hint


def test_i3_i4_errors_of_the_disk_end_a_run_and_nothing_more(nursery: Nursery) -> None:
    """Exit 1 and a sentence; nothing follows on what failed; the next run makes it whole."""
    found = errors.answer_with_errors(nursery)
    assert found.wrong == []
    assert found.kinds >= {"write", "fdatasync", "fsync", "ftruncate", "rename"}


@pytest.mark.parametrize("again", [False, True], ids=["first run", "later run"])
def test_i7_one_of_20_starters_runs(nursery: Nursery, *, again: bool) -> None:
    """By its name, a symlink or a hard link: the others exit 75 and name the one that runs."""
    found = starters.start_at_once(nursery, 20, again=again)
    assert found.wrong == []
    assert found.codes[75] == 19


def test_i7_i10_20_that_wait_for_the_lock_make_each_row_once(nursery: Nursery) -> None:
    """One makes all rows; each of the others finds nothing to do, in time."""
    found = starters.wait_for_each_other(nursery, 20)
    assert found.wrong == []


def test_i4_i7_one_that_waits_goes_on_where_the_owner_was_killed(nursery: Nursery) -> None:
    """The lock goes with its owner, and the rows stay."""
    assert starters.wait_for_one_that_is_killed(nursery) == []


def test_i6_a_crash_costs_the_requests_in_flight(nursery: Nursery) -> None:
    """A server counts: no utterance of the turn log is asked for again, and few others are."""
    found = requests.kill_and_count(nursery, 12)
    assert found.wrong == []
    assert found.spared > 20
