"""A model that somebody wants: what it is, and the file that it is or will be."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from magpie_cli.errors import MagpieError, UsageError
from magpie_cli.models.cache import Note, cache_folder, is_whole, part_path, path_of, size_of
from magpie_cli.models.catalogue import CATALOGUE, CatalogueModel
from magpie_cli.models.names import HubFile, Source, forms, read_name

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

    @property
    def in_part(self) -> int:
        """How many bytes of it an earlier download left."""
        return 0 if self.present else size_of(part_path(self.path))

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
    _refuse_other_file(name, catalogue)
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


def check_space(folder: Path, missing: int, free: int, instead: str = "") -> None:
    """Raises MagpieError where `free` bytes do not hold the `missing` ones; `instead` helps too."""
    if free < missing:
        raise MagpieError(
            f"the disk of {folder} is too full: {size_text(missing)} to fetch, "
            f"{size_text(free)} free",
            f"{instead}free some space, or keep models elsewhere: export "
            "XDG_CACHE_HOME=/another/disk",
        )


def size_text(size: int) -> str:
    """`1.12 GB`, `386 MB`: by thousands, as hubs count."""
    for unit, bytes_ in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        many = size / bytes_
        if many >= 0.9995:  # what would be shown as 1000 of the smaller unit
            return f"{many:,.0f} {unit}" if many >= 999.5 else f"{many:.3g} {unit}"
    return f"{size} bytes"


def _refuse_other_file(name: str, catalogue: Mapping[str, CatalogueModel]) -> None:
    """Nobody is asked over the network for what lies here, and is no model."""
    other = name.lower() in catalogue or name.lower().endswith(".gguf")
    if other or not name.isprintable() or not os.path.isfile(name):  # noqa: PTH113 - never raises
        return
    meant = f"; for Ollama's: library/{name}" if "/" not in name else ""
    raise UsageError(
        f"{name} is a file on this machine whose name does not end in .gguf",
        f"if it is a GGUF model, rename it{meant}; else {forms(name, catalogue)}",
    )


def _own_file(name: str, path: Path) -> Wanted:
    path = path.absolute()
    try:
        if not path.is_file():
            what = "that is a folder" if path.is_dir() else "there is no such file"
            raise UsageError(f"{name}: {what}", forms(name))
        size = path.stat().st_size
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}", forms(name)) from error
    return Wanted(name, "file", path, present=True, size=size)
