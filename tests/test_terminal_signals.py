"""Signals as a terminal sends them, and runs whose terminal or streams have gone."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM

import pexpect  # type: ignore[import-untyped] # it ships no types
import pytest

from magpie_cli.display import ticking
from magpie_cli.display.bar import Bar
from magpie_cli.tally import Tally
from tests.conftest import Magpie, clean_environment
from tests.processes import MAGPIE, PATIENCE, wait_for_row
from tests.test_signals import ids_of

Pairs = Callable[..., Path]

TOTAL = 12
COMMAND = ("generate", "pairs.jsonl", "--engine", "echo", "-o", "out.jsonl", "-j", "2")
SLOW = ("--echo-delay", "0.05")
HANGS = ("--echo-delay", "30")
SHOW_CURSOR, HIDE_CURSOR = b"\x1b[?25h", b"\x1b[?25l"


@contextmanager
def on_terminal(folder: Path, *command: str) -> Iterator[pexpect.spawn]:
    """`command` as the leader of a session with a terminal of its own."""
    child = pexpect.spawn(
        command[0],
        [*command[1:]],
        cwd=str(folder),
        env=clean_environment() | {"TERM": "xterm-256color"},
        dimensions=(30, 100),
        timeout=PATIENCE,
    )
    try:
        yield child
    finally:
        child.close(force=True)


def died(child: pexpect.spawn) -> tuple[int | None, bytes]:
    """The signal that it died by, and what it had said by then."""
    child.expect(pexpect.EOF)
    said: bytes = child.before
    child.close()
    return child.signalstatus, said


def finish(folder: Path, magpie: Magpie) -> None:
    """The same command makes the rest, and verify has nothing to say."""
    assert magpie(*COMMAND).returncode == 0
    assert len(ids_of(folder / "out.jsonl")) == TOTAL
    assert magpie("verify", "out.jsonl", "--input", "pairs.jsonl").returncode == 0


def test_ctrl_c_once_finishes_what_is_in_flight(
    tmp_path: Path, magpie: Magpie, pairs: Pairs
) -> None:
    """It says so, gives the cursor back, dies by SIGINT, and says what to type next."""
    pairs(TOTAL)
    with on_terminal(tmp_path, *MAGPIE, *COMMAND, *SLOW) as child:
        wait_for_row(tmp_path / "out.jsonl")
        child.sendintr()
        child.expect("SIGINT: finishing the dialogues in flight")
        number, said = died(child)
    assert number == SIGINT
    assert b"stopped by SIGINT" in said
    assert b"Next: " in said
    assert said.rindex(SHOW_CURSOR) > said.rfind(HIDE_CURSOR)
    assert b"Traceback" not in said
    assert 0 < len(ids_of(tmp_path / "out.jsonl")) < TOTAL
    finish(tmp_path, magpie)


@pytest.mark.parametrize("times", [2, 3])
def test_ctrl_c_again_stops_at_once(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, times: int
) -> None:
    """Twice, or thrice in a hurry: no request is waited for, and the terminal is as it was.

    From the moment that the bar hides the cursor, even before the first dialogue begins.
    """
    pairs(TOTAL)
    with on_terminal(tmp_path, *MAGPIE, *COMMAND, *HANGS) as child:
        child.expect("0/12")
        for _ in range(times - 1):
            child.sendintr()
        child.expect("once more stops at once")
        child.sendintr()
        number, said = died(child)
    assert number == SIGINT
    assert said.rindex(SHOW_CURSOR) > said.rfind(HIDE_CURSOR)
    assert b"Traceback" not in said
    finish(tmp_path, magpie)


async def test_the_bar_is_down_before_a_signal_kills_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A third Ctrl-C, once nobody waits for one any more, finds the terminal as it was."""
    monkeypatch.setenv("TERM", "xterm")
    theirs, ours = os.openpty()
    with open(ours, "w", encoding="utf-8") as stream:  # noqa: ASYNC230, PTH123 - a terminal
        bar = Bar(Tally(), stream, keeps_failures=True)
        with ticking(bar):
            bar.start("begun", {})
    said = b""
    with suppress(OSError):  # the end of a terminal that nobody holds any more
        while piece := os.read(theirs, 65_536):
            said += piece
    os.close(theirs)
    assert said.rindex(SHOW_CURSOR) > said.rindex(HIDE_CURSOR)


