"""Prompts from files: a folder of the user's own, checked before anything is asked; and copies."""

from dataclasses import replace
from pathlib import Path

from magpie_cli.errors import UsageError
from magpie_cli.prompts import BUILT_IN, Prompts, own_prompts

# Each file of a folder, and the persona without which a speaker would not know who it is.
FILES = {
    "instructor.md": "instructor_persona",
    "responder.md": "responding_persona",
    "opener.md": None,
}
MOST_BYTES = 1024 * 1024  # of a file: no model reads more
_NAMES = ", ".join(f"{{{name}}}" for name in BUILT_IN)


def read_prompts(folder: str | None, system: str | None) -> Prompts:
    """Those of `folder`, or magpie's own; with `system`, a text or `@FILE`. Reads each file once.

    Raises UsageError where a file is missing, empty, not UTF-8, or lacks its speaker's persona.
    """
    own = own_prompts()
    if folder is not None:
        own = Prompts(*(_read_role(Path(folder), name) for name in FILES))
    return replace(own, system=_system(system))


def copy_prompts(folder: str) -> list[Path]:
    """Write magpie's own into `folder`, to begin one's own with; the paths.

    Raises UsageError, also where a file of that name is there: nothing is written over.
    """
    own = own_prompts()
    texts = (own.instructor, own.responder, own.opener)
    paths = [Path(folder) / name for name in FILES]
    if there := next((path for path in paths if path.exists()), None):
        raise UsageError(f"{there} is there already", "name another folder, or move it aside")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for path, text in zip(paths, texts, strict=True):
            path.write_text(f"{text}\n", "utf-8")
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be written: {error.strerror}", "name another folder"
        ) from error
    return paths


def _read_role(folder: Path, name: str) -> str:
    path = folder / name
    if not path.is_file():
        raise UsageError(
            f"{path} is not there: --prompts names a folder with {', '.join(FILES)}",
            f"magpie prompts copy {folder} writes magpie's own, to begin with"
            if not any((folder / other).exists() for other in FILES)
            else f"add {name}; magpie prompts copy NEW_FOLDER writes magpie's own",
        )
    text = read_text(path)
    persona = FILES[name]
    if persona and f"{{{persona}}}" not in text:
        raise UsageError(
            f"{path} does not say who speaks: {{{persona}}} is not in it",
            f"put it in; the names are {_NAMES}, and the columns of the input",
        )
    return text


def _system(given: str | None) -> str | None:
    if given is None:
        return None
    if given.startswith("@"):
        return read_text(Path(given[1:]))
    if not given.strip():
        raise UsageError("--system is empty", "say what the responder is to obey, or leave it out")
    return given.strip()


def read_text(path: Path) -> str:
    """What is in a file that is to be sent, without what stands around it.

    Raises UsageError where it is missing, empty, not UTF-8, or larger than MOST_BYTES.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is not UTF-8: byte {error.start + 1}", "save it as UTF-8"
        ) from error
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}", "name a file that can be"
        ) from error
    if len(data) > MOST_BYTES:
        raise UsageError(f"{path} is over {MOST_BYTES:,} bytes", "name a file with a prompt in it")
    if not text:
        raise UsageError(f"{path} is empty", "say in it what is to be sent")
    return text
