"""Peak memory of a whole run on `echo`, over inputs of growing size, and every id once.

    python benchmarks/memory.py [PAIRS ...]

The goal: 100,000 pairs with 256 in flight take at most 1.5 x the memory of 1,000.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from inputs import write_pairs

IN_FLIGHT = 256


def run(folder: Path, number: int) -> tuple[float, float, int]:
    """Seconds, peak memory in MB, and how many different ids the output has."""
    pairs, out = folder / f"{number}.jsonl", folder / f"{number}.out.jsonl"
    write_pairs(pairs, number)
    command = [sys.executable, "-m", "magpie_cli", "generate", str(pairs), "-o", str(out)]
    command += ["--engine", "echo", "--turns", "3", "-j", str(IN_FLIGHT), "--quiet"]
    start = time.perf_counter()
    child = os.posix_spawn(sys.executable, command, os.environ)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"magpie ended with {os.waitstatus_to_exitcode(status)}")
    with out.open("rb") as lines:
        ids = [json.loads(line)["id"] for line in lines]
    if len(ids) != len(set(ids)):
        raise SystemExit("an id stands there twice")
    return time.perf_counter() - start, usage.ru_maxrss / 1024, len(ids)


def main() -> None:
    """Print one row a size."""
    sizes = [int(size) for size in sys.argv[1:]] or [1_000, 100_000]
    first = 0.0
    print(f"{'pairs':>9} {'rows':>9} {'seconds':>8} {'peak MB':>8} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            seconds, peak, rows = run(Path(folder), size)
            first = first or peak
            print(f"{size:>9,} {rows:>9,} {seconds:>8.1f} {peak:>8.1f} {peak / first:>6.2f}")


if __name__ == "__main__":
    main()