def test_sigterm_drains_on_a_terminal_too(tmp_path: Path, magpie: Magpie, pairs: Pairs) -> None:
    """It dies by SIGTERM with what was in flight as rows, and gives the cursor back."""
    pairs(TOTAL)
    with on_terminal(tmp_path, *MAGPIE, *COMMAND, *SLOW) as child:
        wait_for_row(tmp_path / "out.jsonl")
        child.kill(SIGTERM)
        number, said = died(child)
    assert number == SIGTERM
    assert b"stopped by SIGTERM" in said
    assert said.rindex(SHOW_CURSOR) > said.rfind(HIDE_CURSOR)
    finish(tmp_path, magpie)


def hang_up(child: pexpect.spawn) -> int:
    """Close the terminal, as a lost connection does; how the process ended, as Popen says it."""
    child.ptyproc.fileobj.close()
    child.closed = True
    _, status = os.waitpid(child.pid, 0)
    child.ptyproc.closed = child.ptyproc.terminated = True
    return os.waitstatus_to_exitcode(status)


def test_a_lost_terminal_drains(tmp_path: Path, magpie: Magpie, pairs: Pairs) -> None:
    """SIGHUP with nobody left to talk to: what was in flight is finished, and nothing is torn."""
    pairs(TOTAL)
    with on_terminal(tmp_path, *MAGPIE, *COMMAND, *SLOW) as child:
        wait_for_row(tmp_path / "out.jsonl")
        assert hang_up(child) == -SIGHUP
    assert 0 < len(ids_of(tmp_path / "out.jsonl")) < TOTAL
    finish(tmp_path, magpie)


def test_nohup_outlives_its_terminal(tmp_path: Path, pairs: Pairs) -> None:
    """Under nohup the run goes on to its end, exit 0, and its log is in nohup.out."""
    pairs(TOTAL)
    with on_terminal(tmp_path, "nohup", *MAGPIE, *COMMAND, *SLOW) as child:
        wait_for_row(tmp_path / "out.jsonl")
        assert hang_up(child) == 0
    assert len(ids_of(tmp_path / "out.jsonl")) == TOTAL
    log = (tmp_path / "nohup.out").read_bytes()
    assert b"made 12 dialogues" in log
    assert b"\x1b" not in log


@pytest.mark.parametrize(
    "closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full"]
)
@pytest.mark.parametrize("more", ["", "--progress=bar", "--log-format=json"])
def test_closed_streams_cost_no_row(tmp_path: Path, pairs: Pairs, closed: str, more: str) -> None:
    """Whatever stream is closed, the rows are all there, and no word of the log among them."""
    path = pairs(TOTAL)
    path.write_text(path.read_text() + "oops\n")
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {more} {closed}', "sh", *MAGPIE, *COMMAND],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert b"Traceback" not in done.stderr
    assert b"\x1b" not in done.stdout + done.stderr
    assert len(ids_of(tmp_path / "out.jsonl")) == TOTAL
    assert (tmp_path / "out.failures.jsonl").read_bytes().count(b"\n") == 1


@pytest.mark.parametrize(
    "command", ["verify out.jsonl", "repair out.jsonl", "verify none", "repair out.jsonl --yes"]
)
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-"])
def test_answers_without_a_stream_are_no_traceback(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, command: str, closed: str
) -> None:
    """The exit code of verify and repair stays what it is where nobody can read their answer."""
    pairs(2)
    assert magpie(*COMMAND).returncode == 0
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {command} {closed}', "sh", *MAGPIE],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"Traceback" not in done.stderr
    assert done.returncode == (2 if "none" in command else 0)


def test_quiet_success_says_nothing_whatever_is_limited(
    tmp_path: Path, magpie: Magpie, pairs: Pairs
) -> None:
    """I13: with -q, limits that were not reached and a tail that was mended are no news."""
    pairs(3)
    limits = ("--max-failures", "5%", "--max-time", "1h", "--max-tokens-total", "1000000")
    quietly = (*COMMAND, "-q", "--fsync", "always", "--wait-lock", "1s", *limits)
    for _ in range(2):
        done = magpie(*quietly, FORCE_COLOR="1")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        with (tmp_path / "out.jsonl").open("ab") as file:
            file.write(b'{"id":"torn')
