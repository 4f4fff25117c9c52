"""`magpie judge --dry-run`: what there would be to do, and the first message. Asks nobody."""

from dataclasses import dataclass, replace

from magpie_cli.dry_run import as_lines, count_plan, ids_before
from magpie_cli.engines import choose_engine, refuse_whole_dialogues
from magpie_cli.judge import identity, plan_rows
from magpie_cli.judge.prompt import JudgePrompt
from magpie_cli.settings import Settings
from magpie_cli.source import open_source
from magpie_cli.store import check_output
from magpie_cli.tally import Tally


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
            "rows": self.rows,
            "bad lines": self.bad_lines,
            "done already": self.done,
            "dialogues to judge": self.dialogues,
        }
        lines = as_lines(numbers, self.reasons)
        lines += ["", "--- judge, user ---", self.message] if self.message else []
        return "\n".join(lines)


def preview(settings: Settings, prompt: str | None = None) -> Preview:
    """Read all rows and the ids of the output; write nothing. Raises UsageError."""
    told = JudgePrompt.read(prompt)
    check_output(settings.output, settings.failures, settings.input)
    engine, _ = choose_engine(settings)
    refuse_whole_dialogues(engine)
    done = ids_before(settings, lambda model: identity(settings, engine, model, told))
    tally, whole = Tally(), replace(settings, limit=None)
    with open_source(settings.input, strict=False) as source:
        plan = plan_rows(source, whole, done, tally)
        counted = count_plan(plan, settings.limit, lambda _: 1)
    return Preview(
        engine,
        plan.pairs,
        counted.bad_lines,
        counted.reasons,
        tally.skipped,
        counted.dialogues,
        told.messages(counted.first.record)[0]["content"] if counted.first else None,
    )
