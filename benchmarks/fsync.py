"""What it costs that each second's rows survive a power cut: `--fsync interval` against `off`.

    python benchmarks/fsync.py [--pairs N] [--rounds N] [--folder FOLDER]

`echo` rows, in turn with the one and with the other, on the disk that FOLDER is on (by default the
one for temporary files: in memory there is nothing to see). Each number is the median of the
rounds, without the time that Python takes to start; `ratio` is that of neighbouring runs.

The goal: at most 3 % slower.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from inputs import write_pairs
from measure import ENVIRONMENT

WAYS = ("interval", "off")
RATIO_GOAL = 1.03


def run(folder: Path, pairs: str, way: str) -> tuple[float, float]:
    """Wall and processor seconds of one run that makes all of `pairs`."""
    output = folder / "out.jsonl"
    command = [sys.executable, "-m", "magpie_cli", "generate", str(folder / pairs), "--quiet"]
    command += ["--engine", "echo", "-o", str(output), "--fresh", "--fsync", way]
    os.sync()
    start = time.perf_counter()
    child = os.posix_spawn(sys.executable, command, ENVIRONMENT)
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - start
    if status:
        raise SystemExit(f"magpie ended with {os.waitstatus_to_exitcode(status)}")
    output.unlink()
    return wall, usage.ru_utime + usage.ru_stime


def main() -> None:
    """Print one row a way, and the ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        write_pairs(folder / "all", given.pairs)
        write_pairs(folder / "one", 1)
        start = {way: run(folder, "one", way) for way in WAYS}
        rounds = []
        for n in range(given.rounds):
            order = WAYS if n % 2 else WAYS[::-1]
            rounds.append({way: run(folder, "all", way) for way in order})
    print(f"{'--fsync':<9} {'rows/s':>8} {'seconds':>8} {'processor s':>12}")
    for way in WAYS:
        wall = statistics.median(costs[way][0] - start[way][0] for costs in rounds)
        processor = statistics.median(costs[way][1] - start[way][1] for costs in rounds)
        print(f"{way:<9} {given.pairs / wall:>8,.0f} {wall:>8.2f} {processor:>12.2f}")
    ratios = [[costs["interval"][n] / costs["off"][n] for costs in rounds] for n in (0, 1)]
    wall, processor = map(statistics.median, ratios)
    spread = ", ".join(f"{ratio:.3f}" for ratio in ratios[0])
    print(f"ratio {wall:.3f} in wall time ({spread}), {processor:.3f} in processor time")
    if wall > RATIO_GOAL:
        raise SystemExit(f"the goal is {RATIO_GOAL}")


if __name__ == "__main__":
    main()
