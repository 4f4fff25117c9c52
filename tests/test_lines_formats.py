"""Inputs in another format: what magpie says of them, and whether what it says to type works."""

import codecs
import gzip
import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from magpie_cli.errors import UsageError
from magpie_cli.lines import Line, open_input, read_lines
from tests.conftest import Magpie

ROW = '{"instructor_persona": "Zoë, a botanist", "responding_persona": "un boulanger français"}'
UTF_16 = {
    "little": ROW.encode("utf-16-le"),
    "big": ROW.encode("utf-16-be"),
    "little with a mark": codecs.BOM_UTF16_LE + ROW.encode("utf-16-le"),
    "big with a mark": codecs.BOM_UTF16_BE + ROW.encode("utf-16-be"),
}
ARRAYS = {
    "one line": f"[{ROW}, {ROW}]".encode(),
    "pretty": f"\n[\n  {ROW},\n  {ROW}\n]\n".encode(),
    "with a mark": codecs.BOM_UTF8 + f"[{ROW},\n{ROW}]".encode(),
}

PRETTY = {
    "newline": json.dumps(json.loads(ROW), indent=2).encode() + b"\n" + ROW.encode(),
    "CRLF": json.dumps(json.loads(ROW), indent=2).replace("\n", "\r\n").encode() * 2,
    "with a mark": codecs.BOM_UTF8 + json.dumps(json.loads(ROW), indent=1).encode() * 2,
}

utf_16 = pytest.mark.parametrize("content", UTF_16.values(), ids=UTF_16)
arrays = pytest.mark.parametrize("content", ARRAYS.values(), ids=ARRAYS)
pretty = pytest.mark.parametrize("content", PRETTY.values(), ids=PRETTY)
needs_jq = pytest.mark.skipif(not shutil.which("jq"), reason="needs jq")


def refused(path: Path, content: bytes) -> UsageError:
    """How a file with `content` at `path` is refused."""
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        open_input(str(path))
    assert caught.value.message.startswith(str(path))
    return caught.value


def command_of(error: UsageError) -> str:
    """What the hint says to type, up to its pipe to magpie."""
    assert error.hint
    command, pipe, magpie = error.hint.partition(" | ")
    assert (pipe, magpie) == (" | ", "magpie generate - ...")
    return command


def typed(command: str) -> bytes:
    """What a shell makes of it."""
    return subprocess.run(["sh", "-c", command], capture_output=True, check=True).stdout


@utf_16
def test_utf_16_is_recognised(tmp_path: Path, content: bytes) -> None:
    """UTF-16 is refused as such, in both byte orders, with and without a byte order mark."""
    error = refused(tmp_path / "in.jsonl", content)
    assert "UTF-16" in error.message
    assert command_of(error).startswith("iconv ")


@utf_16
def test_utf_16_is_recognised_within_gzip(tmp_path: Path, content: bytes) -> None:
    """What counts is the content, not its compression."""
    assert "UTF-16" in refused(tmp_path / "in.jsonl.gz", gzip.compress(content)).message


@utf_16
@pytest.mark.skipif(not shutil.which("iconv"), reason="needs iconv")
def test_the_iconv_line_mends_utf_16(tmp_path: Path, content: bytes) -> None:
    """The command in the hint makes of the file what magpie reads, whatever its byte order."""
    error = refused(tmp_path / "in.jsonl", content)
    mended = tmp_path / "mended.jsonl"
    mended.write_bytes(typed(command_of(error)))
    with open_input(str(mended)) as stream:
        assert list(read_lines(stream, "mended.jsonl")) == [Line(1, ROW.encode())]


@arrays
def test_a_json_array_is_recognised(tmp_path: Path, content: bytes) -> None:
    """One JSON array, also over several lines, is refused as such."""
    error = refused(tmp_path / "in.json", content)
    assert "one JSON array" in error.message
    assert shlex.split(command_of(error)) == ["jq", "-c", ".[]", str(tmp_path / "in.json")]


def test_the_jq_line_suits_every_shell(tmp_path: Path) -> None:
    """The brackets in the hint are quoted, for zsh takes them for a pattern of file names."""
    assert "'.[]'" in command_of(refused(tmp_path / "in.json", b"[]"))


@pretty
def test_pretty_printed_json_is_recognised(tmp_path: Path, content: bytes) -> None:
    """Objects that are spread over several lines are refused as such."""
    error = refused(tmp_path / "in.json", content)
    assert "over several lines" in error.message
    assert shlex.split(command_of(error)) == ["jq", "-c", ".", str(tmp_path / "in.json")]


@needs_jq
@arrays
def test_the_jq_line_mends_an_array(tmp_path: Path, content: bytes) -> None:
    """The command in the hint gives one object a line."""
    lines = typed(command_of(refused(tmp_path / "in.json", content))).splitlines()
    assert [json.loads(line) for line in lines] == [json.loads(ROW)] * 2


@needs_jq
@pretty
def test_the_jq_line_mends_pretty_printed_json(tmp_path: Path, content: bytes) -> None:
    """The command in the hint gives one object a line."""
    lines = typed(command_of(refused(tmp_path / "in.json", content))).splitlines()
    assert [json.loads(line) for line in lines] == [json.loads(ROW)] * 2


@pytest.mark.parametrize(
    "content",
    [UTF_16["little"], ARRAYS["pretty"], PRETTY["newline"]],
    ids=["UTF-16", "array", "pretty"],
)
def test_a_hint_can_be_typed_whatever_the_name_of_the_file(tmp_path: Path, content: bytes) -> None:
    """A path with a space in it is one word of the command."""
    path = tmp_path / "my pairs.jsonl"
    assert shlex.split(command_of(refused(path, content)))[-1] == str(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(UTF_16["little"], "UTF-16"), (ARRAYS["pretty"], "one JSON array"), (b"", "empty")],
    ids=["UTF-16", "array", "empty"],
)
def test_standard_input_is_called_so(magpie: Magpie, content: bytes, reason: str) -> None:
    """A pipe in another format is refused like a file, under the name that a person gives it."""
    done = magpie("generate", "-", "--engine", "echo", stdin=content)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: standard input is ")
    assert reason in done.stderr
