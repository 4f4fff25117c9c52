"""Part 4: what a failing disk answers, to any call that a run makes."""

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from magpie_cli.store.disk import FULL
from tests.crash.calls import Call, Fault, read_log
from tests.crash.nursery import Child, Nursery
from tests.crash.points import SYNCED, calls_of, copy_of, first_run, hole, torn_row
from tests.crash.scene import FAILURES, OUTPUT, Quiet, Scene, differences, log_of, quiet_run, stage

ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(slots=True)
class Answered:
    """How many errors there were to how many kinds of calls, and what was not as it must be."""

    errors: int = 0
    kinds: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)


def answer_with_errors(
    nursery: Nursery, scene: Scene = SYNCED, *, every_call: bool = False
) -> Answered:
    """Answer the calls of each kind on each file with errors (I4).

    Two of them the first and two the last call, or with `every_call` each error every call.
    """
    found = Answered()
    with stage("errors") as folder:
        quiet = quiet_run(nursery, scene, folder / "quiet")
        for setting in (first_run, torn_row, hole) if every_call else (first_run, torn_row):
            before = scene.prepare(folder / setting.__name__)
            setting(nursery, scene, before)
            for fault in _faults(calls_of(nursery, scene, before), every_call=every_call):
                life = copy_of(before)
                child = nursery.run(scene.order(life, fault=fault))
                calls = read_log(log_of(life))
                wrong = list(_check(life, child, calls, fault, quiet))
                if any(call.has_fault for call in calls):
                    found.errors += 1
                    found.kinds.add(fault.kind)
                again = nursery.run(scene.order(life))
                wrong += differences(life, quiet, again)
                found.wrong += [f"{setting.__name__}, {_words(fault)}: {text}" for text in wrong]
    return found


def _faults(calls: list[Call], *, every_call: bool) -> Iterator[Fault]:
    for kind, name in dict.fromkeys((call.kind, call.name) for call in calls):
        last = sum((call.kind, call.name) == (kind, name) for call in calls)
        numbers = range(1, last + 1) if every_call else sorted({1, last})
        for number in numbers:
            for error in ERRORS if every_call else ERRORS[number > 1 :: 2]:
                yield Fault(number, "middle", kind, name, error)


def _check(
    life: Path, child: Child, calls: list[Call], fault: Fault, quiet: Quiet
) -> Iterator[str]:
    """What a run may not do whose disk fails."""
    if "Traceback" in child.said:
        yield f"a traceback: {child.said}"
    hit = next((number for number, call in enumerate(calls) if call.has_fault), None)
    if hit is None:
        return
    full = fault.error in FULL
    if fault.name.startswith("turns.log") and full and child.code == quiet.code:
        return  # a full disk costs utterances, no row
    if child.code != 1 or "cannot be written" not in child.said or "hint: " not in child.said:
        yield f"exit {child.code}, and not the words: {child.said}"
    # What could not be synced is lost, whatever the error; a write that found no room is whole.
    is_sync = fault.kind in ("fdatasync", "fsync")
    if not (is_sync or (fault.kind == "write" and not full)):
        return
    later = [call for call in calls[hit + 1 :] if call.file == calls[hit].file]
    if again := [call.kind for call in later if call.kind in ("write", "fdatasync", "fsync")]:
        yield f"{again} on a file that the disk failed on"
    if fault.name in (OUTPUT, FAILURES):
        manifest = life / f"{OUTPUT}.magpie" / "manifest.json"
        if not manifest.exists() or not orjson.loads(manifest.read_bytes())["rewrite"]:
            yield "the manifest does not ask for a rewrite"


def _words(fault: Fault) -> str:
    code = errno.errorcode[fault.error]
    return f"{code} to {fault.kind} {fault.number} of {fault.name}"
