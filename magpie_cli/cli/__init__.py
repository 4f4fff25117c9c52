"""The commands: flags -> settings -> one call -> one rendered answer and an exit code.

One file a command. Only typer is imported here; what a command needs, it imports when it runs.
"""

from magpie_cli.cli.app import app, main
from magpie_cli.cli.devnet import devnet
from magpie_cli.cli.doctor import doctor
from magpie_cli.cli.filter import filter  # noqa: A004 - the command's name
from magpie_cli.cli.generate import generate
from magpie_cli.cli.judge import judge
from magpie_cli.cli.models import models
from magpie_cli.cli.prompts import prompts
from magpie_cli.cli.pull import pull
from magpie_cli.cli.repair import repair
from magpie_cli.cli.stats import stats
from magpie_cli.cli.status import status
from magpie_cli.cli.verify import verify

__all__ = [
    "app",
    "devnet",
    "doctor",
    "filter",
    "generate",
    "judge",
    "main",
    "models",
    "prompts",
    "pull",
    "repair",
    "stats",
    "status",
    "verify",
]
