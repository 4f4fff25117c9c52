"""The Dria SDK (dria 0.0.124), as far as this engine uses it, and kept from everything else.

Used: the MagPie workflow, the shape of a task, task keys, the check of signatures, decryption, the
reading of heartbeats, the names of models, the network's addresses. Never made: its client, a
singleton that takes over SIGINT, sleeps 5 s a batch and drops what it cannot match. Never loaded:
datasets, pandas and duckdb (and the `~/.dria` folder that comes with them), which `import dria`
brings. Never heard: its log handlers, one on standard output, and its warnings.
"""

import base64
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import orjson

from magpie_cli.devnet import check_sdk
from magpie_cli.engine import PairRefused

# Packages whose __init__ would load what nothing here needs: a bare module stands in for each.
_BARE = ("dria", "dria.client", "dria.factory", "dria.factory.workflows")
# Names of `Model` that stand for a group of models.
_GROUPS = frozenset(
    ["ollama", "openai", "coder", "gemini", "openrouter", "small", "mid", "large", "reasoning"]
)


class TaskKeys(NamedTuple):
    """The secp256k1 keys of one task, as hex with `0x`: its answer is encrypted to them."""

    private: str
    public: str


@dataclass(frozen=True, slots=True)
class Sealed:
    """An answer as it came: `message` is base64 text, `signature` its 65 bytes r, s, v.

    `result` is the JSON object inside the message, `task_id` the task that it answers.
    """

    message: str
    signature: bytes
    result: dict[str, Any]
    task_id: str


@dataclass(frozen=True, slots=True)
class _Recipient:
    """What the SDK looks at of a task when it opens an answer."""

    private_key: str
    nodes: tuple[str, ...]


class Sdk:
    """The package's functions that this engine calls. Raises UsageError where it is missing."""

    def __init__(self) -> None:
        check_sdk("the dria engine")
        with quarantine():
            self._crypto = import_module("dria.utils.crypto.ec")
            self._constants = import_module("dria.constants")
            self._models = import_module("dria.models")
            self._monitor = import_module("dria.client.monitor").Monitor
            self._rpc = import_module("dria.request").RPCClient
            self._magpie = import_module("dria.factory.workflows.magpie_instruct.task").MagPie
        self._ollama = {model.value for model in self._models.OllamaModels}
        self.models = tuple(
            dict.fromkeys(model.value for model in self._models.Model if model.value not in _GROUPS)
        )
        self._load_cipher()

    def address(self, token: str) -> str:
        """Base URL of the network that `token` is for."""
        return str(self._rpc(token).base_url)

    def queue_limit(self, model: str) -> int:
        """How many tasks a node may have waiting for `model`."""
        constants = self._constants
        limit = constants.MAX_OLLAMA_QUEUE if model in self._ollama else constants.MAX_API_QUEUE
        return int(limit)

    def workflow(self, num_turns: int) -> dict[str, Any]:
        """The MagPie workflow of `num_turns` turns as JSON, without personas."""
        with quarantine():
            magpie = self._magpie(instructor_persona="", responding_persona="", num_turns=num_turns)
            workflow: dict[str, Any] = magpie.workflow().model_dump(mode="json", warnings=False)
        return workflow

    def new_keys(self) -> TaskKeys:
        """Keys for one task. The SDK passes over public keys that begin with a zero."""
        while True:
            keys = TaskKeys(*self._crypto.generate_task_keys())
            if not keys.public.startswith("0x0"):
                return keys

    def payload(self, fields: Mapping[str, Any]) -> str:
        """A task as it goes over the wire: base64 of its JSON. Raises PairRefused if too large."""
        task = self._models.TaskModel(**fields)
        payload = base64.b64encode(orjson.dumps(dict(task))).decode()
        most = self._rpc.NETWORK_MAX_MESSAGE_SIZE * 1024
        if len(payload) > most:
            raise PairRefused(
                "payload_too_large",
                f"a task of {len(payload):,} bytes, and the network takes {most:,}: "
                "the personas are too long",
            )
        return payload

    def read_heartbeat(self, heartbeat: str) -> tuple[dict[str, list[str]], dict[str, str]]:
        """Model -> addresses that take tasks for it now, and address -> peer id."""
        models, peers = self._monitor._decrypt_nodes([heartbeat])  # noqa: SLF001 - the reader
        return models, peers

    def signer(self, sealed: Sealed) -> str:
        """The address that signed it. Raises ValueError where the signature is none."""
        key = self._crypto.recover_public_key(sealed.signature, sealed.message.encode())
        address = self._crypto.publickey_to_address(self._crypto.uncompressed_public_key(key))
        return str(address)

    def open(self, sealed: Sealed, private_key: str, node: str) -> str | None:
        """The answer in clear, None where another than `node` signed it.

        Raises ValueError, KeyError or TypeError where it cannot be decrypted.
        """
        recipient = _Recipient(private_key, (node,))
        text, _ = self._crypto.get_truthful_nodes(
            recipient, sealed.result, sealed.message, sealed.signature
        )
        return text if text is None else str(text)

    def _load_cipher(self) -> None:
        """Now, not at the first answer, when there may be no file descriptor left to load it."""
        keys = self.new_keys()
        sealed = import_module("ecies").encrypt(keys.public, b"-")
        self._crypto.decrypt_message(keys.private.removeprefix("0x"), sealed)


@contextmanager
def quarantine() -> Iterator[None]:
    """What the SDK does to logging, warnings and the environment while it loads is undone.

    It finds bare modules in place of some packages, and of dotenv, which would read the `.env` of
    whoever is near.
    """
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    standing_in = {name: _bare(name) for name in _BARE if name not in sys.modules}
    dotenv, own_dotenv = ModuleType("dotenv"), sys.modules.get("dotenv")
    vars(dotenv)["load_dotenv"] = lambda: False
    sys.modules.update(standing_in, dotenv=dotenv)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name in (*standing_in, "dotenv"):
            del sys.modules[name]
        if own_dotenv:
            sys.modules["dotenv"] = own_dotenv
        root.handlers[:] = handlers
        root.setLevel(level)
        theirs = logging.getLogger("dria")
        theirs.handlers[:] = [logging.NullHandler()]
        theirs.propagate = False


def _bare(name: str) -> ModuleType:
    """A module that leads to the submodules of the package `name` and runs nothing."""
    first = find_spec("dria")
    module = ModuleType(name)
    folders = first.submodule_search_locations if first else None
    module.__path__ = [str(Path(folder, *name.split(".")[1:])) for folder in folders or ()]
    return module
