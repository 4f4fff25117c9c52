"""An output file that survives: the same command again skips what is done and makes the rest."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from magpie_cli.errors import NotFinished, UsageError
from magpie_cli.ids import IdSet
from magpie_cli.records import Outcome, Record
from magpie_cli.store.append_file import AppendFile, read_ids
from magpie_cli.store.manifest import Manifest
from magpie_cli.store.paths import OutputPaths


class FileStore:
    """One output and its failures, locked for one writer."""

    def __init__(
        self, paths: OutputPaths, output: AppendFile, failures: AppendFile, manifest: Manifest
    ) -> None:
        self.done = IdSet()
        for id_ in read_ids(paths.output):
            self.done.add(id_)
        self._paths = paths
        self._output = output
        self._failures = failures
        self._failures_before = failures.size
        self._manifest = manifest

    @classmethod
    @contextmanager
    def open(
        cls,
        paths: OutputPaths,
        identity: Mapping[str, object],
        *,
        expected: int | None,
        fresh: bool,
    ) -> Iterator["FileStore"]:
        """Lock, compare settings, mend, find out what is done. Raises as `open_store` does."""
        if fresh and paths.output.exists():
            with _locked(paths.output, paths):
                paths.set_aside()
        with _locked(paths.output, paths) as output, _locked(paths.failures, paths) as failures:
            _refuse_foreign(output, failures, paths, identity)
            output.heal(paths.quarantine)
            failures.heal(paths.quarantine)
            manifest = Manifest(identity, expected, paths.failures_name, os.getpid(), clean=False)
            manifest.write(paths.manifest)
            yield cls(paths, output, failures, manifest)

    async def write(self, outcome: Outcome) -> None:
        """Append one line to the output or to the failures."""
        if isinstance(outcome, Record):
            self._output.append(outcome.to_json())
        else:
            self._failures.append(outcome.to_json())

    def finish(self, expected: int) -> None:
        """Every pair without a row has been tried in this run: older failures are out of date."""
        self._output.sync()
        self._failures.cut_before(self._failures_before)
        replace(self._manifest, expected=expected, clean=True).write(self._paths.manifest)


@contextmanager
def _locked(path: Path, paths: OutputPaths) -> Iterator[AppendFile]:
    """`path`, locked. Raises NotFinished where another run has it."""
    while True:
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
            file.close()


def _refuse_foreign(
    output: AppendFile,
    failures: AppendFile,
    paths: OutputPaths,
    identity: Mapping[str, object],
) -> None:
    """Raise UsageError where one of the files holds what this command did not put there."""
    manifest = Manifest.read(paths.manifest)
    if output.size and manifest is None:
        raise UsageError(
            f"{output.path} is there already, and magpie did not make it",
            "name another file with -o, or set this one aside with --fresh",
        )
    if failures.size and (manifest is None or manifest.failures != paths.failures_name):
        raise UsageError(
            f"{failures.path} is there already, and holds other failures than those of "
            f"{output.path}",
            "name another file with --failures, or set both aside with --fresh",
        )
    if output.size and manifest and (differences := manifest.differences(identity)):
        raise UsageError(
            "\n  ".join([f"{output.path} was made with other settings:", *differences]),
            "name another file with -o, or set this one aside with --fresh",
        )
