"""The help of every command at a fixed width, as files. `python -m tests.golden` writes them."""

import subprocess
import sys
from pathlib import Path

from tests.conftest import clean_environment

FOLDER = Path(__file__).parent / "golden"
NAMES = (
    *("generate", "status", "verify", "repair", "judge", "filter", "stats"),
    *("doctor", "devnet", "pull", "models", "prompts", "prompts show", "prompts copy"),
)
COMMANDS: dict[str, list[str]] = {
    "magpie": [],
    **{name.replace(" ", "-"): name.split() for name in NAMES},
}


def help_of(arguments: list[str]) -> str:
    """What `magpie ARGUMENTS --help` prints on a terminal of 100 columns."""
    return subprocess.run(
        [sys.executable, "-m", "magpie_cli", *arguments, "--help"],
        env=clean_environment() | {"COLUMNS": "100", "TERMINAL_WIDTH": "100"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


if __name__ == "__main__":
    for name, arguments in COMMANDS.items():
        (FOLDER / f"{name}.txt").write_text(help_of(arguments))
