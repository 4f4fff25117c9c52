"""python -m tests.power --states 1000000 [--seed N] [--only SCENARIO]: the long round of I5.

With --stories N, that many of what else may happen to an output (test_store_machine.py) instead.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.power.simulator import STATES, Mismatch, Scenario, one_loop
from tests.power.test_store_machine import Machine

MEMORY = Path("/dev/shm")  # noqa: S108 - a folder in memory, where there is one


def states_without_mismatch(
    states: int, seed: int, only: int | None = None, *, progress: bool = False
) -> tuple[int, int]:
    """The number of states, and of damaged ones. Raises Mismatch with how to see it again."""
    began = time.monotonic()
    folder = MEMORY if os.access(MEMORY, os.W_OK) else None
    total, damaged, number = 0, 0, only or 0
    with tempfile.TemporaryDirectory(dir=folder, prefix="power-") as root, one_loop() as loop:
        while total < states:
            scenario = Scenario(seed, number, Path(root), loop)
            try:
                scenario.run()
            except Mismatch as mismatch:
                raise Mismatch(
                    f"{mismatch}\nstate {scenario.states} of scenario {number}; to see it again: "
                    f"python -m tests.power --seed {seed} --only {number} --states {STATES}"
                ) from mismatch
            total += scenario.states
            damaged += scenario.damaged
            number += 1
            if progress and number % 500 == 0:
                seconds = time.monotonic() - began
                print(f"{total:,} states, {seconds:.0f} s", flush=True)  # noqa: T201
    return total, damaged


def main() -> int:
    """0, or 1 at the first mismatch."""
    parser = argparse.ArgumentParser(prog="python -m tests.power", description=__doc__)
    parser.add_argument("--states", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, default=None, metavar="SCENARIO")
    parser.add_argument("--stories", type=int, default=0)
    asked = parser.parse_args()
    if asked.stories:
        run_state_machine_as_test(
            Machine, settings=settings(Machine.TestCase.settings, max_examples=asked.stories)
        )
        print(f"{asked.stories:,} stories, no mismatch")  # noqa: T201
        return 0
    try:
        total, damaged = states_without_mismatch(
            asked.states, asked.seed, asked.only, progress=True
        )
    except Mismatch as mismatch:
        print(f"MISMATCH: {mismatch}")  # noqa: T201
        return 1
    print(f"{total:,} states, {damaged:,} of them damaged: no mismatch")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
