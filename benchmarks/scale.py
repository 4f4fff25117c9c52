"""What a run of magpie costs as it grows, and what is lost where something goes wrong.

    python benchmarks/scale.py [--pairs N ...] [--skip-faults]

Needs what `peers.py` needs, and some minutes for a million pairs. 256 in flight but for `faults`:

kill     kill -9 once half of the dialogues' requests are answered, then the same command again:
         rows lost and repeated, requests that were paid for twice
faults   5 % of requests answered with 500, 5 % with 429 and Retry-After: 1, and 0.1 % never, which
         a timeout of 5 s ends: rows lost, and the time against what magpie was told to wait for
size     on `echo`, with growing inputs of 1 turn: seconds and peak memory; and seconds from the
         start to the first request, on the mock server

Of the waiting there are two sums. `server` is what the server alone costs: each latency, each
Retry-After and each timeout, shared by all in flight. `told` is the whole of it: the same faults
fall on workers that do nothing but wait as long as pace/ prescribes (the latency of each request,
Retry-After and its eighth, the back-off after a 500 or a timeout), each dialogue one chain, until
the last of them is through. It has the chains at the end, when most workers have nothing to do.
"""

import argparse
import random
import statistics
import sys
import tempfile
from collections.abc import Callable
from heapq import heapreplace
from pathlib import Path

from inputs import count_rows, write_pairs
from measure import measure, run_command
from mock_server import Faults, MockServer, compile_server, serving

from magpie_cli.pace import BACKOFF_BASE, SPREAD

TURNS, IN_FLIGHT = 3, 256
SIZES = [1_000, 100_000, 1_000_000]
MEMORY_GOAL, FAULTS_GOAL = 1.3, 1.3
KILL_PAIRS, FAULT_PAIRS, FAULT_IN_FLIGHT, LATENCY = 2_000, 3_000, 64, 50.0
FAULTS = Faults(errors=0.05, throttled=0.05, hung=0.001, retry_after=1.0)
TIMEOUT = 5.0
DRAWS = 9  # of `told`


def sizes(folder: Path, program: Path, numbers: list[int]) -> None:
    """One row a size."""
    print(
        f"{'pairs':>9} {'rows':>9} {'seconds':>8} {'processor':>10} {'MB':>5} {'ratio':>6}"
        f" {'first request':>14}"
    )
    first = 0.0
    for number in numbers:
        pairs, out = folder / "pairs.jsonl", folder / f"{number}.jsonl"
        write_pairs(pairs, number)
        to_first = first_request(folder, program)
        cost = measure(echo_command(pairs, out), folder / "log")
        rows = count_rows(out, 1)
        out.unlink()
        first = first or cost.peak
        print(
            f"{number:>9,} {len(rows):>9,} {cost.wall:>8.1f} {cost.processor:>10.1f}"
            f" {cost.peak:>5.1f} {cost.peak / first:>6.2f} {to_first:>14.2f}",
            flush=True,
        )
    print(f"  memory, goal {MEMORY_GOAL} at most from the first to the last")


def first_request(folder: Path, program: Path) -> float:
    """Seconds from the start to there; then it is killed."""
    with serving(program, 0) as server:
        out = folder / f"{server.port}.jsonl"
        command = run_command(folder / "pairs.jsonl", out, server.url, IN_FLIGHT, 1)
        began = measure(command, folder / "log", lambda: server.stats()["requests"] > 0).began
        return float(server.stats()["first_request"]) - began


def echo_command(pairs: Path, out: Path) -> list[str]:
    """`magpie generate` without a server."""
    command = [sys.executable, "-m", "magpie_cli", "generate", str(pairs), "-o", str(out)]
    return [*command, "--quiet", "--engine", "echo", "-j", str(IN_FLIGHT), "--turns", "1"]


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
    server_alone = (
        (stats["requests"] - stats["hung"]) * LATENCY / 1000
        + stats["throttled"] * FAULTS.retry_after
        + stats["hung"] * TIMEOUT
    ) / FAULT_IN_FLIGHT
    told = statistics.median(map(told_seconds, range(DRAWS)))
    rows = count_rows(out, TURNS)
    lost = FAULT_PAIRS - sum(rows.values())
    print(
        f"{stats['errors']:,} times 500, {stats['throttled']:,} times 429, {stats['hung']:,} hung, "
        f"{FAULT_IN_FLIGHT} in flight: {lost:,} of {FAULT_PAIRS:,} rows lost, "
        f"{spent:.1f} s, told {told:.1f} s, ratio {spent / told:.2f}, goal {FAULTS_GOAL}; "
        f"server {server_alone:.1f} s, ratio {spent / server_alone:.2f}"
    )


def told_seconds(seed: int) -> float:
    """How long workers take that only wait as they are told, with faults as `FAULTS` has them."""
    dice = random.Random(seed)  # noqa: S311 - a simulation
    free_at = [0.0] * FAULT_IN_FLIGHT
    for _ in range(FAULT_PAIRS):
        chain = sum(told_request(dice) for _ in range(2 * TURNS))
        heapreplace(free_at, free_at[0] + chain)
    return max(free_at)


def told_request(dice: random.Random) -> float:
    """Seconds until one request has its answer."""
    seconds, failed, refused = 0.0, 0, 0
    while True:
        luck = dice.random()
        hangs = luck < FAULTS.hung
        seconds += TIMEOUT if hangs else LATENCY / 1000
        if luck < FAULTS.hung + FAULTS.errors:
            failed, refused = failed + 1, 0
            seconds += dice.uniform(0, BACKOFF_BASE * 2**failed)
        elif luck < FAULTS.hung + FAULTS.errors + FAULTS.throttled:
            refused += 1
            seconds += FAULTS.retry_after * (1 + dice.uniform(0, SPREAD * 2**refused))
        else:
            return seconds


def main() -> None:
    """Print them one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, nargs="*", default=SIZES, metavar="N")
    parser.add_argument("--skip-faults", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = compile_server(folder)
        if not arguments.skip_faults:
            kill(folder, program)
            faults(folder, program)
        sizes(folder, program, arguments.pairs)


if __name__ == "__main__":
    main()
