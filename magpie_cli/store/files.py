"""An output file that survives: the same command again skips what is done and makes the rest."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from magpie_cli.errors import MagpieError, NotFinished, UsageError
from magpie_cli.ids import IdSet
from magpie_cli.records import Outcome, Record
from magpie_cli.store.append_file import AppendFile, disk_errors, read_ids
from magpie_cli.store.manifest import Manifest
from magpie_cli.store.paths import OutputPaths


class FileStore:
    """One output and its failures, locked for one writer."""

    def __init__(
        self,
        paths: OutputPaths,
        output: AppendFile,
        failures: AppendFile,
        manifest: Manifest,
        *,
        same_input: bool,
    ) -> None:
        self.set_aside: str | None = None
        self.done = IdSet(read_ids(paths.output))
        self.failed = IdSet(id_ for id_ in read_ids(paths.failures) if id_ not in self.done)
        self._paths = paths
        self._output = output
        self._failures = failures
        self._failures_before = failures.size
        self._manifest = manifest
        self._same_input = same_input

    @classmethod
    @contextmanager
    def open(
        cls,
        paths: OutputPaths,
        identity: Mapping[str, object],
        *,
        source: str,
        expected: int | None,
        fresh: bool,
    ) -> Iterator["FileStore"]:
        """Lock, compare settings, mend, find out what is done. Raises as `open_store` does."""
        aside = _set_aside(paths) if fresh else None
        refuse_foreign(paths, identity)
        with _locked(paths.output, paths) as output:
            refuse_foreign(paths, identity)  # now that nobody else can change it
            with _locked(paths.failures, paths) as failures:
                with disk_errors(paths.quarantine):
                    output.heal(paths.quarantine)
                    failures.heal(paths.quarantine)
                before = Manifest.read(paths.manifest)
                manifest = Manifest(
                    identity=identity,
                    input=source,
                    expected=expected,
                    failures=paths.failures_name,
                    pid=os.getpid(),
                    clean=False,
                )
                manifest.write(paths.manifest)
                same_input = before is None or before.input == source
                store = cls(paths, output, failures, manifest, same_input=same_input)
                store.set_aside = aside
                try:
                    yield store
                    store.refuse_loss()
                finally:
                    failures.remove_if_empty()

    async def write(self, outcome: Outcome) -> None:
        """Append one line to the output or to the failures."""
        self.refuse_loss()
        if isinstance(outcome, Record):
            with disk_errors(self._paths.output):
                self._output.append(outcome.to_json())
        else:
            with disk_errors(self._paths.failures):
                self._failures.append(outcome.to_json())

    def finish(self, expected: int, tried: IdSet | None) -> None:
        """Drop the failures of earlier runs that are out of date.

        With the same input as before, that is all of them: what still fails has failed again.
        With another one, those of pairs that have a row by now or were tried again.
        """

        def is_old(id_: str) -> bool:
            return self._same_input or id_ in self.done or (tried is not None and id_ in tried)

        self.refuse_loss()
        with disk_errors(self._paths.output):
            self._output.sync()
            if tried is not None and self._failures.is_still_there():
                self._failures.drop(is_old, self._failures_before)
            replace(self._manifest, expected=expected, clean=True).write(self._paths.manifest)

    def refuse_loss(self) -> None:
        """Raise MagpieError where the rows went to a file that its name no longer leads to."""
        if not self._output.is_still_there():
            raise MagpieError(
                f"{self._paths.output} was removed or replaced while magpie wrote to it",
                "this run's rows are in the file that had that name, if it still exists; "
                "put it back, or run the same command again",
            )


def _set_aside(paths: OutputPaths) -> str | None:
    """What the old output is called now, None where there was none."""
    if not paths.output.exists():
        paths.set_aside()
        return None
    with _locked(paths.output, paths), disk_errors(paths.output):
        return f"{paths.output}.{paths.set_aside()}"


@contextmanager
def _locked(path: Path, paths: OutputPaths) -> Iterator[AppendFile]:
    """`path`, locked. Raises NotFinished where another run has it."""
    while True:
        with disk_errors(path):
            file = AppendFile(path)
        try:
            if not file.lock():
                manifest = Manifest.read(paths.manifest)
                raise NotFinished(
                    f"another magpie is writing to {path}"
                    + (f" (process {manifest.pid})" if manifest else ""),
                    "wait for it, or name another file with -o",
                )
            if file.is_still_there():
                yield file
                return
        finally:
            with disk_errors(path):
                file.close()


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
