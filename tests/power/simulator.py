"""Runs of the real store, power cuts in them, runs after those, and so on.

I5: whatever is left, the next run ends with the very rows of an undisturbed one, makes none again
that was there, and keeps every byte that it takes out.
"""

import asyncio
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import orjson

from magpie_cli.errors import MagpieError
from magpie_cli.records import Failure, Record
from magpie_cli.settings import Fsync
from magpie_cli.store import disk, turn_log
from tests.power.cuts import cut
from tests.power.recording import Faults, Image, Recording, put
from tests.power.work import Heard, How, Run, invent, play

STATES = 60  # of one scenario
OUTPUT, FAILURES, FOLDER = "out.jsonl", "out.failures.jsonl", "out.jsonl.magpie"
FSYNCS: tuple[Fsync, ...] = ("interval", "always", "off")


class Mismatch(AssertionError):  # noqa: N818 - as InvalidRecord
    """A promise that is broken."""


@dataclass(frozen=True)
class Kept:
    """What must never be lost again.

    Ids of rows and of failures that were durable, the number of utterances of dialogues that were,
    and bytes that are no line.
    """

    rows: frozenset[str] = frozenset()
    failures: frozenset[str] = frozenset()
    turns: tuple[tuple[str, int], ...] = ()
    bad: frozenset[bytes] = frozenset()


@dataclass
class Recorded(Heard):
    """One recording and what became durable in it, when; `before` is what was so at its start."""

    before: Kept
    disk: Recording
    rows: list[tuple[int, frozenset[str]]] = field(default_factory=list)
    failures: list[tuple[int, frozenset[str]]] = field(default_factory=list)
    turns: list[tuple[int, dict[str, int]]] = field(default_factory=list)

    def written(self, id_: str) -> None:
        """A row or a failure; each id is always the same of the two."""
        self.rows.append((self.disk.now, frozenset([id_])))
        self.failures.append((self.disk.now, frozenset([id_])))

    def on_sync(self, name: str, data: bytes) -> None:
        """A file was made durable."""
        if name == OUTPUT:
            self.rows.append((self.disk.now, ids_in(data)))
        elif name == FAILURES:
            self.failures.append((self.disk.now, ids_in(data)))
        elif name == "turns.log":
            self.turns.append((self.disk.now, turns_in(data)))

    def kept(self, moment: int, image: Image) -> Kept:
        """What must be there after a power cut at `moment` that left `image`."""
        output, failures = image.get(OUTPUT, b""), image.get(FAILURES, b"")
        assert isinstance(output, bytes)
        assert isinstance(failures, bytes)
        turns = dict(self.before.turns)
        for time, found in self.turns:
            if time <= moment:
                turns |= {id_: max(n, turns.get(id_, 0)) for id_, n in found.items()}
        return Kept(
            self.before.rows.union(_until(self.rows, moment), ids_in(output)),
            self.before.failures.union(_until(self.failures, moment), ids_in(failures)),
            tuple(turns.items()),
            self.before.bad.union(bad_in(output), bad_in(failures)),
        )


def _until(found: list[tuple[int, frozenset[str]]], moment: int) -> frozenset[str]:
    return frozenset[str]().union(*(ids for time, ids in found if time <= moment))


def ids_in(data: bytes) -> frozenset[str]:
    """Those of the whole lines."""
    whole = data.split(b"\n")[:-1]
    return frozenset(line[7 : line.index(b'"', 7)].decode() for line in whole if _is_line(line))


def bad_in(data: bytes) -> Iterator[bytes]:
    """What is no whole line."""
    *whole, torn = data.split(b"\n")
    yield from (line for line in whole if not _is_line(line))
    if torn:
        yield torn


def _is_line(line: bytes) -> bool:
    return line.startswith(b'{"id":"') and line.endswith(b"}") and b"\0" not in line


def turns_in(data: bytes) -> dict[str, int]:
    """How many utterances of each dialogue."""
    found: dict[str, int] = {}
    for line in data.split(b"\n"):
        crc, _, body = line.partition(b" ")
        if crc == b"%08x" % zlib.crc32(body + b"\n"):
            row = orjson.loads(body)
            found[row["id"]] = row["position"] + 1
    return found


class _Inline(ThreadPoolExecutor):
    """Does at once what is given to it: the same seed, the same order of calls."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except OSError as error:
            done.set_exception(error)
        return done


@contextmanager
def one_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop for all runs; turn logs are written anew while they are small."""
    with asyncio.Runner() as runner, patch.object(turn_log, "MOST_DEAD_BYTES", 300):
        loop = runner.get_loop()
        loop.set_default_executor(_Inline(1))
        yield loop


