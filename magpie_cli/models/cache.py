"""Where models are kept, and what is written beside each of them.

$XDG_CACHE_HOME/magpie/models/
    NAME.gguf             whole and checked; it appears by rename alone
    NAME.gguf.json        what it is: name, source, size, sha256, licence
    NAME.gguf.part        still coming
    NAME.gguf.part.json   which bytes it is a part of, and the name to go on with
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Self

import orjson

from magpie_cli.errors import MagpieError
from magpie_cli.models.names import Source
from magpie_cli.store.disk import sync_folder

SLUG_LENGTH = 120  # characters of a file's name that are for people
MARK_LENGTH = 12  # hexadecimal digits that make it the only one


@dataclass(frozen=True, slots=True)
class Note:
    """What a file of the cache is. `name` is what the user typed, `size` in bytes."""

    name: str
    source: str
    size: int
    sha256: str
    licence: str | None

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """The note beside `path`; None where there is none that can be read."""
        try:
            found = orjson.loads(_note_path(path).read_bytes())
            note = cls(**{key: found[key] for key in cls.__slots__})
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
            return None
        known = isinstance(note.name, str) and isinstance(note.licence, str | None)
        return note if known and isinstance(note.size, int) else None

    def write(self, path: Path) -> None:
        """Put it beside `path`, whole or not at all."""
        write_json(_note_path(path), asdict(self))


def cache_folder(environment: Mapping[str, str]) -> Path:
    """`$XDG_CACHE_HOME/magpie/models`; ~/.cache where that is not an absolute path.

    So says https://specifications.freedesktop.org/basedir-spec/latest/ .
    """
    home = Path(environment.get("XDG_CACHE_HOME", ""))
    if not home.is_absolute():
        home = Path(environment.get("HOME") or "~").expanduser() / ".cache"
    return home / "magpie" / "models"


def path_of(source: Source, folder: Path) -> Path:
    """The file of `source`: a name that people can read, and no other source has.

    Not on file systems either that take upper and lower case for one.
    """
    whole = str(source)
    readable = whole.removeprefix("hf:").removesuffix(".gguf").lower()
    slug = re.sub(r"[^a-z0-9._]+", "-", readable).strip("-.")[-SLUG_LENGTH:].lstrip("-.")
    mark = sha256(f"{type(source).__name__} {whole}".encode()).hexdigest()[:MARK_LENGTH]
    return folder / f"{slug}-{mark}.gguf"


def is_whole(path: Path) -> bool:
    """Whether the file is there, as long as its note says."""
    try:
        size = path.stat().st_size if path.is_file() else None
    except OSError:
        return False
    note = Note.of(path)
    return size is not None and (note is None or note.size == size)


def part_path(path: Path) -> Path:
    """What the file is called while it is still coming."""
    return path.with_name(f"{path.name}.part")


def part_note(part: Path) -> Path:
    """What is written of a part: which bytes it is of, and the name that somebody typed for it."""
    return part.with_name(f"{part.name}.json")


def read_part_note(part: Path) -> dict[str, object]:
    """What stands there; empty where nothing can be read."""
    try:
        found = orjson.loads(part_note(part).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def size_of(path: Path) -> int:
    """In bytes; 0 where it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _note_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def write_json(path: Path, value: object) -> None:
    """Temporary file, sync, rename, sync of the folder."""
    new = path.with_name(f"{path.name}.new")
    with cache_errors(path):
        with new.open("wb") as copy:
            copy.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
            copy.flush()
            os.fsync(copy.fileno())
        new.replace(path)
        sync_folder(path.parent)


@contextmanager
def cache_errors(path: Path) -> Iterator[None]:
    """What the system refuses, as a MagpieError that names the file."""
    try:
        yield
    except OSError as error:
        raise MagpieError(
            f"{error.filename or path} cannot be written: {error.strerror}",
            "mend that, or keep models elsewhere: export XDG_CACHE_HOME=/another/disk; then run "
            "the same command again (what is there stays)",
        ) from error
