"""`magpie devnet` as a real process: what it says, how it ends, and who can work on it."""

import json
import os
import re
import select
import shlex
import shutil
import socket
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM, Signals
from typing import Any

import pytest

from tests.chat_server import ChatServer, words
from tests.conftest import Magpie, clean_environment, rows_of
from tests.processes import MAGPIE, end, started, wait_until

EXAMPLE = Path(__file__).parent.parent / "personas.example.jsonl"
MODEL = "gemma2:9b-instruct-fp16"
UNMODIFIED = """
import asyncio, json, sys
from dria import Dria, Model
from dria.factory.workflows.magpie_instruct import MagPie
from dria.models import Task

async def main(url, result):
    client = Dria(rpc_token="x")
    client.rpc.base_url = url
    pairs = [
        MagPie(instructor_persona=f"A scientist, number {n}", responding_persona="B", num_turns=3)
        for n in range(10)
    ]
    tasks = [
        Task(workflow=pair.workflow(), models=[Model.GEMMA2_9B_FP16], dataset_id="x")
        for pair in pairs
    ]
    # One call each: given a list, it drops whatever is much slower than the others.
    came = [each for [each] in await asyncio.gather(*map(client.execute, tasks))]
    rows = [
        dialogue.model_dump() | {"persona": each.task_input["instructor_persona"]}
        for each, dialogue in zip(came, pairs[0].callback(came), strict=True)
    ]
    with open(result, "w") as file:
        json.dump(rows, file)

asyncio.run(main(*sys.argv[1:]))
"""


def first_lines(process: subprocess.Popen[bytes], number: int) -> list[str]:
    """So many lines of standard error, or what there is of them where the process ends."""
    assert process.stderr
    descriptor = process.stderr.fileno()
    said = b""

    def whole() -> bool:
        nonlocal said
        if select.select([descriptor], [], [], 0)[0]:
            said += os.read(descriptor, 64 * 1024)
        return said.count(b"\n") >= number or process.poll() is not None

    wait_until(whole, f"it says {number} lines")
    return said.decode().splitlines(keepends=True)


class Running:
    """A devnet of its own: the process, the lines of its welcome and its RPC's address."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.welcome = first_lines(process, 4)
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self.welcome[0])
        assert found, self.welcome
        self.url = found[0]
        self.port = int(found[1])

    def get(self, path: str, token: str = "any") -> tuple[int, Any]:  # noqa: S107 - any will do
        """The status and the JSON of a reply."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.request("GET", path, headers={"x-api-key": token})
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read())

    def stop(self, number: Signals = SIGINT) -> tuple[int, str, bytes]:
        """How it ends by a signal: its code, what it says then, and all of its standard output."""
        self.process.send_signal(number)
        code, said = end(self.process)
        assert self.process.stdout
        return code, said, self.process.stdout.read()


@contextmanager
def devnet(folder: Path, *arguments: str) -> Iterator[Running]:
    """`magpie devnet --port 0 ARGUMENTS`, once it has said where it is."""
    with started(folder, "devnet", "--port", "0", *arguments) as process:
        yield Running(process)


def run(folder: Path, *command: str, **environment: str) -> None:
    """Run a command in a folder, to a good end."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=clean_environment() | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode()


def test_it_says_where_it_is_and_what_to_type(tmp_path: Path) -> None:
    """Its welcome is four lines on stderr, and the command in them makes dialogues."""
    shutil.copy(EXAMPLE, tmp_path)
    models = f"{MODEL},llama3.2:1b"
    with devnet(tmp_path, "--nodes", "3", "--models", models, "--accept", "it's me") as running:
        token, _, *command = shlex.split(running.welcome[2].removeprefix("try: "))
        run(tmp_path, *MAGPIE, *command, **dict([token.split("=")]))
        assert running.get("/rpc/results", "it is me")[0] == 401
        _, said, printed = running.stop()
    assert "".join(running.welcome) == (
        f"a Dria network of 3 nodes at {running.url}, for this machine alone\n"
        f"serving {MODEL}, llama3.2:1b; all words by echo, model echo\n"
        "try: DRIA_RPC_TOKEN='it'\"'\"'s me' magpie generate personas.example.jsonl "
        f"-o devnet.jsonl --engine dria --rpc-url {running.url} --model {MODEL}\n"
        "Ctrl-C ends it\n"
    )
    assert [row["model"] for row in rows_of(tmp_path / "devnet.jsonl")] == ["echo"] * 12
    assert said == "12 tasks begun: 12 answers sent (0 of them errors, 0 sent twice), 0 lost\n"
    assert printed == b""


@pytest.mark.parametrize("number", [SIGINT, SIGTERM, SIGHUP])
def test_a_signal_ends_it(tmp_path: Path, number: Signals) -> None:
    """It dies by the signal, with one last line of counts and nothing on standard output."""
    with devnet(tmp_path) as running:
        code, said, printed = running.stop(number)
    assert (code, printed) == (-number, b"")
    assert said == "0 tasks begun: 0 answers sent (0 of them errors, 0 sent twice), 0 lost\n"
    assert running.welcome[2].endswith(f" --engine dria --rpc-url {running.url}\n")


def test_flags_reach_the_network(tmp_path: Path) -> None:
    """As many nodes as asked for say that they serve the models asked for, with the seed's keys."""
    listings = []
    for seed in ("7", "7", "8"):
        with devnet(tmp_path, "--nodes", "2", "--models", "a,b", "--seed", seed) as running:
            _, listing = running.get("/rpc/get_alive_peers")
        heartbeats = [json.loads(entry) for entry in listing["data"]["results"]]
        for heartbeat in heartbeats:
            assert json.loads(b64decode(heartbeat["message"]))["models"] == ["a", "b"]
        listings.append([heartbeat["peer_id"] for heartbeat in heartbeats])
    first, again, other = listings
    assert len(first) == 2
    assert first == again
    assert not {*first} & {*other}


