"""How long a run takes to its first request where a large output is done but for its last pair.

    python benchmarks/resume.py [--rows N] [--folder FOLDER]

Rows of 5 KB: a million take 5 GB, by default in memory (/dev/shm). The last pair is the one that is
missing, so that the whole input has to be passed over as well; ids are made from content. The time
runs from the start of the process to its new row, which the echo engine makes at once.
Processor time is that of the whole run; on a busy machine it says more.

`clean` is an output that a run has finished; `killed` one of a run that died 30 s ago, at most: all
that is above the last note in the manifest is read strictly (here the last 250 MB).

The goals, with a million rows: 10 s and 250 MB.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from measure import ENVIRONMENT

from magpie_cli.ids import content_id
from magpie_cli.records import Dialogue, Record, Turn
from magpie_cli.store import Manifest, OutputPaths

ROW_BYTES = 5_000
UNNOTED = 0.05  # of the output, where a run was killed
SECONDS_GOAL, MEGABYTES_GOAL = 10.0, 250.0
SENTENCE = "works shifts at a pumping station and asks for numbers before opinions"


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds to the first new row, of processor time, and peak memory in MB."""

    first: float
    processor: float
    peak: float


def pairs(rows: int) -> Iterator[dict[str, str]]:
    """One pair a row, each different."""
    for n in range(rows):
        yield {
            "instructor_persona": f"Ada, number {n}, {SENTENCE}",
            "responding_persona": f"Bo, number {n}, {SENTENCE}",
        }


def row(pair: dict[str, str]) -> bytes:
    """What stands in the output for one pair."""
    said = "What would you look at before anything else? " * (ROW_BYTES // 2 // 45)
    dialogue = Dialogue((Turn(said, said),), "echo")
    record = Record(
        id=content_id(pair),
        instructor_persona=pair["instructor_persona"],
        responding_persona=pair["responding_persona"],
        num_turns=1,
        dialogue=dialogue,
        engine="echo",
        findings=(),
        metadata={},
    )
    return record.to_json()


def generate(folder: Path, *options: str) -> Cost:
    """One run of the command. Raises SystemExit where it fails."""
    output = folder / "out.jsonl"
    before = output.stat().st_size if output.exists() else 0
    command = [sys.executable, "-m", "magpie_cli", "generate", str(folder / "pairs.jsonl")]
    command += ["--engine", "echo", "-o", str(output), "-q", *options]
    start = time.perf_counter()
    child = os.posix_spawn(sys.executable, command, ENVIRONMENT)
    first = 0.0
    while not (ended := os.wait4(child, os.WNOHANG))[0]:
        if not first and output.exists() and output.stat().st_size > before:
            first = time.perf_counter() - start
        time.sleep(0.002)
    code = os.waitstatus_to_exitcode(ended[1])
    if code not in (0, 75):
        raise SystemExit(f"magpie ended with {code}")
    first = first or time.perf_counter() - start
    usage = ended[2]
    return Cost(first, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def build(folder: Path, rows: int) -> Path:
    """An input of `rows` pairs, and an output in which the last one is missing."""
    with (folder / "pairs.jsonl").open("w") as lines:
        lines.writelines(json.dumps(pair) + "\n" for pair in pairs(rows))
    generate(folder, "--limit", "1")  # the manifest, and the first row
    output = folder / "out.jsonl"
    with output.open("ab") as file:
        file.writelines(row(pair) for n, pair in enumerate(pairs(rows - 1)) if n)
    return output


def measure(output: Path, *, clean: bool, durable: int) -> Cost:
    """One run, after one that ended so."""
    size = output.stat().st_size
    path = OutputPaths.of(str(output)).manifest
    manifest = Manifest.read(path)
    if manifest is None:
        raise SystemExit("there is no manifest")
    replace(manifest, clean=clean, durable_output=durable).write(path)
    cost = generate(output.parent)
    os.truncate(output, size)
    return cost


def main() -> None:
    """Print one row a kind of end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", default="/dev/shm")  # noqa: S108 - memory, not a secret place
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="resume-", dir=given.folder))
    try:
        if shutil.disk_usage(folder).free < 1.3 * given.rows * ROW_BYTES:
            raise SystemExit(f"{given.folder} has no room for {given.rows:,} rows")
        output = build(folder, given.rows)
        size = output.stat().st_size
        near = int(size * (1 - UNNOTED))
        print(
            f"{'rows':>9} {'GB':>5} {'after':>7} {'first s':>8} {'processor s':>12} {'peak MB':>8}"
        )
        missed = False
        for name, durable in (("clean", size), ("killed", _line_end(output, near))):
            cost = measure(output, clean=name == "clean", durable=durable)
            print(
                f"{given.rows:>9,} {size / 1e9:>5.2f} {name:>7} "
                f"{cost.first:>8.2f} {cost.processor:>12.2f} {cost.peak:>8.1f}"
            )
            missed |= cost.first > SECONDS_GOAL or cost.peak > MEGABYTES_GOAL
    finally:
        shutil.rmtree(folder)
    if missed:
        raise SystemExit(f"the goals are {SECONDS_GOAL:g} s and {MEGABYTES_GOAL:g} MB")


def _line_end(path: Path, near: int) -> int:
    """The end of the line that `near` stands in."""
    with path.open("rb") as file:
        file.seek(near)
        file.readline()
        return file.tell()


if __name__ == "__main__":
    main()
