"""Reading pairs: one JSON object a line. Every bad line is named with its number, none stops it."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple, NoReturn

import orjson

from magpie_cli.errors import UsageError
from magpie_cli.ids import SAMPLE_SUFFIX, IdSet, content_id
from magpie_cli.lines import MAX_LINE_BYTES, Line, input_name, read_lines
from magpie_cli.records import Failure, PersonaPair
from magpie_cli.settings import MAX_TURNS

MAX_PERSONA_BYTES = 64 * 1024
MOST_SHOWN = 60  # characters of a value in a message
MOST_COLUMNS = 20  # in a message
MOST_DIGITS = 20  # of a number that fits into 64 bits, its sign included

NO_COLUMNS: Mapping[str, str] = {}

_OWN_KEYS = frozenset({"id", "instructor_persona", "responding_persona", "num_turns"})
_TURNS = re.compile(rb'"num_turns"\s*:\s*(\d{1,9})')
_MANY_DIGITS = re.compile(rb"\d{19}")
_TEXT = frozenset({str})


class _BadLine(Exception):  # noqa: N818 - private; becomes a Failure
    """Why a line is not a pair: a short stable word and a sentence."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class DonePair(NamedTuple):
    """A pair of which nothing is left to do: of a million of them, nothing else is made."""

    id: str


class PairReader:
    """Iterates over the pairs of a stream: a PersonaPair a good line, a Failure a bad one.

    A DonePair where `is_done`, which may be set, says so of the id. No id is given out twice.

    `columns` are those that the prompts name, each with where it stands. A line without one is bad;
    where the first pair lacks one, that is taken for a slip in the prompts: UsageError.
    """

    def __init__(
        self, stream: BinaryIO, path: str, columns: Mapping[str, str] = NO_COLUMNS
    ) -> None:
        self._columns = columns
        self._is_first = True
        self.is_done: Callable[[str], bool] = lambda _: False
        self._seen = IdSet()
        self._stream = stream
        self._path = path
        self._repeats: dict[str, int] = {}

    def __iter__(self) -> Iterator[PersonaPair | Failure | DonePair]:
        for line in read_lines(self._stream, self._path):
            try:
                yield self._pair(line)
            except _BadLine as error:
                yield self._failure(line, error)

    def _failure(self, line: Line, error: _BadLine) -> Failure:
        return bad_line(line, self._path, self._unused(line.digest()), error.kind, str(error))

    def _pair(self, line: Line) -> PersonaPair | DonePair:
        row = _row(line)
        id_ = self._id(row)
        if self._is_first:
            self._is_first = False
            self._refuse_unknown_names(row, line)
        if self.is_done(id_):
            return DonePair(id_)
        for name in self._columns:
            _check_column(row, name)
        return PersonaPair(
            id=id_,
            instructor_persona=row["instructor_persona"],
            responding_persona=row["responding_persona"],
            num_turns=row.get("num_turns"),
            metadata={key: value for key, value in row.items() if key not in _OWN_KEYS},
            line_number=line.number,
            line=line.text.decode(),
        )

    def _refuse_unknown_names(self, row: Mapping[str, Any], line: Line) -> None:
        own = row.keys() - _OWN_KEYS
        for name, where in self._columns.items():
            if name not in own:
                columns = ", ".join(f"{{{key}}}" for key in sorted(own)[:MOST_COLUMNS]) or "none"
                raise UsageError(
                    f"{{{name}}} in {where} is neither built in nor a column of "
                    f"{input_name(self._path)}:{line.number}",
                    "built in are {instructor_persona}, {responding_persona} and {num_turns}, "
                    f"columns of that line: {columns}; to show the word itself, write {{ {name} }}",
                )

    def _id(self, row: Mapping[str, Any]) -> str:
        given = row.get("id")
        if given is None:
            return self._unused(content_id(row))
        if not isinstance(given, str) or not given.strip():
            quoted = f', "{given}" is' if type(given) is int else ""
            _refuse("bad_id", f'"id" is {_shown(given)}, not a string with something in it{quoted}')
        if SAMPLE_SUFFIX.search(given):
            _refuse("bad_id", f'the "id" {_shown(given)} ends in ~ and digits: use another sign')
        if not self._seen.add(given):
            _refuse("duplicate_id", f'the "id" {_shown(given)} is taken by an earlier line')
        return given

    def _unused(self, id_: str) -> str:
        """`id_`, or `id_-2`, `id_-3`, ... for lines of the same content."""
        if self._seen.add(id_):
            return id_
        number = self._repeats.get(id_, 2)
        while not self._seen.add(f"{id_}-{number}"):
            number += 1
        self._repeats[id_] = number + 1
        return f"{id_}-{number}"


