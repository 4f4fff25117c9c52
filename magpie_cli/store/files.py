"""An output file that survives: the same command again skips what is done and makes the rest."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from magpie_cli.errors import MagpieError, UsageError
from magpie_cli.ids import IdSet
from magpie_cli.records import Failure, Outcome, PersonaPair, Utterance
from magpie_cli.settings import Fsync
from magpie_cli.store import disk
from magpie_cli.store.append_file import AppendFile, disk_error, disk_errors
from magpie_cli.store.commit import Commit
from magpie_cli.store.failures import FailedBefore, compact, forget
from magpie_cli.store.lock import locked, remove_if_empty
from magpie_cli.store.manifest import Manifest
from magpie_cli.store.mend import mend
from magpie_cli.store.paths import OutputPaths
from magpie_cli.store.room import Room
from magpie_cli.store.turn_log import Begun, TurnLog

MANIFEST_SECONDS = 30.0  # between two notes of what is durable


@dataclass(frozen=True, slots=True)
class Facts:
    """What a run tells its store, for the manifest; as there."""

    identity: Mapping[str, object]
    input: str = "-"
    input_digest: str | None = None
    samples: int = 1
    shard: str | None = None
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How a store is to work. Times in seconds; `say` hears that it waits for room.

    `redact` takes out of a line what must not be kept.
    """

    fresh: bool = False
    fsync: Fsync = "interval"
    wait_lock: float = 0.0
    disk_wait: float = 0.0
    say: Callable[[str], None] = lambda _: None
    redact: Callable[[bytes], bytes] = bytes


