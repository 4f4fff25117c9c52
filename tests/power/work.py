"""Outcomes that are the same in every run, and one run of the store over them."""

import asyncio
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from magpie_cli.ids import IdSet
from magpie_cli.records import (
    NO_TOKENS,
    Dialogue,
    Failure,
    Outcome,
    PersonaPair,
    Record,
    Usage,
    Utterance,
)
from magpie_cli.settings import Fsync
from magpie_cli.store import Facts, Store, StoreOptions, open_store

IDENTITY: dict[str, object] = {"model": "tiny", "turns": None, "seed": 1}
SIZES = (1, 1, 1, 1, 40, 700, 2500, 4096, 9000)  # of an utterance, in letters


@dataclass(frozen=True, slots=True)
class Task:
    """One dialogue: its utterances, what each of them took, and what comes of it."""

    pair: PersonaPair
    utterances: tuple[str, ...]
    outcome: Outcome

    @property
    def id(self) -> str:
        """Its id."""
        return self.pair.id

    def heard(self, number: int) -> list[Utterance]:
        """Its first `number` utterances, as an engine reports them."""
        return [Utterance(text, Usage(len(text), 1)) for text in self.utterances[:number]]


@dataclass
class Run:
    """What one run found and did. `given` counts the utterances that an earlier run had."""

    done: list[str] = field(default_factory=list)
    given: dict[str, int] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def invent(rng: Random) -> list[Task]:
    """Some dialogues, most of them tiny."""
    return [_task(f"i{number}", rng) for number in range(2 + int(rng.random() * 6))]


def _task(id_: str, rng: Random) -> Task:
    turns = 1 + int(rng.random() * 2)
    texts = []
    for position in range(2 * turns):
        letters = SIZES[int(rng.random() * len(SIZES))] if position < 2 else 1
        texts.append(f"{id_}.{position} " + "ü" * letters)
    pair = PersonaPair(id_, "a scientist", "a librarian", turns, {}, 1, "{}")
    luck = rng.random()
    if luck < 0.25:
        transient = luck < 0.12
        outcome: Outcome = Failure(
            id_, "generate", "timeout", texts[0], 1, transient=transient, input="{}"
        )
    else:
        usage = sum((Usage(len(text), 1) for text in texts), NO_TOKENS)
        dialogue = Dialogue.from_texts(texts, "tiny", usage)
        outcome = Record(id_, "a scientist", "a librarian", turns, dialogue, "echo", (), {})
    return Task(pair, tuple(texts), outcome)


@dataclass(frozen=True, slots=True)
class How:
    """`steps` are taken before the run drains; None for all, and the end of it.

    With fsync interval, syncs come by chance, and so do the notes of what is durable.
    """

    fsync: Fsync
    chance: Random
    steps: int | None = None
    in_flight: int = 3


async def play(tasks: list[Task], output: Path, how: How, run: Run, acknowledge: "Heard") -> None:
    """One run of the store. Raises what the store raises."""
    care = StoreOptions(fsync=how.fsync)
    with open_store(str(output), None, Facts(IDENTITY, "in.jsonl"), care) as store:
        run.done = [task.id for task in tasks if task.id in store.done]
        tried, passed_over = IdSet(), IdSet()
        todo = []
        for task in tasks:
            if task.id in store.done:
                continue
            if task.id in store.failed:
                (tried if store.failed.may_pass(task.id) else passed_over).add(task.id)
            if task.id not in passed_over:
                todo.append(task)
        if await _all(_Steps(store, how, run, acknowledge), todo, how):
            store.finish(len(tasks), tried, passed_over)


async def _all(steps: "_Steps", todo: list[Task], how: How) -> bool:
    """Whether it came to the end."""
    waiting = iter(todo)
    live: list[Iterator[Awaitable[None] | None]] = []
    taken = 0
    while True:
        places = range(len(live), how.in_flight)
        live += [steps.of(task) for _, task in zip(places, waiting, strict=False)]
        if not live:
            return True
        if taken == how.steps:
            return False
        taken += 1
        group = [live[int(how.chance.random() * len(live))]]
        if how.fsync == "always" and how.chance.random() < 0.3:
            group = list(live)
        writes = []
        for one in group:
            for write in one:
                if write is not None:
                    writes.append(write)
                break
            else:
                live.remove(one)
        await asyncio.gather(*writes)
        steps.maybe_sync()


class Heard:
    """Hears which rows were said to be durable."""

    def written(self, id_: str) -> None:
        """`write` has returned under --fsync always."""


class _Steps:
    """What a dialogue does to the store, one step at a time."""

    def __init__(self, store: Store, how: How, run: Run, acknowledge: Heard) -> None:
        self._store = store
        self._how = how
        self._run = run
        self._acknowledge = acknowledge

    def of(self, task: Task) -> Iterator[Awaitable[None] | None]:
        """Begin, hear each utterance, write."""
        begun = self._store.begin(task.id, task.pair, len(task.utterances) // 2)
        given = len(begun.utterances)
        self._run.given[task.id] = given
        if begun.utterances != task.heard(given):
            self._run.wrong.append(f"{task.id} came back with other utterances")
        for utterance in task.heard(len(task.utterances))[given:]:
            self._store.heard(task.id, utterance)
            yield None
        yield self._write(task)

    async def _write(self, task: Task) -> None:
        self._run.made.append(task.id)
        await self._store.write(task.outcome)
        if self._how.fsync == "always":
            self._acknowledge.written(task.id)

    def maybe_sync(self) -> None:
        """What the timer of --fsync interval does, at any time."""
        luck = self._how.chance.random()
        if self._how.fsync == "interval" and luck < 0.12:
            if luck < 0.06:
                self._store._noted_at = float("-inf")  # type: ignore[attr-defined]
            try:
                self._store._sync()  # type: ignore[attr-defined]
            except OSError as error:
                self._store._commit._error = error  # type: ignore[attr-defined]
