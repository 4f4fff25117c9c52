"""After a crash: what is no line goes to quarantine, and every line that is one stays.

Order of the steps, so that a crash between any two of them costs nothing: the bad bytes are kept
and synced; the good lines behind them are kept in `NAME.tail` and synced; the file is cut at the
first bad byte; the tail is added again, to an output without the ids that are there already (of a
failures file the last line of an id wins anyway); then it is removed.
"""

from itertools import chain
from pathlib import Path

from magpie_cli.ids import IdSet
from magpie_cli.store import disk
from magpie_cli.store.append_file import AppendFile
from magpie_cli.store.paths import OutputPaths
from magpie_cli.store.scan import lines_of, scan, strict


def mend(
    file: AppendFile, paths: OutputPaths, durable: int, *, unique: bool, rewrite: bool = False
) -> tuple[IdSet, int]:
    """Bring `file` to whole lines and make them durable.

    The ids that are in it, and how many bytes were taken out.

    With `rewrite`, what stands above `durable` is written anew, because the disk once failed to.
    Raises MagpieError where the damage is below `durable`; OSError.
    """
    found = scan(file.path, durable, unique=unique, anew=rewrite, output=paths.output)
    tail = paths.folder / f"{file.path.name}.tail"
    for bad in found.bad:
        keep(file, paths, bad.start, bad.end)
    if found.behind:
        disk.make_folder(paths.folder)
        behind = (file.read(start, end) for start, end in found.behind)
        disk.replace(tail, chain(lines_of(tail), behind))
    if found.good != file.size:
        file.cut(found.good)
    if tail.exists():
        _add(file, tail, found.ids if unique else None)
        file.sync()
        disk.remove(tail)
    file.sync()
    return found.ids, sum(bad.end - bad.start for bad in found.bad)


def keep(file: AppendFile, paths: OutputPaths, start: int, end: int) -> None:
    """Copy bytes to quarantine, behind any that were kept from the same place before."""
    disk.make_folder(paths.folder)
    disk.make_folder(paths.quarantine)
    kept = paths.quarantine / f"{file.path.name}.{start}"
    before = kept.read_bytes() if kept.exists() else b""
    disk.replace(kept, [before, file.read(start, end), b"\n"])


def _add(file: AppendFile, tail: Path, ids: IdSet | None) -> None:
    for line in lines_of(tail):
        _, id_ = strict(line)
        if ids is None or ids.add(id_):
            file.append(line)
