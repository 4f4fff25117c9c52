"""The machine: what is installed, what fits, and whether llama.cpp runs on it at all."""

import asyncio
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import platform, python_version
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from magpie_cli.address import checked_url, find_proxy
from magpie_cli.engine import Sampling
from magpie_cli.engines import open_chat_model
from magpie_cli.engines.local.memory import MODEL_FACTOR, available
from magpie_cli.engines.local.tiny import write_tiny_model
from magpie_cli.errors import MagpieError, UsageError
from magpie_cli.models import DEFAULT_MODEL, find_model, size_text
from magpie_cli.settings import Settings

PACKAGES = ("magpie-cli", "dria", "xllamacpp", "aiohttp", "orjson", "rich", "typer")
HUB = "https://huggingface.co"
REACH_SECONDS = 3.0
TEST_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Machine:
    """`packages` are versions, None where one is missing; sizes in bytes, None where unknown.

    `local` and `network` say what is wrong with the self-test of llama.cpp, and with the way to the
    model hub; None where nothing is. `local_seconds` is how long the self-test took.
    """

    python: str
    system: str
    packages: Mapping[str, str | None]
    free_memory: int | None
    free_disk: int
    models_folder: str
    default_model: str
    default_model_size: int | None
    default_model_here: bool
    network: str | None
    local: str | None
    local_seconds: float

    @property
    def local_lacks(self) -> str | None:
        """Why the local engine could not begin with the default model."""
        if self.local or self.default_model_here or not self.network:
            return self.local
        return (
            f"{self.default_model} is not here, and {self.network}: --model FILE.gguf names another"
        )

    def text(self) -> str:
        """For a person."""
        memory = "unknown" if self.free_memory is None else f"{size_text(self.free_memory)} free"
        size = self.default_model_size or 0
        here = "here" if self.default_model_here else "not fetched yet"
        need = f"{size_text(size)} on disk, {size_text(int(size * MODEL_FACTOR))} in memory"
        works = f"works (self-test: {self.local_seconds:.1f} s)"
        rows = {
            "python": f"{self.python}, {self.system}",
            "packages": ", ".join(f"{k} {v or 'MISSING'}" for k, v in self.packages.items()),
            "memory": memory,
            "disk": f"{size_text(self.free_disk)} free at {self.models_folder}",
            "model": f"{self.default_model} ({need}), {here}",
            "network": self.network or "the model hub can be reached",
            "llama.cpp": self.local or works,
        }
        return "\n".join(f"{name:<15} {value}" for name, value in rows.items())


async def examine_machine(environment: Mapping[str, str]) -> Machine:
    """All of it; llama.cpp by a model that it writes itself, the hub by a connection."""
    async with asyncio.TaskGroup() as group:
        testing, reaching = group.create_task(_self_test()), group.create_task(_reach(environment))
    (local, seconds), network = testing.result(), reaching.result()
    wanted = find_model(DEFAULT_MODEL, environment)
    folder = wanted.path.parent
    return Machine(
        python=python_version(),
        system=platform(terse=True),
        packages={name: _version(name) for name in PACKAGES},
        free_memory=available(),
        free_disk=shutil.disk_usage(_existing(folder)).free,
        models_folder=str(folder),
        default_model=DEFAULT_MODEL,
        default_model_size=wanted.size,
        default_model_here=wanted.present,
        network=network,
        local=local,
        local_seconds=round(seconds, 3),
    )


async def _self_test() -> tuple[str | None, float]:
    """What is wrong with llama.cpp here, and the seconds in which a tiny model said something."""
    started = time.perf_counter()
    with TemporaryDirectory(prefix="magpie-doctor-") as folder:
        path = Path(folder) / "tiny.gguf"
        write_tiny_model(path)
        settings = Settings("-", model=str(path), concurrency=1, timeout=TEST_SECONDS)
        try:
            async with open_chat_model("local", settings) as model:
                await model.complete([{"role": "user", "content": "Hi"}], Sampling(max_tokens=16))
        except MagpieError as error:
            return f"does not work: {error.message}: {error.hint}", 0.0
    return None, time.perf_counter() - started


async def _reach(environment: Mapping[str, str]) -> str | None:
    """What is wrong with the way to the hub, or to the proxy that stands before it."""
    try:
        hub = checked_url(environment.get("HF_ENDPOINT") or HUB, "HF_ENDPOINT", HUB)
        proxy = find_proxy(hub)
    except UsageError as error:
        return error.message
    gate = urlsplit(proxy or hub)
    port = gate.port or (443 if gate.scheme == "https" else 80)
    name = "the proxy" if proxy else gate.hostname
    try:
        async with asyncio.timeout(REACH_SECONDS):
            _, writer = await asyncio.open_connection(gate.hostname, port)
    except (OSError, TimeoutError, ValueError) as error:  # ValueError: a name that is none
        return f"{name} cannot be reached: {error or 'no answer'}"
    writer.close()
    return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _existing(folder: Path) -> Path:
    """The nearest folder above that is there, and may be looked at."""
    while not os.access(folder, os.F_OK):
        folder = folder.parent
    return folder
