"""A run that is interrupted: what it finishes, how it dies, and what the same command does then."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGPIPE, SIGTERM, Signals

import pytest
from aiohttp import web

from magpie_cli.records import Record
from magpie_cli.status import status
from tests.chat_server import ChatServer, hangs
from tests.conftest import PAIR, Magpie
from tests.processes import (
    MAGPIE,
    command_started,
    end,
    feed,
    killed_at,
    started,
    wait_for_row,
    wait_for_words,
    wait_until,
    waiting_in,
)

Pairs = Callable[..., Path]


def rows_of(output: Path) -> list[bytes]:
    """The lines of an output, each of which is whole and reads back as a record."""
    lines = output.read_bytes().splitlines(keepends=True)
    assert all(Record.from_json(line) and line.endswith(b"\n") for line in lines)
    return lines


def ids_of(output: Path) -> set[str]:
    """The ids of an output, in which none stands twice."""
    ids = [Record.from_json(line).id for line in rows_of(output)]
    assert len(set(ids)) == len(ids)
    return set(ids)


@pytest.mark.parametrize("number", [SIGINT, SIGTERM, SIGHUP])
def test_the_first_signal_finishes_what_is_in_flight(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, server: ChatServer, number: Signals
) -> None:
    """It dies by the signal once every dialogue it began is a row; the rest can follow."""
    pairs(40)
    server.delay = 0.05
    command = ("generate", "pairs.jsonl", "--base-url", server.url, "-o", "out.jsonl", "-j", "3")
    with started(tmp_path, *command) as process:
        wait_for_row(tmp_path / "out.jsonl")
        process.send_signal(number)
        code, said = end(process)
    assert code == -number
    assert f"{number.name}: finishing the dialogues in flight" in said
    assert f"stopped by {number.name}" in said
    assert "Traceback" not in said
    made = rows_of(tmp_path / "out.jsonl")
    assert len(made) < 40
    assert len(server.asked) == 2 * len(made)
    server.delay = 0
    assert magpie(*command).returncode == 0
    assert len(server.asked) == 80
    assert len(ids_of(tmp_path / "out.jsonl")) == 40
    assert not (tmp_path / "out.failures.jsonl").exists()


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_the_second_signal_stops_at_once(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, server: ChatServer, number: Signals
) -> None:
    """A server that never answers cannot hold back whoever asks twice."""
    pairs(4)
    server.faults = iter([None, None, hangs, hangs])
    command = ("generate", "pairs.jsonl", "--base-url", server.url, "-o", "out.jsonl", "-j", "2")
    with started(tmp_path, *command) as process:
        wait_until(lambda: len(server.asked) == 4, "two requests hang")
        process.send_signal(number)
        wait_for_words(process, "once more stops at once")
        process.send_signal(number)
        code, said = end(process)
    assert code == -number
    assert f"stopped by {number.name}" in said
    assert "Traceback" not in said
    rows_of(tmp_path / "out.jsonl")
    assert magpie(*command).returncode == 0
    assert len(ids_of(tmp_path / "out.jsonl")) == 4


def test_a_reader_that_has_enough_ends_the_run(tmp_path: Path, pairs: Pairs) -> None:
    """`| head -1` gets its row, and magpie dies by SIGPIPE without a word of complaint."""
    pairs(2000)
    with started(tmp_path, "generate", "pairs.jsonl", "--engine", "echo") as process:
        assert process.stdout
        row = process.stdout.readline()
        process.stdout.close()
        code, said = end(process)
    assert json.loads(row)["id"]
    assert code == -SIGPIPE
    [start] = said.splitlines()
    assert "2,000 lines of pairs.jsonl" in start


def test_a_reader_that_pauses_does_not_make_it_deaf(tmp_path: Path, pairs: Pairs) -> None:
    """With the pipe behind stdout full, the first signal is heard and the second is enough."""
    pairs(2000)
    with started(tmp_path, "generate", "pairs.jsonl", "--engine", "echo") as process:
        assert process.stdout
        pipe = process.stdout.fileno()
        wait_until(lambda: waiting_in(pipe) > 50_000, "the pipe is full")
        process.send_signal(SIGINT)
        wait_for_words(process, "once more stops at once")
        process.send_signal(SIGINT)
        code, said = end(process)
    assert code == -SIGINT
    assert "Traceback" not in said


def test_it_stops_while_its_input_says_nothing(tmp_path: Path) -> None:
    """SIGINT before the first byte of a pipe ends it, by SIGINT, with nothing created."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with started(tmp_path, "generate", "pipe", "--engine", "echo", "-o", "out.jsonl") as process:
        writer = os.open(pipe, os.O_WRONLY)  # returns when magpie has opened the other end
        try:
            process.send_signal(SIGINT)
            code, said = end(process)
        finally:
            os.close(writer)
    assert code == -SIGINT
    assert "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_it_stops_while_its_input_pauses(tmp_path: Path, number: Signals) -> None:
    """One signal is enough while standard input is open and silent, and the rows so far stay."""
    with started(tmp_path, "generate", "-", "--engine", "echo", "-o", "out.jsonl") as process:
        feed(process, json.dumps(PAIR) + "\n")
        wait_for_row(tmp_path / "out.jsonl")
        process.send_signal(number)
        code, said = end(process)
    assert code == -number
    assert "Fatal" not in said
    assert len(ids_of(tmp_path / "out.jsonl")) == 1


