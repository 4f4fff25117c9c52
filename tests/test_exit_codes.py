"""How `magpie generate` ends: 0, 1, 2, 3 or 75, and what it says then."""

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from magpie_cli.errors import UsageError
from magpie_cli.store import check_output
from tests.chat_server import ChatServer, refuses
from tests.conftest import Magpie, clean_environment, rows_of
from tests.processes import end, feed, started
from tests.test_store import snapshot

Pairs = Callable[..., Path]
ECHO = ("generate", "pairs.jsonl", "--engine", "echo")


@pytest.mark.parametrize(
    ("more", "bad_line", "code_and_lines"),
    [
        pytest.param((), "", (0, 0), id="all made"),
        pytest.param((), "oops\n", (3, 1), id="some failed"),
        pytest.param(("--limit", "1"), "", (75, 1), id="some left"),
        pytest.param(("--base-url", "http://127.0.0.1:1/v1"), "", (1, 2), id="no server"),
        pytest.param(("--engine", "nobody"), "", (2, 2), id="no such engine"),
    ],
)
def test_each_end_has_its_code_and_quiet_keeps_to_it(
    magpie: Magpie,
    pairs: Pairs,
    more: tuple[str, ...],
    bad_line: str,
    code_and_lines: tuple[int, int],
) -> None:
    """With -q success is silent, an unwanted end is one line, and an error brings its hint."""
    path = pairs(2)
    path.write_text(path.read_text() + bad_line)
    engine = () if more[:1] in (("--base-url",), ("--engine",)) else ("--engine", "echo")
    done = magpie("generate", path, *engine, "-o", "out.jsonl", "-q", *more)
    assert (done.returncode, done.stderr.count("\n")) == code_and_lines
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        ("{}", ("-o", "in.jsonl"), "is the input itself"),
        ("{}", ("-o", "link.jsonl"), "is the input itself"),
        ("{}", ("-o", "."), "is a folder"),
        ("{}", ("-o", "none/out.jsonl"), "there is no such folder"),
        ("", ("-o", "out.jsonl"), "is empty"),
        (None, ("-o", "out.jsonl"), "there is no such file"),
        ("{}".encode("utf-16").decode("latin-1"), ("-o", "out.jsonl"), "is UTF-16"),
    ],
    ids=[
        "output is the input",
        "output leads to the input",
        "output is a folder",
        "folder is missing",
        "input is empty",
        "input is missing",
        "input is UTF-16",
    ],
)
def test_what_cannot_be_used_is_one_sentence_and_a_hint(
    tmp_path: Path, magpie: Magpie, content: str | None, arguments: tuple[str, ...], said: str
) -> None:
    """It is exit 2, before anything is created."""
    if content is not None:
        (tmp_path / "in.jsonl").write_text(content, "latin-1")
    (tmp_path / "link.jsonl").symlink_to("in.jsonl")
    before = snapshot(tmp_path)
    done = magpie("generate", "in.jsonl", "--engine", "echo", *arguments)
    assert done.returncode == 2
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert said in error
    assert hint.startswith("hint: ")
    assert len(hint) > len("hint: ")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    "flag", ["--concurrency", "--samples", "--seed", "--max-tokens", "--temperature", "--turns"]
)
def test_a_number_that_is_a_slip_is_refused(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, flag: str
) -> None:
    """It takes no memory, and leaves no file."""
    path = pairs(1)
    before = snapshot(tmp_path)
    done = magpie("generate", path, "--engine", "echo", "-o", "out.jsonl", flag, "9" * 23)
    assert done.returncode == 2, done.stderr
    assert flag in done.stderr
    assert "Traceback" not in done.stderr
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("length", [250, 300])
def test_a_name_that_is_too_long_is_named(magpie: Magpie, pairs: Pairs, length: int) -> None:
    """Its own, or that of the failures beside it."""
    done = magpie("generate", pairs(1), "--engine", "echo", "-o", "o" * length)
    assert done.returncode in (1, 2)
    assert "File name too long" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_link_that_leads_to_itself_is_no_file(tmp_path: Path, magpie: Magpie) -> None:
    """Wherever it is named."""
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "pairs.jsonl").write_text('{"instructor_persona":"a","responding_persona":"b"}\n')
    for more in (("-o", "loop"), ("-o", "out.jsonl", "--failures", "loop")):
        done = magpie(*ECHO, *more)
        assert done.returncode in (1, 2), done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [("doctor",), ("models",), ("stats", "out.jsonl"), ("--help",)])
