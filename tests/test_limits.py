"""What ends a run before its input does, on purpose: time, tokens, too many failures."""

from itertools import chain, repeat
from pathlib import Path

import pytest

from tests.chat_server import ChatServer, answer, refuses, says
from tests.conftest import PAIR, Magpie, rows_of
from tests.test_failures import BAD, pair, write

ECHO = ("generate", "pairs.jsonl", "--engine", "echo", "-o", "out.jsonl")
OUT = ("-o", "out.jsonl")


def pairs(folder: Path, number: int, *more: str) -> str:
    """An input of so many good pairs, with `more` lines in front."""
    return write(folder / "pairs.jsonl", *more, *(pair(f"p{n}") for n in range(number)))


def made(folder: Path) -> int:
    """How many rows there are."""
    return len(rows_of(folder / "out.jsonl"))


@pytest.mark.parametrize(
    ("most", "failing", "code"),
    [("0", 1, 3), ("1", 1, 3), ("1", 2, 3), ("5", 5, 3), ("30%", 3, 3), ("100%", 9, 3)],
)
def test_as_many_may_fail_as_are_allowed(
    tmp_path: Path, magpie: Magpie, server: ChatServer, *, most: str, failing: int, code: int
) -> None:
    """Up to N failures, or X % of the input's lines, the run goes through; one more ends it."""
    allowed = round(int(most.removesuffix("%")) / 10) if most.endswith("%") else int(most)
    server.faults = chain(repeat(refuses(400), failing), repeat(None))
    command = ("generate", pairs(tmp_path, 10), "--base-url", server.url, *OUT, "-j", "1")
    done = magpie(*command, "--max-failures", most)
    assert done.returncode == code
    stops = f"more than --max-failures {most}" in done.stderr
    assert stops == (failing > allowed)
    assert len(rows_of(tmp_path / "out.failures.jsonl")) == min(failing, allowed + 1)
    assert made(tmp_path) == (0 if stops else 10 - failing)


def test_allowed_failures_do_not_hide_that_there_were_too_many(
    tmp_path: Path, magpie: Magpie
) -> None:
    """--allow-failures makes 0 of 3 where the input is through, not where the run was stopped."""
    pairs(tmp_path, 4, BAD, BAD)
    assert magpie(*ECHO, "--allow-failures", "--max-failures", "1", "-j", "1").returncode == 3
    assert made(tmp_path) == 0
    done = magpie(*ECHO, "--allow-failures")
    assert done.returncode == 0
    assert "2 failed (missing_persona 2)" in done.stderr
    assert made(tmp_path) == 4


def test_a_share_of_a_pipe_waits_for_a_few_outcomes(tmp_path: Path, magpie: Magpie) -> None:
    """Where nobody knows the total, the share is one of what was seen, of 20 at least."""
    first = "".join(f"{line}\n" for line in [BAD, *(pair(f"p{n}") for n in range(30))])
    command = ("generate", "-", "--engine", "echo", *OUT, "--max-failures", "5%", "-j", "1")
    assert magpie(*command, stdin=first).returncode == 3
    assert made(tmp_path) == 30
    stopped = magpie(*command, "--fresh", stdin=f"{BAD}\n{BAD}\n{first}")
    assert stopped.returncode == 3
    assert "2 failed, more than --max-failures 5%" in stopped.stderr


def test_failures_of_earlier_runs_are_not_counted_again(
    tmp_path: Path, magpie: Magpie, server: ChatServer
) -> None:
    """--max-failures is about this run: what failed before and is passed over takes none of it."""
    server.faults = iter([refuses(400)] * 3)
    command = ("generate", pairs(tmp_path, 6), "--base-url", server.url, *OUT, "-j", "1")
    assert magpie(*command, "--limit", "3").returncode == 75
    done = magpie(*command, "--max-failures", "0")
    assert done.returncode == 3
    assert "more than" not in done.stderr
    assert made(tmp_path) == 3


@pytest.mark.parametrize("given", ["", "x", "-1", "101%", "%", "nan", "inf", "1e999", "5 %%"])
def test_what_is_no_number_of_failures_is_refused(
    tmp_path: Path, magpie: Magpie, given: str
) -> None:
    """It is exit 2 with an example, before anything is created."""
    pairs(tmp_path, 1)
    done = magpie(*ECHO, f"--max-failures={given}")
    assert (done.returncode, "as 10, or as 5%" in done.stderr) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.jsonl"]


def test_a_run_ends_when_its_time_is_over(tmp_path: Path, magpie: Magpie) -> None:
    """After --max-time no dialogue begins: exit 75, and the same command goes on to the end."""
    pairs(tmp_path, 40)
    stopped = magpie(*ECHO, "--echo-delay", "0.05", "-j", "1", "--max-time", "0.6")
    assert stopped.returncode == 75
    assert "--max-time 0.6 s is reached" in stopped.stderr
    assert 0 < made(tmp_path) < 40
    assert magpie(*ECHO, "--max-time", "1d").returncode == 0
    assert made(tmp_path) == 40


