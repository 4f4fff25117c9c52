"""`magpie generate` on the Dria Network: real processes, a real devnet, real signals."""

import asyncio
import json
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from signal import SIGINT

import pexpect  # type: ignore[import-untyped] # it ships no types
import pytest

from magpie_cli.devnet import MODEL, DevnetOptions
from magpie_cli.engine import Completion, Message, Sampling
from tests.conftest import Magpie, clean_environment, rows_of
from tests.devnets import RunningDevnet, running_devnet
from tests.dria_engine import Says
from tests.processes import (
    MAGPIE,
    PATIENCE,
    command_started,
    end,
    killed_at,
    started,
    wait_for_row,
    wait_for_words,
    wait_until,
)

Pairs = Callable[..., Path]
CANARY = "sk-dria-canary-5f0c6c0de1b2a394"


@pytest.fixture
def devnet() -> Iterator[RunningDevnet]:
    """A network with one good token, whose nodes take a moment for each task."""
    with running_devnet(DevnetOptions(port=0, nodes=8, latency=0.05, accept=CANARY)) as running:
        yield running


@pytest.fixture
def command(devnet: RunningDevnet, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """A run on it, and the token that it needs, which processes of this test inherit."""
    # clean_environment() takes every DRIA_ variable out: the token goes in again behind it.
    monkeypatch.setattr("tests.processes.clean_environment", with_token)
    return ("generate", "pairs.jsonl", "-o", "out.jsonl", "--rpc-url", devnet.url)


def with_token() -> dict[str, str]:
    """The environment of somebody who has a token."""
    return clean_environment() | {"DRIA_RPC_TOKEN": CANARY}


def test_a_first_look_needs_no_token(tmp_path: Path, magpie: Magpie, pairs: Pairs) -> None:
    """`--devnet` makes every row inside the process, and the first line says so."""
    pairs(5)
    done = magpie("generate", "pairs.jsonl", "-o", "out.jsonl", "-t", "3", "--devnet")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    first = done.stderr.splitlines()[0]
    assert "--devnet: a network inside this process, on which echo writes" in first
    rows = rows_of(tmp_path / "out.jsonl")
    assert len({row["id"] for row in rows}) == 5
    for row in rows:
        assert (row["engine"], row["model"], row["num_turns"]) == ("dria", "echo", 3)
        assert [next(iter(each)) for each in row["dialogue"]] == ["instructor", "responder"] * 3
        assert row["usage"] == {"prompt_tokens": None, "completion_tokens": None}


def test_rows_go_to_a_pipe_alone(magpie: Magpie, pairs: Pairs) -> None:
    """Standard output has a row a pair and nothing else."""
    pairs(4)
    done = magpie("generate", "pairs.jsonl", "--engine", "dria", "--devnet", "--samples", "2")
    assert [json.loads(line)["engine"] for line in done.stdout.splitlines()] == ["dria"] * 8


def test_without_a_token_it_says_what_to_do(tmp_path: Path, magpie: Magpie, pairs: Pairs) -> None:
    """The variable is named, and the network that needs none; nothing is created."""
    pairs(1)
    done = magpie("generate", "pairs.jsonl", "-o", "out.jsonl", "--engine", "dria")
    assert done.returncode == 2
    assert "DRIA_RPC_TOKEN is not set" in done.stderr
    assert "--devnet" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.jsonl"]


def test_a_wrong_token_stops_the_run_at_once(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, devnet: RunningDevnet
) -> None:
    """Exit 1, the variable's name and never its value; no pair is failed, nothing is created."""
    pairs(3)
    arguments = ("generate", "pairs.jsonl", "-o", "out.jsonl", "--rpc-url", devnet.url)
    done = magpie(*arguments, DRIA_RPC_TOKEN=CANARY[::-1])
    assert done.returncode == 1
    assert "401" in done.stderr
    assert "DRIA_RPC_TOKEN" in done.stderr
    assert CANARY[::-1] not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.jsonl"]


@pytest.mark.parametrize("model", ["gemma2:9b", "gemma2:9b-instruct-fp61", "ollama"])
def test_a_model_that_the_sdk_does_not_know_gets_its_neighbours(
    magpie: Magpie, pairs: Pairs, model: str
) -> None:
    """The error lists the nearest names, before anything is asked."""
    pairs(1)
    done = magpie("generate", "pairs.jsonl", "--devnet", "--model", model)
    assert done.returncode == 2
    assert f"no model '{model}'" in done.stderr
    assert model == "ollama" or MODEL in done.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--temperature", "1"), "--temperature"),
        (("--top-p", "0.5"), "--top-p"),
        (("--seed", "7"), "--seed"),
        (("--base-url", "http://localhost:1/v1"), "--rpc-url"),
        (("--engine", "openai"), "leave out --devnet"),
    ],
)
def test_what_no_node_does_is_refused(
    magpie: Magpie, pairs: Pairs, flags: tuple[str, ...], words: str
) -> None:
    """A flag that would be ignored is an error that says so."""
    pairs(1)
    done = magpie("generate", "pairs.jsonl", "--devnet", *flags)
    assert done.returncode == 2
    assert words in done.stderr


