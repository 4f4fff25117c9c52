"""`magpie generate`: an input, an engine, a store and a display, put together for one run."""

import asyncio
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from signal import SIGPIPE, Signals

from magpie_cli.credentials import Redactor, read_token
from magpie_cli.display import open_display, ticking
from magpie_cli.display.event_log import WithEventLog
from magpie_cli.engine import DialogueRequest, Engine, EngineError
from magpie_cli.engines import choose_engine, find_row, key_variable, open_engine, prompts_name
from magpie_cli.errors import MagpieError, NotFinished, OutputClosed
from magpie_cli.feed import Feed, FileFeed, PipeFeed
from magpie_cli.ids import Shard
from magpie_cli.limits import Limits
from magpie_cli.lines import input_name, no_pairs
from magpie_cli.pace import Pace
from magpie_cli.pace.watchdog import watching
from magpie_cli.plan import Plan
from magpie_cli.prompt_files import read_prompts
from magpie_cli.prompts import Prompts
from magpie_cli.records import Failure, Outcome
from magpie_cli.run import run
from magpie_cli.settings import Settings, TurnRange
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


def generate(settings: Settings) -> Summary:
    """Make every dialogue that is not there yet, and show how it goes.

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
        prompts = read_prompts(settings.prompts, settings.system)
        columns = prompts.columns
        # Before the event loop, so that Ctrl-C works while nobody writes to the pipe.
        with open_source(settings.input, strict=settings.strict, columns=columns) as source:
            work = _Run(settings, prompts, source, engine, why, tally, display).work()
            summary = asyncio.run(work)
    except OutputClosed:
        summary = _summary(settings, tally, stopped_by=SIGPIPE)
    except MagpieError as error:
        summary = _summary(settings, tally, error=error)
    display.end(summary)
    return summary


@dataclass(frozen=True, slots=True)
class _Run:
    """One run, with its input open. `engine` is a name, `why` the reason for it."""

    settings: Settings
    prompts: Prompts
    source: Source
    engine: str
    why: str
    tally: Tally
    display: WithEventLog

    async def work(self) -> Summary:
        """Run until the input, a signal or an error ends it."""
        with Shutdown() as stop:
            stop.listeners.append(self.display.stopping)
            finished = False
            try:
                finished = await self._work(stop)
            except asyncio.CancelledError:
                if not stop.requested:
                    raise
            return _summary(
                self.settings,
                self.tally,
                finished=finished,
                stopped_by=stop.signal,
                # Where all is made nevertheless, nothing is left to do later.
                error=None if finished and isinstance(stop.error, NotFinished) else stop.error,
            )

    async def _work(self, stop: Shutdown) -> bool:
        """Whether every pair has its outcome at the end."""
        if self.source.lines is not None and not self.settings.shard:
            self.tally.total = self.source.lines * self.settings.samples
        limits = Limits(self.settings, self.tally, stop)
        pace = Pace(self._on_retry, patience=self.settings.give_up_after)
        stop.listeners.append(lambda _: pace.stop())
        longest = max(self.settings.turns.most, self.source.most_turns)
        # An engine may have to make room.
        heard = replace(self.settings, turns=TurnRange(longest, longest))
        opened = open_engine(self.engine, heard, self.prompts, pace, say=self._note)
        async with opened as engine:
            told = prompts_name(find_row(self.engine), self.prompts)
            hide = Redactor.of(os.environ).text
            identity = self.settings.identity(engine.name, hide(engine.model), told)
            identity |= self.prompts.identity(hide)
            with open_store(
                self.settings.output, self.settings.failures, self._facts(identity), self._care()
            ) as store:
                stop.dialogues_begin()  # before the bar is there, which hides the cursor
                if not is_stream(self.settings.output):
                    self.display.keep(OutputPaths.of(self.settings.output).events)
                self._start(engine, store.set_aside)
                with limits.running(), watching(pace, self.display.note):
                    return await self._fill(engine, store, limits, stop)

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

    async def _fill(self, engine: Engine, store: Store, limits: Limits, stop: Shutdown) -> bool:
        pairs, prompts = self.source.pairs(), self.prompts
        plan = Plan(pairs, self.settings, store.done, self.tally, store.failed, prompts)
        items = iter(plan)
        feed: Feed[DialogueRequest | Failure] = (
            FileFeed(items) if self.source.lines is not None else PipeFeed(items)
        )

        def on_outcome(outcome: Outcome) -> None:
            if isinstance(outcome, Failure):
                self.display.failed(outcome)
            limits.check(outcome)

        with ticking(self.display):
            await run(
                feed,
                engine,
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

    def _start(self, engine: Engine, set_aside: str | None) -> None:
        """The first line on stderr, and the same as facts."""
        settings, lines = self.settings, self.source.lines
        much = "" if lines is None else f"{count(lines, 'line')} of "
        part = f", shard {settings.shard}" if settings.shard else ""
        sentence = (
            f"engine {engine.name} ({self.why}), model {engine.model}: "
            f"{much}{input_name(settings.input)}{part}"
            + (f" x {settings.samples} samples" if settings.samples > 1 else "")
            + (f" -> {settings.output}" if settings.output != "-" else "")
            + (f" (the old one is now {set_aside})" if set_aside else "")
        )
        self.display.start(
            sentence,
            {
                "engine": engine.name,
                "model": engine.model,
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


def _summary(
    settings: Settings,
    tally: Tally,
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
    )
