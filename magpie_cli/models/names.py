"""What a user types for a model, and where that leads. Pure: asks no disk and no network.

qwen2.5:1.5b                        a name of the catalogue
./any.gguf, ~/any.gguf              a file
hf:owner/repo/file.gguf[@revision]  a file of a repository on Hugging Face
[namespace/]name[:tag]              a model of Ollama's registry
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import unquote

from magpie_cli.errors import UsageError
from magpie_cli.models.catalogue import CATALOGUE, CatalogueModel

FORMS = (
    "a name that magpie models lists, FILE.gguf, hf:owner/repo/file.gguf, or any other name: "
    "that is asked of Ollama's registry (https://ollama.com/library)"
)
NAME_LENGTH = 300  # characters; longer is a slip

_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_HUB = re.compile(rf"hf:({_PART}/{_PART})/(.+?\.gguf)(?:@(.+))?", re.IGNORECASE)
_OLLAMA = re.compile(rf"(?:({_PART})/)?({_PART})(?::({_PART}))?")
_PAGE = re.compile(
    rf"https?://[^/]+/({_PART}/{_PART})/(?:resolve|blob|raw)/({_PART})/([^?#]+?\.gguf)(?:[?#].*)?",
    re.IGNORECASE,
)
_REVISION = re.compile(rf"{_PART}(?:/{_PART})*")
_SPLIT = re.compile(r"-[0-9]{5}-of-[0-9]{5}\.gguf$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository on Hugging Face; `repository` is `owner/name`."""

    repository: str
    file: str
    revision: str = "main"

    def __str__(self) -> str:
        return f"hf:{self.repository}/{self.file}" + (
            f"@{self.revision}" if self.revision != "main" else ""
        )


@dataclass(frozen=True, slots=True)
class OllamaTag:
    """A tag of a model in Ollama's registry."""

    namespace: str
    model: str
    tag: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.model}:{self.tag}"


Source = HubFile | OllamaTag


def read_name(
    name: str, catalogue: Mapping[str, CatalogueModel] = CATALOGUE
) -> CatalogueModel | Source | Path:
    """Where `name` leads. Raises UsageError where it is no name, with what it might have been."""
    if not name.isprintable() or not name.strip() or len(name) > NAME_LENGTH:
        raise _no_name(name, catalogue)
    if name.lower() in catalogue:
        return catalogue[name.lower()]
    if name.lower().startswith(("https://", "http://")):
        raise _no_address(name)
    if name.lower().startswith("hf:"):
        return _hub_file(name, catalogue)
    if name.lower().endswith(".gguf"):
        try:
            return Path(name).expanduser()
        except RuntimeError as error:  # ~nobody
            raise UsageError(f"{name}: there is no such home folder", f"give {FORMS}") from error
    found = _OLLAMA.fullmatch(name)
    if not found:
        raise _no_name(name, catalogue)
    return OllamaTag(found[1] or "library", found[2], found[3] or "latest")


def forms(name: str, catalogue: Mapping[str, CatalogueModel] = CATALOGUE) -> str:
    """What to type instead of `name`: first what it might have been meant to be."""
    near = near_names(name, catalogue)
    return f"{' or '.join(near)}? Otherwise {FORMS}" if near else f"give {FORMS}"


def near_names(name: str, catalogue: Mapping[str, CatalogueModel] = CATALOGUE) -> list[str]:
    """The names of the catalogue that `name` might have been meant to be."""
    return get_close_matches(name.lower(), catalogue, n=3, cutoff=0.5)


def _hub_file(name: str, catalogue: Mapping[str, CatalogueModel]) -> HubFile:
    found = _HUB.fullmatch(name)
    if not found:
        raise _no_name(name, catalogue)
    repository, file, revision = found[1], found[2], found[3] or "main"
    steps = file.split("/")
    if ".." in repository or "\\" in file or not all(step.strip(". ") for step in steps):
        raise _no_name(name, catalogue)
    if ".." in revision or not _REVISION.fullmatch(revision):
        raise _no_name(name, catalogue)
    if _SPLIT.search(file):
        raise UsageError(
            f"{name} is one piece of a model that is split into several files",
            "choose a file of that repository that is whole",
        )
    return HubFile(repository, file, revision)


def _no_name(name: str, catalogue: Mapping[str, CatalogueModel]) -> UsageError:
    return UsageError(f"{name[:NAME_LENGTH]!r} is no name of a model", forms(name, catalogue))


def _no_address(name: str) -> UsageError:
    """For an address, as people copy it from a page of Hugging Face."""
    found = _PAGE.fullmatch(unquote(name))
    meant = f"hf:{found[1]}/{found[3]}" if found else ""
    meant += f"@{found[2]}" if found and found[2] != "main" else ""
    hint = f"{meant} is that file" if meant else f"give {FORMS}"
    return UsageError(f"{name} is an address, and no name of a model", hint)
