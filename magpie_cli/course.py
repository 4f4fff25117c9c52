"""The course of one run, from its first line on stderr to its last.

An input, an engine, a store and a display, put together. What is done with each line is the
command's: `generate` makes dialogues of pairs, `judge` gives scores to rows.
"""

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGPIPE, Signals
from typing import Any, Generic, TypeVar

from magpie_cli.credentials import Redactor, read_token
from magpie_cli.display import open_display, ticking
from magpie_cli.display.event_log import WithEventLog
from magpie_cli.engine import EngineError
from magpie_cli.engines import choose_engine, find_row, key_variable
from magpie_cli.errors import MagpieError, NotFinished, OutputClosed
from magpie_cli.feed import Feed, FileFeed, PipeFeed
from magpie_cli.ids import Shard
from magpie_cli.limits import Limits
from magpie_cli.lines import input_name, no_pairs
from magpie_cli.pace import Pace
from magpie_cli.pace.watchdog import watching
from magpie_cli.personas import NO_COLUMNS
from magpie_cli.plan import Named, Plan
from magpie_cli.records import Failure, Outcome
from magpie_cli.run import Attempt, run
from magpie_cli.settings import Settings
from magpie_cli.shutdown import Shutdown
from magpie_cli.source import Source, open_source
from magpie_cli.store import (
    Facts,
    OutputPaths,
    Store,
    StoreOptions,
    check_output,
    is_stream,
    open_store,
)
from magpie_cli.summary import Summary, count
from magpie_cli.tally import Tally

_R = TypeVar("_R", bound=Named)


@dataclass(frozen=True, slots=True)
class Given:
    """What a run gives to its work: what it was asked for, and all that the work may need of it.

    `engine` is a name; `say` shows a sentence about what goes on before the first line.
    """

    settings: Settings
    source: Source
    engine: str
    pace: Pace
    tally: Tally
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Opened(Generic[_R]):
    """The work of one run, with its engine connected.

    `identity` is what changes a row, given what takes secrets out of a text; `plan` what is to do
    beside what the store has, `attempt` how one of it is done.
    """

    engine: str
    model: str
    identity: Callable[[Callable[[str], str]], Mapping[str, object]]
    plan: Callable[[Store], Plan[Any, _R]]
    attempt: Callable[[Store], Attempt[_R]]


Work = Callable[[Given], AbstractAsyncContextManager[Opened[Any]]]


def no_columns() -> Mapping[str, str]:
    """For an input of which no column is named."""
    return NO_COLUMNS


def follow(
    settings: Settings, work: Work, verb: str, columns: Callable[[], Mapping[str, str]] = no_columns
) -> Summary:
    """Do the work that is not done yet, and show how it goes; `verb` says what was done.

    The input must have `columns()`, as PairReader has them: asked for once the flags are good.

    Whatever ended it, an error or a signal, stands in the summary.
    """
    tally = Tally()
    display = WithEventLog(open_display(settings, tally), tally)
    try:
        check_output(settings.output, settings.failures, settings.input)
        engine, why = choose_engine(settings)
        if settings.shard:
            Shard.parse(settings.shard)
        if settings.token_file:
            variable = key_variable(engine, settings)
            os.environ[variable] = read_token(Path(settings.token_file))
        # Before the event loop, so that Ctrl-C works while nobody writes to the pipe.
        with open_source(settings.input, strict=settings.strict, columns=columns()) as source:
            course = _Course(settings, source, engine, why, tally, display, work, verb)
            summary = asyncio.run(course.run())
    except OutputClosed:
        summary = _summary(settings, tally, verb, stopped_by=SIGPIPE)
    except MagpieError as error:
        summary = _summary(settings, tally, verb, error=error)
    display.end(summary)
    return summary


