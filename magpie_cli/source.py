"""The input of one run, opened before anything is created: how many lines, and the pairs."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from magpie_cli.errors import UsageError
from magpie_cli.lines import breaks, input_name, is_pipe, no_pairs, open_input, read_lines
from magpie_cli.personas import NO_COLUMNS, PairReader, max_turns
from magpie_cli.records import Failure, PersonaPair

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