def test_an_answer_that_cannot_be_written_is_an_error(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, command: tuple[str, ...]
) -> None:
    """On a full disk, in one line; without a standard output there is nothing to say."""
    assert magpie("generate", pairs(1), "--engine", "echo", "-o", "out.jsonl").returncode == 0
    magpie_here = (sys.executable, "-m", "magpie_cli", *command)
    for redirection, code in ((">/dev/full", 1), (">&-", 0)):
        done = subprocess.run(
            ("/bin/sh", "-c", f'"$@" {redirection}', "sh", *magpie_here),
            cwd=tmp_path,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert ("No space left" in done.stderr) == (code == 1)
        assert "Traceback" not in done.stderr
        assert "Exception" not in done.stderr


@pytest.mark.parametrize(
    ("output", "failures", "source"),
    [
        ("in.jsonl", None, "in.jsonl"),
        ("hard.jsonl", None, "in.jsonl"),
        ("out.jsonl", "in.jsonl", "in.jsonl"),
        ("-", "in.jsonl", "in.jsonl"),
        ("out.jsonl", None, "out.failures.jsonl"),
        ("out.jsonl", "./out.jsonl", "in.jsonl"),
    ],
)
def test_no_file_plays_two_parts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    output: str,
    failures: str | None,
    source: str,
) -> None:
    """Input, output and failures are three files, the failures' own place beside OUT included."""
    monkeypatch.chdir(tmp_path)
    for name in ("in.jsonl", "out.failures.jsonl"):
        Path(name).write_text("{}\n")
    Path("hard.jsonl").hardlink_to("in.jsonl")
    with pytest.raises(UsageError) as refused:
        check_output(output, failures, source)
    assert refused.value.hint


@pytest.mark.parametrize("piped", [False, True], ids=["file", "standard input"])
def test_strict_stops_before_the_first_request(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, server: ChatServer, *, piped: bool
) -> None:
    """One bad line is exit 2 with its number, and the server hears nothing at all."""
    heard: list[str] = []

    async def listing(request: web.Request) -> web.StreamResponse:
        heard.append(request.path)
        return web.json_response({"data": [{"id": "tiny"}]})

    server.listing = listing
    path = pairs(3)
    text = path.read_text() + "oops\n"
    path.write_text(text)
    before = snapshot(tmp_path)
    source = "-" if piped else "pairs.jsonl"
    done = magpie(
        "generate", source, "--base-url", server.url, "-o", "o.jsonl", "--strict", stdin=text
    )
    assert done.returncode == 2
    assert f"{'standard input' if piped else 'pairs.jsonl'}:4: " in done.stderr
    assert "hint: " in done.stderr
    assert (heard, server.asked) == ([], [])
    assert snapshot(tmp_path) == before


def test_a_key_that_is_withdrawn_fails_the_run_and_no_pair(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, server: ChatServer
) -> None:
    """A 401 in the middle is exit 1: rows stay, no pair is a failure, the rest can follow."""
    pairs(5)
    command = ("generate", "pairs.jsonl", "--base-url", server.url, "-o", "out.jsonl", "-j", "2")
    server.faults = iter([None] * 4 + [refuses(401, "key expired")] * 2)
    done = magpie(*command)
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "key expired" in done.stderr
    assert "hint: " in done.stderr
    made = len(rows_of(tmp_path / "out.jsonl"))
    assert 0 < made < 5
    failures = tmp_path / "out.failures.jsonl"
    assert not failures.exists() or not failures.read_bytes()
    server.faults = iter(())  # the run may have ended before it met the second
    server.asked.clear()
    assert magpie(*command).returncode == 0
    missing = 2 * (5 - made)
    assert missing - 2 <= len(server.asked) <= missing  # what was said is not asked again
    assert len({row["id"] for row in rows_of(tmp_path / "out.jsonl")}) == 5


def test_a_server_that_wants_hours_of_patience_is_left_alone(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, server: ChatServer
) -> None:
    """Retry-After: 9999 is exit 75 with the time to come back, and no pair is a failure."""
    server.faults = iter([refuses(429, "too many", Retry_After="9999")])
    command = ("generate", pairs(2), "--base-url", server.url, "-o", "out.jsonl", "-j", "1")
    done = magpie(*command)
    assert done.returncode == 75
    assert "9999 s" in done.stderr
    assert "hint: run the same command again after " in done.stderr
    assert magpie(*command).returncode == 0
    assert len(rows_of(tmp_path / "out.jsonl")) == 2
    assert not (tmp_path / "out.failures.jsonl").exists()


def test_a_pipe_that_breaks_off_keeps_what_came_before(tmp_path: Path, magpie: Magpie) -> None:
    """A cut gzip stream is exit 1 that names the last good line, after the rows before it."""
    rows = [f'{{"instructor_persona":"{os.urandom(3000).hex()}","responding_persona":"b"}}\n'] * 40
    text = gzip.compress("".join(rows[:1] * 40).encode() + os.urandom(50_000))
    done = magpie("generate", "-", "--engine", "echo", "-o", "o.jsonl", stdin=text[:-40_000])
    assert done.returncode == 1
    assert "standard input breaks off after line " in done.stderr
    assert "hint: " in done.stderr
    assert len(rows_of(tmp_path / "o.jsonl")) >= 1


def test_an_engine_that_refuses_does_not_wait_for_a_slow_writer(
    tmp_path: Path, pairs: Pairs, server: ChatServer
) -> None:
    """A 401 ends the run with exit 1 though standard input is still open and silent."""
    text = pairs(1).read_text()
    server.faults = iter([refuses(401)])
    with started(tmp_path, "generate", "-", "--base-url", server.url) as process:
        feed(process, text)
        code, said = end(process)
    assert code == 1
    assert "401" in said
    assert "Fatal" not in said