@dataclass(frozen=True, slots=True)
class _Course:
    """One run, with its input open. `engine` is a name, `why` the reason for it."""

    settings: Settings
    source: Source
    engine: str
    why: str
    tally: Tally
    display: WithEventLog
    work: Work
    verb: str

    async def run(self) -> Summary:
        """Run until the input, a signal or an error ends it."""
        with Shutdown() as stop:
            stop.listeners.append(self.display.stopping)
            finished = False
            try:
                finished = await self._run(stop)
            except asyncio.CancelledError:
                if not stop.requested:
                    raise
            return _summary(
                self.settings,
                self.tally,
                self.verb,
                finished=finished,
                stopped_by=stop.signal,
                # Where all is made nevertheless, nothing is left to do later.
                error=None if finished and isinstance(stop.error, NotFinished) else stop.error,
            )

    async def _run(self, stop: Shutdown) -> bool:
        """Whether every line has its outcome at the end."""
        if self.source.lines is not None and not self.settings.shard:
            self.tally.total = self.source.lines * self.settings.samples
        limits = Limits(self.settings, self.tally, stop)
        pace = Pace(self._on_retry, patience=self.settings.give_up_after)
        stop.listeners.append(lambda _: pace.stop())
        given = Given(self.settings, self.source, self.engine, pace, self.tally, self._note)
        async with self.work(given) as opened:
            identity = opened.identity(Redactor.of(os.environ).text)
            with open_store(
                self.settings.output, self.settings.failures, self._facts(identity), self._care()
            ) as store:
                stop.dialogues_begin()  # before the bar is there, which hides the cursor
                if not is_stream(self.settings.output):
                    self.display.keep(OutputPaths.of(self.settings.output).events)
                self._start(opened, store.set_aside)
                with limits.running(), watching(pace, self.display.note):
                    return await self._fill(opened, store, limits, stop)

    def _facts(self, identity: Mapping[str, object]) -> Facts:
        return Facts(
            identity,
            input=self.settings.input,
            input_digest=self.source.digest,
            samples=self.settings.samples,
            shard=self.settings.shard,
            expected=self.tally.total,
        )

    def _care(self) -> StoreOptions:
        return StoreOptions(
            fresh=self.settings.fresh,
            fsync=self.settings.fsync,
            wait_lock=self.settings.wait_lock,
            disk_wait=self.settings.disk_wait,
            say=self.display.note,
            redact=Redactor.of(os.environ).line,
        )

    async def _fill(
        self, opened: Opened[Any], store: Store, limits: Limits, stop: Shutdown
    ) -> bool:
        plan = opened.plan(store)
        items = iter(plan)
        feed: Feed[Any] = FileFeed(items) if self.source.lines is not None else PipeFeed(items)

        def on_outcome(outcome: Outcome) -> None:
            if isinstance(outcome, Failure):
                self.display.failed(outcome)
            limits.check(outcome)

        with ticking(self.display):
            await run(
                feed,
                opened.attempt(store),
                store,
                concurrency=self._concurrency(),
                tally=self.tally,
                on_outcome=on_outcome,
                stop=stop,
            )
        if isinstance(stop.error, NotFinished) and isinstance(feed, FileFeed):
            await _read_on(items)  # a limit that the last dialogue reached leaves nothing to do
        finished = plan.exhausted and self.tally.seen == plan.expected
        if finished:
            if not plan.expected:
                raise no_pairs(self.source.path)
            self.tally.total = plan.expected
            store.finish(plan.expected, plan.tried, plan.passed_over)
        return finished

    def _concurrency(self) -> int:
        each = find_row(self.engine).concurrency * max(1, len(self.settings.base_url or ()))
        return self.settings.concurrency or each

    def _note(self, sentence: str) -> None:
        """What goes on before the first line, which the engine's model belongs into."""
        self.display.note(f"engine {self.engine} ({self.why}): {sentence}")

    def _on_retry(self, error: EngineError, delay: float) -> None:
        self.tally.retries += 1
        self.tally.last_retry = error.kind
        self.display.retrying(error, delay)

    def _start(self, opened: Opened[Any], set_aside: str | None) -> None:
        """The first line on stderr, and the same as facts."""
        settings, lines = self.settings, self.source.lines
        much = "" if lines is None else f"{count(lines, 'line')} of "
        part = f", shard {settings.shard}" if settings.shard else ""
        sentence = (
            f"engine {opened.engine} ({self.why}), model {opened.model}: "
            f"{much}{input_name(settings.input)}{part}"
            + (f" x {settings.samples} samples" if settings.samples > 1 else "")
            + (f" -> {settings.output}" if settings.output != "-" else "")
            + (f" (the old one is now {set_aside})" if set_aside else "")
        )
        self.display.start(
            sentence,
            {
                "engine": opened.engine,
                "model": opened.model,
                "why": self.why,
                "input": settings.input,
                "output": settings.output,
                "lines": lines,
                "samples": settings.samples,
                "set_aside": set_aside,
            },
        )


async def _read_on(items: Iterator[object]) -> None:
    """To the next thing that is to do, if there is one."""
    for item in items:
        if item is not None:
            return
        await asyncio.sleep(0)


def _summary(  # noqa: PLR0913 - what a summary is made of
    settings: Settings,
    tally: Tally,
    verb: str,
    *,
    finished: bool = False,
    stopped_by: Signals | None = None,
    error: MagpieError | None = None,
) -> Summary:
    failures = settings.failures
    stream = is_stream(settings.output)
    if failures is None and not stream:
        failures = str(OutputPaths.of(settings.output).failures)
    again = "the same command without --fresh" if settings.fresh else "the same command"
    return Summary(
        tally,
        "-" if stream else settings.output,
        failures,
        finished,
        stopped_by,
        error,
        again=again,
        allow_failures=settings.allow_failures,
        verb=verb,
    )