@pytest.mark.parametrize("url", ["http://gpu-box:8006", "localhost:8006", "ftp://x"])
def test_a_network_that_is_no_address_is_refused(magpie: Magpie, pairs: Pairs, url: str) -> None:
    """A token travels encrypted, or stays on this machine; what is no address is named."""
    pairs(1)
    done = magpie("generate", "pairs.jsonl", "--rpc-url", url, DRIA_RPC_TOKEN=CANARY)
    assert done.returncode == 2
    assert CANARY not in done.stderr


DOWN = ("generate", "pairs.jsonl", "-o", "out.jsonl", "--rpc-url", "http://127.0.0.1:9")
NO_NODE = (
    f"no node serves {MODEL}: who is there cannot be asked: http://127.0.0.1:9/rpc/get_alive_peers"
)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(("--model", MODEL), NO_NODE, id="with a model"),
        pytest.param((), "the Dria RPC is down: http://127.0.0.1:9/", id="nameless"),
    ],
)
def test_a_network_that_is_down_is_waited_for(
    tmp_path: Path, pairs: Pairs, flags: tuple[str, ...], words: str
) -> None:
    """It says at once what it waits for, however long it may wait."""
    pairs(3)
    with started(tmp_path, *DOWN, *flags, DRIA_RPC_TOKEN=CANARY) as process:
        wait_for_words(process, f"waiting: {words}")
        assert process.poll() is None


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(("--model", MODEL), NO_NODE, id="with a model"),
        pytest.param((), "the Dria RPC is down", id="nameless"),
    ],
)
def test_a_network_that_stays_down_is_given_up(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, flags: tuple[str, ...], words: str
) -> None:
    """After --give-up-after the run ends with 75, and the reason; no pair fails."""
    pairs(3)
    done = magpie(*DOWN, *flags, "--give-up-after", "0.1", DRIA_RPC_TOKEN=CANARY)
    assert done.returncode == 75
    assert f"error: {words}" in done.stderr
    assert "given up after 0.1 s" in done.stderr
    assert not (tmp_path / "out.failures.jsonl").exists()


def test_a_network_that_serves_something_else_is_waited_for(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, devnet: RunningDevnet
) -> None:
    """It says what there is; where only one model is served, no --model is needed."""
    pairs(3)
    arguments = ("generate", "pairs.jsonl", "-o", "out.jsonl", "--rpc-url", devnet.url)
    done = magpie(*arguments, "--model", "qwq", "--give-up-after", "1", DRIA_RPC_TOKEN=CANARY)
    assert done.returncode == 75
    assert f"no node serves qwq; the network serves {MODEL} (8)" in done.stderr
    (tmp_path / "out.jsonl").unlink()
    assert magpie(*arguments, "--fresh", DRIA_RPC_TOKEN=CANARY).returncode == 0