def test_no_time_at_all_makes_nothing(tmp_path: Path, magpie: Magpie) -> None:
    """--max-time 0 is over before the first dialogue, or the first few that were begun."""
    pairs(tmp_path, 40)
    assert magpie(*ECHO, "--max-time", "0", "--echo-delay", "0.1", "-j", "1").returncode == 75
    assert made(tmp_path) <= 1


def test_a_limit_that_all_dialogues_were_made_within_is_no_news(
    tmp_path: Path, magpie: Magpie, server: ChatServer
) -> None:
    """Tokens or time that run out with the last dialogue leave nothing to do: exit 0."""
    command = ("generate", pairs(tmp_path, 2), "--base-url", server.url, *OUT, "-j", "1")
    assert magpie(*command, "--max-tokens-total", "60").returncode == 0  # 4 requests of 15
    assert made(tmp_path) == 2
    echo = (*ECHO, "--fresh", "--echo-delay", "0.3", "-j", "2", "--max-time", "0.2")
    assert magpie(*echo).returncode == 0
    assert made(tmp_path) == 2


def test_a_run_ends_when_its_tokens_are_spent(
    tmp_path: Path, magpie: Magpie, server: ChatServer
) -> None:
    """Prompts count as answers do; a dialogue that is begun is finished; the rest is left."""
    command = ("generate", pairs(tmp_path, 5), "--base-url", server.url, *OUT, "-j", "1")
    stopped = magpie(*command, "--max-tokens-total", "45")
    assert stopped.returncode == 75
    assert "--max-tokens-total 45 is reached" in stopped.stderr
    assert (made(tmp_path), len(server.asked)) == (2, 4)
    assert magpie(*command).returncode == 0
    assert len(server.asked) == 10


def test_a_server_that_does_not_count_is_an_error(
    tmp_path: Path, magpie: Magpie, server: ChatServer
) -> None:
    """Without counts --max-tokens-total cannot be kept: exit 1 after the first row, which stays."""
    uncounted = answer("A word.")
    del uncounted["usage"]
    server.faults = repeat(says(uncounted))
    command = ("generate", pairs(tmp_path, 5), "--base-url", server.url, *OUT, "-j", "1")
    done = magpie(*command, "--max-tokens-total", "1000")
    assert done.returncode == 1
    assert "nobody counts the tokens" in done.stderr
    assert "hint: use --limit or --max-time" in done.stderr
    assert made(tmp_path) == 1


@pytest.mark.parametrize("given", ["90", "90s", "10m", "2h", "1d", "0.5m", "7d"])
def test_times_are_written_as_people_write_them(tmp_path: Path, magpie: Magpie, given: str) -> None:
    """Seconds, or a number with its unit."""
    pairs(tmp_path, 1)
    assert magpie(*ECHO, "--max-time", given, "--wait-lock", given, "-q").returncode == 0


@pytest.mark.parametrize("given", ["", "x", "-1", "10x", "s", "1h30m", "nan", "inf", "8d", "1e9"])
def test_what_is_no_time_is_refused(tmp_path: Path, magpie: Magpie, given: str) -> None:
    """It is exit 2 with examples, before anything is created."""
    pairs(tmp_path, 1)
    done = magpie(*ECHO, f"--max-time={given}")
    assert done.returncode == 2
    assert "90s, 10m, 2h or 1d" in " ".join(done.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.jsonl"]


@pytest.mark.parametrize(
    ("twin", "value", "code"),
    [
        ("MAGPIE_MAX_TIME", "0s", 75),
        ("MAGPIE_MAX_TOKENS_TOTAL", "1", 75),
        ("MAGPIE_MAX_FAILURES", "0", 3),
        ("MAGPIE_ALLOW_FAILURES", "1", 0),
        ("MAGPIE_RETRY_FAILED", "some", 2),
        ("MAGPIE_FSYNC", "never", 2),
        ("MAGPIE_WAIT_LOCK", "soon", 2),
        ("MAGPIE_DISK_WAIT", "long", 2),
    ],
)
def test_each_limit_has_its_twin_in_the_environment(
    tmp_path: Path, magpie: Magpie, twin: str, value: str, code: int
) -> None:
    """MAGPIE_ and the long name do what the flag does."""
    pairs(tmp_path, 9, BAD)
    done = magpie(*ECHO, "-j", "1", "--echo-delay", "0.02", **{twin: value})
    assert done.returncode == code


def test_samples_are_counted_in_a_share(tmp_path: Path, magpie: Magpie) -> None:
    """Of 10 lines with 10 samples each, 5 % are 5 failures, not none."""
    write(tmp_path / "pairs.jsonl", BAD, *(pair(f"p{n}", **PAIR) for n in range(9)))
    done = magpie(*ECHO, "--samples", "10", "--max-failures", "5%", "-j", "1")
    assert done.returncode == 3
    assert made(tmp_path) == 90