def test_it_stops_in_the_middle_of_lines_that_need_no_request(tmp_path: Path) -> None:
    """A long stretch of bad lines, each dealt with at once, does not make it deaf to SIGINT."""
    total = 60_000
    (tmp_path / "pairs.jsonl").write_text("oops\n" * total)
    failures = tmp_path / "out.failures.jsonl"
    command = ("generate", "pairs.jsonl", "--engine", "echo", "-o", "out.jsonl")
    with started(tmp_path, *command) as process:
        wait_until(lambda: failures.exists() and failures.stat().st_size, "a failure is kept")
        process.send_signal(SIGINT)
        code, _ = end(process)
    assert code == -SIGINT
    assert failures.read_bytes().count(b"\n") < total


def test_it_stops_while_the_server_keeps_its_models_to_itself(
    tmp_path: Path, pairs: Pairs, server: ChatServer
) -> None:
    """SIGINT while the list of models hangs ends it at once, with nothing created."""
    pairs(1)
    heard: list[str] = []

    async def listing(request: web.Request) -> web.StreamResponse:
        heard.append(request.path)
        return await hangs(request)

    server.listing = listing
    command = ("generate", "pairs.jsonl", "--base-url", server.url, "-o", "out.jsonl")
    with started(tmp_path, *command) as process:
        wait_until(lambda: heard, "the list of models is asked for")
        process.send_signal(SIGINT)
        code, said = end(process)
    assert code == -SIGINT
    assert "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.jsonl"]


def test_a_signal_that_was_ignored_stays_ignored(tmp_path: Path, pairs: Pairs) -> None:
    """Under nohup a closed terminal (SIGHUP) does not end the run."""
    pairs(6)
    shell = """trap "" HUP; exec "$@" generate pairs.jsonl --engine echo --echo-delay 0.1 \
               -o out.jsonl -j 1"""
    with command_started(tmp_path, "sh", "-c", shell, "sh", *MAGPIE) as process:
        wait_for_row(tmp_path / "out.jsonl")
        assert len(rows_of(tmp_path / "out.jsonl")) < 6
        process.send_signal(SIGHUP)
        code, said = end(process)
    assert code == 0
    assert "SIGHUP" not in said
    assert len(ids_of(tmp_path / "out.jsonl")) == 6


def test_no_row_is_lost_or_made_twice_by_kill_9(
    tmp_path: Path, magpie: Magpie, pairs: Pairs
) -> None:
    """Killed at several random moments and run until done, the rows are those of one quiet run."""
    total = 120
    pairs(total)
    command = ("generate", "pairs.jsonl", "--engine", "echo", "-j", "4", "-o")
    slowly = (*command, "out.jsonl", "--echo-delay", "0.01")
    output = tmp_path / "out.jsonl"
    chance = random.Random()  # noqa: S311 - any moment will do
    size = kills = 0
    for _ in range(4):
        kills += killed_at(size + chance.randrange(1, 12_000), tmp_path, *slowly)
        size = output.stat().st_size
        if chance.random() < 0.5:  # as if the last write had been cut in the middle
            size -= chance.randrange(1, 200)
            os.truncate(output, size)
    assert kills
    assert magpie(*slowly).returncode == 0
    assert magpie(*command, "quiet.jsonl").returncode == 0
    assert len(ids_of(output)) == total
    assert sorted(rows_of(output)) == sorted(rows_of(tmp_path / "quiet.jsonl"))
    found = status(str(output))
    assert (found.done, found.failed, found.left) == (total, 0, 0)
