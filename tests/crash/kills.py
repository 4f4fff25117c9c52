"""Part 1: SIGKILL at any moment, again and again, until a run ends by itself.

Half of the kills come at a random moment of the run, the others when the output has a random size:
those hit it while it writes.
"""

import random
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.nursery import Child, Nursery
from tests.crash.scene import (
    FAILURES,
    OUTPUT,
    Quiet,
    Scene,
    differences,
    ids_of,
    is_torn,
    moments,
    pairs,
    quiet_run,
    stage,
    whole_lines,
)

TURN_LOG = f"{OUTPUT}.magpie/turns.log"

_WORDS = ("--engine", "echo", "--turns", "3", "-j", "8", "--echo-delay", "0.002")
_LONG = ("--engine", "echo", "-j", "4")
_SIZES = (900_000, 300_000, 20_000, 700_000)

# Many short rows between which utterances are kept, and rows whose writing takes a while.
SCENES = {
    "words, interval": Scene(pairs(24), (*_WORDS, "--fsync", "interval")),
    "long rows, off": Scene(pairs(10, _SIZES), (*_LONG, "--fsync", "off")),
    "words, always": Scene(pairs(24), (*_WORDS, "--fsync", "always")),
    "long rows, interval": Scene(pairs(10, _SIZES), (*_LONG, "--fsync", "interval")),
}
UNSTEADY = {
    "words, one request in 200 fails": Scene(pairs(60), (*_WORDS, "--echo-failure-rate", "0.005")),
}


@dataclass(slots=True)
class Killed:
    """How often which file was torn, and what was not as it must be."""

    kills: int = 0
    lives: int = 0
    torn_output: int = 0
    torn_other: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def torn_share(self) -> float:
        """Of the kills, how many left half a row."""
        return self.torn_output / max(1, self.kills)


def kill_at_random(
    nursery: Nursery, kills: int, scenes: dict[str, Scene] = SCENES, seed: int | None = None
) -> Killed:
    """Lives of all the scenes in turn, until there were so many kills."""
    found = Killed()
    chance = moments(seed)
    with stage("kills") as folder:
        quiets = {
            name: _timed(nursery, scene, folder / f"quiet {name}") for name, scene in scenes.items()
        }
        while found.kills < kills and not found.wrong:
            for name, scene in scenes.items():
                quiet, seconds = quiets[name]
                life = scene.prepare(folder / "life")
                child = _live(
                    nursery, scene, life, quiet=quiet, seconds=seconds, chance=chance, found=found
                )
                found.wrong += [f"{name}: {wrong}" for wrong in differences(life, quiet, child)]
                found.lives += 1
                if found.wrong:
                    break
                shutil.rmtree(life)
    return found


def _timed(nursery: Nursery, scene: Scene, folder: Path) -> tuple[Quiet, float]:
    began = time.monotonic()
    return quiet_run(nursery, scene, folder), time.monotonic() - began


def _live(
    nursery: Nursery,
    scene: Scene,
    folder: Path,
    *,
    quiet: Quiet,
    seconds: float,
    chance: random.Random,
    found: Killed,
) -> Child:
    """Start and kill until one run ends by itself, which is returned."""
    output, failures = folder / OUTPUT, folder / FAILURES
    rows, failed = b"", set[str]()
    most = sum(map(len, quiet.rows))
    while True:
        child = nursery.start(scene.order(folder))
        if chance.random() < 0.5:
            time.sleep(chance.uniform(0, seconds / 2))
        else:
            _wait_for_size(child, output, len(rows) + chance.uniform(0, most / 3))
        child.kill()
        if child.wait() != -9:
            return child
        found.kills += 1
        found.torn_output += is_torn(output)
        found.torn_other += is_torn(failures) or is_torn(folder / TURN_LOG)
        rows_before, failed_before = rows, failed
        rows, failed = whole_lines(output), set(ids_of(failures))
        ids = ids_of(output)
        if not rows.startswith(rows_before):
            found.wrong.append("I3: the output lost whole lines that it had")
        if failed_before - failed - set(ids):
            found.wrong.append("a failure is forgotten that no row replaces")
        if len(set(ids)) != len(ids):
            found.wrong.append("I2: an id stands twice after a kill")
        if found.wrong:
            return child


def _wait_for_size(child: Child, output: Path, size: float) -> None:
    """Return when the output is larger than that, or never will be."""
    while not child.has_ended():
        try:
            if output.stat().st_size > size:
                return
        except FileNotFoundError:
            pass
