"""`magpie judge --dry-run`: what there would be to do, and the first message. Asks nobody."""

from dataclasses import dataclass, replace

from magpie_cli.engines import choose_engine, refuse_whole_dialogues
from magpie_cli.ids import IdSet
from magpie_cli.judge import identity, plan_rows
from magpie_cli.judge.prompt import JudgePrompt
from magpie_cli.records import Failure
from magpie_cli.settings import Settings
from magpie_cli.source import open_source
from magpie_cli.store import (
    Manifest,
    OutputPaths,
    check_output,
    done_ids,
    is_stream,
    refuse_foreign,
)
from magpie_cli.tally import Tally

REASONS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Preview:
    """Counts over all rows; `dialogues` are those that a run would judge.

    `reasons` say what is wrong with the first bad lines; `message` is the first that would be sent,
    None where there is none.
    """

    engine: str
    rows: int
    bad_lines: int
    reasons: tuple[str, ...]
    done: int
    dialogues: int
    message: str | None

    def text(self) -> str:
        """For a person."""
        numbers = {
            "engine": self.engine,
            "rows": f"{self.rows:,}",
            "bad lines": f"{self.bad_lines:,}",
            "done already": f"{self.done:,}",
            "dialogues to judge": f"{self.dialogues:,}",
        }
        lines = [f"{name:<18} {number}" for name, number in numbers.items()]
        lines += ["", *self.reasons] if self.reasons else []
        lines += ["", "--- judge, user ---", self.message] if self.message else []
        return "\n".join(lines)


def preview(settings: Settings, prompt: str | None = None) -> Preview:
    """Read all rows and the ids of the output; write nothing. Raises UsageError."""
    told = JudgePrompt.read(prompt)
    check_output(settings.output, settings.failures, settings.input)
    engine, _ = choose_engine(settings)
    refuse_whole_dialogues(engine)
    tally = Tally()
    done = _done(settings, engine, told)
    dialogues, bad_lines = 0, 0
    reasons: list[str] = []
    message: str | None = None
    with open_source(settings.input, strict=False) as source:
        plan = plan_rows(source, replace(settings, limit=None), done, tally)
        for item in plan:
            if isinstance(item, Failure):
                bad_lines += 1
                reasons += [item.message] if bad_lines <= REASONS_SHOWN else []
            elif item and dialogues != settings.limit:
                message = message or told.messages(item.record)[0]["content"]
                dialogues += 1
    return Preview(engine, plan.pairs, bad_lines, tuple(reasons), tally.skipped, dialogues, message)


def _done(settings: Settings, engine: str, prompt: JudgePrompt) -> IdSet:
    """What is there already; a model that only the server could name is taken to be the same."""
    if settings.fresh or is_stream(settings.output):
        return IdSet()
    paths = OutputPaths.of(settings.output, settings.failures)
    manifest = Manifest.read(paths.manifest)
    model = settings.model or (manifest and manifest.identity["model"]) or ""
    refuse_foreign(paths, identity(settings, engine, model, prompt))
    return done_ids(settings.output)
