"""Opening an input: compressed, cut off, broken, or not there."""

import gc
import gzip
import hashlib
import io
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from magpie_cli.errors import MagpieError, UsageError
from magpie_cli.lines import Line, open_input, read_lines
from tests.conftest import clean_environment

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Compress = Callable[[bytes], bytes]

BOM = b"\xef\xbb\xbf"
ROWS = b"".join(hashlib.sha256(str(n).encode()).hexdigest().encode() + b"\n" for n in range(20_000))

both_formats = pytest.mark.parametrize(
    "compress", [gzip.compress, zstd.compress], ids=["gzip", "zstd"]
)


def lines_of(content: bytes) -> list[Line]:
    """The lines of a stream that holds `content`."""
    return list(read_lines(io.BytesIO(content), "in.jsonl"))


def file_with(folder: Path, content: bytes) -> str:
    """The path of a file."""
    path = folder / "in.jsonl"
    path.write_bytes(content)
    return str(path)


def read_file(path: str) -> list[Line]:
    """The lines of a file."""
    with open_input(path) as stream:
        return list(read_lines(stream, path))


def error_after(path: str, lines: list[Line]) -> MagpieError:
    """The error that ends the reading of a file, once its `lines` are read."""
    with open_input(path) as stream, pytest.raises(MagpieError) as caught:
        lines.extend(read_lines(stream, path))
    return caught.value


@both_formats
@pytest.mark.parametrize("frames", [1, 3])
def test_compressed_input_is_known_by_its_first_bytes(
    tmp_path: Path, compress: Compress, frames: int
) -> None:
    """A compressed file of any number of parts reads as its content would, whatever its name."""
    path = file_with(tmp_path, compress(BOM + ROWS) + compress(ROWS) * (frames - 1))
    assert read_file(path) == lines_of(BOM + ROWS * frames)


@both_formats
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_cut_off_input_names_its_last_line(
    tmp_path: Path, compress: Compress, share: float
) -> None:
    """Where a compressed file breaks off, the error names the file and the last line read."""
    whole = compress(ROWS)
    path = file_with(tmp_path, whole[: int(len(whole) * share)])
    lines: list[Line] = []
    error = error_after(path, lines)
    assert lines
    assert lines == lines_of(ROWS)[: len(lines)]
    assert error.message.startswith(f"{path} breaks off after line {len(lines)}: ")
    assert error.hint


@pytest.mark.parametrize(
    "content",
    [b"a\n", gzip.compress(b"a\n"), zstd.compress(b"a\n"), b"[]", gzip.compress(b"[]"), b""],
    ids=["plain", "gzip", "zstd", "array", "array in gzip", "empty"],
)
def test_no_file_stays_open(tmp_path: Path, content: bytes) -> None:
    """An input that is closed or refused leaves no open file for the garbage collector."""
    path = file_with(tmp_path, content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gc.collect()  # what other tests have left
        caught.clear()
        with suppress(UsageError):
            read_file(path)
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


def test_a_named_pipe_is_read_and_closed(tmp_path: Path) -> None:
    """A named pipe is an input like another, and leaves no open file either."""
    path = tmp_path / "pairs"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=[gzip.compress(ROWS)])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gc.collect()  # what other tests have left
        caught.clear()
        writer.start()
        lines = read_file(str(path))
        writer.join()
        gc.collect()
    assert lines == lines_of(ROWS)
    assert [str(warning.message) for warning in caught] == []


@both_formats
def test_rubbish_after_the_data_is_an_error(tmp_path: Path, compress: Compress) -> None:
    """Bytes that are no part of a compressed file end the run with an error that names the line."""
    path = file_with(tmp_path, compress(ROWS) + b"rubbish rubbish")
    lines: list[Line] = []
    message = error_after(path, lines).message
    assert f"breaks off after line {len(lines)}: " in message


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(ROWS)[:5],
        zstd.compress(ROWS)[:5],
        gzip.compress(ROWS)[:2] + b"\xff" * 64,
        zstd.compress(ROWS)[:4] + b"\xff" * 64,
    ],
    ids=["gzip cut in its header", "zstd cut in its header", "gzip rubbish", "zstd rubbish"],
)
def test_a_broken_beginning_is_a_usage_error(tmp_path: Path, content: bytes) -> None:
    """A compressed file that cannot even begin is refused by name, before anything is made."""
    path = file_with(tmp_path, content)
    with pytest.raises(UsageError, match="cannot be read: ") as caught:
        read_file(path)
    assert caught.value.message.startswith(path)


@pytest.mark.parametrize("content", [b"", gzip.compress(b"", mtime=0), zstd.compress(b"")])
def test_an_empty_input_is_a_usage_error(tmp_path: Path, content: bytes) -> None:
    """An input without a byte is refused with an example of a line."""
    with pytest.raises(UsageError, match="is empty") as caught:
        read_file(file_with(tmp_path, content))
    assert caught.value.hint
    assert "instructor_persona" in caught.value.hint


def test_a_folder_is_a_usage_error(tmp_path: Path) -> None:
    """A folder is refused as what it is."""
    with pytest.raises(UsageError, match="is a folder"):
        open_input(str(tmp_path))


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    """A path where nothing is is refused, naming it."""
    path = str(tmp_path / "pears.jsonl")
    with pytest.raises(UsageError, match="no such file") as caught:
        open_input(path)
    assert caught.value.message.startswith(path)


def test_a_closed_standard_input_is_a_usage_error(tmp_path: Path) -> None:
    """Without a standard input, `magpie generate -` ends with a usage error, not a traceback."""
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -m magpie_cli generate - --engine echo <&-', sys.executable],
        capture_output=True,
        cwd=tmp_path,
        env=clean_environment(),
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"standard input" in done.stderr
    assert b"Traceback" not in done.stderr
