"""`magpie generate --dry-run`: what there would be to do, and the first messages. Asks nobody."""

import os
import shlex
from dataclasses import dataclass, replace

from magpie_cli.credentials import Redactor
from magpie_cli.dry_run import as_lines, count_plan, ids_before
from magpie_cli.engine import Message
from magpie_cli.engines import choose_engine, find_row, prompts_name
from magpie_cli.models import ASK_FIRST, DEFAULT_MODEL, Wanted, find_model, size_text
from magpie_cli.models.header import read_header
from magpie_cli.plan import plan_dialogues
from magpie_cli.prompt_files import read_prompts
from magpie_cli.prompts import Views, as_text
from magpie_cli.settings import Settings
from magpie_cli.source import open_source
from magpie_cli.store import check_output
from magpie_cli.tally import Tally


@dataclass(frozen=True, slots=True)
class Preview:
    """Counts over the whole input; `dialogues` and `requests` are those that a run would make.

    `model` is the LLM's name, with what of it is not on this machine if it is to run there.
    `reasons` say what is wrong with the first bad lines. `instructor` and `responder` are the first
    messages of the first dialogue; `theirs` names the prompts of an engine that brings its own.
    `turns` is what a pair gets that does not say itself.
    """

    engine: str
    model: str
    turns: str
    theirs: str | None
    pairs: int
    bad_lines: int
    reasons: tuple[str, ...]
    done: int
    dialogues: int
    requests: int
    instructor: tuple[Message, ...]
    responder: tuple[Message, ...]

    def text(self) -> str:
        """For a person."""
        numbers = {
            "engine": self.engine,
            "model": self.model,
            "turns": self.turns,
            "pairs": self.pairs,
            "bad lines": self.bad_lines,
            "done already": self.done,
            "dialogues to make": self.dialogues,
            "requests to send": self.requests,
        }
        lines = as_lines(numbers, self.reasons)
        lines += ["", f"prompts: {self.theirs}"] if self.theirs else []
        for speaker, messages in (("instructor", self.instructor), ("responder", self.responder)):
            lines += ["", as_text(speaker, messages)] if messages else []
        return "\n".join(lines)


def preview(settings: Settings) -> Preview:
    """Read the whole input and the ids of the output; write nothing. Raises UsageError."""
    check_output(settings.output, settings.failures, settings.input)
    engine, _ = choose_engine(settings)
    model = _model(engine, settings)
    prompts = read_prompts(settings.prompts, settings.system)
    theirs = find_row(engine).prompts
    told = prompts_name(find_row(engine), prompts)
    hide = Redactor.of(os.environ).text
    done = ids_before(
        settings, lambda model: settings.identity(engine, model, told) | prompts.identity(hide)
    )
    tally, whole = Tally(), replace(settings, limit=None)
    strict, columns = settings.strict, prompts.columns
    with open_source(settings.input, strict=strict, columns=columns) as source:
        plan = plan_dialogues(source.pairs(), whole, done, tally, prompts=prompts)
        counted = count_plan(plan, settings.limit, lambda item: 1 if theirs else item.length)
    first = counted.first
    views = Views(prompts, first.pair, first.num_turns) if first and not theirs else None
    return Preview(
        engine,
        model,
        str(settings.turns),
        theirs,
        plan.pairs,
        counted.bad_lines,
        counted.reasons,
        tally.skipped,
        counted.dialogues,
        counted.requests,
        tuple(views.instructor) if views else (),
        tuple(views.responder) if views else (),
    )


def _model(engine: str, settings: Settings) -> str:
    """The LLM's name, as far as it can be known without asking anybody."""
    if engine == "local":
        return _pending(find_model(settings.model or DEFAULT_MODEL))
    if engine == "echo" or settings.devnet:
        return "echo"
    return settings.model or "the only one that the server has"


def _pending(wanted: Wanted) -> str:
    """`qwen2.5:1.5b, to be fetched: 1.12 GB, licence Apache-2.0, from hf:...`.

    Raises UsageError for a file that is no model.
    """
    if wanted.present:
        read_header(wanted.path)
        return f"{wanted.name}, on this machine"
    if wanted.size is None:
        much = f"its size is not known yet; above {size_text(ASK_FIRST)}, magpie pull it first"
        return f"{wanted.name}, to be fetched from {wanted.source}: {much}"
    left = size_text(wanted.size - wanted.in_part)
    first = f"; magpie pull {shlex.quote(wanted.name)} first" if wanted.size > ASK_FIRST else ""
    return (
        f"{wanted.name}, to be fetched: {left}, licence {wanted.licence or 'not named'}, "
        f"from {wanted.source}{first}"
    )