def bad_line(line: Line, path: str, id_: str, kind: str, why: str) -> Failure:
    """The failure `id_` of a line of the input at `path` that cannot be read."""
    return Failure(
        id=id_,
        stage="input",
        kind=kind,
        message=f"{input_name(path)}:{line.number}: {why}",
        attempts=0,
        transient=False,
        input=line.text.decode("utf-8", "replace"),
    )


def max_turns(line: Line, most: int) -> int:
    """`most`, or the line's own `num_turns` where that is more.

    A bad line has none. Cheap: only a line that may change the answer is parsed.
    """
    if b"num_turns" not in line.text or max(map(int, _TURNS.findall(line.text)), default=0) <= most:
        return most
    try:
        turns = _row(line).get("num_turns")
    except _BadLine:
        return most
    return max(most, turns or 0)


def _row(line: Line) -> dict[str, Any]:
    """The object of one line, checked but for its id."""
    if line.long_digest:
        _refuse("line_too_long", f"the line is longer than {MAX_LINE_BYTES:,} bytes")
    row = _parse(line.text)
    for key in ("instructor_persona", "responding_persona"):
        _check_persona(row, key)
    turns = row.get("num_turns")
    whole = isinstance(turns, int) and not isinstance(turns, bool)
    if turns is not None and not (whole and 1 <= turns <= MAX_TURNS):
        message = f'"num_turns" is {_shown(turns)}, not a whole number from 1 to {MAX_TURNS}'
        _refuse("bad_num_turns", message)
    return row


def _parse(text: bytes) -> dict[str, Any]:
    try:
        row = orjson.loads(text)
        if text.count(b"{") > 1 or b"[" in text:
            orjson.dumps({"metadata": row})  # as deep as its record will hold it
    except orjson.JSONDecodeError as error:
        _refuse(*_why_not_json(text, error))
    except orjson.JSONEncodeError as error:
        _refuse("nested_too_deep", f"not to be written again as JSON: {error}")
    if not isinstance(row, dict):
        kind = "null" if row is None else type(row).__name__
        _refuse("not_object", f"a JSON {kind}, not an object with two personas")
    # Each key brings a colon: with as many colons as keys, none can stand there twice.
    is_flat = text.count(b":") == len(row)
    if not is_flat or (not _TEXT.issuperset(map(type, row.values())) and _MANY_DIGITS.search(text)):
        json.loads(text, object_pairs_hook=_refuse_repeated_keys, parse_int=_refuse_big_numbers)
    return row


def _why_not_json(text: bytes, error: orjson.JSONDecodeError) -> tuple[str, str]:
    try:
        text.decode()
    except UnicodeDecodeError as wrong:
        return "not_utf8", f"byte {wrong.start + 1} of the line is not UTF-8"
    return "not_json", f"not JSON: {error.msg} at column {error.colno}"


def _refuse_repeated_keys(items: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(items)
    if len(row) != len(items):
        seen: set[str] = set()
        for key, _ in items:
            if key in seen:
                _refuse("duplicate_key", f"the key {_shown(key)} stands there more than once")
            seen.add(key)
    return row


def _refuse_big_numbers(digits: str) -> None:
    # orjson would turn them into floats that say something else.
    if len(digits) > MOST_DIGITS or not -(2**63) <= int(digits) < 2**64:
        _refuse("number_too_big", f"the number {_shown(digits)} does not fit into 64 bits")


def _check_persona(row: Mapping[str, Any], key: str) -> None:
    persona = row.get(key)
    if persona is None:
        others = ", ".join(_shown(key) for key in sorted(set(row) - _OWN_KEYS)[:5])
        _refuse("missing_persona", f'"{key}" is missing' + (f" (there is {others})" * bool(others)))
    if not isinstance(persona, str):
        _refuse("bad_persona", f'"{key}" is not a string')
    if not persona.strip():
        _refuse("empty_persona", f'"{key}" is empty')
    if len(persona) * 4 > MAX_PERSONA_BYTES and len(persona.encode()) > MAX_PERSONA_BYTES:
        _refuse("persona_too_long", f'"{key}" is longer than {MAX_PERSONA_BYTES:,} bytes')


def _check_column(row: Mapping[str, Any], name: str) -> None:
    if name not in row:
        _refuse("missing_column", f'the column "{name}" is missing, which the prompts name')
    if isinstance(row[name], bool) or not isinstance(row[name], str | int | float):
        message = f'the column "{name}", which the prompts name, is {_shown(row[name])}'
        _refuse("bad_column", f"{message}, neither text nor a number")


def _shown(value: object) -> str:
    """On one line, and short."""
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def _refuse(kind: str, message: str) -> NoReturn:
    raise _BadLine(kind, message) from None
