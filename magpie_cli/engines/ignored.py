"""Flags that an engine would do nothing with: an error, before anything begins."""

from magpie_cli.engine import ECHO, EngineRow
from magpie_cli.engines.findings import NEVER_AGAIN
from magpie_cli.errors import UsageError
from magpie_cli.settings import Settings, twin_of

NO_SERVER = (ECHO, "local")
OF_WHOLE = ("ignore", "fail")  # of --on-finding, where dialogues come whole


def refuse_ignored(row: EngineRow, settings: Settings) -> None:
    """Raises UsageError where a flag was given that the engine would do nothing with."""
    _refuse_about_findings(row, settings)
    name = row.name
    echoes = name == ECHO or settings.devnet
    if name in NO_SERVER and settings.base_url:
        raise UsageError(f"the {name} engine asks no server", "leave out --base-url, or --engine")
    if settings.devnet and settings.rpc_url:
        raise UsageError(
            "--devnet is a network of its own, and --rpc-url another", "leave out one of them"
        )
    own_words = (
        ("--prompts", settings.prompts),
        ("--system", settings.system),
        ("--end instructor", settings.end == "instructor"),
    )
    flags = " and ".join(flag for flag, value in own_words if value)
    if flags and row.prompts:
        raise UsageError(
            f"the {name} engine makes whole dialogues with prompts of its own, without {flags}",
            f"leave out {flags}, or choose another --engine",
        )
    given = {
        "--rpc-url": (settings.rpc_url and name != "dria", "dria"),
        "--echo-delay": (settings.echo_delay and not echoes, ECHO),
        "--echo-failure-rate": (settings.echo_failure_rate and not echoes, ECHO),
    }
    for flag, (ignored, whose) in given.items():
        if ignored:
            raise UsageError(
                f"{flag} is for the {whose} engine, and the {name} engine would ignore it",
                f"leave out {flag} (or unset {twin_of(flag)}), or choose --engine {whose}",
            )


def _refuse_about_findings(row: EngineRow, settings: Settings) -> None:
    """Raises UsageError where a run would do nothing with --resample or --on-finding."""
    if settings.resample is None and settings.on_finding is None:
        return
    flag = "--on-finding" if settings.resample is None else "--resample"
    out = f"leave out {flag} (or unset {twin_of(flag)})"
    if row.name == ECHO or settings.devnet:
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
