"""How long magpie takes to start, beside Python alone and beside the imports it cannot do without.

    python benchmarks/startup.py [RUNS]

Each command takes turns with `python -c pass` and one that imports aiohttp, orjson, typer and rich.
`generate` is the time to its first request, on the mock server (which needs a C compiler). The goal
is a ratio to those imports under 2. Times vary with the machine, that of neighbouring runs hardly.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from inputs import write_pairs
from measure import ENVIRONMENT, run_command
from mock_server import compile_server, serving

BARE = [sys.executable, "-c", "pass"]
IMPORTS = [sys.executable, "-c", "import aiohttp, orjson, typer, rich"]
COMMANDS = {
    "magpie --help": ["--help"],
    "magpie --version": ["--version"],
    "magpie generate --help": ["generate", "--help"],
}


def seconds(command: list[str]) -> float:
    """Wall time of one run."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    return time.perf_counter() - start


def to_first_request(folder: Path, program: Path) -> float:
    """From the start of `magpie generate` to its first request."""
    out = folder / "out.jsonl"
    with serving(program, 0) as server:
        began = time.monotonic()
        seconds([*run_command(folder / "pairs.jsonl", out, server.url, 1, 1), "--fresh"])
        return float(server.stats()["first_request"]) - began


def compare(name: str, run: Callable[[], float], runs: int) -> None:
    """One row."""
    run()
    rounds = [(run(), seconds(BARE), seconds(IMPORTS)) for _ in range(runs)]
    ours = statistics.median(each for each, _, _ in rounds)
    bare = statistics.median(each / beside for each, beside, _ in rounds)
    imports = statistics.median(each / beside for each, _, beside in rounds)
    print(f"{name:<24} {ours:>9.3f} {bare:>15.1f} {imports:>16.2f}", flush=True)


def main() -> None:
    """Print one row a command."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    print(f"{'':<24} {'median s':>9} {'x python alone':>15} {'x those imports':>16}")
    for name, arguments in COMMANDS.items():
        command = [sys.executable, "-m", "magpie_cli", *arguments]
        compare(name, partial(seconds, command), runs)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_pairs(folder / "pairs.jsonl", 1)
        program = compile_server(folder)
        compare("magpie generate", partial(to_first_request, folder, program), runs)


if __name__ == "__main__":
    main()
