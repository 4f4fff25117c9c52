"""What `magpie doctor` says of the machine: versions, room, network, and whether llama.cpp runs."""

import asyncio
import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from magpie_cli.doctor.machine import Machine, examine_machine
from magpie_cli.models import CATALOGUE, DEFAULT_MODEL
from tests.conftest import PAIR, Magpie, needs_llama
from tests.model_hub import ModelHub

FAKE = 'raise ImportError("libgomp.so.1: cannot open shared object file")\n'


@pytest.fixture(scope="module")
def machine() -> Machine:
    """The one that runs the tests, without a way to any hub."""
    return asyncio.run(examine_machine({"HF_ENDPOINT": "http://127.0.0.1:9"}))


def test_versions_are_those_installed(machine: Machine) -> None:
    """Python and each package are named with their versions, None where one is missing."""
    from importlib.metadata import version
    from platform import python_version

    assert machine.python == python_version()
    assert machine.packages["magpie-cli"] == version("magpie-cli")
    assert machine.packages["aiohttp"] == version("aiohttp")
    assert {"dria", "xllamacpp"} <= machine.packages.keys()


def test_room_is_measured_against_the_default_model(machine: Machine) -> None:
    """Free memory and disk stand beside what the model takes, and where it would lie."""
    assert machine.model == DEFAULT_MODEL
    assert machine.model_size == CATALOGUE[DEFAULT_MODEL].size
    assert machine.free_disk > 0
    assert machine.models_folder in machine.text()
    assert "1.12 GB on disk, 1.9 GB in memory" in machine.text()


def local_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What the command says of the local engine."""
    found: list[dict[str, Any]] = json.loads(done.stdout)["engines"]
    return next(each for each in found if each["engine"] == "local")


@needs_llama
def test_a_model_of_ones_own_is_judged(
    tmp_path: Path, magpie: Magpie, tiny_model: Path, hub: ModelHub
) -> None:
    """That of MAGPIE_MODEL: ready where it fits; else the run's own sentence and way out."""
    environment = {"HF_ENDPOINT": hub.environment["HF_ENDPOINT"]}
    small = magpie("doctor", "--json", MAGPIE_MODEL=str(tiny_model), **environment)
    assert json.loads(small.stdout)["machine"]["model"] == str(tiny_model)
    assert local_of(small)["lacks"] is None
    large = tmp_path / "large.gguf"
    large.write_bytes(tiny_model.read_bytes())
    os.truncate(large, 10**12)
    lacks = local_of(magpie("doctor", "--json", MAGPIE_MODEL="large.gguf"))["lacks"]
    assert "large.gguf needs 1,700 GB of memory, and " in lacks
    (tmp_path / "pairs.jsonl").write_text(json.dumps(PAIR))
    run = magpie("generate", "pairs.jsonl", "--engine", "local", MAGPIE_MODEL="large.gguf")
    assert run.returncode == 1
    assert "large.gguf needs 1,700 GB of memory, and " in run.stderr
    assert lacks.split("free: ")[1] == run.stderr.split("hint: ")[1].strip()


@pytest.mark.parametrize("name", ["missing.gguf", "a b"])
def test_a_model_that_is_none_is_said(magpie: Magpie, name: str) -> None:
    """MAGPIE_MODEL with a slip in it is what the engine lacks."""
    done = magpie("doctor", "--json", MAGPIE_MODEL=name, HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 0
    assert name in local_of(done)["lacks"]
    assert "hf:owner/repo/file.gguf" in local_of(done)["lacks"]


@pytest.mark.parametrize(
    ("memory", "disk", "words"),
    [
        (10**9, 10**12, "needs 1.9 GB of memory, and 1 GB are free: --model smollm2:360m fits"),
        (10**12, 10**9, "1.12 GB to fetch, 1 GB free: --model gemma3:1b fits"),
        (10**12, 10**12, None),
    ],
)
def test_a_model_that_is_not_here_is_judged_before_it_is_fetched(
    hub: ModelHub, tmp_path: Path, memory: int, disk: int, words: str | None
) -> None:
    """By memory, and by the disk that it would go to."""
    environment = {
        "HF_ENDPOINT": hub.environment["HF_ENDPOINT"],
        "XDG_CACHE_HOME": str(tmp_path),
    }
    found = asyncio.run(
        examine_machine(environment, free_memory=lambda: memory, free_disk=lambda _: disk)
    )
    assert found.room is found.local_lacks is None if words is None else words in str(found.room)
    assert str(found.room) in str(found.local_lacks)


def test_a_name_of_ollama_is_reached_at_its_registry(hub: ModelHub, tmp_path: Path) -> None:
    """The host of the model is what is tried, and no other."""
    environment = {
        "MAGPIE_MODEL": "small:q4_K",
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "OLLAMA_REGISTRY": hub.environment["OLLAMA_REGISTRY"],
        "XDG_CACHE_HOME": str(tmp_path),
    }
    assert asyncio.run(examine_machine(environment)).network is None


def test_llama_cpp_is_really_run(machine: Machine) -> None:
    """A model that doctor writes itself has said something."""
    if machine.packages["xllamacpp"] is None:
        assert machine.local
        return
    assert machine.local is None
    assert machine.local_seconds > 0
    assert "works (self-test: " in machine.text()


def test_llama_cpp_that_cannot_run_says_why(tmp_path: Path, magpie: Magpie) -> None:
    """Where a library lacks, the sentence says what to install, and the engine is not ready."""
    (tmp_path / "xllamacpp.py").write_text(FAKE)
    done = magpie("doctor", "--json", PYTHONPATH=str(tmp_path), HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert "apt-get install libgomp1" in report["machine"]["local"]
    (local,) = (each for each in report["engines"] if each["engine"] == "local")
    assert "apt-get install libgomp1" in local["lacks"]


def test_a_hub_that_cannot_be_reached_is_said(machine: Machine) -> None:
    """The host is named, and the reason."""
    assert "127.0.0.1 cannot be reached" in str(machine.network)


def test_a_hub_that_listens_is_reached() -> None:
    """A connection is all that is tried."""
    with socket.create_server(("127.0.0.1", 0)) as hub:
        port = hub.getsockname()[1]
        found = asyncio.run(examine_machine({"HF_ENDPOINT": f"http://127.0.0.1:{port}"}))
    assert found.network is None
    assert "the model hub can be reached" in found.text()


@pytest.mark.parametrize("proxy", ["http://user:canary@host:abc", "http://user:canary@/"])
def test_a_proxy_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """A variable that holds no address is named, without what it holds; nothing hangs."""
    monkeypatch.setenv("https_proxy", proxy)
    found = asyncio.run(examine_machine({}))
    assert "HTTPS_PROXY is not the address of a proxy" in str(found.network)
    assert "canary" not in found.text()


def test_a_proxy_is_what_is_reached_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the environment names one, nothing else is tried."""
    monkeypatch.setenv("https_proxy", "http://user:canary@127.0.0.1:9")
    found = asyncio.run(examine_machine({}))
    assert "the proxy cannot be reached" in str(found.network)
    assert "canary" not in found.text()
