"""The machine: what is installed, what fits, and whether llama.cpp runs on it at all."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import platform, python_version
from urllib.parse import urlsplit

from magpie_cli.address import checked_url, find_proxy
from magpie_cli.engine import Sampling
from magpie_cli.engines import ENGINES, OWN_KEY
from magpie_cli.engines.local.load import check_room
from magpie_cli.engines.local.memory import MODEL_FACTOR, available
from magpie_cli.errors import MagpieError, UsageError
from magpie_cli.models import DEFAULT_MODEL, Wanted, find_model, free_space, size_text
from magpie_cli.models.cache import cache_folder
from magpie_cli.models.hub import ENDPOINT, ENDPOINT_VARIABLE, TOKEN_VARIABLE
from magpie_cli.models.ollama import REGISTRY, REGISTRY_VARIABLE

LOCAL = "local"
MODEL_VARIABLE = "MAGPIE_MODEL"
PACKAGES = ("magpie-cli", "dria", "xllamacpp", "aiohttp", "httptools", "orjson", "rich", "typer")
REACH_SECONDS = 3.0
KEYS = {OWN_KEY: "for --base-url", TOKEN_VARIABLE: "for downloads"}


@dataclass(frozen=True, slots=True)
class Machine:
    """`packages` are versions, None where one is missing; sizes in bytes, None where unknown.

    `keys` are variables that belong to no engine, and whether they are set. `model` is the one that
    the local engine would run: that of MAGPIE_MODEL, or the default.

    `local`, `room` and `network` say what is wrong with the self-test of llama.cpp, with memory or
    disk for the model (or its name), and with the way to the model hub; None where nothing is.
    `local_seconds` is how long the self-test took.
    """

    python: str
    system: str
    packages: Mapping[str, str | None]
    keys: Mapping[str, bool]
    free_memory: int | None
    free_disk: int
    models_folder: str
    model: str
    model_size: int | None
    model_here: bool
    room: str | None
    network: str | None
    local: str | None
    local_seconds: float

    @property
    def local_lacks(self) -> str | None:
        """Why the local engine could not begin with the model."""
        if self.local or self.room or self.model_here or not self.network:
            return self.local or self.room
        return f"{self.model} is not here, and {self.network}: --model FILE.gguf names another"

    def text(self) -> str:
        """For a person."""
        memory = "unknown" if self.free_memory is None else f"{size_text(self.free_memory)} free"
        here = "here" if self.model_here else "not fetched yet"
        unknown = self.room and self.model_size is None
        model = "cannot be used" if unknown else f"({_takes(self.model_size)}), {here}"
        works = f"works (self-test: {self.local_seconds:.1f} s)"
        keys = (f"{k} {'set' if v else 'not set'} ({KEYS[k]})" for k, v in self.keys.items())
        rows = {
            "python": f"{self.python}, {self.system}",
            "packages": ", ".join(f"{k} {v or 'MISSING'}" for k, v in self.packages.items()),
            "keys": ", ".join(keys),
            "memory": memory,
            "disk": f"{size_text(self.free_disk)} free at {self.models_folder}",
            "model": f"{self.model} {model}",
            "network": self.network or "the model hub can be reached",
            "llama.cpp": self.local or works,
        }
        return "\n".join(f"{name:<15} {value}" for name, value in rows.items())


def _takes(size: int | None) -> str:
    if size is None:
        return "of unknown size"
    return f"{size_text(size)} on disk, {size_text(int(size * MODEL_FACTOR))} in memory"


async def examine_machine(
    environment: Mapping[str, str],
    *,
    free_memory: Callable[[], int | None] = available,
    free_disk: Callable[[Path], int] = free_space,
) -> Machine:
    """All of it; llama.cpp by a model that it writes itself, the hub by a connection."""
    name = environment.get(MODEL_VARIABLE) or DEFAULT_MODEL
    folder = cache_folder(environment)
    memory, disk = free_memory(), free_disk(_existing(folder))
    wanted, room = _judge(name, environment, memory, disk)
    async with asyncio.TaskGroup() as group:
        testing = group.create_task(_self_test())
        reaching = group.create_task(_reach(wanted, environment))
    (local, seconds), network = testing.result(), reaching.result()
    return Machine(
        python=python_version(),
        system=platform(terse=True),
        packages={name: _version(name) for name in PACKAGES},
        keys={key: bool(environment.get(key, "").strip()) for key in KEYS},
        free_memory=memory,
        free_disk=disk,
        models_folder=str(folder),
        model=name,
        model_size=wanted.size if wanted else None,
        model_here=bool(wanted and wanted.present),
        room=room,
        network=network,
        local=local,
        local_seconds=round(seconds, 3),
    )


def _judge(
    name: str, environment: Mapping[str, str], memory: int | None, disk: int
) -> tuple[Wanted | None, str | None]:
    """The model if there is one of that name, and why the local engine could not begin with it."""
    wanted = None
    try:
        wanted = find_model(name, environment)
        check_room(wanted, ENGINES[LOCAL].concurrency, memory, disk)
    except MagpieError as error:
        return wanted, _told(error)
    return wanted, None


def _told(error: MagpieError) -> str:
    return ": ".join(filter(None, (error.message, error.hint)))


async def _self_test() -> tuple[str | None, float]:
    """What is wrong with llama.cpp here, and the seconds in which a tiny model said something."""
    from magpie_cli.engines.local import open_tiny_model

    started = time.perf_counter()
    try:
        async with open_tiny_model() as model:
            await model.complete([{"role": "user", "content": "Hi"}], Sampling(max_tokens=16))
    except MagpieError as error:
        return f"does not work: {_told(error)}", 0.0
    return None, time.perf_counter() - started


async def _reach(wanted: Wanted | None, environment: Mapping[str, str]) -> str | None:
    """What is wrong with the way to the hub of the model, or to the proxy that stands before it."""
    variable, usual = ENDPOINT_VARIABLE, ENDPOINT
    if wanted and wanted.kind == "ollama":
        variable, usual = REGISTRY_VARIABLE, REGISTRY
    try:
        hub = checked_url(environment.get(variable) or usual, variable, usual)
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
