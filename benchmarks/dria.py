"""What the Dria SDK's own client costs, and `--engine dria`, side by side on instant nodes.

    python benchmarks/dria.py [--pairs N] [--skip-sdk]
    python benchmarks/dria.py --memory

Every contender is a fresh process, with a fresh `magpie devnet` of 512 nodes that answer at once.
The SDK's client needs httpx (extra `dev`), and so Python 3.11.

(a) the SDK's `execute` of one list, 500 pairs at most; its rule for stragglers may drop some
(b) one `execute` a pair, 256 at a time
(c) `magpie generate`, with 256 and with 512 in flight

The goals: (c) with 256 beats (b) at least 5 times in wall time, and at least 2 times in processor
time a task. Where nodes fail and answers vanish, every row comes, none twice. With `--memory`:
20,000 pairs take at most 1.2 x the memory of 1,000.

Times include starting Python. Memory is the peak of the contender alone.
"""

import argparse
import asyncio
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, TextIO

NODES = 512
TURNS = 3
MODEL = "gemma2:9b-instruct-fp16"
TOKEN = "devnet"  # noqa: S105 - a devnet takes any
SDK_IN_FLIGHT = 256
MOST_IN_LIST = 500
FAULTS = ("--error-rate", "0.05", "--lost-rate", "0.02")
WALL_GOAL, PROCESSOR_GOAL, MEMORY_GOAL = 5, 2, 1.2
SMALL, LARGE = 1_000, 20_000
LOG_SHOWN = 2_000  # characters of what a contender that failed said last
SENTENCE = (
    "works shifts at a pumping station, keeps a paper log and asks for numbers before opinions"
)

ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("MAGPIE_")}

Pair = dict[str, str]


@dataclass(frozen=True, slots=True)
class Cost:
    """One run: wall, processor and first-row time in seconds, peak memory in MB."""

    pairs: int
    rows: int
    wall: float
    processor: float
    first_row: float | None
    peak: float

    @property
    def processor_a_task(self) -> float:
        """In milliseconds."""
        return 1000 * self.processor / self.pairs


def make_pair(n: int) -> Pair:
    """The `n`-th pair; no two have the same id or persona."""
    return {
        "id": f"pair-{n}",
        "instructor_persona": f"Ada, number {n}, {SENTENCE}",
        "responding_persona": f"Bo, number {n}, {SENTENCE}",
    }


@contextmanager
def open_devnet(*faults: str) -> Iterator[str]:
    """The URL of a network in a process of its own, which ends with the block."""
    command = [sys.executable, "-m", "magpie_cli", "devnet", "--port", "0", "--nodes", str(NODES)]
    command += faults
    with subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield read_url(process)
        finally:
            process.terminate()
            try:
                _, said = process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        if faults:
            print(f"its network: {said.splitlines()[-1]}", flush=True)


def read_url(process: "subprocess.Popen[str]") -> str:
    """From the first line that a devnet says."""
    said = process.stderr.readline() if process.stderr else ""
    found = re.search(r"http://\S+:\d+", said)
    if not found:
        raise SystemExit(f"the devnet did not start: {said.strip()}")
    return found[0]


def measure(command: list[str], pairs: int, folder: Path) -> Cost:
    """Run a contender, which reads `pairs.jsonl` and writes `out.jsonl`. Exits where it fails."""
    out, log = folder / "out.jsonl", folder / "log"
    # The SDK makes a ~/.dria.
    environment = ENVIRONMENT | {"DRIA_RPC_TOKEN": TOKEN, "HOME": str(folder)}
    start = time.perf_counter()
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment
        )
    try:
        first_row, usage = watch(process, out, start)
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()
    wall = time.perf_counter() - start
    rows = count_rows(out, pairs) if out.exists() else 0
    if process.returncode or not rows:
        tail = log.read_text(errors="replace")[-LOG_SHOWN:]
        raise SystemExit(f"{tail}\n{rows} rows; the contender ended with {process.returncode}")
    peak = usage.ru_maxrss / (1024 if sys.platform == "linux" else 1024 * 1024)  # macOS: bytes
    return Cost(pairs, rows, wall, usage.ru_utime + usage.ru_stime, first_row, peak)


def watch(
    process: "subprocess.Popen[bytes]", out: Path, start: float
) -> tuple[float | None, resource.struct_rusage]:
    """Seconds until there is something in `out`, and what the process took, once it has ended."""
    first_row = None
    while True:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG if first_row is None else 0)
        if first_row is None and out.exists() and out.stat().st_size:
            first_row = time.perf_counter() - start
        if ended:
            process.returncode = os.waitstatus_to_exitcode(status)
            return first_row, usage
        time.sleep(0.02)


def count_rows(out: Path, pairs: int) -> int:
    """Different ids among whole dialogues. Exits where one stands twice or was not asked for."""
    asked = {make_pair(n)["id"] for n in range(pairs)}
    with out.open("rb") as lines:
        for line in lines:
            row = json.loads(line)
            if row["id"] not in asked:
                raise SystemExit(f"{row['id']} stands there twice, or nobody asked for it")
            if len(row["dialogue"]) != 2 * TURNS:
                raise SystemExit(f"{row['id']} has {len(row['dialogue'])} utterances")
            asked.remove(row["id"])
    return pairs - len(asked)


