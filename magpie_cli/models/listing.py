"""`magpie models`: the catalogue, and what the cache holds. Asks no network."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from magpie_cli.errors import MagpieError
from magpie_cli.models.cache import (
    Note,
    cache_folder,
    is_whole,
    part_path,
    read_part_note,
    size_of,
)
from magpie_cli.models.catalogue import CATALOGUE, CatalogueModel
from magpie_cli.models.wanted import ASK_FIRST, find_model, size_text

Place = Literal["here", "in part", "not here"]


@dataclass(frozen=True, slots=True)
class ListedModel:
    """One line. `size` is the whole file's in bytes, `there` what is here of it.

    `place` is "here" for a whole file, "in part" for one that is on its way or was stopped.
    `licence` is None where nobody knows it. `path` is where it is or will be. Only those of the
    catalogue have a `note`. `resume` is what to type after `magpie pull` for the rest of a part.
    """

    name: str
    size: int | None
    licence: str | None
    place: Place
    there: int
    path: str
    note: str | None = None
    resume: str | None = None


def listed(
    environment: Mapping[str, str] = os.environ,
    catalogue: Mapping[str, CatalogueModel] = CATALOGUE,
) -> list[ListedModel]:
    """The catalogue, smallest first, and then all other models that the cache holds."""
    known = [_of_catalogue(model, environment, catalogue) for model in catalogue.values()]
    paths = {line.path for line in known}
    others = [_other(path) for path in _files(cache_folder(environment)) if str(path) not in paths]
    return sorted(known, key=lambda line: line.size or 0) + sorted(
        others, key=lambda line: line.name
    )


def text(lines: Sequence[ListedModel]) -> str:
    """For a person: a table, then what to type."""
    rows = [("NAME", "SIZE", "LICENCE", "", "PATH, OR WHAT IT IS GOOD FOR")]
    for line in lines:
        size = "?" if line.size is None else size_text(line.size)
        rows.append((line.name, size, line.licence or "?", line.place, _remark(line)))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    table = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]])
        for row in rows
    ]
    most = size_text(ASK_FIRST)
    end = f"magpie pull NAME fetches one; so does generate, up to {most}."
    return "\n".join([*table, "", end])


def _remark(line: ListedModel) -> str:
    if line.place == "here":
        return line.path
    if line.place == "in part":
        go_on = f"; magpie pull {shlex.quote(line.resume)} goes on" if line.resume else ""
        return f"{size_text(line.there)} in {part_path(Path(line.path))}{go_on}"
    return line.note or ""


def _of_catalogue(
    model: CatalogueModel,
    environment: Mapping[str, str],
    catalogue: Mapping[str, CatalogueModel],
) -> ListedModel:
    found = find_model(model.name, environment, catalogue)
    place, there = _place(found.path)
    size, path = found.size, str(found.path)
    resume = model.name if place == "in part" else None
    return ListedModel(model.name, size, model.licence, place, there, path, model.note, resume)


def _other(path: Path) -> ListedModel:
    """A file that `path` names, or the part of it that is there."""
    place, there = _place(path)
    note = Note.of(path)
    typed = read_part_note(part_path(path)).get("name") if place == "in part" else None
    resume = typed if isinstance(typed, str) else None
    name = note.name if note else resume or path.name
    size = there if place == "here" else None
    licence = note.licence if note else None
    return ListedModel(name, size, licence, place, there, str(path), resume=resume)


def _place(path: Path) -> tuple[Place, int]:
    if is_whole(path):
        return "here", size_of(path)
    size = size_of(part_path(path))
    return ("in part", size) if size else ("not here", 0)


def _files(folder: Path) -> list[Path]:
    """Each model that is there, whole or in part, once."""
    try:
        names = {entry.name.removesuffix(".part") for entry in folder.iterdir()}
    except FileNotFoundError:
        return []
    except OSError as error:
        raise MagpieError(
            f"{folder} cannot be read: {error.strerror}", f"ls -ld {folder} says who may"
        ) from error
    return [folder / name for name in sorted(names) if name.endswith(".gguf")]
