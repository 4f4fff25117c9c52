"""Reading pairs: what becomes of each line."""

import io
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magpie_cli.errors import UsageError
from magpie_cli.ids import content_id
from magpie_cli.lines import BYTES_KEPT, MAX_LINE_BYTES
from magpie_cli.personas import MAX_PERSONA_BYTES, DonePair, PairReader
from magpie_cli.records import Failure, PersonaPair
from magpie_cli.source import BAD_LINES_SHOWN, open_source
from tests.conftest import PAIR, Magpie

OWN = {"id", *PAIR, "num_turns"}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | TEXT
VALUES = st.recursive(
    SCALARS | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def row(**columns: Any) -> bytes:
    """A line with a good pair and these columns."""
    return orjson.dumps(PAIR | columns)


def read(*lines: bytes) -> list[PersonaPair | Failure]:
    """What becomes of each line of `pairs.jsonl`."""
    pairs = PairReader(io.BytesIO(b"\n".join(lines)), "pairs.jsonl")
    return [pair for pair in pairs if not isinstance(pair, DonePair)]


def read_pair(line: bytes) -> PersonaPair:
    """The pair of a good line."""
    (pair,) = read(line)
    assert isinstance(pair, PersonaPair), pair
    return pair


def read_failure(line: bytes) -> Failure:
    """The failure of a bad line."""
    (failure,) = read(line)
    assert isinstance(failure, Failure), failure
    return failure


BAD = {
    "words": (b"A botanist and a baker", "not_json", "not JSON"),
    "cut": (row()[:-1], "not_json", "not JSON"),
    "two objects": (row() + row(), "not_json", "not JSON"),
    "invalid UTF-8": (row().replace(b"curious", b"cur\xffious"), "not_utf8", "byte 29 of the line"),
    "UTF-8 surrogate": (row().replace(b"a", b"\xed\xa0\x80"), "not_utf8", "is not UTF-8"),
    "lone surrogate": (row().replace(b"curious", b"\\ud800"), "not_json", "surrogate"),
    "NaN": (row(weight=0).replace(b"0", b"NaN"), "not_json", "not JSON"),
    "Infinity": (row(weight=0).replace(b"0", b"-Infinity"), "not_json", "not JSON"),
    "too big a number": (row(weight=0).replace(b"0", b"1e999"), "not_json", "infinity"),
    "too big a whole number": (
        row(weight=0).replace(b"0", b"-12345678901234567890"),
        "number_too_big",
        "the number '-12345678901234567890' does not fit into 64 bits",
    ),
    "NUL": (row().replace(b"curious", b"cur\0ious"), "not_json", "not JSON"),
    "key twice": (row(a=1)[:-1] + b',"a":1}', "duplicate_key", "'a' stands there more than once"),
    "persona twice": (
        row()[:-1] + b',"instructor_persona":"B"}',
        "duplicate_key",
        "'instructor_persona' stands",
    ),
    "key twice within": (row(a={"b": 1}).replace(b"1", b'1,"b":2'), "duplicate_key", "'b' stands"),
    "key twice, once escaped": (
        row(a=1)[:-1] + b',"\\u0061":1}',
        "duplicate_key",
        "'a' stands",
    ),
    "deep list": (row(a=0).replace(b"0", b"[" * 260 + b"]" * 260), "nested_too_deep", "not to be"),
    "deep object": (
        row(a=0).replace(b"0", b'{"b":' * 260 + b"1" + b"}" * 260),
        "nested_too_deep",
        "not to be written again",
    ),
    "hopelessly deep": (row(a=0).replace(b"0", b"[" * 5000), "not_json", "depth"),
    "over-long line": (
        row(a="x" * MAX_LINE_BYTES),
        "line_too_long",
        "longer than 1,048,576 bytes",
    ),
    "long persona": (
        row(instructor_persona="x" * (MAX_PERSONA_BYTES + 1)),
        "persona_too_long",
        '"instructor_persona" is longer than 65,536 bytes',
    ),
    "long persona of wide letters": (
        row(responding_persona="ü" * (MAX_PERSONA_BYTES // 2 + 1)),
        "persona_too_long",
        '"responding_persona" is longer',
    ),
    "list": (b"[" + row() + b"]", "not_object", "not an object with two personas"),
    "string": (b'"' + b"botanist" + b'"', "not_object", "not an object with two personas"),
    "number": (b"3", "not_object", "not an object with two personas"),
    "true": (b"true", "not_object", "not an object with two personas"),
    "null": (b"null", "not_object", "a JSON null, not an object with two personas"),
    "empty object": (b"{}", "missing_persona", '"instructor_persona" is missing'),
    "missing": (
        b'{"instructor_persona":"a","id":"x","topic":"t","responder":"b"}',
        "missing_persona",
        '"responding_persona" is missing (there is ',
    ),
    "null persona": (
        row(instructor_persona=None),
        "missing_persona",
        '"instructor_persona" is missing',
    ),
    "empty": (row(responding_persona=""), "empty_persona", '"responding_persona" is empty'),
    "blank": (row(instructor_persona=" \n\u2003"), "empty_persona", '"instructor_persona" is empt'),
    "number for a persona": (
        row(instructor_persona=7),
        "bad_persona",
        '"instructor_persona" is not a string',
    ),
    "list for a persona": (
        row(responding_persona=["a"]),
        "bad_persona",
        '"responding_persona" is not a string',
    ),
    "taken id": (row(id="before"), "duplicate_id", "'before' is taken by an earlier line"),
    "id is a number": (row(id=7), "bad_id", '"id" is 7, not a string'),
    "id is false": (row(id=False), "bad_id", "not a string"),
    "id is empty": (row(id=""), "bad_id", "not a string with something in it"),
    "id is blank": (row(id=" \t"), "bad_id", "not a string with something in it"),
    "id is a list": (row(id=[]), "bad_id", "not a string"),
    "turns true": (row(num_turns=True), "bad_num_turns", '"num_turns" is '),
    "turns zero": (row(num_turns=0), "bad_num_turns", '"num_turns" is 0, not a whole number'),
    "turns negative": (row(num_turns=-1), "bad_num_turns", "not a whole number from 1 to 1000"),
    "turns and a half": (row(num_turns=1.5), "bad_num_turns", '"num_turns" is 1.5'),
    "turns in a string": (row(num_turns="3"), "bad_num_turns", "not a whole number"),
    "turns in a list": (row(num_turns=[3]), "bad_num_turns", "not a whole number"),
}


@pytest.mark.parametrize(("line", "kind", "reason"), BAD.values(), ids=BAD)
def test_a_bad_line_is_named_and_the_others_go_on(line: bytes, kind: str, reason: str) -> None:
    """A bad line becomes a failure with its number, kind and reason; those around it are read."""
    before, failure, after = read(row(id="before"), b"", line, row(id="after"))
    assert isinstance(before, PersonaPair)
    assert isinstance(after, PersonaPair)
    assert (after.id, after.line_number) == ("after", 4)
    assert isinstance(failure, Failure)
    assert failure.message.startswith("pairs.jsonl:3: ")
    assert reason in failure.message
    assert (failure.stage, failure.kind, failure.attempts) == ("input", kind, 0)


@pytest.mark.parametrize("line", [line for line, _, _ in BAD.values()], ids=BAD)
def test_a_failure_keeps_the_line_as_it_was_read(line: bytes) -> None:
    """Nothing of a bad line is lost, but for the end of an over-long one and what is not UTF-8."""
    failure = read(row(id="before"), line)[1]
    assert isinstance(failure, Failure)
    kept = line if len(line) <= MAX_LINE_BYTES else line[:BYTES_KEPT]
    assert failure.input == kept.decode("utf-8", "replace")
    assert Failure.from_json(failure.to_json()) == failure


def test_a_missing_persona_names_the_other_columns() -> None:
    """Whoever mistyped a column sees what stands there instead."""
    message = read_failure(b'{"instructor_persona":"a","persona_2":"b","topic":"t"}').message
    assert "persona_2" in message
    assert "topic" in message


@pytest.mark.parametrize(
    "line",
    [
        row(id=" \n"),
        row(num_turns="3\r\nhint: type this"),
        row(a=1)[:-1] + b',"x\\nhint: y":1,"x\\nhint: y":1}',
        b'{"instructor_persona":"a","x\\nhint: type this":1}',
    ],
    ids=["id", "turns", "key twice", "other keys"],
)
def test_a_reason_is_one_line(line: bytes) -> None:
    """What stands in a line cannot add a line of its own to an error message."""
    assert len(read_failure(line).message.splitlines()) == 1


@pytest.mark.parametrize(
    "line",
    [
        row(id=["x" * 100_000]),
        row(num_turns="3" * 100_000),
        b'{"instructor_persona":"a","' + b"x" * 100_000 + b'":1}',
    ],
    ids=["id", "turns", "other keys"],
)
def test_a_reason_is_short(line: bytes) -> None:
    """A long value in a bad line does not make a long message."""
    assert len(read_failure(line).message) < 1000


@pytest.mark.parametrize("number", [1, 3, 1000])
def test_a_line_may_have_turns_of_its_own(number: int) -> None:
    """A whole number from 1 up is taken as it stands."""
    assert read_pair(row(num_turns=number)).num_turns == number


@pytest.mark.parametrize("line", [row(), row(num_turns=None)], ids=["absent", "null"])
def test_a_line_may_leave_its_turns_to_the_run(line: bytes) -> None:
    """Without a number, absent or null, the run's own counts."""
    assert read_pair(line).num_turns is None


@pytest.mark.parametrize("letter", ["x", "ü", "🐦"])
def test_a_persona_may_be_as_long_as_the_limit(letter: str) -> None:
    """64 KiB of UTF-8 in each persona are read."""
    persona = letter * (MAX_PERSONA_BYTES // len(letter.encode()))
    pair = read_pair(row(instructor_persona=persona, responding_persona=persona))
    assert (pair.instructor_persona, pair.responding_persona) == (persona, persona)


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(TEXT.filter(lambda key: key not in OWN), VALUES, max_size=5))
def test_the_columns_of_the_user_are_kept(columns: dict[str, Any]) -> None:
    """Every key but magpie's own comes back in `metadata`, in its order and unchanged."""
    pair = read_pair(orjson.dumps({**columns, **PAIR, "id": "a", "num_turns": 2}))
    assert orjson.dumps(pair.metadata) == orjson.dumps(columns)


@pytest.mark.parametrize("number", [2**64 - 1, -(2**63), 2**53 + 1])
def test_a_number_of_64_bits_is_kept(number: int) -> None:
    """The largest and the smallest whole numbers of 64 bits come back to the last digit."""
    assert read_pair(row()[:-1] + f',"n":{number}}}'.encode()).metadata == {"n": number}


@pytest.mark.parametrize("number", [2**64, 2**64 + 1, -(2**63) - 1, 10**300])
@pytest.mark.parametrize("column", ['"n":%d', '"n":[{"m":%d}]', '"num_turns":%d'])
def test_a_bigger_number_is_refused(number: int, column: str) -> None:
    """A whole number of more than 64 bits is never changed into another one, at any depth."""
    failure = read_failure(row()[:-1] + f",{column % number}}}".encode())
    assert failure.kind in {"number_too_big", "bad_num_turns"}


def test_many_keys_do_not_hold_up_the_run(tmp_path: Path, magpie: Magpie) -> None:
    """A line of 1 MiB with one of 80,000 keys twice is refused in no more time than another."""
    keys = [f'"{n:06}":1' for n in range(80_000)]
    (tmp_path / "pairs.jsonl").write_text("{" + ",".join([*keys, keys[-1]]) + "}\n")
    done = magpie("generate", "pairs.jsonl", "--engine", "echo", "--strict", seconds=20)
    assert done.returncode == 2
    assert "'079999' stands there more than once (duplicate_key)" in done.stderr


@settings(deadline=None, max_examples=200)
@given(st.lists(st.binary(max_size=20) | st.sampled_from([line for line, _, _ in BAD.values()])))
def test_whatever_the_bytes_each_line_has_one_outcome(lines: list[bytes]) -> None:
    """No line stops the reading, and no id is given out twice."""
    text = [part for line in lines for part in line.split(b"\n")]
    outcomes = read(b"", *text)  # a byte order mark counts at the very beginning alone
    assert len(outcomes) == sum(1 for line in text if line.strip(b" \t\r\n"))
    assert len({outcome.id for outcome in outcomes}) == len(outcomes)


def bad_file(folder: Path, number: int) -> str:
    """The path of a file whose first and last lines are good."""
    path = folder / "pairs.jsonl"
    path.write_bytes(b"\n".join([row(), *[b"{" + str(n).encode() for n in range(number)], row()]))
    return str(path)


def test_strict_names_the_bad_lines(tmp_path: Path) -> None:
    """--strict refuses an input with bad lines, naming the first ones and counting the rest."""
    path = bad_file(tmp_path, BAD_LINES_SHOWN + 5)
    with pytest.raises(UsageError) as caught, open_source(path, strict=True):
        pass
    first, *shown, last = caught.value.message.splitlines()
    assert first == f"{path} has bad lines, and --strict is on:"
    assert [line.split(": ")[0].strip() for line in shown] == [
        f"{path}:{number}" for number in range(2, BAD_LINES_SHOWN + 2)
    ]
    assert last.strip() == "and 5 more"


@pytest.mark.parametrize("strict", [False, True])
def test_a_source_counts_its_lines_and_starts_at_the_first(tmp_path: Path, *, strict: bool) -> None:
    """Looking through an input takes nothing away from it."""
    path = bad_file(tmp_path, 0)
    with open_source(path, strict=strict) as source:
        assert source.lines == 2
        ids = [outcome.id for outcome in source.pairs()]
    assert ids == [content_id(PAIR), f"{content_id(PAIR)}-2"]