def run(name: str, command: list[str], pairs: int, *faults: str) -> Cost:
    """One row of the table. `{url}`, `{pairs}` and `{out}` in the command are filled in."""
    with tempfile.TemporaryDirectory() as temporary, open_devnet(*faults) as url:
        folder = Path(temporary)
        with (folder / "pairs.jsonl").open("w") as lines:
            lines.writelines(json.dumps(make_pair(n)) + "\n" for n in range(pairs))
        places = {"{url}": url, "{pairs}": f"{folder}/pairs.jsonl", "{out}": f"{folder}/out.jsonl"}
        cost = measure([places.get(word, word) for word in command], pairs, folder)
        first_row = "-" if cost.first_row is None else f"{cost.first_row:.1f}"
        rows = f"{cost.rows:,} of {cost.pairs:,}"
        print(
            f"{name:<30} {rows:>16} {cost.wall:>8.1f} {cost.processor:>12.1f} "
            f"{cost.processor_a_task:>10.2f} {cost.peak:>8.1f} {first_row:>12}",
            flush=True,
        )
    return cost


def run_sdk(name: str, contender: str, pairs: int) -> Cost:
    """Measure the SDK's client, which this script runs in a process of its own."""
    command = [sys.executable, "-P"]  # without the folder of this script, which has the SDK's name
    command += [__file__, "--contender", contender, "{url}", "{pairs}", "{out}"]
    return run(name, command, pairs)


def run_magpie(name: str, pairs: int, in_flight: int, *options: str, faults: bool = False) -> Cost:
    """Measure `magpie generate`. Exits where a row is missing."""
    command = [sys.executable, "-m", "magpie_cli", "generate", "{pairs}", "-o", "{out}"]
    command += ["--turns", str(TURNS), "--engine", "dria", "--rpc-url", "{url}"]
    command += ["--model", MODEL, "-j", str(in_flight), *options]
    cost = run(name, command, pairs, *(FAULTS if faults else ()))
    if cost.rows != pairs:
        raise SystemExit(f"{pairs - cost.rows:,} rows are missing")
    return cost


async def contend(contender: str, url: str, pairs: list[Pair], out: TextIO) -> None:
    """The work of the SDK's client, as its documentation has it: the 0.0.124 API, unmodified."""
    dria, models = import_module("dria"), import_module("dria.models")
    magpie = import_module("dria.factory.workflows.magpie_instruct").MagPie
    client = dria.Dria()
    client.rpc.base_url = url
    ids = {pair["instructor_persona"]: pair["id"] for pair in pairs}
    slots = asyncio.Semaphore(SDK_IN_FLIGHT)

    def task(pair: Pair) -> object:
        personas = {key: pair[key] for key in ("instructor_persona", "responding_persona")}
        workflow = magpie(**personas, num_turns=TURNS).workflow()
        # Without a data set's name its `execute` fails.
        return models.Task(workflow=workflow, models=[dria.Model(MODEL)], dataset_id="benchmark")

    def write(results: list[Any]) -> None:
        for result in results:  # in an order of their own
            id_ = ids[result.task_input["instructor_persona"]]
            out.write(json.dumps({"id": id_, "dialogue": json.loads(result.result)}) + "\n")

    async def execute(pair: Pair) -> None:
        async with slots:
            write(await client.execute(task(pair)))

    if contender == "list":
        write(await client.execute([task(pair) for pair in pairs]))
    else:
        await asyncio.gather(*(execute(pair) for pair in pairs))


def compare(name: str, sdk: Cost, ours: Cost) -> None:
    """Print how many times less ours takes."""
    wall, processor = sdk.wall / ours.wall, sdk.processor_a_task / ours.processor_a_task
    print(
        f"{name}: {wall:.1f} x in wall time (goal {WALL_GOAL}), "
        f"{processor:.1f} x in processor time a task (goal {PROCESSOR_GOAL})"
    )


def print_costs(pairs: int, *, skip_sdk: bool) -> None:
    """The contenders, their ratios, and ours on a network with faults."""
    sdk = None
    if not skip_sdk:
        run_sdk("(a) SDK, one list", "list", min(pairs, MOST_IN_LIST))
        sdk = run_sdk(f"(b) SDK, {SDK_IN_FLIGHT} at a time", "semaphore", pairs)
    ours = {n: run_magpie(f"(c) magpie -j {n}", pairs, n) for n in (256, 512)}
    for in_flight, cost in ours.items():
        if sdk:
            compare(f"(b) / (c) -j {in_flight}", sdk, cost)
    print(f"a network with {' '.join(FAULTS)}:")
    run_magpie("(c) magpie -j 256 --timeout 5", pairs, 256, "--timeout", "5", faults=True)
    print("every row came, none twice")


def print_memory() -> None:
    """Ours with few pairs and with many."""
    small, large = (run_magpie("(c) magpie -j 256", pairs, 256) for pairs in (SMALL, LARGE))
    ratio = large.peak / small.peak
    print(
        f"peak memory: {small.peak:.1f} MB with {SMALL:,} pairs, {large.peak:.1f} MB with "
        f"{LARGE:,}, ratio {ratio:.2f} (goal {MEMORY_GOAL})"
    )


def stop(number: int, _: object) -> NoReturn:
    """Leave by way of every `finally`, so that no devnet stays behind."""
    raise SystemExit(128 + number)


def main() -> None:
    """Print one row a run, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=2_000, metavar="N", help="default: 2000")
    parser.add_argument("--skip-sdk", action="store_true", help="only magpie: quick")
    parser.add_argument("--memory", action="store_true", help="only peak memory, few pairs or many")
    parser.add_argument("--contender", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        contender, url, pairs, out = options.contender
        read = [json.loads(line) for line in Path(pairs).read_text().splitlines()]
        with Path(out).open("w", buffering=1) as rows:
            asyncio.run(contend(contender, url, read, rows))
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    print(
        f"{'':<30} {'rows':>16} {'wall s':>8} {'processor s':>12} {'ms a task':>10} "
        f"{'peak MB':>8} {'first row s':>12}",
        flush=True,
    )
    if options.memory:
        print_memory()
    else:
        print_costs(options.pairs, skip_sdk=options.skip_sdk)


if __name__ == "__main__":
    main()
