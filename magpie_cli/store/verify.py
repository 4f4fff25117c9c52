"""Every line of an output and of its failures, read whole; and taking out those that are none."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from magpie_cli.errors import InvalidRecord, UsageError
from magpie_cli.ids import IdSet
from magpie_cli.records import Failure, Record
from magpie_cli.store import disk
from magpie_cli.store.append_file import AppendFile, disk_errors
from magpie_cli.store.manifest import Manifest
from magpie_cli.store.mend import keep
from magpie_cli.store.paths import OutputPaths
from magpie_cli.store.scan import Bad, lines_of, strict


@dataclass(slots=True)
class Checked:
    """What stands in one file: the ids of its good lines, and the stretches that are none."""

    path: Path
    ids: IdSet = field(default_factory=IdSet)
    lines: int = 0
    bad: list[Bad] = field(default_factory=list)


def find_output(output: str, failures: str | None) -> tuple[OutputPaths, Manifest]:
    """The files of `output`. Raises UsageError where it is none of magpie's."""
    paths = OutputPaths.of(output, failures)
    manifest = Manifest.read(paths.manifest)
    if manifest is None or not paths.output.exists():
        lacks = paths.manifest if manifest is None else paths.output
        raise UsageError(
            f"{output} is not an output of magpie ({lacks} is not there)",
            "name the file that -o named",
        )
    if failures is None:
        paths = OutputPaths.of(output, str(paths.output.parent / manifest.failures))
    return paths, manifest


def check_output_file(path: Path, manifest: Manifest) -> Checked:
    """Every line of an output, read as a record of its run; no id twice."""
    end = manifest.identity.get("end", "responder")
    if manifest.command == "judge":
        end = None  # its rows end as those did that it was given
    return _check(path, lambda line: Record.from_json(line, end), unique=True)


def check_failures_file(path: Path) -> Checked:
    """Every line of a failures file, read as a failure."""
    return _check(path, Failure.from_json, unique=False)


def take_out(file: AppendFile, checked: Checked, paths: OutputPaths) -> None:
    """Move what is bad to quarantine, and give the file its good lines. Raises MagpieError."""
    with disk_errors(checked.path):
        for bad in checked.bad:
            keep(file, paths, bad.start, bad.end)
        disk.replace(checked.path, _good(file, checked.bad))


def _good(file: AppendFile, bad: Iterable[Bad]) -> Iterator[bytes]:
    offset = 0
    for stretch in (*bad, Bad(file.size, file.size, "the end")):
        while offset < stretch.start:
            end = min(stretch.start, offset + 1024 * 1024)
            yield file.read(offset, end)
            offset = end
        offset = stretch.end


def _check(path: Path, parse: Callable[[bytes], object], *, unique: bool) -> Checked:
    checked = Checked(path)
    offset = 0
    for line in lines_of(path):
        why, id_ = strict(line)
        if not why:
            try:
                parse(line)
            except InvalidRecord as error:
                why = error.message
        if not why and not checked.ids.add(id_) and unique:
            why = f"a second line of the id {id_}"
        if why:
            checked.bad.append(Bad(offset, offset + len(line), why))
        else:
            checked.lines += 1
        offset += len(line)
    return checked
