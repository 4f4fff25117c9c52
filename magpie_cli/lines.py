"""The lines of an input: a file or standard input, plain, gzip or Zstandard, read by bytes.

Lines end at a newline byte alone (`str.splitlines` would also split at U+2028 inside a persona). A
UTF-8 byte order mark, CRLF and a last line without newline are fine; gzip and Zstandard are
recognised by their first bytes (RFC 1952, RFC 8878).
"""

import hashlib
import io
import shlex
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from magpie_cli.errors import MagpieError, UsageError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAX_LINE_BYTES = 1024 * 1024
BYTES_TO_KNOW = 4  # of a stream, to tell its format
BYTES_KEPT = 2000  # of an over-long line, for its failure

_BOM = b"\xef\xbb\xbf"
_FROM_CSV = "import csv,json,sys; [print(json.dumps(row)) for row in csv.DictReader(sys.stdin)]"
_AROUND = len(_BOM) + len(b"\r\n")
_BREAKS = (OSError, EOFError, zlib.error, zstd.ZstdError)
_HINT = 'one object a line: {"instructor_persona": "a botanist", "responding_persona": "a baker"}'


class Line(NamedTuple):
    """One line without its end, counted from 1.

    Of a line that is too long, `text` is only the beginning and `long_digest` the first 16 hex
    digits of sha256 over all of it.
    """

    number: int
    text: bytes
    long_digest: str | None = None

    def digest(self) -> str:
        """First 16 hex digits of sha256 over the whole line."""
        return self.long_digest or hashlib.sha256(self.text).hexdigest()[:16]


def open_input(path: str) -> io.BufferedReader:
    """The uncompressed bytes of `path`, `-` being standard input.

    Raises UsageError where it is missing, a folder, empty, UTF-16, an array or pretty-printed JSON.
    """
    with ExitStack() as stack:
        stream = stack.enter_context(open_bytes(path))
        head = stream.peek(64)
        if not head:
            raise UsageError(f"{input_name(path)} is empty", _HINT)
        _refuse_other_formats(head, path)
        stack.pop_all()
    return stream


def open_bytes(path: str) -> io.BufferedReader:
    """The uncompressed bytes of `path`, whatever they say. Raises UsageError."""
    with ExitStack() as stack:
        raw = stack.enter_context(_open(path))
        try:
            stream = stack.enter_context(_uncompressed(raw))
            stream.peek(64)
        except _BREAKS as error:
            raise UsageError(f"{input_name(path)} cannot be read: {error}") from error
        stack.pop_all()
    return stream


def read_lines(stream: BinaryIO, path: str, most: int = MAX_LINE_BYTES) -> Iterator[Line]:
    """Each line that is not blank, whole up to `most` bytes.

    Raises MagpieError where the stream breaks off.
    """
    number = 0
    most_read = most + _AROUND
    while True:
        try:  # not `with breaks`: that takes as long as all else here
            text = stream.readline(most_read)
        except _BREAKS as error:
            raise _broken(path, f"after line {number}", error) from error
        if not text:
            return
        number += 1
        unended = len(text) == most_read and not text.endswith(b"\n")
        if number == 1:
            text = text.removeprefix(_BOM)
        line = text.strip(b" \t\r\n")
        if unended or len(line) > most:
            with breaks(path, f"in line {number}"):
                digest = _digest_long(stream, text)
            yield Line(number, text[:BYTES_KEPT], digest)
        elif line:
            yield Line(number, line)


@contextmanager
def breaks(path: str, where: str) -> Iterator[None]:
    """What goes wrong in the middle of a stream, as a MagpieError."""
    try:
        yield
    except _BREAKS as error:
        raise _broken(path, where, error) from error


def _broken(path: str, where: str, error: Exception) -> MagpieError:
    return MagpieError(
        f"{input_name(path)} breaks off {where}: {error}",
        "mend it and run the same command again; what is done stays done",
    )


def is_pipe(path: str) -> bool:
    """Whether `path` can only be read once, and reading it may wait for whoever writes it."""
    return path == "-" or not stat.S_ISREG(Path(path).stat().st_mode)


def input_name(path: str) -> str:
    """What a person calls `path`."""
    return "standard input" if path == "-" else path


