"""Which files belong to an output, and whether they can be written at all."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from magpie_cli.errors import UsageError
from magpie_cli.store import disk

_COMPRESSED = (".gz", ".zst", ".xz", ".bz2", ".zip")


@dataclass(frozen=True, slots=True)
class OutputPaths:
    """The files of `-o out.jsonl`."""

    output: Path
    failures: Path
    folder: Path

    @classmethod
    def of(cls, output: str, failures: str | None = None) -> Self:
        """The files beside `output`; `failures` names another place for the failures."""
        path = Path(output)
        if path.is_symlink():
            path = Path(os.path.realpath(path))  # one output has one folder, whatever its names
        beside = path.parent / f"{path.stem}.failures{path.suffix or '.jsonl'}"
        elsewhere = Path(failures) if failures else beside
        if elsewhere.is_symlink():
            elsewhere = Path(os.path.realpath(elsewhere))
        return cls(path, elsewhere, Path(f"{path}.magpie"))

    @property
    def failures_name(self) -> str:
        """The failures seen from the output's folder: it stays true when both move."""
        return os.path.relpath(self.failures, self.output.parent)

    @property
    def manifest(self) -> Path:
        """The settings that the rows were made with."""
        return self.folder / "manifest.json"

    @property
    def turn_log(self) -> Path:
        """The utterances of dialogues that are not finished."""
        return self.folder / "turns.log"

    @property
    def events(self) -> Path:
        """What a row does not hold: times, attempts, retries."""
        return self.folder / "events.jsonl"

    @property
    def quarantine(self) -> Path:
        """Every byte that was taken out."""
        return self.folder / "quarantine"

    def set_aside(self) -> int:
        """Rename all of them to a free number, which it returns: `out.jsonl.1`. Deletes nothing."""
        number = 1
        while any(Path(f"{path}.{number}").exists() for path in self._all()):
            number += 1
        for path in self._all():
            if path.exists():
                disk.rename(path, Path(f"{path}.{number}"))
        return number

    def _all(self) -> tuple[Path, Path, Path]:
        return (self.output, self.failures, self.folder)


def is_stream(output: str) -> bool:
    """Whether `output` is standard output, a pipe or a device: nothing to come back to."""
    if output == "-":
        return True
    try:
        mode = Path(output).stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def check_output(
    output: str, failures: str | None, source: str, beside: str = "--failures"
) -> None:
    """Raise UsageError where an output path cannot be one. Creates nothing.

    `beside` is the flag that named `failures`.
    """
    _refuse_compressed(output)
    if is_stream(output):
        _refuse_loop(output, source)
        paths = []
    else:
        _check_file(Path(output))
        ours = OutputPaths.of(output, failures)
        paths = [ours.output, ours.failures]
    if failures:
        _check_file(Path(failures))
        paths.append(Path(failures))
    if len(paths) > 1 and _same(paths[0], paths[1]):
        raise UsageError(f"--output and {beside} name the same file", "give them two names")
    for path in paths:
        if source != "-" and _same(path, Path(source)):
            raise UsageError(f"{path} is the input itself", "name another file")


def _refuse_compressed(output: str) -> None:
    if Path(output).suffix in _COMPRESSED:
        raise UsageError(
            f"{output}: rows are written uncompressed", f"magpie ... -o - | COMPRESS > {output}"
        )


def _refuse_loop(output: str, source: str) -> None:
    """Rows that the shell sends into the input would come back as pairs."""
    if output != "-":
        return
    try:
        rows = os.fstat(1)
    except OSError as error:
        raise UsageError("standard output is closed", "name a file with -o") from error
    if not stat.S_ISREG(rows.st_mode):
        return
    try:
        pairs = os.fstat(0) if source == "-" else Path(source).stat()
    except OSError:
        return
    if os.path.samestat(rows, pairs):
        raise UsageError("standard output is the input itself", "name another file with -o")


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"{path} is a folder", f"name a file in it: {path / 'out.jsonl'}")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is not a file", "name a file that is one, or is not there yet")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent}: there is no such folder", f"mkdir -p {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"{path} cannot be written: no permission", "name another file with -o")


def _same(left: Path, right: Path) -> bool:
    try:
        return left.samefile(right)
    except OSError:
        return left.absolute() == right.absolute()
