"""A model that somebody wants: what it is, and the file that it is or will be."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from magpie_cli.errors import UsageError
from magpie_cli.models.cache import Note, cache_folder, is_whole, path_of
from magpie_cli.models.catalogue import CATALOGUE, CatalogueModel
from magpie_cli.models.names import FORMS, HubFile, Source, read_name

ASK_FIRST = 4_000_000_000  # bytes; larger models are fetched by `magpie pull` alone

Kind = Literal["catalogue", "file", "hub", "ollama"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """`name` is what was typed, or the catalogue's name for it.

    `path` is an absolute path, of a whole file if it is `present`.
    `size` in bytes, `sha256` in hexadecimal; None where they are not known (yet). `source` is None
    for a file of the user's own. `asked` says whether the host has told what it knows.
    """

    name: str
    kind: Kind
    path: Path
    present: bool
    source: Source | None = None
    size: int | None = None
    sha256: str | None = None
    licence: str | None = None
    asked: bool = False

    def sentence(self) -> str:
        """`qwen2.5:1.5b, 1.12 GB, licence Apache-2.0, from hf:...`."""
        much = "of unknown size" if self.size is None else size_text(self.size)
        licence = self.licence or "not named"
        return f"{self.name}, {much}, licence {licence}, from {self.source or self.path}"


def find_model(
    name: str,
    environment: Mapping[str, str] = os.environ,
    catalogue: Mapping[str, CatalogueModel] = CATALOGUE,
) -> Wanted:
    """What `name` means, and whether it is here. Asks no network.

    Raises UsageError where it is no name, or names a file that is not there.
    """
    found = read_name(name, catalogue)
    if isinstance(found, Path):
        return _own_file(name, found)
    kind: Kind = "hub" if isinstance(found, HubFile) else "ollama"
    source: Source
    if isinstance(found, CatalogueModel):
        kind, source = "catalogue", hub_file(found)
    else:
        source = found
    path = path_of(source, cache_folder(environment))
    present = is_whole(path)
    note = Note.of(path) if present else None
    known = note or (found if isinstance(found, CatalogueModel) else None)
    return Wanted(
        found.name if isinstance(found, CatalogueModel) else name,
        kind,
        path,
        present,
        source,
        size=known.size if known else None,
        sha256=known.sha256 if known else None,
        licence=known.licence if known else None,
    )


def hub_file(model: CatalogueModel) -> HubFile:
    """Where the catalogue's model comes from."""
    return HubFile(model.repository, model.file, model.revision)


def ask_first(wanted: Wanted) -> UsageError:
    """The error of a command that will not fetch so much by the way."""
    return UsageError(
        f"{wanted.sentence()}: so much is not fetched by the way",
        f"magpie pull {shlex.quote(wanted.name)}, and then the same command again",
    )


def size_text(size: int) -> str:
    """`1.12 GB`, `386 MB`: by thousands, as hubs count."""
    for unit, bytes_ in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        many = size / bytes_
        if many >= 0.9995:  # what would be shown as 1000 of the smaller unit
            return f"{many:,.0f} {unit}" if many >= 999.5 else f"{many:.3g} {unit}"
    return f"{size} bytes"


def _own_file(name: str, path: Path) -> Wanted:
    path = path.absolute()
    try:
        if not path.is_file():
            what = "that is a folder" if path.is_dir() else "there is no such file"
            raise UsageError(f"{name}: {what}", f"give {FORMS}")
        size = path.stat().st_size
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}", f"give {FORMS}") from error
    return Wanted(name, "file", path, present=True, size=size)
