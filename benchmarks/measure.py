"""One run of a command: seconds, processor time and peak memory of all its processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mock_server import CLIENT

TICKS = os.sysconf("SC_CLK_TCK")
LOOK_SECONDS = 0.1  # between two looks at the processes
LONGEST = 3600.0  # seconds that a command may take
LOG_SHOWN = 2_000  # characters of what a command that failed said last
# What pip has installed is compiled already: so is everybody's here, from the second run on.
ENVIRONMENT = {
    k: v
    for k, v in os.environ.items()
    if not k.startswith("MAGPIE_") and k != "PYTHONDONTWRITEBYTECODE"
}


@dataclass(frozen=True, slots=True)
class Cost:
    """`began` as time.monotonic() has it; `wall` and `processor` in seconds, `peak` in MB.

    Memory is the proportional share, pages shared by two processes counting once, summed over the
    processes.
    """

    began: float
    wall: float
    processor: float
    peak: float
    killed: bool


def run_command(pairs: Path, out: Path, url: str, in_flight: int, turns: int) -> list[str]:
    """`magpie generate`, from the interpreter that runs this."""
    command = [sys.executable, "-m", "magpie_cli", "generate", str(pairs), "-o", str(out)]
    return [*command, "--quiet", "--base-url", url, "-j", str(in_flight), "--turns", str(turns)]


def never() -> bool:
    """For a command that nobody stops."""
    return False


def measure(
    command: Sequence[str | Path], log: Path, kill_when: Callable[[], bool] = never
) -> Cost:
    """Run it on one processor until it ends, or until it is to be killed with all its children.

    SystemExit where it fails, or never ends.
    """
    began = time.monotonic()
    with log.open("wb") as said:
        child = subprocess.Popen(
            [*map(str, command)], stdout=said, stderr=said, env=ENVIRONMENT, cwd=log.parent
        )
    os.sched_setaffinity(child.pid, {CLIENT})
    peak, processor, killed = 0.0, {child.pid: 0.0}, False
    while (ended := os.wait4(child.pid, os.WNOHANG))[0] == 0:
        processes = tree(child.pid)
        peak = max(peak, sum(map(_memory, processes)))
        processor |= {each: _processor(each) for each in processes}
        is_stuck = time.monotonic() - began > LONGEST
        if is_stuck or kill_when():
            killed = not is_stuck
            for each in reversed(processes):
                os.kill(each, signal.SIGKILL)
        time.sleep(LOOK_SECONDS)
    _, status, usage = ended
    wall = time.monotonic() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode and not killed:
        raise SystemExit(f"{command}\nended with {child.returncode}:\n{log_end(log)}")
    # A child that nobody waited for is in the second sum alone.
    spent = max(usage.ru_utime + usage.ru_stime, sum(processor.values()))
    return Cost(began, wall, spent, max(peak, usage.ru_maxrss / 1024), killed)


def log_end(log: Path) -> str:
    """What was said last."""
    return log.read_text(errors="replace")[-LOG_SHOWN:]


def tree(pid: int) -> list[int]:
    """The process and all that descend from it."""
    found = [pid]
    for each in found:
        try:
            for thread in Path(f"/proc/{each}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
        except OSError:  # it has ended
            continue
    return found


def _memory(pid: int) -> float:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:  # it has ended
        pass
    return 0.0


def _processor(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:  # it has ended
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS
