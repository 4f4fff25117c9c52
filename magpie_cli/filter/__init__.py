"""`magpie filter`: the rows of an output that a person would train on, and why the others are not.

__init__.py  one pass over the rows: read, judge, write
rules.py     which rules there are, and what they say of one row
near.py      duplicates, exact and near
where.py     expressions over the fields of a row
trim.py      courtesies at the end, taken off
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import orjson

from magpie_cli.display.table import Entry, Section
from magpie_cli.errors import UsageError
from magpie_cli.filter.rules import NO_RECORD, Doubles, Rules
from magpie_cli.filter.trim import trimmed
from magpie_cli.lines import input_name
from magpie_cli.rows import Row, read_rows, refuse_without_rows
from magpie_cli.store import check_output, is_stream
from magpie_cli.store.whole import Write, refuse_existing, whole_lines
from magpie_cli.summary import count

SHOWN = 5  # of the lines that are no records


@dataclass(frozen=True, slots=True)
class RuleCount:
    """How many rows a rule takes, and how many it takes alone: those that come back without it."""

    rule: str
    rows: int
    alone: int


@dataclass(frozen=True, slots=True)
class Report:
    """What one filter did. A row may break several rules.

    `no_records` name the first lines that are none; they count as rows and as rejected.
    """

    input: str
    output: str
    rejected_file: str | None
    rows: int
    kept: int
    rejected: int
    rules: tuple[RuleCount, ...]
    no_records: tuple[str, ...]

    def sections(self) -> tuple[Section, ...]:
        """For a person."""
        to = "" if self.output == "-" else f" -> {self.output}"
        where = f" -> {self.rejected_file}" if self.rejected_file else ""
        rows = self.rows or 1
        numbers = Section(
            f"{input_name(self.input)}: {count(self.rows, 'row')}",
            (
                Entry("kept", f"{self.kept:,} ({self.kept / rows:.1%}){to}", self.kept / rows),
                Entry(
                    "rejected",
                    f"{self.rejected:,} ({self.rejected / rows:.1%}){where}",
                    self.rejected / rows,
                ),
            ),
        )
        rules = tuple(
            Entry(
                rule.rule,
                f"{count(rule.rows, 'row')}, {rule.alone:,} by it alone",
                rule.rows / rows,
            )
            for rule in self.rules
        )
        parted = (why.partition(": ") for why in self.no_records)
        bad = tuple(Entry(line, why) for line, _, why in parted)
        return (
            numbers,
            *((Section("rejected by", rules),) if rules else ()),
            *((Section("no records", bad, f"the first {SHOWN}"),) if bad else ()),
        )


def filter_rows(
    source: str, output: str, rules: Rules, *, rejected: str | None = None, fresh: bool = False
) -> Report:
    """Copy the rows of `source` that pass `rules` to `output`, byte for byte where none is trimmed.

    The others go to `rejected`, if that is given, with `rejected_by` and `duplicate_of`. Both files
    are there whole at the end, or not at all. Raises UsageError where a file is there already and
    not `fresh`, or where --where asks for a field that the first row does not have.
    """
    if rejected and is_stream(rejected):
        raise UsageError(f"--rejected {rejected} is not a file", "name one, as rejected.jsonl")
    check_output(output, rejected, source, "--rejected")
    for path in (output, rejected):
        if path and not fresh:
            refuse_existing(path)
    refuse_without_rows(source)
    tally = _Tally()
    with ExitStack() as stack:
        keep = stack.enter_context(whole_lines(output))
        drop: Write | None = None
        if rejected:
            drop = stack.enter_context(whole_lines(rejected))
        for row, reasons, other in _judged(source, rules):
            tally.add(row, reasons)
            if not reasons:
                keep(row.line + b"\n")
            elif drop:
                drop(_rejected(row, reasons, other))
    return tally.report(source, output, rejected)


def _judged(source: str, rules: Rules) -> Iterator[tuple[Row, list[str], str | None]]:
    """Each row with its reasons, and the id of the row that it repeats."""
    doubles = Doubles(rules)
    is_first = True
    for read in read_rows(source):
        row = trimmed(read) if rules.trim else read
        if is_first and row.record:
            _refuse_unknown_fields(rules, row)
            is_first = False
        reasons, other = rules.reasons(row), None
        if row.record and not reasons:
            reasons, other = doubles.of(row.number, row.record)
        yield row, reasons, other


def _refuse_unknown_fields(rules: Rules, row: Row) -> None:
    """All rows have the same fields: one that the first lacks is a slip of the pen."""
    for where in rules.where:
        for name in sorted(where.names - row.fields.keys()):
            raise UsageError(
                f"--where {where.text}: the rows have no field `{name}`",
                f"they have: {', '.join(row.fields)}",
            )


def _rejected(row: Row, reasons: list[str], other: str | None) -> bytes:
    why = {"rejected_by": reasons, "duplicate_of": other}
    if row.record is None:
        line = {"line_number": row.number, "message": row.why, "input": _text(row.line)}
        return orjson.dumps(line | why, option=orjson.OPT_APPEND_NEWLINE)
    if row.fields.keys() & why.keys():  # it was rejected before
        return orjson.dumps(row.fields | why, option=orjson.OPT_APPEND_NEWLINE)
    return row.line[:-1] + b"," + orjson.dumps(why)[1:] + b"\n"


def _text(line: bytes) -> str:
    """A line that may not be UTF-8, without losing a byte of it."""
    return line.decode("utf-8", "backslashreplace")


class _Tally:
    def __init__(self) -> None:
        self._rows = self._kept = 0
        self._rules: Counter[str] = Counter()
        self._alone: Counter[str] = Counter()
        self._no_records: list[str] = []

    def add(self, row: Row, reasons: list[str]) -> None:
        self._rows += 1
        self._kept += not reasons
        self._rules.update(reasons)
        if len(reasons) == 1:
            self._alone[reasons[0]] += 1
        if reasons == [NO_RECORD] and len(self._no_records) < SHOWN:
            self._no_records.append(f"line {row.number}: {row.why}")

    def report(self, source: str, output: str, rejected: str | None) -> Report:
        rules = (RuleCount(name, n, self._alone[name]) for name, n in self._rules.most_common())
        return Report(
            source,
            output,
            rejected,
            self._rows,
            self._kept,
            self._rows - self._kept,
            tuple(rules),
            tuple(self._no_records),
        )
