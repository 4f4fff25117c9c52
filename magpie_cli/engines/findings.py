"""What the flags ask to be done about findings, and where they would do nothing."""

from magpie_cli.converse import Demands
from magpie_cli.engine import PLACEHOLDER, EngineRow
from magpie_cli.errors import UsageError
from magpie_cli.settings import RESAMPLE, Settings

OF_WHOLE = ("ignore", "fail")  # what can be done where dialogues come whole
NEVER_AGAIN = ("ignore", "keep")


def demands_of(settings: Settings) -> Demands:
    """What a run asks of its utterances. At temperature 0 each sample is the same as the first."""
    is_settled = settings.temperature == 0
    never = settings.on_finding in NEVER_AGAIN or is_settled
    again = RESAMPLE if settings.resample is None else settings.resample
    return Demands(
        0 if never else again,
        settings.on_finding == "fail",
        is_settled,
        looks=settings.on_finding != "ignore",
    )


def refuse_unheeded(row: EngineRow, settings: Settings) -> None:
    """Raises UsageError where a run would do nothing with --resample or --on-finding."""
    if settings.resample is None and settings.on_finding is None:
        return
    flag = "--on-finding" if settings.resample is None else "--resample"
    out = f"leave out {flag} (or unset MAGPIE_{flag[2:].replace('-', '_').upper()})"
    if row.name == PLACEHOLDER or settings.devnet:
        raise UsageError(f"{flag}: echo writes, whose words nobody checks", out)
    if row.prompts and (settings.resample is not None or settings.on_finding not in OF_WHOLE):
        raise UsageError(
            f"the {row.name} engine makes whole dialogues, and samples no utterance again",
            f"{out}; --on-finding fail makes a pair with a finding fail",
        )
    if settings.resample and settings.on_finding in NEVER_AGAIN:
        raise UsageError(
            f"--on-finding {settings.on_finding} samples nothing again, and --resample does", out
        )
    if settings.resample and settings.temperature == 0:
        raise UsageError("at --temperature 0 another sample says the same as the first", out)