def no_pairs(path: str) -> UsageError:
    """The error for an input in which no line holds anything."""
    return UsageError(f"{input_name(path)} has blank lines only", _HINT)


def _open(path: str) -> io.BufferedReader:
    try:
        if is_pipe(path):
            # Not sys.stdin: Python aborts at its end while a thread still waits for that object.
            return _begun(open(0 if path == "-" else path, "rb", buffering=0, closefd=path != "-"))
        return Path(path).open("rb")
    except FileNotFoundError as error:
        raise UsageError(f"{path}: there is no such file", "check the path") from error
    except IsADirectoryError as error:
        raise UsageError(f"{path} is a folder", "name a .jsonl file in it") from error
    except OSError as error:
        raise UsageError(f"{input_name(path)} cannot be read: {error.strerror}") from error


def _begun(raw: io.FileIO) -> io.BufferedReader:
    """A pipe whose first bytes are there, so they can be looked at however slowly they come."""
    head = b""
    while len(head) < BYTES_TO_KNOW and (more := raw.read(io.DEFAULT_BUFFER_SIZE)):
        head += more
    return io.BufferedReader(_PutBack(head, raw))


class _PutBack(io.RawIOBase):
    """A stream with bytes put back in front of it."""

    def __init__(self, head: bytes, rest: io.FileIO) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "Buffer") -> int | None:
        if not self._head:
            return self._rest.readinto(buffer)
        view = memoryview(buffer)
        count = min(len(view), len(self._head))
        view[:count], self._head = self._head[:count], self._head[count:]
        return count

    def close(self) -> None:
        self._rest.close()
        super().close()


def _uncompressed(raw: io.BufferedReader) -> io.BufferedReader:
    head = raw.peek(4)
    if head.startswith(b"\x1f\x8b"):
        import gzip

        return _Decoded(gzip.GzipFile(fileobj=raw), raw)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return _Decoded(zstd.ZstdFile(raw), raw)
    return raw


class _Decoded(io.BufferedReader):
    """What a decoder makes of a file, which it closes with itself."""

    def __init__(self, decoder: object, below: io.BufferedReader) -> None:
        super().__init__(cast("io.RawIOBase", decoder))
        self._below = below

    def close(self) -> None:
        super().close()
        self._below.close()


def _digest_long(stream: BinaryIO, text: bytes) -> str:
    """Pass over the rest of a line, keeping only its digest: it may not fit in memory."""
    whole = hashlib.sha256()
    while not text.endswith(b"\n") and (more := stream.readline(io.DEFAULT_BUFFER_SIZE)):
        whole.update(text[:-1])  # not the last byte: it may be the CR of the line's end
        text = text[-1:] + more
    whole.update(text.removesuffix(b"\n").removesuffix(b"\r"))
    return whole.hexdigest()[:16]


def _refuse_other_formats(head: bytes, path: str) -> None:
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in head[:2]:
        marked = head[:1] > b"\x7f"
        name = "UTF-16" if marked else "UTF-16BE" if head[:1] == b"\0" else "UTF-16LE"
        raise UsageError(
            f"{input_name(path)} is UTF-16, not UTF-8",
            _filtered(f"iconv -f {name} -t UTF-8", path),
        )
    start = head.removeprefix(_BOM).lstrip()
    if start.startswith((b"{\n", b"{\r\n")):
        raise UsageError(
            f"{input_name(path)} spreads an object over several lines; magpie reads one a line",
            _filtered("jq -c .", path),
        )
    if start.startswith(b"["):
        raise UsageError(
            f"{input_name(path)} is one JSON array; magpie reads one object a line",
            _filtered("jq -c '.[]'", path),
        )
    if not start.startswith((b"{", b"[")) and b"instructor_persona" in start.split(b"\n")[0]:
        raise UsageError(
            f"{input_name(path)} looks like CSV; magpie reads one JSON object a line",
            _filtered(f"python3 -c '{_FROM_CSV}' <", path),
        )


def _filtered(command: str, path: str) -> str:
    """What to type so that `command` mends the input on its way."""
    first = f"... | {command}" if path == "-" else f"{command} {shlex.quote(path)}"
    return f"{first} | magpie generate - ..."
