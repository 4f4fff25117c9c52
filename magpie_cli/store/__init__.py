"""Where outcomes go: an output file with all that belongs to it, or a stream.

out.jsonl                       a row counts when its whole line is there; `id` first
out.failures.jsonl              the pairs that did not become a row, and why
out.jsonl.magpie/manifest.json  the settings that the rows were made with, and how much is durable
out.jsonl.magpie/turns.log      the utterances of dialogues that are not finished
out.jsonl.magpie/quarantine/    every byte that was taken out after a crash
out.jsonl.magpie/*.tail         good lines behind a hole, while they are put back (mend.py)
out.jsonl.magpie/events.jsonl   what a run's display heard (display/event_log.py)

paths.py        the names of these files, and whether they can be written at all
disk.py         every system call that changes one
append_file.py  a file that only grows by whole lines
lock.py         one writer per output
scan.py         what stands in an output
mend.py         what a crash left, put right
manifest.py, turn_log.py, failures.py
commit.py       when what was written is made durable
room.py         a full disk
files.py        all of it, for one run
stream.py       standard output, a pipe, a device
whole.py        files that are there whole or not at all
verify.py       whether it is all as it should be
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from magpie_cli.ids import IdSet
from magpie_cli.records import Outcome, PersonaPair, Utterance
from magpie_cli.store.failures import FailedBefore
from magpie_cli.store.files import Facts, FileStore, StoreOptions, refuse_foreign
from magpie_cli.store.manifest import Manifest
from magpie_cli.store.paths import OutputPaths, check_output, is_stream
from magpie_cli.store.scan import id_by_bytes, read_ids
from magpie_cli.store.stream import STDOUT, StreamStore
from magpie_cli.store.turn_log import Begun
from magpie_cli.store.verify import find_output

__all__ = [
    "STDOUT",
    "Begun",
    "Facts",
    "FailedBefore",
    "Manifest",
    "OutputPaths",
    "Store",
    "StoreOptions",
    "check_output",
    "done_ids",
    "find_output",
    "id_by_bytes",
    "is_stream",
    "open_store",
    "read_ids",
    "refuse_foreign",
]


class Store(Protocol):
    """Takes each outcome the moment it is there. Only it knows where outcomes live."""

    @property
    def done(self) -> IdSet:
        """The ids that had a row when the run began. The input gives out no id twice."""
        ...

    @property
    def failed(self) -> FailedBefore:
        """The ids that had a failure and no row when the run began."""
        ...

    @property
    def set_aside(self) -> str | None:
        """What an old output is called now, if --fresh found one."""
        ...

    def begin(
        self, id_: str, pair: PersonaPair, num_turns: int, columns: Iterable[object] = ()
    ) -> Begun:
        """A dialogue is about to be asked for: what an earlier run has of it.

        `columns` are the values of those that the prompts name.
        """
        ...

    def heard(self, id_: str, utterance: Utterance) -> None:
        """Keep one more utterance of a dialogue that is begun. Raises MagpieError."""
        ...

    async def write(self, outcome: Outcome) -> None:
        """Keep one outcome. Raises MagpieError where it cannot be kept."""
        ...

    def finish(self, expected: int, tried: IdSet, passed_over: IdSet) -> None:
        """The whole input has been through: `expected` dialogues or unreadable lines.

        Of `failed`, this run has `tried` some again, and `passed_over` others.
        """
        ...


@contextmanager
def open_store(
    output: str, failures: str | None, facts: Facts, care: StoreOptions
) -> Iterator[Store]:
    """The store of one run, closed and synced at the end however that comes.

    Raises UsageError where the output holds rows of another identity, NotFinished where another run
    is writing to it, MagpieError where it is damaged.
    """
    if is_stream(output):
        with StreamStore.open(output, failures, care.redact) as stream:
            yield stream
    else:
        with FileStore.open(OutputPaths.of(output, failures), facts, care) as store:
            yield store


def done_ids(output: str) -> IdSet:
    """The ids that have a row in `output`; changes nothing."""
    return IdSet(() if is_stream(output) else read_ids(OutputPaths.of(output).output))
