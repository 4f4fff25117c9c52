"""What many tests share: the command as a real process, and a real server."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from magpie_cli.engine import processors
from magpie_cli.engines.local.tiny import write_tiny_model
from tests.chat_server import ChatServer
from tests.model_hub import ModelHub

Magpie = Callable[..., subprocess.CompletedProcess[str]]

PAIR = {"instructor_persona": "A curious scientist", "responding_persona": "A careful librarian"}


NO_SDK = find_spec("dria") is None  # it does not install on Python 3.12 and later
needs_sdk = pytest.mark.skipif(NO_SDK, reason="the Dria SDK is not installed")
collect_ignore = (
    [
        *("test_devnet.py", "test_devnet_command.py"),
        *("test_dria_answers.py", "test_dria_faults.py", "test_dria_heartbeats.py"),
        *("test_dria_nodes.py", "test_dria_outages.py", "test_dria_runs.py", "test_dria_sdk.py"),
    ]
    if NO_SDK
    else []
)


def _no_llama() -> bool:
    """Whether xllamacpp cannot be imported; not here, where its library would stay."""
    asked = (sys.executable, "-c", "import xllamacpp")
    return subprocess.run(asked, stderr=subprocess.DEVNULL, check=False).returncode != 0


NO_LLAMA = _no_llama()
needs_llama = pytest.mark.skipif(NO_LLAMA, reason="xllamacpp cannot be imported")


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: many tests wait most of their time."""
    return processors() + 1


def clean_environment() -> dict[str, str]:
    """The environment without what would steer magpie or colour its output."""
    steering = ("MAGPIE_", "OPENAI_", "DRIA_", "VLLM_", "OPENROUTER_", "HF_", "OLLAMA_", "XDG_")
    colour = ("FORCE_COLOR", "NO_COLOR", "COLUMNS", "LINES")
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(steering) and key not in colour
    }


@pytest.fixture
def magpie(tmp_path: Path) -> Magpie:
    """Run `magpie ARGS` in an empty folder, as a process of its own, in a clean environment."""

    def run(
        *arguments: str | Path, stdin: bytes | str = "", seconds: float = 60, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "magpie_cli", *map(str, arguments)],
            input=stdin if isinstance(stdin, bytes) else stdin.encode(),
            capture_output=True,
            cwd=tmp_path,
            env=clean_environment() | environment,
            timeout=seconds,
            check=False,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    return run


@pytest.fixture
def server() -> Iterator[ChatServer]:
    """A chat server on loopback."""
    with ChatServer() as running:
        yield running


@pytest.fixture
def hub() -> Iterator[ModelHub]:
    """A hub of models, an Ollama registry and the store behind them, on loopback."""
    with ModelHub() as running:
        yield running


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file of a model that talks, and stops by itself."""
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    write_tiny_model(path)
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Callable[..., Path]:
    """Write `number` pairs to `pairs.jsonl`, each with the extra columns given."""

    def write(number: int = 3, **columns: Any) -> Path:
        path = tmp_path / "pairs.jsonl"
        rows = [
            {**PAIR, "instructor_persona": f"A curious scientist, number {n}", **columns}
            for n in range(number)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
