"""How long `magpie --help` takes, beside `import typer` alone: pairs of runs, in turn.

    python benchmarks/startup.py [RUNS]

The goal is a ratio under 2. Times vary with the machine, the ratio of neighbouring runs hardly.
"""

import statistics
import subprocess
import sys
import time

TYPER = [sys.executable, "-c", "import typer"]
COMMANDS = {
    "magpie --help": ["--help"],
    "magpie --version": ["--version"],
    "magpie generate --help": ["generate", "--help"],
}


def seconds(command: list[str]) -> float:
    """Wall time of one run."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Print one row a command."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    print(f"{'command':<24} {'median s':>9} {'ratio to `import typer`':>24}")
    for name, arguments in COMMANDS.items():
        command = [sys.executable, "-m", "magpie_cli", *arguments]
        seconds(command)
        pairs = [(seconds(command), seconds(TYPER)) for _ in range(runs)]
        median = statistics.median(ours for ours, _ in pairs)
        ratio = statistics.median(ours / typer for ours, typer in pairs)
        print(f"{name:<24} {median:>9.3f} {ratio:>24.2f}")


if __name__ == "__main__":
    main()
