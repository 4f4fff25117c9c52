"""Part 2: SIGKILL at every system call of the write path, and in the middle of every write.

What is on disk after one call is there before the next: `after` is left to the long round.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from errno import EIO
from pathlib import Path

from tests.crash.calls import Call, Fault, Where, read_log
from tests.crash.nursery import Nursery
from tests.crash.scene import (
    OUTPUT,
    Quiet,
    Scene,
    differences,
    ids_of,
    log_of,
    moments,
    pairs,
    quiet_run,
    stage,
    whole_lines,
)

_OPTIONS = ("--engine", "echo", "--turns", "2", "-j", "2", "--disk-wait", "0")
SYNCED = Scene(pairs(4), (*_OPTIONS, "--fsync", "always"))
UNSYNCED = Scene(pairs(4), (*_OPTIONS, "--fsync", "off"))

NO_FAULT = Fault(0)

Setting = Callable[[Nursery, Scene, Path], None]


@dataclass(slots=True)
class Points:
    """How many kills there were at which calls, and what was not as it must be."""

    kills: int = 0
    kinds: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)


def first_run(_: Nursery, __: Scene, ___: Path) -> None:
    """Nothing is there yet."""


def torn_row(nursery: Nursery, scene: Scene, folder: Path) -> None:
    """The third row is half there; so are the utterances of another dialogue."""
    nursery.run(scene.order(folder, fault=Fault(3, "middle", "write", OUTPUT)))


def torn_utterance(nursery: Nursery, scene: Scene, folder: Path) -> None:
    """A line of the turn log is half there, behind those of finished dialogues."""
    nursery.run(scene.order(folder, fault=Fault(8, "middle", "write", "turns.log")))


def hole(nursery: Nursery, scene: Scene, folder: Path) -> None:
    """A power cut left zeros in the first row, which was not synced, and whole rows behind it."""
    nursery.run(scene.order(folder, fault=Fault(4, "middle", "write", OUTPUT)))
    with (folder / OUTPUT).open("r+b") as output:
        output.seek(40)
        output.write(bytes(30))


def broken_disk(nursery: Nursery, scene: Scene, folder: Path) -> None:
    """The disk failed to write the third row, and the manifest says so."""
    nursery.run(scene.order(folder, fault=Fault(3, "middle", "write", OUTPUT, EIO)))


SETTINGS: tuple[Setting, ...] = (first_run, torn_row, torn_utterance, hole, broken_disk)


def kill_at_every_call(
    nursery: Nursery,
    scene: Scene,
    settings: tuple[Setting, ...] = SETTINGS,
    *,
    after: bool = False,
    twice: int = 0,
) -> Points:
    """Kill a run at each of its calls, run again undisturbed, and compare (I4).

    `twice` so many times, chance has the second run killed as well, and a third one ends it.
    """
    found = Points()
    with stage("points") as folder:
        quiet = quiet_run(nursery, scene, folder / "quiet")
        for setting in settings:
            before = scene.prepare(folder / setting.__name__)
            setting(nursery, scene, before)
            found.wrong += _made_again(nursery, scene, before)
            calls = calls_of(nursery, scene, before)
            for fault in _faults(calls, after=after):
                _try(nursery, scene, before, [fault], quiet=quiet, found=found)
            chance = moments(None)
            for _ in range(twice):
                numbers = [chance.randint(1, len(calls)) for _ in range(2)]
                faults = [Fault(number, "middle") for number in numbers]
                _try(nursery, scene, before, faults, quiet=quiet, found=found)
            shutil.rmtree(before)
    return found


def calls_of(nursery: Nursery, scene: Scene, before: Path) -> list[Call]:
    """The calls of a run that goes on from what is in `before`."""
    life = copy_of(before)
    nursery.run(scene.order(life, fault=NO_FAULT))
    return read_log(log_of(life))


def _made_again(nursery: Nursery, scene: Scene, before: Path) -> list[str]:
    """Rows that are whole, behind a hole too, and that a run does not count as done (I6)."""
    kept = sum(id_.startswith("pair-") for id_ in ids_of(before / OUTPUT))
    said = nursery.run(scene.order(copy_of(before))).said
    if not kept or re.search(rf"\b{kept} (was|were) there already", said):
        return []
    return [f"{before.name}: I6: {kept} rows are whole, and not taken for done: {said}"]


def copy_of(before: Path) -> Path:
    """A folder like it, in the place of the last such one."""
    life = before.with_name("life")
    shutil.rmtree(life, ignore_errors=True)
    log_of(life).unlink(missing_ok=True)
    shutil.copytree(before, life, symlinks=True)
    return life


def _faults(calls: list[Call], *, after: bool) -> Iterator[Fault]:
    for number, call in enumerate(calls, 1):
        wheres: list[Where] = ["before"]
        if call.kind == "write":
            wheres.append("middle")
        if after or number == len(calls):
            wheres.append("after")
        yield from (Fault(number, where) for where in wheres)


def _try(
    nursery: Nursery,
    scene: Scene,
    before: Path,
    faults: list[Fault],
    *,
    quiet: Quiet,
    found: Points,
) -> None:
    """One run for each of `faults`, and one without."""
    life = copy_of(before)
    durable = whole_lines(life / OUTPUT) if before.name.startswith("torn") else b""
    for fault in faults:
        log_of(life).unlink(missing_ok=True)
        killed = nursery.run(scene.order(life, fault=fault))
        if killed.code == -9:
            found.kills += 1
            found.kinds.add(read_log(log_of(life))[-1].kind)
    last = nursery.run(scene.order(life))
    wrong = list(differences(life, quiet, last))
    if not (life / OUTPUT).read_bytes().startswith(durable):
        wrong.append("I3: whole lines that were there are not there any more")
    found.wrong += [f"{before.name}, {faults}: {text}" for text in wrong]
