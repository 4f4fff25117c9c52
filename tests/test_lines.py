"""How an input falls into lines."""

import hashlib
import io
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magpie_cli.lines import BYTES_KEPT, MAX_LINE_BYTES, Line, read_lines

BOM = b"\xef\xbb\xbf"
BLANK = b" \t\r\n"
ALPHABET = [b"\n", b"\r", b" ", b"\x0b", b"\x0c", BOM, b"a", b"\xe2\x80\xa8", b"\0", b"\xff"]


def sha(text: bytes) -> str:
    """First 16 hex digits."""
    return hashlib.sha256(text).hexdigest()[:16]


def lines_of(content: bytes) -> list[Line]:
    """The lines of a stream that holds `content`."""
    return list(read_lines(io.BytesIO(content), "in.jsonl"))


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"a\nb\n", [Line(1, b"a"), Line(2, b"b")]),
        (b"a\nb", [Line(1, b"a"), Line(2, b"b")]),
        (b"a\r\nb\r\n", [Line(1, b"a"), Line(2, b"b")]),
        (b"a\rb\n", [Line(1, b"a\rb")]),
        (b"a\xe2\x80\xa8b\n", [Line(1, b"a\xe2\x80\xa8b")]),
        (b"a\xe2\x80\xa9b\n", [Line(1, b"a\xe2\x80\xa9b")]),
        (b"a\xc2\x85b\n", [Line(1, b"a\xc2\x85b")]),
        (b"a\x0b\x0c\x1c\x1d\x1eb\n", [Line(1, b"a\x0b\x0c\x1c\x1d\x1eb")]),
        (BOM + b"a\nb\n", [Line(1, b"a"), Line(2, b"b")]),
        (b"a\n" + BOM + b"b\n", [Line(1, b"a"), Line(2, BOM + b"b")]),
        (b"\n \t\r\na\n\n\nb\n\n", [Line(3, b"a"), Line(6, b"b")]),
        (BOM + b"\r\na\n", [Line(2, b"a")]),
        (b" a\t\n", [Line(1, b"a")]),
        (b"\n\n", []),
        (b"", []),
    ],
    ids=[
        "newline",
        "last line without newline",
        "CRLF",
        "CR inside",
        "U+2028 inside",
        "U+2029 inside",
        "U+0085 inside",
        "other line ends of str.splitlines",
        "byte order mark",
        "byte order mark later",
        "blank lines count",
        "byte order mark alone",
        "white space around",
        "blank lines only",
        "nothing",
    ],
)
def test_lines_end_at_a_newline_alone(content: bytes, lines: list[Line]) -> None:
    """Only the newline byte ends a line; blank lines are skipped but counted."""
    assert lines_of(content) == lines


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(ALPHABET)))
def test_no_byte_is_lost_between_two_newlines(parts: list[bytes]) -> None:
    """Every line is what stands between two newlines, less the white space around it."""
    content = b"".join(parts)
    split = enumerate(content.removeprefix(BOM).split(b"\n"), start=1)
    expected = [Line(number, text.strip(BLANK)) for number, text in split if text.strip(BLANK)]
    assert lines_of(content) == expected


@pytest.mark.parametrize(
    ("before", "length", "end"),
    [
        (b"", MAX_LINE_BYTES, b"\n"),
        (b"", MAX_LINE_BYTES, b""),
        (b"", MAX_LINE_BYTES, b"\r\n"),
        (BOM, MAX_LINE_BYTES, b"\n"),
        (BOM, MAX_LINE_BYTES - 1, b"\n"),
    ],
    ids=["newline", "end of the input", "CRLF", "after a mark", "one byte less after a mark"],
)
def test_a_line_may_be_as_long_as_the_limit(before: bytes, length: int, end: bytes) -> None:
    """A line of 1 MiB is whole, and its end and a byte order mark do not count towards that."""
    text = b"x" * length
    lines = lines_of(before + text + end + (b"next" if end else b""))
    assert [line.number for line in lines] == ([1, 2] if end else [1])
    assert (lines[0].long_digest, len(lines[0].text)) == (None, length)
    assert lines[0].digest() == sha(text)


@pytest.mark.parametrize(
    ("before", "text", "end"),
    [
        (b"", b"x" * (MAX_LINE_BYTES + 1), b"\n"),
        (b"", b"x" * (MAX_LINE_BYTES + 1), b""),
        (b"", b"x" * (MAX_LINE_BYTES + 1), b"\r\n"),
        (b"", b"x" * (MAX_LINE_BYTES * 2), b"\r\n"),
        (b"", b"x" * (MAX_LINE_BYTES * 2 + 1), b"\r\n"),
        (b"", b"x" * (MAX_LINE_BYTES * 2) + b"\r" + b"x" * 9, b"\n"),
        (BOM, b"x" * (MAX_LINE_BYTES + 1), b"\n"),
        (BOM, b"x" * (MAX_LINE_BYTES * 3), b"\n"),
        (BOM, b"  " + b"x" * (MAX_LINE_BYTES + 9), b"\n"),
        (b"", b"  " + b"x" * (MAX_LINE_BYTES + 9), b"\n"),
        (b"", b"x" * 9 + b" " * MAX_LINE_BYTES + b"x", b"\n"),
    ],
    ids=[
        "newline",
        "end of the input",
        "CRLF",
        "CRLF at the end of a chunk",
        "CRLF after a whole chunk",
        "CR inside at the end of a chunk",
        "byte order mark",
        "byte order mark and three chunks",
        "byte order mark and spaces",
        "spaces",
        "spaces inside",
    ],
)
def test_an_over_long_line_is_one_line(before: bytes, text: bytes, end: bytes) -> None:
    """Of an over-long line the beginning and the digest of the whole stay, under one number."""
    lines = lines_of(before + text + end + (b"next" if end else b""))
    assert [line.number for line in lines] == ([1, 2] if end else [1])
    assert lines[0].text == text[:BYTES_KEPT]
    assert lines[0].digest() == lines[0].long_digest == sha(text)


class Repeated(io.RawIOBase):
    """So many bytes `x`, that never stand in memory together."""

    def __init__(self, length: int) -> None:
        self.left = length

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer as far as there is something left."""
        number = min(len(buffer), self.left)
        buffer[:number] = b"x" * number
        self.left -= number
        return number


def test_an_over_long_line_is_not_held() -> None:
    """A line of 64 MiB takes no more memory than a few of the longest that fit."""
    tracemalloc.start()
    try:
        with io.BufferedReader(Repeated(64 * 1024 * 1024)) as stream:
            (line,) = read_lines(stream, "in.jsonl")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert line.long_digest == sha(b"x" * (64 * 1024 * 1024))
    assert peak < 8 * MAX_LINE_BYTES
