"""The settings that an output's rows were made with. Only ever replaced whole."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import orjson

from magpie_cli.errors import MagpieError
from magpie_cli.store.append_file import disk_errors, sync_folder

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """`expected` counts the outcomes of the whole input, None while that is unknown.

    `input` is the input's path, `-` for standard input. `failures` is where its failures go, seen
    from the output's folder. `pid` is the run that wrote it last; `clean` says whether that run got
    through its whole input.
    """

    identity: Mapping[str, Any]
    input: str
    expected: int | None
    failures: str
    pid: int
    clean: bool

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The manifest at `path`, None where there is none. Raises MagpieError if damaged."""
        try:
            found = orjson.loads(path.read_bytes())
            if found["format"] != FORMAT:
                raise MagpieError(
                    f"{path} has format {found['format']}; this magpie knows {FORMAT}",
                    "upgrade magpie, or name another file with -o",
                )
            return cls(**{key: found[key] for key in cls.__slots__})
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

    def write(self, path: Path) -> None:
        """Temporary file, sync, rename, sync of the folder: whole or not at all."""
        text = orjson.dumps(
            {"format": FORMAT, **{key: getattr(self, key) for key in self.__slots__}},
            option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE,
        )
        new = path.with_name(f"{path.name}.new")
        with disk_errors(path):
            path.parent.mkdir(exist_ok=True)
            with new.open("wb") as copy:
                copy.write(text)
                copy.flush()
                os.fsync(copy.fileno())
            new.replace(path)
            sync_folder(path.parent)

    def differences(self, identity: Mapping[str, object]) -> list[str]:
        """`turns: 3 -> 5` for each setting that is not as it was."""
        keys = sorted(self.identity.keys() | identity.keys())
        return [
            f"{key}: {_shown(self.identity.get(key))} -> {_shown(identity.get(key))}"
            for key in keys
            if self.identity.get(key) != identity.get(key)
        ]


def _shown(value: object) -> str:
    return "not set" if value is None else str(value)
