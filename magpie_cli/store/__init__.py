"""Where outcomes go: an output file with its failures and manifest, or a stream.

out.jsonl                       a row counts when its whole line is there; `id` first
out.failures.jsonl              the pairs that did not become a row, and why
out.jsonl.magpie/manifest.json  the settings that the rows were made with
out.jsonl.magpie/quarantine/    every byte that was cut off a torn end
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from magpie_cli.ids import IdSet
from magpie_cli.records import Outcome
from magpie_cli.store.append_file import read_ids
from magpie_cli.store.files import FileStore, refuse_foreign
from magpie_cli.store.manifest import Manifest
from magpie_cli.store.paths import OutputPaths, check_output, is_stream
from magpie_cli.store.stream import STDOUT, StreamStore

__all__ = [
    "STDOUT",
    "Manifest",
    "OutputPaths",
    "Store",
    "check_output",
    "done_ids",
    "is_stream",
    "open_store",
    "read_ids",
    "refuse_foreign",
]


class Store(Protocol):
    """Takes each outcome the moment it is there. Only it knows where outcomes live."""

    @property
    def done(self) -> IdSet:
        """The ids that had a row when the run began."""
        ...

    @property
    def failed(self) -> IdSet:
        """The ids that had a failure and no row when the run began."""
        ...

    @property
    def set_aside(self) -> str | None:
        """What an old output is called now, if --fresh found one."""
        ...

    async def write(self, outcome: Outcome) -> None:
        """Keep one outcome. Raises MagpieError where it cannot be kept."""
        ...

    def finish(self, expected: int, tried: IdSet | None) -> None:
        """The whole input has been through: `expected` dialogues or unreadable lines.

        `tried` are those of `failed` that this run has tried again, None where it passed any over.
        """
        ...


@contextmanager
def open_store(  # noqa: PLR0913 - all that a store has to be told
    output: str,
    failures: str | None,
    identity: Mapping[str, object],
    *,
    expected: int | None,
    source: str = "-",
    fresh: bool = False,
) -> Iterator[Store]:
    """The store of one run, closed and synced at the end however that comes.

    `identity` is what the rows are made with, `source` the input's path; `expected` how many
    outcomes there will be, where that is known. Raises UsageError where the output holds rows of
    another identity, NotFinished where another run is writing to it.
    """
    if is_stream(output):
        with StreamStore.open(output, failures) as stream:
            yield stream
    else:
        paths = OutputPaths.of(output, failures)
        with FileStore.open(
            paths, identity, source=source, expected=expected, fresh=fresh
        ) as store:
            yield store


def done_ids(output: str) -> IdSet:
    """The ids that have a row in `output`; changes nothing."""
    return IdSet(() if is_stream(output) else read_ids(OutputPaths.of(output).output))
