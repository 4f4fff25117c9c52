"""Flags that an engine would do nothing with: an error, before anything begins."""

from magpie_cli.engine import EngineRow
from magpie_cli.engines.findings import refuse_unheeded
from magpie_cli.errors import UsageError
from magpie_cli.settings import Settings

NO_SERVER = ("echo", "local")


def refuse_ignored(row: EngineRow, settings: Settings) -> None:
    """Raises UsageError where a flag was given that the engine would do nothing with."""
    refuse_unheeded(row, settings)
    name = row.name
    echoes = name == "echo" or settings.devnet
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
        "--echo-delay": (settings.echo_delay and not echoes, "echo"),
        "--echo-failure-rate": (settings.echo_failure_rate and not echoes, "echo"),
    }
    for flag, (ignored, whose) in given.items():
        twin = "MAGPIE_" + flag[2:].replace("-", "_").upper()
        if ignored:
            raise UsageError(
                f"{flag} is for the {whose} engine, and the {name} engine would ignore it",
                f"leave out {flag} (or unset {twin}), or choose --engine {whose}",
            )
