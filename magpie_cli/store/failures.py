"""The failures beside an output: the last line of an id wins, and a row in the output beats it."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Self

import orjson

from magpie_cli.ids import IdSet
from magpie_cli.store import disk
from magpie_cli.store.append_file import AppendFile
from magpie_cli.store.mend import keep
from magpie_cli.store.paths import OutputPaths
from magpie_cli.store.scan import damaged, lines_of, read_ids


class FailedBefore:
    """The ids that have a failure and no row, and whether each may pass when tried again."""

    def __init__(self, failures: Iterable[tuple[str, bool]] = ()) -> None:
        self._transient = dict(failures)

    @classmethod
    def read(cls, paths: OutputPaths, done: IdSet) -> Self:
        """Those of the failures file. Raises MagpieError where a line of it is none."""
        return cls((id_, passes) for id_, passes in _read(paths) if id_ not in done)

    def __contains__(self, id_: str) -> bool:
        return id_ in self._transient

    def __len__(self) -> int:
        return len(self._transient)

    @property
    def may_pass_number(self) -> int:
        """How many of them may pass."""
        return sum(self._transient.values())

    def may_pass(self, id_: str) -> bool:
        """Whether another try may make a row of it: it was no fault of the pair's."""
        return self._transient.get(id_, True)


def forget(file: AppendFile, paths: OutputPaths) -> None:
    """Move all of them to quarantine: they say nothing of the settings of this run."""
    if file.size:
        keep(file, paths, 0, file.size)
        file.cut(0)


def compact(path: Path, is_old: Callable[[str], bool], before: int) -> None:
    """Keep the last line of each id, but none in front of the offset `before` whose id is old.

    Without a line left, no file is left. Whole or not at all. Raises OSError.
    """
    last = _last_of_the_repeated(path)

    def kept() -> Iterator[bytes]:
        for offset, line, id_ in _lines(path):
            is_last = last.get(id_, offset) == offset
            if is_last and (offset >= before or not is_old(id_)):
                yield line

    if next(kept(), None) is not None:
        disk.replace(path, kept())
    else:
        disk.remove(path)


def _read(paths: OutputPaths) -> Iterator[tuple[str, bool]]:
    offset = 0
    for line in lines_of(paths.failures):
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            why = f"not JSON: {error}"
            raise damaged(paths.failures, offset, why, paths.output) from error
        yield row["id"], row.get("transient", True)
        offset += len(line)


def _last_of_the_repeated(path: Path) -> dict[str, int]:
    """The offset of the last line of each id that has several."""
    once = IdSet()
    return {id_: offset for offset, _, id_ in _lines(path) if not once.add(id_)}


def _lines(path: Path) -> Iterator[tuple[int, bytes, str]]:
    """Offset, line and id of each."""
    offset = 0
    for line, id_ in zip(lines_of(path), read_ids(path), strict=True):
        yield offset, line, id_
        offset += len(line)
