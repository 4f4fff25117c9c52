"""Part 5: many at once on one output, by whatever name."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.nursery import Nursery, Order
from tests.crash.scene import OUTPUT, Scene, differences, pairs, quiet_run, stage

SYMLINK, HARD_LINK = "symlink.jsonl", "hardlink.jsonl"
SCENE = Scene(pairs(12), ("--engine", "echo", "-j", "2", "--echo-delay", "0.1"))
AT_ONCE = Scene(SCENE.lines, ("--engine", "echo"))


@dataclass(slots=True)
class Started:
    """How often which exit code came, and what was not as it must be."""

    codes: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def start_at_once(nursery: Nursery, starters: int, *, again: bool = False) -> Started:
    """All on one file, by its name, a symlink or a hard link; one is to run (I7).

    With `again`, an earlier run has left a manifest that names a process which is gone.
    """
    found = Started()
    with stage("starters") as folder:
        quiet = quiet_run(nursery, AT_ONCE, folder / "quiet")
        life = SCENE.prepare(folder / "life")
        if again:
            nursery.run(SCENE.order(life, options=("--limit", "1")))
        names = [OUTPUT, SYMLINK] if again else [OUTPUT, SYMLINK, HARD_LINK]
        _link(life)
        children = [
            nursery.start(_order(life, names[number % len(names)])) for number in range(starters)
        ]
        found.codes.update(child.wait() for child in children)
        owners = [child for child in children if child.code != 75]
        if len(owners) != 1:
            found.wrong.append(f"{len(owners)} ran: {[child.said for child in owners]}")
        owner = owners[0]
        for child in children:
            if child is not owner and f"(process {owner.pid})" not in child.said:
                found.wrong.append(f"it does not name process {owner.pid}: {child.said}")
        if owner.code != quiet.code:
            found.wrong.append(f"the one that ran: exit {owner.code}, {owner.said}")
        if children.index(owner) % len(names) < 2:  # whose files have the names that are expected
            found.wrong += differences(life, quiet, owner)
    return found


def wait_for_each_other(nursery: Nursery, starters: int) -> Started:
    """All wait for the lock: one makes the rows, and the others find nothing to do (I7, I10)."""
    found = Started()
    with stage("waiters") as folder:
        quiet = quiet_run(nursery, AT_ONCE, folder / "quiet")
        life = SCENE.prepare(folder / "life")
        _link(life)
        children = [
            nursery.start(_order(life, (OUTPUT, SYMLINK)[number % 2], "--wait-lock", "50"))
            for number in range(starters)
        ]
        found.codes.update(child.wait() for child in children)
        for child in children:  # after all: one that runs has not finished its manifest
            found.wrong += differences(life, quiet, child)
        makers = [child for child in children if f"made {len(quiet.rows)} " in child.said]
        if len(makers) != 1:
            found.wrong.append(f"{len(makers)} made all rows")
    return found


def wait_for_one_that_is_killed(nursery: Nursery) -> list[str]:
    """The one that waits goes on from what a killed one left; what was not as it must be."""
    with stage("heir") as folder:
        quiet = quiet_run(nursery, AT_ONCE, folder / "quiet")
        life = SCENE.prepare(folder / "life")
        first = nursery.start(_order(life, OUTPUT))
        while not first.has_ended() and not _has_row(life):
            pass
        heir = nursery.start(_order(life, OUTPUT, "--wait-lock", "50"))
        while not first.has_ended() and (life / OUTPUT).read_bytes().count(b"\n") < 6:
            pass
        first.kill()
        first.wait()
        heir.wait()
        wrong = list(differences(life, quiet, heir))
    return wrong if "were there already" in heir.said else [*wrong, f"it began anew: {heir.said}"]


def _has_row(life: Path) -> bool:
    return (life / OUTPUT).exists() and b"\n" in (life / OUTPUT).read_bytes()


def _link(life: Path) -> None:
    (life / OUTPUT).touch()
    (life / SYMLINK).symlink_to(OUTPUT)
    (life / HARD_LINK).hardlink_to(life / OUTPUT)


def _order(life: Path, name: str, *options: str) -> Order:
    return Order(str(life), ("generate", "pairs.jsonl", "-o", name, *SCENE.options, *options))
