"""One output that runs, crashes and strangers work on, and what must be in it."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from magpie_cli.engine import DialogueRequest, PairRefused, Transient
from magpie_cli.feed import FileFeed
from magpie_cli.plan import plan_dialogues
from magpie_cli.records import Dialogue, Failure, Record, Usage, Utterance
from magpie_cli.run import dialogues, run
from magpie_cli.settings import RetryFailed, Settings, TurnRange
from magpie_cli.shutdown import Shutdown
from magpie_cli.source import open_source
from magpie_cli.store import Facts, Store, StoreOptions, open_store
from magpie_cli.tally import Tally
from tests.power.recording import Image, put

Rows = dict[str, bytes]


class Crash(Exception):  # noqa: N818 - it stands for one
    """The process is gone."""


@dataclass
class Scripted:
    """An engine that says the same each time. What it does after `crash_in` utterances is nothing.

    `asked` counts the utterances that were asked for; every third of them the store syncs.
    """

    world: "World"
    store: Store
    crash_in: int | None = None
    asked: int = 0
    name: str = "scripted"
    model: str = "tiny"

    async def dialogue(self, request: DialogueRequest) -> Dialogue:
        """As the instructor's persona says."""
        persona = request.pair.instructor_persona
        self._step()
        if "refused" in persona:
            raise PairRefused("content_filter", "no")
        if "slow" in persona:
            raise Transient("timeout", "no answer")
        texts = utterances(request)
        assert texts[: len(request.utterances)] == [had.text for had in request.utterances]
        for text in texts[len(request.utterances) :]:
            self.asked += 1
            request.on_utterance(Utterance(text, Usage(len(text), 1)))
            self.world.heard(request)
            self._step()
            await asyncio.sleep(0)
        usage = Usage(sum(map(len, texts)), len(texts))
        return Dialogue.from_texts(texts, self.model, usage)

    def _step(self) -> None:
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in == 0:
                self.world.left = image_of(self.world.folder)
            if self.crash_in <= 0:
                raise Crash
        if self.asked % 3 == 1:
            self.store._noted_at = float("-inf")  # type: ignore[attr-defined]
            self.store._sync()  # type: ignore[attr-defined]


@dataclass
class World:
    """`lines` are the input's. `known` counts the utterances that a crash has left, by their words.

    `left` is what stood in `folder` when the process crashed.
    """

    folder: Path
    lines: list[bytes] = field(default_factory=list)
    known: dict[tuple[str, ...], int] = field(default_factory=dict)
    left: Image | None = None
    asked: int = 0

    @property
    def source(self) -> Path:
        """The input."""
        return self.folder.with_name(f"{self.folder.name}.pairs.jsonl")

    @property
    def output(self) -> Path:
        """Where rows go."""
        return self.folder / "out.jsonl"

    @property
    def failures(self) -> Path:
        """Where failures go."""
        return self.folder / "out.failures.jsonl"

    def settings(self, seed: int = 1, retry: RetryFailed | None = None) -> Settings:
        """Those of a run."""
        return Settings(
            str(self.source), str(self.output), turns=TurnRange(2, 2), seed=seed, retry_failed=retry
        )

    def run(
        self, crash_in: int | None = None, seed: int = 1, retry: RetryFailed | None = None
    ) -> None:
        """One run to its end, or to its crash, after which `folder` is as the crash left it."""
        self.source.write_bytes(b"".join(line + b"\n" for line in self.lines))
        self.left = None
        try:
            asyncio.run(self._run(crash_in, self.settings(seed, retry)))
        except* Crash:
            assert self.left is not None
            put(self.left, self.folder)

    async def _run(self, crash_in: int | None, settings: Settings) -> None:
        tally = Tally()
        with open_source(settings.input, strict=False) as source, Shutdown() as stop:
            identity = settings.identity("scripted", "tiny", "-")
            facts = Facts(identity, settings.input, source.digest, expected=source.lines)
            with open_store(settings.output, None, facts, StoreOptions()) as store:
                engine = Scripted(self, store, crash_in)
                plan = plan_dialogues(
                    source.pairs(), settings, store.done, tally, failed=store.failed
                )
                feed: FileFeed[DialogueRequest | Failure] = FileFeed(iter(plan))
                await run(
                    feed,
                    dialogues(engine, store),
                    store,
                    concurrency=3,
                    tally=tally,
                    on_outcome=lambda _: None,
                    stop=stop,
                )
                assert stop.error is None
                assert tally.seen == plan.expected
                store.finish(plan.expected, plan.tried, plan.passed_over)
                self.asked = engine.asked

    def heard(self, request: DialogueRequest) -> None:
        """One more utterance; the last one is kept in the row alone."""
        if self.left is not None:
            return
        key = words(request)
        self.known[key] = min(self.known.get(key, 0) + 1, 2 * request.num_turns - 1)

    def items(self) -> Iterator[DialogueRequest | Failure]:
        """What the input asks for, each once."""
        self.source.write_bytes(b"".join(line + b"\n" for line in self.lines))
        with open_source(str(self.source), strict=False) as source:
            for item in plan_dialogues(source.pairs(), self.settings(), _none(), Tally()):
                if item is not None:
                    yield item

    def rows(self) -> Rows:
        """The first whole line of each id that is in the output."""
        return dict(reversed([*_lines(self.output)]))

    def failed(self) -> Rows:
        """The last whole line of each id that is in the failures."""
        return dict(_lines(self.failures))


def _none() -> Any:
    return ()


def words(request: DialogueRequest) -> tuple[str, ...]:
    """What utterances belong to."""
    pair = request.pair
    return (
        request.id,
        pair.instructor_persona,
        pair.responding_persona,
        str(request.num_turns),
    )


def utterances(request: DialogueRequest) -> list[str]:
    """All that is said."""
    persona = request.pair.instructor_persona
    return [f"{persona} says {number}" for number in range(2 * request.num_turns)]


def row_of(request: DialogueRequest) -> bytes | None:
    """The line of an undisturbed run, None where the pair fails."""
    pair = request.pair
    if "refused" in pair.instructor_persona or "slow" in pair.instructor_persona:
        return None
    texts = utterances(request)
    usage = Usage(sum(map(len, texts)), len(texts))
    dialogue = Dialogue.from_texts(texts, "tiny", usage)
    return Record(
        request.id,
        pair.instructor_persona,
        pair.responding_persona,
        request.num_turns,
        dialogue,
        "scripted",
        (),
        pair.metadata,
    ).to_json()


def image_of(folder: Path) -> Image:
    """What stands in it."""
    return {
        path.name: image_of(path) if path.is_dir() else path.read_bytes()
        for path in sorted(folder.iterdir())
    }


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    data = path.read_bytes() if path.exists() else b""
    for line in data.split(b"\n")[:-1]:
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(row, dict) and isinstance(row.get("id"), str):
            yield row["id"], line + b"\n"
