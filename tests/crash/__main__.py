"""The long round: `python -m tests.crash`, or some parts of it. Exits 1 if anything is wrong."""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.crash import errors, kills, points, requests, room, starters, traced
from tests.crash.nursery import Nursery, open_nursery

TORN_SHARE = 0.01  # of the kills: with fewer, they proved little


@dataclass(frozen=True, slots=True)
class Row:
    """What a part did, in words, and what was not as it must be."""

    did: str
    wrong: list[str]


Part = Callable[[Nursery, argparse.Namespace], Row]


def kill(nursery: Nursery, asked: argparse.Namespace) -> Row:
    """SIGKILL at any moment."""
    found = kills.kill_at_random(nursery, asked.kills, kills.SCENES | kills.UNSTEADY)
    did = f"{found.kills:,} kills in {found.lives:,} lives, {found.torn_output:,} torn rows"
    few = [] if found.torn_share >= TORN_SHARE else ["too few kills left a torn row"]
    return Row(did, found.wrong + few)


def point(nursery: Nursery, asked: argparse.Namespace) -> Row:
    """SIGKILL at every system call."""
    done = [
        points.kill_at_every_call(nursery, scene, after=True, twice=asked.twice)
        for scene in (points.SYNCED, points.UNSYNCED)
    ]
    kinds = sorted(set[str]().union(*(found.kinds for found in done)))
    did = f"{sum(found.kills for found in done):,} kills at {', '.join(kinds)}"
    return Row(did, [wrong for found in done for wrong in found.wrong])


def trace(nursery: Nursery, asked: argparse.Namespace) -> Row:
    """The same by strace, on the real command."""
    if why := traced.why_not():
        return Row(f"NOT RUN: {why}", [])
    found = traced.kill_with_strace(nursery, every=asked.every)
    return Row(f"{found.kills:,} kills at {', '.join(sorted(found.kinds))}", found.wrong)


def fill(nursery: Nursery, asked: argparse.Namespace) -> Row:
    """Full disks, and room that comes later."""
    full = room.fill_by_limit(nursery, asked.sizes)
    did = f"{full.tried:,} sizes, {full.full:,} full"
    wrong = full.wrong
    if why := room.why_no_tmpfs():
        did += f"; NOT RUN: tmpfs ({why})"
    else:
        small = room.fill_tmpfs(nursery, asked.sizes)
        did += f"; {small.tried:,} sizes of tmpfs, {small.full:,} full"
        wrong = wrong + small.wrong
    return Row(did, wrong + room.make_room_later(nursery) + room.fill_turn_log(nursery))


def answer(nursery: Nursery, _: argparse.Namespace) -> Row:
    """Errors of the disk."""
    found = errors.answer_with_errors(nursery, every_call=True)
    return Row(f"{found.errors:,} errors to {', '.join(sorted(found.kinds))}", found.wrong)


def start(nursery: Nursery, asked: argparse.Namespace) -> Row:
    """Many at once."""
    done = [
        starters.start_at_once(nursery, asked.starters),
        starters.start_at_once(nursery, asked.starters, again=True),
        starters.wait_for_each_other(nursery, asked.starters),
    ]
    codes = "; ".join(
        ", ".join(f"{times} x exit {code}" for code, times in sorted(found.codes.items()))
        for found in done
    )
    wrong = [wrong for found in done for wrong in found.wrong]
    return Row(codes, wrong + starters.wait_for_one_that_is_killed(nursery))


def count(nursery: Nursery, asked: argparse.Namespace) -> Row:
    """What a crash costs."""
    found = requests.kill_and_count(nursery, asked.counted)
    did = f"{found.kills:,} kills, {found.repeated:,} requests repeated, {found.spared:,} spared"
    return Row(did, found.wrong)


PARTS: dict[str, Part] = {
    "kills": kill,
    "points": point,
    "traced": trace,
    "room": fill,
    "errors": answer,
    "starters": start,
    "requests": count,
}


def main() -> int:
    """Run the parts that are asked for, and print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} [all]")
    numbers = {
        "kills": (3000, "kills at any moment"),
        "twice": (200, "runs in each setting that are killed twice"),
        "every": (1, "of the calls under strace, each so-manieth"),
        "sizes": (200, "sizes of a full disk"),
        "starters": (20, "processes at once"),
        "counted": (300, "kills whose requests are counted"),
    }
    for name, (number, words) in numbers.items():
        parser.add_argument(
            f"--{name}", type=int, default=number, metavar="N", help=f"{words} [{number}]"
        )
    asked = parser.parse_args()
    if unknown := set(asked.parts) - PARTS.keys():
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    wrong: list[str] = []
    with open_nursery() as nursery:
        for name in asked.parts or PARTS:
            began = time.monotonic()
            row = PARTS[name](nursery, asked)
            seconds = time.monotonic() - began
            result = f"{len(row.wrong)} WRONG" if row.wrong else "ok"
            sys.stdout.write(f"{name:<9} {seconds:6.0f} s  {result:<8} {row.did}\n")
            sys.stdout.flush()
            wrong += [f"{name}: {text}" for text in row.wrong]
    for text in wrong:
        sys.stdout.write(f"{text}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