def test_a_run_that_is_killed_goes_on(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, command: tuple[str, ...], devnet: RunningDevnet
) -> None:
    """Killed at random moments and run until done: every pair once, and little is asked twice."""
    total, in_flight = 150, 10
    pairs(total)
    output = tmp_path / "out.jsonl"
    kills = 0
    for _ in range(3):
        size = output.stat().st_size if output.exists() else 0
        aim = size + random.randrange(1, 15_000)  # noqa: S311 - any moment will do
        kills += killed_at(aim, tmp_path, *command, "-j", str(in_flight))
    assert kills
    done = magpie(*command, DRIA_RPC_TOKEN=CANARY)
    assert done.returncode == 0, done.stderr
    ids = [row["id"] for row in rows_of(output)]
    assert len(ids) == len(set(ids)) == total
    # Answers that were written but not yet read are lost with the process that asked.
    assert devnet.tasks <= total + kills * 2 * in_flight


def test_ctrl_c_on_a_terminal_finishes_what_is_in_flight(
    tmp_path: Path, pairs: Pairs, command: tuple[str, ...], devnet: RunningDevnet
) -> None:
    """Ctrl-C stays ours: no new task, every task that was sent becomes a row, death by SIGINT."""
    pairs(200)
    child = pexpect.spawn(
        MAGPIE[0],
        [*MAGPIE[1:], *command, "-j", "5"],
        cwd=str(tmp_path),
        env=with_token() | {"TERM": "xterm"},
        timeout=PATIENCE,
    )
    wait_for_row(tmp_path / "out.jsonl")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    shown = child.before.decode()
    assert child.signalstatus == SIGINT
    assert "SIGINT: finishing the dialogues in flight" in shown
    assert "Traceback" not in shown
    assert CANARY not in shown
    rows = rows_of(tmp_path / "out.jsonl")
    assert len(rows) == devnet.tasks < 200


def test_twice_ctrl_c_stops_at_once(
    tmp_path: Path, pairs: Pairs, command: tuple[str, ...], devnet: RunningDevnet
) -> None:
    """Nodes that never answer cannot hold back whoever asks twice."""
    pairs(20)
    devnet.remove_nodes(8)
    devnet.devnet._options = DevnetOptions(latency=3600, accept=CANARY)
    devnet.add_nodes(4)
    with started(tmp_path, *command) as process:
        wait_until(lambda: devnet.tasks >= 4, "tasks are sent")
        process.send_signal(SIGINT)
        wait_for_words(process, "once more stops at once")
        process.send_signal(SIGINT)
        assert process.wait(PATIENCE) == -SIGINT


