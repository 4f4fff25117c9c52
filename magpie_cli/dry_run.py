"""What `--dry-run` counts, of any command: a plan gone through, and nothing of it done."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from magpie_cli.credentials import Redactor
from magpie_cli.ids import IdSet
from magpie_cli.plan import Named, Plan
from magpie_cli.records import Failure
from magpie_cli.settings import Settings
from magpie_cli.store import Manifest, OutputPaths, done_ids, is_stream, refuse_foreign

REASONS_SHOWN = 5

_R = TypeVar("_R", bound=Named)


@dataclass(frozen=True, slots=True)
class Counted(Generic[_R]):
    """What a run would do: `dialogues` of them, which take so many `requests`, the `first` of them.

    `reasons` say what is wrong with the first of the bad lines.
    """

    dialogues: int
    requests: int
    bad_lines: int
    reasons: tuple[str, ...]
    first: _R | None


def count_plan(
    plan: Plan[Any, _R], limit: int | None, requests: Callable[[_R], int]
) -> Counted[_R]:
    """To the end of the input, though a run would begin no more than `limit` dialogues.

    `requests` says how many one of them takes.
    """
    dialogues = bad_lines = total = 0
    reasons: list[str] = []
    first: _R | None = None
    for item in plan:
        if isinstance(item, Failure):
            bad_lines += 1
            reasons += [item.message] if bad_lines <= REASONS_SHOWN else []
        elif item and dialogues != limit:
            first = first or item
            dialogues += 1
            total += requests(item)
    return Counted(dialogues, total, bad_lines, tuple(reasons), first)


def ids_before(settings: Settings, identity: Callable[[str], Mapping[str, object]]) -> IdSet:
    """The ids that the output has already. Raises UsageError where it has another identity.

    `identity` is that of a model's name; one that only the server could name is taken to be the
    same as before.
    """
    if settings.fresh or is_stream(settings.output):
        return IdSet()
    paths = OutputPaths.of(settings.output, settings.failures)
    manifest = Manifest.read(paths.manifest)
    model = settings.model or (manifest and manifest.identity["model"]) or ""
    refuse_foreign(paths, identity(Redactor.of(os.environ).text(model)))
    return done_ids(settings.output)


def as_lines(numbers: Mapping[str, object], reasons: Sequence[str]) -> list[str]:
    """For a person: each number behind its name, then the reasons."""
    lines = [
        f"{name:<18} {number:,}" if isinstance(number, int) else f"{name:<18} {number}"
        for name, number in numbers.items()
    ]
    return lines + (["", *reasons] if reasons else [])
