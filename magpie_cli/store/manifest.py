"""What an output's rows were made with, and how far they are durable. Only ever replaced whole."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import orjson

from magpie_cli.errors import MagpieError
from magpie_cli.store import disk

FORMAT = 2
MOST_SHOWN = 60  # characters of a setting


@dataclass(frozen=True, slots=True)
class Manifest:
    """`identity` are the settings that change a row, none of them secret.

    `inputs` are the paths of all inputs so far, this run's last, `-` for standard input, each with
    its shard; `input_digest` is sha256 over the bytes of this run's, None where it could be read
    only once. `samples` were asked for each pair, of all or of those of one `shard`. `expected`
    counts the outcomes of this whole input, None while that is unknown. `failures` is where its
    failures go, seen from the output's folder. `pid` is the run that wrote it last; `clean` says
    whether that run got through its whole input. Below `durable_output` and `durable_failures`, in
    bytes, nothing can be lost any more; `rewrite` says that what is above could not be synced.
    """

    identity: Mapping[str, Any]
    inputs: Sequence[str]
    input_digest: str | None
    samples: int
    shard: str | None
    expected: int | None
    failures: str
    pid: int
    clean: bool = False
    durable_output: int = 0
    durable_failures: int = 0
    rewrite: bool = False

    @property
    def command(self) -> str:
        """Whose output it is: that of `generate`, unless the identity says another."""
        return str(self.identity.get("command", "generate"))

    @property
    def fingerprint(self) -> str:
        """sha256 over the identity: rows of two fingerprints never share an output."""
        text = orjson.dumps(self.identity, option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(text).hexdigest()

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The manifest at `path`, None where there is none. Raises MagpieError if damaged."""
        try:
            found = orjson.loads(path.read_bytes())
            if found["format"] != FORMAT:
                older = isinstance(found["format"], int) and found["format"] < FORMAT
                way_out = "set the output aside with --fresh" if older else "upgrade magpie"
                raise MagpieError(
                    f"{path} has format {found['format']}; this magpie knows {FORMAT}",
                    f"{way_out}, or name another file with -o",
                )
            manifest = cls(**{field.name: found[field.name] for field in fields(cls)})
            if found["fingerprint"] != manifest.fingerprint:
                raise MagpieError(
                    f"{path} is damaged: its fingerprint is that of other settings",
                    "set the output aside with --fresh",
                )
        except FileNotFoundError:
            return None
        except OSError as error:
            raise MagpieError(
                f"{path} cannot be read: {error.strerror}", "move it aside, or name another -o"
            ) from error
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise MagpieError(
                f"{path} is damaged: {error}", "set the output aside with --fresh"
            ) from error
        return manifest

    def write(self, path: Path) -> None:
        """Whole or not at all. Raises OSError."""
        facts = {field.name: getattr(self, field.name) for field in fields(self)}
        text = orjson.dumps(
            {"format": FORMAT, "fingerprint": self.fingerprint, **facts},
            option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE,
        )
        disk.make_folder(path.parent)
        disk.replace(path, [text])

    def differences(self, identity: Mapping[str, object]) -> list[str]:
        """`turns: 3 -> 5` for each setting that is not as it was."""
        keys = sorted(self.identity.keys() | identity.keys())
        return [
            f"{key}: {_shown(self.identity.get(key))} -> {_shown(identity.get(key))}"
            for key in keys
            if self.identity.get(key) != identity.get(key)
        ]


def _shown(value: object) -> str:
    """Short: a system line may be long."""
    text = "not set" if value is None else str(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
