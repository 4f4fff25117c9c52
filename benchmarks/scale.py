"""What a run of magpie costs as it grows, and what is lost where something goes wrong.

    python benchmarks/scale.py [--pairs N ...] [--skip-faults]

Needs what `peers.py` needs. All on the mock server, 256 in flight where nothing goes wrong:

size     memory, and seconds from the start to the first request, over growing inputs at 0 ms
kill     kill -9 once half of the dialogues' requests are answered, then the same command again:
         rows lost and repeated, requests that were paid for twice
faults   5 % of requests answered with 500, 5 % with 429 and Retry-After: 1, and 0.1 % never, which
         a timeout of 5 s ends: rows lost, and the time against what the waiting costs that magpie
         was told to do, shared by all in flight (`told`: each latency, each Retry-After, each
         timeout)
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from inputs import count_rows, write_pairs
from measure import measure, run_command
from mock_server import Faults, MockServer, compile_server, serving

TURNS, IN_FLIGHT = 3, 256
SIZES = [1_000, 100_000, 1_000_000]
MEMORY_GOAL, FAULTS_GOAL = 1.3, 1.3
KILL_PAIRS, FAULT_PAIRS, FAULT_IN_FLIGHT, LATENCY = 2_000, 3_000, 64, 50.0
FAULTS = Faults(errors=0.05, throttled=0.05, hung=0.001, retry_after=1.0)
TIMEOUT = 5.0


def sizes(folder: Path, program: Path, numbers: list[int], turns: int) -> None:
    """One row a size."""
    print(f"{'pairs':>9} {'rows':>9} {'seconds':>8} {'first request':>14} {'MB':>5} {'ratio':>6}")
    first = 0.0
    for number in numbers:
        pairs, out = folder / "pairs.jsonl", folder / f"{number}.jsonl"
        write_pairs(pairs, number)
        with serving(program, 0) as server:
            command = run_command(pairs, out, server.url, IN_FLIGHT, turns)
            cost = measure(command, folder / "log")
            to_first = server.stats()["first_request"] - cost.began
        rows = count_rows(out, turns)
        out.unlink()
        first = first or cost.peak
        print(
            f"{number:>9,} {len(rows):>9,} {cost.wall:>8.1f} {to_first:>14.2f} {cost.peak:>5.0f}"
            f" {cost.peak / first:>6.2f}",
            flush=True,
        )
    print(f"  memory, goal {MEMORY_GOAL} at most from the first to the last")


def kill(folder: Path, program: Path) -> None:
    """One line."""
    pairs, out = folder / "pairs.jsonl", folder / "killed.jsonl"
    write_pairs(pairs, KILL_PAIRS)
    wanted = 2 * TURNS * KILL_PAIRS
    with serving(program, LATENCY) as server:
        command = run_command(pairs, out, server.url, IN_FLIGHT, TURNS)
        measure(command, folder / "log", half_done(server, wanted))
        before = count_rows(out, TURNS)
        measure(command, folder / "log")
        stats = server.stats()
    after = count_rows(out, TURNS)
    print(
        f"kill -9 with {len(before):,} of {KILL_PAIRS:,} rows, then again: "
        f"{KILL_PAIRS - len(after):,} lost, {sum(after.values()) - len(after):,} repeated, "
        f"{len(before - after)} of the first rows gone; "
        f"{stats['paid_twice']:,} requests paid twice, "
        f"{stats['requests'] - wanted:,} of {wanted:,} more than needed"
    )


def half_done(server: MockServer, wanted: int) -> Callable[[], bool]:
    """Whether half of the requests are answered."""
    return lambda: int(server.stats()["good"]) >= wanted // 2


def faults(folder: Path, program: Path) -> None:
    """One line."""
    pairs, out = folder / "pairs.jsonl", folder / "faults.jsonl"
    write_pairs(pairs, FAULT_PAIRS)
    with serving(program, LATENCY, FAULTS) as server:
        command = run_command(pairs, out, server.url, FAULT_IN_FLIGHT, TURNS)
        measure([*command, "--timeout", str(TIMEOUT)], folder / "log")
        stats = server.stats()
    spent = stats["last_answer"] - stats["first_request"]
    told = (
        (stats["requests"] - stats["hung"]) * LATENCY / 1000
        + stats["throttled"] * FAULTS.retry_after
        + stats["hung"] * TIMEOUT
    ) / FAULT_IN_FLIGHT
    rows = count_rows(out, TURNS)
    lost = FAULT_PAIRS - sum(rows.values())
    print(
        f"{stats['errors']:,} times 500, {stats['throttled']:,} times 429, {stats['hung']:,} hung, "
        f"{FAULT_IN_FLIGHT} in flight: {lost:,} of {FAULT_PAIRS:,} rows lost, "
        f"{spent:.1f} s, told {told:.1f} s, ratio {spent / told:.2f}, goal {FAULTS_GOAL}"
    )


def main() -> None:
    """Print them one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, nargs="*", default=SIZES, metavar="N")
    parser.add_argument("--turns", type=int, default=1, help="of the growing inputs")
    parser.add_argument("--skip-faults", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = compile_server(folder)
        if not arguments.skip_faults:
            kill(folder, program)
            faults(folder, program)
        sizes(folder, program, arguments.pairs, arguments.turns)


if __name__ == "__main__":
    main()