def test_it_is_for_this_machine_alone(tmp_path: Path) -> None:
    """It listens at 127.0.0.1, and not at another address that leads here too."""
    with devnet(tmp_path) as running, socket.socket() as elsewhere:
        assert running.get("/health") == (200, {"status": "ok"})
        elsewhere.settimeout(5)
        assert elsewhere.connect_ex(("127.0.0.2", running.port)) != 0


def test_a_taken_port_is_an_error(magpie: Magpie) -> None:
    """It names the port, and a way out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = magpie("devnet", "--port", port)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"error: port {port} of 127.0.0.1 cannot be used: " in done.stderr
    assert done.stderr.endswith("hint: --port 0 takes any free one\n")


@pytest.mark.parametrize(
    ("writer", "named"),
    [
        (["dria"], "dria"),
        (["nobody"], "choose from: echo, "),
        (["openai"], "OPENAI_API_KEY"),
        (["echo", "--writer-model", "tiny"], "not 'tiny'"),
    ],
)
def test_who_cannot_write_is_refused(magpie: Magpie, writer: list[str], named: str) -> None:
    """An engine that makes no single answers, lacks something or is none gets a hint at once."""
    done = magpie("devnet", "--port", "0", "--writer", *writer)
    assert (done.returncode, done.stdout) == (2, "")
    assert named in done.stderr
    assert [line.split(": ")[0] for line in done.stderr.splitlines()] == ["error", "hint"]


@pytest.mark.parametrize("name", ["error", "lost", "duplicate", "rpc-error"])
def test_a_rate_is_a_share(magpie: Magpie, name: str) -> None:
    """More than all of it is a usage error."""
    done = magpie("devnet", "--port", "0", f"--{name}-rate", "1.01")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"--{name}-rate" in done.stderr


def test_another_engine_can_write(tmp_path: Path, server: ChatServer) -> None:
    """With a server's model as writer, that model's words and name are in the rows."""
    server.models = ["tiny", "large"]
    writer = ("--writer", "openai", "--writer-url", server.url, "--writer-model", "large")
    with devnet(tmp_path, *writer) as running:
        command = (*MAGPIE, "generate", str(EXAMPLE), "-o", "out.jsonl", "--rpc-url", running.url)
        run(tmp_path, *command, DRIA_RPC_TOKEN="any")  # noqa: S106 - any will do
    assert running.welcome[1].endswith("all words by openai, model large\n")
    rows = rows_of(tmp_path / "out.jsonl")
    assert [row["model"] for row in rows] == ["large"] * 12
    texts = [text for row in rows for entry in row["dialogue"] for text in entry.values()]
    assert sorted(texts) == sorted(words(asked.body["messages"]) for asked in server.asked)
    assert {asked.body["model"] for asked in server.asked} == {"large"}


def test_the_unmodified_sdk_works_on_it(tmp_path: Path) -> None:
    """Its client gets all ten dialogues of a batch, and its own parser reads each one."""
    pytest.importorskip("httpx", reason="the SDK imports it without naming it")
    with devnet(tmp_path) as running:
        command = (sys.executable, "-c", UNMODIFIED, running.url, "rows.json")
        run(tmp_path, *command, HOME=str(tmp_path))
        _, said, _ = running.stop()
    rows = json.loads((tmp_path / "rows.json").read_bytes())
    assert {row["persona"] for row in rows} == {f"A scientist, number {n}" for n in range(10)}
    assert len(rows) == 10
    for row in rows:
        assert row["model"] == "echo"
        assert len(row["dialogue"]) == 3
        assert all(turn["instructor"] and turn["responder"] for turn in row["dialogue"])
    assert said.startswith("10 tasks begun: 10 answers sent")


@pytest.mark.parametrize(
    ("flags", "words"),
    [(("--models", " , "), "--models names none"), (("--accept", ""), "--accept names no token")],
)
def test_a_network_that_nobody_could_use_is_refused(
    magpie: Magpie, flags: tuple[str, ...], words: str
) -> None:
    """It is a usage error with a hint, not a network that answers 401 to all."""
    done = magpie("devnet", "--port", "0", *flags)
    assert done.returncode == 2
    assert words in done.stderr
    assert "hint: leave it out" in done.stderr
