"""The long rounds, one after another: kills, power cuts, stories, seeded defects. About two hours.

    python -m tests            all of them
    python -m tests.crash      kills, full disks, errors, locks, each as often as asked for
    python -m tests.power      power cuts (--states) and stories (--stories)
    python -m tests.power.defects   whether each defect that can be built into the store is seen

Exit 1 where one of them finds something.
"""

import subprocess
import sys

ROUNDS = (
    ("tests.crash",),
    ("tests.power", "--states", "1000000"),
    ("tests.power", "--stories", "20000"),
    ("tests.power.defects",),
)


def main() -> int:
    """The worst exit code."""
    codes = []
    for words in ROUNDS:
        print(f"== python -m {' '.join(words)}", flush=True)  # noqa: T201 - a script
        codes.append(subprocess.run([sys.executable, "-m", *words], check=False).returncode)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