class FileStore:
    """One output and its failures, locked for one writer."""

    def __init__(
        self,
        paths: OutputPaths,
        output: AppendFile,
        failures: AppendFile,
        manifest: Manifest,
        care: StoreOptions,
    ) -> None:
        self.set_aside: str | None = None
        before = Manifest.read(paths.manifest)
        try:
            self.done = self._mend(paths, output, failures, before, care.say)
        except OSError:
            if before and (output.is_broken or failures.is_broken):
                replace(before, rewrite=True).write(paths.manifest)
            raise
        # What failed with other settings, or was begun, says nothing of these.
        self._turns = TurnLog(paths.turn_log, self.done, care.redact)
        if before is None or before.identity != manifest.identity:
            self._turns.forget()
            forget(failures, paths)
        self.failed = FailedBefore.read(paths, self.done)
        self._paths = paths
        self._output = output
        self._failures = failures
        self._failures_before = failures.size
        inputs = before.inputs if before else ()
        # A pipe may bring another input each time; failures of others are not out of date.
        self._same_input = manifest.inputs[0] != "-" and {*inputs} <= {*manifest.inputs}
        earlier = [name for name in inputs if name not in manifest.inputs]
        self._manifest = replace(manifest, inputs=[*earlier, *manifest.inputs])
        self._noting = threading.Lock()
        self._noted_at = time.monotonic()
        self._note()
        self._turn_log = paths.turn_log  # made once: an utterance is too often for a new Path
        self._commit = Commit(care.fsync, self._sync)
        self._redact = care.redact
        self._room = Room(care.disk_wait, care.say)

    @classmethod
    @contextmanager
    def open(cls, paths: OutputPaths, facts: Facts, care: StoreOptions) -> Iterator["FileStore"]:
        """Lock, compare settings, mend, find out what is done. Raises as `open_store` does."""
        aside = _set_aside(paths, care.wait_lock) if care.fresh else None
        if not paths.output.exists():
            refuse_foreign(paths, facts.identity)  # before there is one
        with locked(paths.output, paths, care.wait_lock) as output:
            refuse_foreign(paths, facts.identity)  # now that nobody else can change it
            with locked(paths.failures, paths) as failures:
                manifest = Manifest(
                    identity=facts.identity,
                    inputs=[facts.input + (f" {facts.shard}" if facts.shard else "")],
                    input_digest=facts.input_digest,
                    samples=facts.samples,
                    shard=facts.shard,
                    expected=facts.expected,
                    failures=paths.failures_name,
                    pid=os.getpid(),
                )
                with disk_errors(paths.folder):
                    store = cls(paths, output, failures, manifest, care)
                store.set_aside = aside
                try:
                    yield store
                    store.refuse_loss()
                    store.refuse_broken_disk()
                finally:
                    store.close()

    def begin(
        self, id_: str, pair: PersonaPair, num_turns: int, columns: Iterable[object] = ()
    ) -> Begun:
        """What an earlier run has of a dialogue that is about to be asked for."""
        return self._turns.begin(id_, pair, num_turns, columns)

    def heard(self, id_: str, utterance: Utterance) -> None:
        """Keep one more utterance of a dialogue that is begun."""
        try:
            self._turns.add(id_, utterance)
        except OSError as error:
            raise disk_error(error, self._turn_log) from error

    async def write(self, outcome: Outcome) -> None:
        """Append one line to the output or to the failures."""
        self.refuse_loss()
        is_row = not isinstance(outcome, Failure)
        file = self._output if is_row else self._failures
        with disk_errors(file.path), self._broken_disk_is_noted():
            await self._room.append(file, self._redact(outcome.to_json()))
            self._turns.end(outcome.id)
            if self._turns.is_mostly_dead:
                self._output.sync()
                self._failures.sync()
                self._turns.write_anew()
            await self._commit.written()

    def finish(self, expected: int, tried: IdSet, passed_over: IdSet) -> None:
        """Everything has its outcome: make it durable, and drop what is out of date.

        With the same input as before, those are all failures of earlier runs but the ones passed
        over; with another one, those of pairs that have a row by now or were tried again.
        """

        def is_old(id_: str) -> bool:
            if id_ in self.done:
                return True
            return id_ not in passed_over if self._same_input else id_ in tried

        self.refuse_loss()
        self._commit.end()
        with disk_errors(self._paths.output), self._broken_disk_is_noted():
            self._output.sync()
            self._failures.sync()
            if self._failures.is_still_there():
                compact(self._paths.failures, is_old, self._failures_before)
            size = self._paths.failures.stat().st_size if self._paths.failures.exists() else 0
            clean = replace(self._noted(), expected=expected, clean=True, durable_failures=size)
            clean.write(self._paths.manifest)
            self._turns.remove()

    def close(self) -> None:
        """Sync what there is; the files are closed by who opened them."""
        self._commit.end()
        with disk_errors(self._paths.output), self._broken_disk_is_noted():
            if self._noted().rewrite:  # a sync beside the run may have failed unheard
                self._note()
            else:
                self._output.sync()
                self._turns.close()
        with disk_errors(self._paths.failures):
            remove_if_empty(self._failures)

    def refuse_loss(self) -> None:
        """Raise MagpieError where the rows went to a file that its name no longer leads to."""
        if not self._output.is_still_there():
            raise MagpieError(
                f"{self._paths.output} was removed or replaced while magpie wrote to it",
                "this run's rows are in the file that had that name, if it still exists; "
                "put it back, or run the same command again",
            )

    def refuse_broken_disk(self) -> None:
        """Raise MagpieError where a sync beside the run has failed, and no write came after it."""
        for file in (self._output, self._failures):
            with disk_errors(file.path):
                file.refuse_if_broken()

    @staticmethod
    def _mend(
        paths: OutputPaths,
        output: AppendFile,
        failures: AppendFile,
        before: Manifest | None,
        say: Callable[[str], None],
    ) -> IdSet:
        durable = before.durable_output if before else 0
        rewrite = before.rewrite if before else False
        done, bad = mend(output, paths, durable, unique=True, rewrite=rewrite)
        durable = before.durable_failures if before else 0
        _, more = mend(failures, paths, durable, unique=False, rewrite=rewrite)
        if bad + more:
            say(f"{bad + more:,} bytes that are no whole rows moved to {paths.quarantine}")
        return done

    def _sync(self) -> None:
        """Called in a thread, one at a time."""
        turns = self._turns.file
        for file in (self._output, self._failures, turns):
            if file:
                file.sync()
        if time.monotonic() - self._noted_at >= MANIFEST_SECONDS:
            try:
                self._note()
            except OSError as error:
                if error.errno not in disk.FULL:
                    raise
            else:
                self._noted_at = time.monotonic()

    def _noted(self) -> Manifest:
        return replace(
            self._manifest,
            durable_output=self._output.durable,
            durable_failures=self._failures.durable,
            rewrite=self._output.is_broken or self._failures.is_broken,
        )

    def _note(self) -> None:
        with self._noting:  # the loop and the thread of the commits
            self._noted().write(self._paths.manifest)

    @contextmanager
    def _broken_disk_is_noted(self) -> Iterator[None]:
        """After a failed write the next run writes anew all that is not known to be durable."""
        try:
            yield
        except OSError:
            if self._noted().rewrite:
                self._note()
            raise


def _set_aside(paths: OutputPaths, wait: float) -> str | None:
    """What the old output is called now, None where there was none."""
    if not paths.output.exists():
        with disk_errors(paths.output):
            paths.set_aside()
        return None
    with locked(paths.output, paths, wait), disk_errors(paths.output):
        return f"{paths.output}.{paths.set_aside()}"


def refuse_foreign(paths: OutputPaths, identity: Mapping[str, object]) -> None:
    """Raise UsageError where one of the files holds what this command did not put there."""
    manifest = Manifest.read(paths.manifest)
    rows, failures = _size(paths.output), _size(paths.failures)
    if rows and manifest is None:
        raise UsageError(
            f"{paths.output} is there already, and magpie did not make it",
            "name another file with -o, or set this one aside with --fresh",
        )
    if manifest and manifest.failures != paths.failures_name:
        theirs = paths.output.parent / manifest.failures
        if _size(theirs):
            raise UsageError(
                f"the failures of {paths.output} are in {theirs}", f"--failures {theirs}"
            )
    if failures and (manifest is None or manifest.failures != paths.failures_name):
        raise UsageError(
            f"{paths.failures} is there already, and is not the failures of {paths.output}",
            "name another file with --failures",
        )
    if rows and manifest and (differences := manifest.differences(identity)):
        raise UsageError(
            "\n  ".join([f"{paths.output} was made with other settings:", *differences]),
            "name another file with -o, or set this one aside with --fresh",
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
