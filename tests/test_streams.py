"""What goes where: rows to stdout, talk to stderr, and nobody waits for a slow neighbour."""

import asyncio
import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from magpie_cli.display import ticking
from magpie_cli.display.text import Quiet
from tests.chat_server import ChatServer, refuses
from tests.conftest import Magpie, clean_environment, rows_of
from tests.processes import MAGPIE, PATIENCE, command_started, feed, started, wait_until

Pairs = Callable[..., Path]
ECHO = ("generate", "pairs.jsonl", "--engine", "echo")
NUMBERS = {
    *("total", "skipped", "made", "failed", "in_flight"),
    *("utterances", "tokens", "retries", "sampled_again", "findings", "seconds"),
}


def events_of(stderr: str) -> list[dict[str, Any]]:
    """Each line of a JSON log."""
    return [json.loads(line) for line in stderr.splitlines()]


def test_rows_go_to_stdout_and_talk_to_stderr(magpie: Magpie, pairs: Pairs) -> None:
    """Standard output is rows and nothing else, even where FORCE_COLOR asks for more."""
    path = pairs(3)
    path.write_text(path.read_text() + "oops\n")
    done = magpie(*ECHO, FORCE_COLOR="1", TERM="xterm-256color")
    assert done.returncode == 3
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [next(iter(row)) for row in rows] == ["id"] * 3
    assert "pairs.jsonl:4" in done.stderr
    assert "made 3 dialogues" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("generate", "x", "--turns", "0"), (*ECHO, "-o", "out.jsonl", "--progress=bar")],
    ids=["usage", "bar"],
)
def test_there_is_no_escape_code_off_a_terminal(
    magpie: Magpie, pairs: Pairs, arguments: tuple[str, ...]
) -> None:
    """A usage error and even a wanted bar are plain lines where FORCE_COLOR asks for more."""
    pairs(2)
    done = magpie(*arguments, FORCE_COLOR="1", TERM="xterm-256color")
    assert done.stdout + done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "2/2" not in done.stderr


def test_the_json_log_has_one_object_a_line(magpie: Magpie, pairs: Pairs) -> None:
    """Each event has the same keys from run to run, for programs that read them."""
    path = pairs(2)
    path.write_text(path.read_text() + "oops\n")
    done = magpie(*ECHO, "-o", "out.jsonl", "--log-format", "json")
    start, failure, last = events_of(done.stderr)
    always = {"event", "time"}
    assert [start["event"], failure["event"], last["event"]] == ["start", "failure", "end"]
    assert set(start) == always | {
        *("message", "engine", "model", "why"),
        *("input", "output", "lines", "samples", "set_aside"),
    }
    assert set(failure) == always | {"failure"}
    assert set(failure["failure"]) == {
        *("id", "stage", "kind", "message", "attempts", "transient", "input")
    }
    assert set(last) == always | NUMBERS | {
        *("message", "exit_code", "finished", "stopped_by"),
        *("output", "failures_file", "failures"),
    }
    assert (last["exit_code"], last["made"], last["failed"], last["total"]) == (3, 2, 1, 3)
    assert last["failures"] == {"not_json": 1}


def test_the_json_log_has_errors_too(magpie: Magpie) -> None:
    """An error is an event with its hint, and the end says the exit code."""
    done = magpie("generate", "none.jsonl", "--engine", "echo", "--log-format", "json")
    error, last = events_of(done.stderr)
    assert set(error) == {"event", "time", "message", "hint"}
    assert (error["event"], last["event"], last["exit_code"]) == ("error", "end", 2)
    assert done.returncode == 2


def test_quiet_is_silent_on_success_in_json_too(
    magpie: Magpie, pairs: Pairs, server: ChatServer
) -> None:
    """A retry that helped is no news for whoever said -q."""
    server.faults = iter([refuses(500)])
    command = ("generate", pairs(1), "--base-url", server.url, "-o", "out.jsonl", "-q")
    done = magpie(*command, "--log-format", "json")
    assert len(server.asked) == 3
    assert (done.returncode, done.stderr) == (0, "")


def test_requests_in_flight_do_not_wait_for_a_slow_writer(
    tmp_path: Path, pairs: Pairs, server: ChatServer
) -> None:
    """A pair is made while standard input is open and silent, and the next one after it."""
    first, second = pairs(2).read_text().splitlines(keepends=True)
    server.delay = 0.02
    command = ("generate", "-", "--base-url", server.url, "-o", "out.jsonl", "--turns", "3")
    with started(tmp_path, *command) as process:
        feed(process, first)
        wait_until(lambda: len(server.asked) == 6, "the first dialogue is whole")
        feed(process, second)
        wait_until(lambda: len(server.asked) == 12, "the second dialogue is whole")
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert len(rows_of(tmp_path / "out.jsonl")) == 2


def test_as_many_dialogues_are_in_flight_as_asked_for(
    magpie: Magpie, pairs: Pairs, server: ChatServer
) -> None:
    """-j is the most there ever are, and as many as there really are."""
    server.delay = 0.05
    assert magpie("generate", pairs(12), "--base-url", server.url, "-j", "3").returncode == 0
    assert server.most_in_flight == 3
    assert len(server.asked) == 24


def test_rows_never_become_pairs_of_the_same_run(tmp_path: Path, pairs: Pairs) -> None:
    """`magpie generate pairs.jsonl >> pairs.jsonl` is refused: it would feed on itself."""
    path = pairs(3)
    before = path.read_bytes()
    shell = '"$@" generate pairs.jsonl --engine echo -j 1 --limit 20 >> pairs.jsonl'
    with command_started(tmp_path, "sh", "-c", shell, "sh", *MAGPIE) as process:
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert b"hint: " in said
    assert path.read_bytes() == before


class Unread(Quiet):
    """A display whose reader is gone when it first ticks."""

    interval: float | None = 0.001
    ticks = 0

    def tick(self) -> None:
        """As where a write fails."""
        self.ticks += 1
        self.interval = None


async def test_a_display_that_nobody_reads_ticks_no_more() -> None:
    """The first tick that reaches nobody is the last one."""
    display = Unread(io.StringIO())
    with ticking(display):
        await asyncio.sleep(0.05)
    assert display.ticks == 1


def test_a_log_that_nobody_reads_does_not_stop_the_rows(tmp_path: Path, pairs: Pairs) -> None:
    """With the reader of stderr gone, the run goes on to exit 0."""
    pairs(3)
    with started(tmp_path, *ECHO, "-o", "out.jsonl") as process:
        assert process.stderr
        process.stderr.close()
        assert process.wait(PATIENCE) == 0
    assert len(rows_of(tmp_path / "out.jsonl")) == 3


@pytest.mark.parametrize("output", ["-", "out.jsonl"])
def test_a_closed_stdout_is_no_traceback(tmp_path: Path, pairs: Pairs, output: str) -> None:
    """`>&-` is an error where rows go to stdout, and nothing to speak of where they do not."""
    pairs(2)
    shell = f'"$@" generate pairs.jsonl --engine echo -o {output} >&-'
    done = subprocess.run(
        ["sh", "-c", shell, "sh", *MAGPIE],
        cwd=tmp_path,
        env=clean_environment(),
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    if output == "-":
        assert done.returncode in (1, 2)
    else:
        assert done.returncode == 0
        assert len(rows_of(tmp_path / output)) == 2