def test_one_ctrl_c_does_not_wait_for_what_waits(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 32 dialogues on a network of one node, those at the node are made, and the others not."""
    monkeypatch.setattr("tests.processes.clean_environment", with_token)
    pairs(40)
    options = DevnetOptions(port=0, nodes=1, latency=0.3, accept=CANARY)
    with running_devnet(options) as devnet:
        command = ("generate", "pairs.jsonl", "-o", "out.jsonl", "--rpc-url", devnet.url)
        with started(tmp_path, *command, "-j", "32") as process:
            wait_for_row(tmp_path / "out.jsonl")
            process.send_signal(SIGINT)
            code, said = end(process)
        assert code == -SIGINT
        assert "stopped by SIGINT" in said
        assert "Traceback" not in said
        assert len(rows_of(tmp_path / "out.jsonl")) == devnet.tasks < 10
        object.__setattr__(options, "latency", 0.0)
        devnet.add_nodes(15)
        assert magpie(*command, DRIA_RPC_TOKEN=CANARY).returncode == 0
        assert len({row["id"] for row in rows_of(tmp_path / "out.jsonl")}) == devnet.tasks == 40
    assert not (tmp_path / "out.failures.jsonl").exists()


class Held(Says):
    """A writer that says nothing before a test lets go."""

    def __init__(self) -> None:
        super().__init__()
        self.may_answer = threading.Event()

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """The words, once they may come."""
        while not self.may_answer.is_set():  # noqa: ASYNC110 - it is of the test's thread
            await asyncio.sleep(0.01)
        return await super().complete(messages, sampling)


def test_few_files_may_be_open(
    tmp_path: Path, pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 128 file descriptors and 256 dialogues in flight, each becomes a row."""
    monkeypatch.setattr("tests.processes.clean_environment", with_token)
    pairs(300)
    writer = Held()
    with running_devnet(DevnetOptions(port=0, nodes=256), writer) as devnet:
        command = ("generate", "pairs.jsonl", "-o", "out.jsonl", "--rpc-url", devnet.url)
        limited = ("bash", "-c", 'ulimit -n 128; exec "$@"', "bash", *MAGPIE)
        with command_started(tmp_path, *limited, *command, "-j", "256") as process:
            wait_until(lambda: devnet.tasks == 256, "all nodes are busy")
            writer.may_answer.set()
            code, said = end(process)
        assert code == 0, said
    assert "Too many open files" not in said
    assert len(rows_of(tmp_path / "out.jsonl")) == devnet.tasks == 300


def test_no_node_spreads_the_token(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that names its models after the token, and says it, makes rows with *** in its place."""
    monkeypatch.setattr("tests.processes.clean_environment", with_token)
    pairs(1)
    options = DevnetOptions(port=0, models=f"{MODEL},{CANARY}")
    with running_devnet(options, Says(f"say {CANARY}", model=CANARY)) as devnet:
        command = ("generate", "pairs.jsonl", "-o", "out.jsonl", "--rpc-url", devnet.url)
        lacking = (*command, "--model", "qwq", "--give-up-after", "0.3", "--fresh")
        done = magpie(*lacking, DRIA_RPC_TOKEN=CANARY)
        assert "the network serves *** (16)" in done.stderr
        made = magpie(*command, "--model", MODEL, "--fresh", DRIA_RPC_TOKEN=CANARY)
    assert made.returncode == 0
    (row,) = rows_of(tmp_path / "out.jsonl")
    assert row["model"] == "***"
    assert row["dialogue"][0] == {"instructor": "say ***"}
    files = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(CANARY in text for text in (*files, done.stderr, made.stderr))


def test_no_token_is_kept_or_shown(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, command: tuple[str, ...]
) -> None:
    """Neither the rows nor the settings beside them nor stderr hold a byte of the token."""
    pairs(2)
    done = magpie(*command, "--log-format", "json", DRIA_RPC_TOKEN=CANARY)
    assert done.returncode == 0
    files = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 3
    assert not any(CANARY in text for text in (*files, done.stdout, done.stderr))


def test_the_network_of_the_environment_is_used(
    magpie: Magpie, pairs: Pairs, devnet: RunningDevnet
) -> None:
    """MAGPIE_RPC_URL and DRIA_RPC_TOKEN are enough: no flag names the engine."""
    pairs(2)
    done = magpie("generate", "pairs.jsonl", MAGPIE_RPC_URL=devnet.url, DRIA_RPC_TOKEN=CANARY)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 2
    assert "engine dria (--rpc-url is given)" in done.stderr


def test_a_dry_run_asks_nobody(magpie: Magpie, pairs: Pairs) -> None:
    """It counts one task a dialogue, and names the prompts, which are the SDK's own."""
    pairs(3)
    done = magpie("generate", "pairs.jsonl", "--engine", "dria", "--turns", "4", "--dry-run")
    assert done.returncode == 0
    assert "requests to send   3" in done.stdout
    assert "prompts: MagPie of dria 0.0.124" in done.stdout


def test_a_wait_without_end_is_refused(magpie: Magpie, pairs: Pairs) -> None:
    """`--timeout inf` is a usage error like any other."""
    pairs(1)
    done = magpie("generate", "pairs.jsonl", "--devnet", "--timeout", "inf")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "--timeout" in done.stderr


def test_a_network_that_dies_in_mid_run_is_noticed(
    tmp_path: Path, pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before --timeout it says that the RPC is down; then it ends with 75, no pair failed."""
    monkeypatch.setattr("tests.processes.clean_environment", with_token)
    pairs(8)
    with running_devnet(DevnetOptions(port=0, latency=60)) as devnet:
        command = ("generate", "pairs.jsonl", "-o", "out.jsonl", "--rpc-url", devnet.url)
        with started(tmp_path, *command, "--give-up-after", "3") as process:
            wait_until(lambda: devnet.tasks == 8, "all tasks are sent")
            devnet.close()
            wait_for_words(process, "waiting: the Dria RPC is down")
            code, said = end(process)
    assert code == 75
    assert "given up after 3 s" in said
    assert not (tmp_path / "out.failures.jsonl").exists()
