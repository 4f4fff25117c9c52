"""The input of one run, opened before anything is created: how many lines, the pairs or rows."""

import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

from magpie_cli.errors import UsageError
from magpie_cli.ids import IdSet
from magpie_cli.lines import (
    Line,
    breaks,
    input_name,
    is_pipe,
    no_pairs,
    open_input,
    read_lines,
)
from magpie_cli.personas import NO_COLUMNS, DonePair, PairReader, bad_line, max_turns
from magpie_cli.records import Failure, PersonaPair, Record
from magpie_cli.rows import MAX_ROW_BYTES, read_row
from magpie_cli.store import id_by_bytes

BAD_LINES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Source:
    """`lines` counts those that are not blank, `digest` is sha256 over all bytes, in hex.

    Both are None where the input can only be read once. `most_turns` is the largest `num_turns` in
    the lines, 0 where there is none or nobody can know. `columns` as PairReader has them.
    """

    path: str
    stream: BinaryIO
    lines: int | None = None
    digest: str | None = None
    most_turns: int = 0
    columns: Mapping[str, str] = field(default_factory=dict)

    def pairs(self) -> PairReader:
        """The pairs from where the stream stands."""
        return PairReader(self.stream, self.path, self.columns)

    def rows(self) -> "RowReader":
        """The rows from there, where the input is an output of magpie's."""
        return RowReader(self.stream, self.path)


class RecordLine(NamedTuple):
    """A line of an output, without its end. `fields` are all that it has, the record's and more."""

    line: bytes
    record: Record
    fields: Mapping[str, object]

    @property
    def id(self) -> str:
        """The record's."""
        return self.record.id


class RowReader:
    """Iterates over the rows of an output: a RecordLine a good line, a Failure a bad one.

    A DonePair where `is_done`, which may be set, says so of the id. No id is given out twice.
    """

    def __init__(self, stream: BinaryIO, path: str) -> None:
        self.is_done: Callable[[str], bool] = lambda _: False
        self._seen = IdSet()
        self._bad: Counter[str] = Counter()
        self._stream = stream
        self._path = path

    def __iter__(self) -> Iterator[RecordLine | Failure | DonePair]:
        for line in read_lines(self._stream, self._path, MAX_ROW_BYTES):
            row = read_row(line.number, line.text)
            record = row.record
            if line.long_digest:
                yield self._failure(line, "line_too_long", f"more than {MAX_ROW_BYTES:,} bytes")
            elif record is None or not record.id:
                yield self._failure(line, "no_record", row.why or "its id is empty")
            elif id_by_bytes(line.text + b"\n") != record.id:  # as the output would be read
                yield self._failure(line, "duplicate_key", 'the key "id" stands there twice')
            elif not self._seen.add(record.id):
                yield self._failure(line, "duplicate_id", f"a second row of the id {record.id}")
            elif self.is_done(record.id):
                yield DonePair(record.id)
            else:
                yield RecordLine(row.line, record, row.fields)

    def _failure(self, line: Line, kind: str, why: str) -> Failure:
        digest = line.digest()
        self._bad[digest] += 1
        again = self._bad[digest]
        id_ = digest if again == 1 else f"{digest}-{again}"
        return bad_line(line, self._path, id_, kind, why)


@contextmanager
def open_source(
    path: str, *, strict: bool, columns: Mapping[str, str] = NO_COLUMNS
) -> Iterator[Source]:
    """The input at `path`, `-` being standard input; `columns` as PairReader has them.

    Raises UsageError where it cannot be an input or its first pair lacks a column and, if `strict`,
    where any line is bad: then a pipe is first copied to a temporary file.
    """
    stream = open_input(path)
    if not is_pipe(path):
        with stream:
            with Path(path).open("rb") as raw:
                digest = hashlib.file_digest(raw, "sha256").hexdigest()
            yield _rewound(Source(path, stream, None, digest, columns=columns), strict=strict)
    elif strict:
        with tempfile.TemporaryFile() as copy:
            with breaks(path, "before its end"):
                shutil.copyfileobj(stream, copy)
            copy.seek(0)
            yield _rewound(Source(path, copy, columns=columns), strict=strict)
    else:
        # Left open: to close it would wait for the thread that waits for whoever writes the pipe.
        yield Source(path, stream, columns=columns)


def _rewound(source: Source, *, strict: bool) -> Source:
    """With all that is to be known before the first pair."""
    path, stream = source.path, source.stream
    if strict:
        _refuse_bad_lines(path, source.pairs())
        stream.seek(0)
    elif source.columns:  # the first pair must have them
        next((pair for pair in source.pairs() if isinstance(pair, PersonaPair)), None)
        stream.seek(0)
    lines = most = 0
    for line in read_lines(stream, path):
        lines += 1
        most = max_turns(line, most)
    if not lines:
        raise no_pairs(path)
    stream.seek(0)
    return replace(source, lines=lines, most_turns=most)


def _refuse_bad_lines(path: str, pairs: PairReader) -> None:
    bad = (pair for pair in pairs if isinstance(pair, Failure))
    shown = [f"{failure.message} ({failure.kind})" for failure in islice(bad, BAD_LINES_SHOWN)]
    more = sum(1 for _ in bad)
    if shown:
        shown += [f"and {more:,} more"] if more else []
        raise UsageError(
            "\n  ".join([f"{input_name(path)} has bad lines, and --strict is on:", *shown]),
            "mend them, or leave out --strict: they then go to the failures file",
        )
