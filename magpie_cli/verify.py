"""`magpie verify` and `magpie repair`: whether an output keeps its promises, and making it so."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from magpie_cli.ids import Shard, sample_id
from magpie_cli.records import Failure
from magpie_cli.source import Source, open_source
from magpie_cli.store import Manifest, find_output, read_ids
from magpie_cli.store.append_file import disk_errors
from magpie_cli.store.lock import at_rest, locked, remove_if_empty
from magpie_cli.store.verify import Checked, check_failures_file, check_output_file, take_out
from magpie_cli.summary import count

FAULTS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """`faults` are promises that are broken, the first of many; `remarks` are worth knowing.

    `command` is whose output it is.
    """

    output: str
    command: str
    rows: int
    failures: int
    left: int | None
    broken: int
    faults: tuple[str, ...]
    remarks: tuple[str, ...]

    def text(self) -> str:
        """For a person."""
        left = "" if self.left is None else f", {self.left:,} left"
        lines = [
            f"{self.output}: {count(self.rows, 'row')}, {count(self.failures, 'failure')}{left}"
        ]
        lines += [f"broken: {fault}" for fault in self.faults]
        if self.broken > len(self.faults):
            lines.append(f"and {self.broken - len(self.faults):,} more")
        lines += [f"note: {remark}" for remark in self.remarks]
        lines.append(
            f"{count(self.broken, 'promise')} broken: the same magpie {self.command} command makes "
            f"what is missing, magpie repair {self.output} shows what else can be done"
            if self.broken
            else "all is as it should be"
        )
        return "\n".join(lines)


def verify(output: str, failures: str | None = None, source: str | None = None) -> Verdict:
    """Read every line of `output`, of its failures and, if given, of the input `source`.

    Changes nothing. Raises UsageError where there is no such output, NotFinished during a run.
    """
    paths, manifest = find_output(output, failures)
    with at_rest(paths.output, paths):
        rows = check_output_file(paths.output, manifest)
        failed = check_failures_file(paths.failures)
        faults = [*_faults_of(rows), *_faults_of(failed), *_faults_between(rows, failed, manifest)]
        left: int | None = None
        remarks: list[str] = []
        if source is not None:
            columns = dict.fromkeys(manifest.identity.get("columns", ()), "the prompts")
            with open_source(source, strict=False, columns=columns) as opened:
                missing, remarks = _compare(opened, rows, failed, manifest)
            left = len(missing)
            faults += missing
    return Verdict(
        output,
        manifest.command,
        rows.lines,
        len(failed.ids),
        left,
        len(faults),
        tuple(faults[:FAULTS_SHOWN]),
        tuple(remarks),
    )


@dataclass(frozen=True, slots=True)
class Repair:
    """What is no row or no failure, and would be, or was, moved to `quarantine`."""

    output: str
    command: str
    stretches: tuple[str, ...]
    quarantine: str
    done: bool

    def text(self) -> str:
        """For a person."""
        if not self.stretches:
            return f"nothing to repair in {self.output}"
        verb = "moved" if self.done else "would move"
        lines = [f"{verb} {stretch}" for stretch in self.stretches]
        lines.append(
            f"they are in {self.quarantine}; the same magpie {self.command} command makes what "
            "is missing"
            if self.done
            else f"magpie repair {self.output} --yes moves them to {self.quarantine}"
        )
        return "\n".join(lines)


def repair(output: str, failures: str | None = None, *, yes: bool = False) -> Repair:
    """Show what is no line of its file; with `yes`, move it to quarantine.

    Raises UsageError where there is no such output, NotFinished during a run.
    """
    paths, manifest = find_output(output, failures)
    there = paths.failures.exists()
    with locked(paths.output, paths) as file, locked(paths.failures, paths) as failures_file:
        rows = check_output_file(paths.output, manifest)
        failed = check_failures_file(paths.failures)
        stretches = [*_faults_of(rows), *_faults_of(failed)]
        if yes and stretches:
            # First of all: the offsets that it holds are true no longer.
            manifest = replace(manifest, durable_output=0, durable_failures=0, clean=False)
            with disk_errors(paths.manifest):
                manifest.write(paths.manifest)
            # The output last: with another file in its place, its lock is gone.
            for checked, its in ((failed, failures_file), (rows, file)):
                if checked.bad:
                    take_out(its, checked, paths)
        if yes or not there:
            remove_if_empty(failures_file)
    return Repair(output, manifest.command, tuple(stretches), str(paths.quarantine), yes)


def _faults_of(checked: Checked) -> Iterator[str]:
    for bad in checked.bad:
        yield f"{checked.path}, bytes {bad.start:,} to {bad.end:,}: {bad.why}"


def _faults_between(rows: Checked, failed: Checked, manifest: Manifest) -> Iterator[str]:
    size = rows.path.stat().st_size
    if size < manifest.durable_output:
        gone = manifest.durable_output - size
        yield f"{rows.path}: {gone:,} bytes are gone that were there"
    if manifest.clean and failed.bad == []:
        both = sum(1 for id_ in read_ids(failed.path) if id_ in rows.ids)
        if both:
            yield f"{failed.path}: {count(both, 'id')} have a row as well"


def _compare(
    source: Source, rows: Checked, failed: Checked, manifest: Manifest
) -> tuple[list[str], list[str]]:
    """The dialogues of `source` that have no outcome, and what is worth knowing of it."""
    remarks = []
    if source.digest and manifest.input_digest and source.digest != manifest.input_digest:
        remarks.append(
            f"{source.path} is not what the last run on {rows.path} read, or has changed since"
        )
    missing = []
    shard = Shard.parse(manifest.shard) if manifest.shard else None
    for pair in source.rows() if manifest.command == "judge" else source.pairs():
        if shard and not shard.has(pair.id):
            continue
        samples = 1 if isinstance(pair, Failure) else manifest.samples
        for sample in range(1, samples + 1):
            id_ = sample_id(pair.id, sample)
            if id_ not in rows.ids and id_ not in failed.ids:
                missing.append(f"the dialogue {id_} has neither a row nor a failure")
    return missing, remarks