class Scenario:
    """One set of outcomes, and what became of it under so many power cuts.

    Of the `states` that they left, `damaged` had bytes that were no line.
    All chance comes from `seed` and `number`: the same again each time.
    """

    def __init__(self, seed: int, number: int, root: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.states = self.damaged = 0
        self._rng = Random(f"{seed}:{number}")  # noqa: S311 - to be repeated, not to be secret
        self._root = root
        self._loop = loop
        self._tasks = invent(self._rng)
        records = [task.outcome for task in self._tasks if isinstance(task.outcome, Record)]
        self._lines = sorted(record.to_json() for record in records)
        self._failing = {task.id for task in self._tasks if isinstance(task.outcome, Failure)}
        self._for_good = {
            task.id
            for task in self._tasks
            if isinstance(task.outcome, Failure) and not task.outcome.transient
        }

    def run(self, states: int = STATES) -> None:
        """Raises Mismatch at the first state after which a promise is broken."""
        pool = [self._begin(Kept(), {})]
        for _ in range(int(self._rng.random() * 3)):
            self._attempt(pool[0], self._how(whole=self._rng.random() < 0.2), Run())
        while self.states < states:
            recorded = pool[max(0, int(self._rng.random() * (len(pool) + 3)) - 3)]
            moment = self._moment(recorded.disk)
            image = cut(recorded.disk.tree, moment, self._rng.random)
            kept = recorded.kept(moment, image)
            self.states += 1
            self.damaged += kept.bad != recorded.before.bad
            again = self._begin(kept, image)
            self._recover(again, kept)
            if again.disk.busy:
                pool.append(again)
            if len(pool) > 6:
                pool.pop(1)

    def _moment(self, recorded: Recording) -> int:
        """Rather one at which something is on its way to the disk."""
        if recorded.busy and self._rng.random() < 0.8:
            moment = recorded.busy[int(self._rng.random() * len(recorded.busy))]
            return moment + int(self._rng.random() * 2)
        return int(self._rng.random() * (recorded.now + 1))

    def _begin(self, before: Kept, image: Image) -> Recorded:
        put(image, self._root)
        recording = Recording(self._root, image, self._rng.random)
        recorded = Recorded(before, recording)
        recording.on_sync = recorded.on_sync
        return recorded

    def _how(self, *, whole: bool) -> How:
        rng = self._rng
        fsync = FSYNCS[int(rng.random() * 3)]
        return How(fsync, rng, None if whole else int(rng.random() * 12), 1 + int(rng.random() * 3))

    def _attempt(self, recorded: Recorded, how: How, run: Run) -> None:
        """A run that may meet a full or a broken disk, and drain then."""
        rng = self._rng
        disk_ = recorded.disk
        luck, count = rng.random(), 1 + int(rng.random() * 12)
        disk_.faults = Faults(full_in=count) if luck < 0.15 else Faults()
        if luck > 0.8:
            disk_.faults = Faults(broken_in=count)
        try:
            self._play(recorded, how, run)
        except MagpieError as error:
            if not isinstance(error.__cause__, OSError):
                raise
        disk_.faults = Faults()

    def _play(self, recorded: Recorded, how: How, run: Run) -> None:
        with patch.object(disk, "os", recorded.disk):
            self._loop.run_until_complete(
                play(self._tasks, self._root / OUTPUT, how, run, recorded)
            )

    def _recover(self, recorded: Recorded, kept: Kept) -> None:
        try:
            runs = [Run()]
            if self._rng.random() < 0.15:
                self._attempt(recorded, self._how(whole=False), runs[0])
                runs.append(Run())
            self._play(recorded, self._how(whole=True), runs[-1])
        except MagpieError as error:
            raise Mismatch(f"the next run ended with: {error.message}") from error
        for number, run in enumerate(runs):
            self._compare_run(run, kept, first=number == 0)
        self._compare_files(kept)

    def _compare_run(self, run: Run, kept: Kept, *, first: bool) -> None:
        """I5: nothing that was durable is made again; I6: nor asked for."""
        lost = kept.rows.intersection(run.made) - self._failing
        lost |= kept.failures.intersection(run.made) & self._for_good
        if lost:
            raise Mismatch(f"made again, although durable: {sorted(lost)}")
        for id_, number in kept.turns if first else ():
            if id_ not in self._failing and run.given.get(id_, number) < number:
                raise Mismatch(f"{id_}: {number} utterances were durable, not {run.given[id_]}")
        if run.wrong:
            raise Mismatch(run.wrong[0])

    def _compare_files(self, kept: Kept) -> None:
        """I1, I2 and I4 of what is there now; and quarantine."""
        lines = sorted((self._root / OUTPUT).read_bytes().splitlines(keepends=True))
        if lines != self._lines:
            raise Mismatch(f"{len(lines)} lines, and not the {len(self._lines)} there must be")
        failures = self._root / FAILURES
        rows = failures.read_bytes().splitlines() if failures.exists() else []
        failed = [orjson.loads(row)["id"] for row in rows]
        if sorted(failed) != sorted(self._failing):
            raise Mismatch(f"the failures are {failed}, not {sorted(self._failing)}")
        folder = self._root / FOLDER
        saved = b"".join(path.read_bytes() for path in (folder / "quarantine").glob("*"))
        for bad in kept.bad:
            if bad not in saved:
                raise Mismatch(f"not in quarantine: {bad[:60]!r}, {len(bad)} bytes")
        names = {path.name for path in folder.iterdir()} - {"quarantine"}
        left = names - {"manifest.json", "manifest.json.new", "turns.log.new"}
        if any(name.endswith((".tail", "turns.log")) for name in left):
            raise Mismatch(f"left over at the end: {sorted(left)}")
