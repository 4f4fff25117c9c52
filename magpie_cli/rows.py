"""The rows of an output, one after another, each read as a record; and what checks see of them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import orjson

from magpie_cli.checks.spoken import Scene, Spoken
from magpie_cli.errors import InvalidRecord
from magpie_cli.lines import breaks, is_pipe, open_bytes
from magpie_cli.records import Record

SAFE_BRACKETS = 200  # a line with no more of them is not nested too deep


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

    Raises UsageError where there is no such file, MagpieError where it breaks off.
    """
    stream = open_bytes(path)
    number = 0
    try:
        while True:
            with breaks(path, f"after line {number}"):
                line = stream.readline()
            if not line:
                return
            number += 1
            if text := line.strip(b" \t\r\n"):
                yield read_row(number, text)
    finally:
        if not is_pipe(path):
            stream.close()


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
