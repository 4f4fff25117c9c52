"""The rows of an output, one after another, each read as a record; and what checks see of them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from magpie_cli.checks.spoken import Scene, Spoken
from magpie_cli.errors import InvalidRecord, UsageError
from magpie_cli.lines import breaks, input_name, is_pipe, open_bytes
from magpie_cli.records import Record

MAX_ROW_BYTES = 64 * 1024 * 1024  # what is thought at each utterance may be long
SAFE_BRACKETS = 200  # a line with no more of them is not nested too deep

_NO_OUTPUT = "name what magpie generate -o wrote"


@dataclass(frozen=True, slots=True)
class Row:
    """A line, counted from 1, without its end. `fields` are all that it has, the record's and more.

    Where it is no record, `record` is None and `why` says what is wrong.
    """

    number: int
    line: bytes
    record: Record | None
    fields: dict[str, object]
    why: str = ""


def read_rows(path: str) -> Iterator[Row]:
    """Each line of `path` that is not blank, `-` being standard input; gzip and Zstandard too.

    Raises UsageError where there is no such file or a line is over MAX_ROW_BYTES, MagpieError where
    it breaks off.
    """
    stream = open_bytes(path)
    number = 0
    try:
        while True:
            with breaks(path, f"after line {number}"):
                line = stream.readline(MAX_ROW_BYTES + 1)
            if not line:
                return
            number += 1
            if len(line) > MAX_ROW_BYTES:
                where = f"{input_name(path)}: line {number} is over {MAX_ROW_BYTES:,} bytes"
                raise UsageError(where, _NO_OUTPUT)
            if text := line.strip(b" \t\r\n"):
                yield read_row(number, text)
    finally:
        if not is_pipe(path):
            stream.close()


def refuse_without_rows(path: str) -> None:
    """Raise UsageError where there are lines, and none is a record: the name is a slip.

    Of a pipe, which can be read once, that is not found out.
    """
    if path == "-" or not Path(path).is_file():
        return
    first: Row | None = None
    for row in read_rows(path):
        if row.record:
            return
        first = first or row
    if first:
        where = f"{input_name(path)} holds no dialogue: line {first.number}: {first.why}"
        raise UsageError(where, _NO_OUTPUT)


def spoken(
    record: Record, min_words: int | None = None, max_words: int | None = None
) -> Iterator[Spoken]:
    """Each utterance of a record. Why a server stopped is in no row: `truncated` stays silent."""
    personas = (record.instructor_persona, record.responding_persona)
    scene = replace(Scene.of(*personas, record.metadata), min_words=min_words, max_words=max_words)
    for text in record.dialogue.utterances:
        yield scene.spoken(text)
        scene.say(text)


def read_row(number: int, line: bytes) -> Row:
    """The row of one line, without its end."""
    try:
        record = Record.from_json(line)
    except InvalidRecord as error:
        return Row(number, line, None, {}, error.message)
    fields = orjson.loads(line)
    if line.count(b"{") + line.count(b"[") > SAFE_BRACKETS and not _can_be_written(fields):
        return Row(number, line, None, {}, "nested too deep to be written again")
    return Row(number, line, record, fields)


def _can_be_written(fields: dict[str, object]) -> bool:
    """What orjson reads may be nested four times as deep as what it writes."""
    try:
        orjson.dumps(fields)
    except orjson.JSONEncodeError:
        return False
    return True
