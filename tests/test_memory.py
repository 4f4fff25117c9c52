"""I9: memory does not grow with what is written, nor with what was written before."""

import json
import os
import sys
from pathlib import Path

from tests.conftest import PAIR, clean_environment

MB = 1024 * 1024
GROWTH = 24 * MB  # what the allocator and the buffers of a longer run may take


def peak(folder: Path, *arguments: str) -> int:
    """The largest memory of one run, in bytes."""
    command = [sys.executable, "-m", "magpie_cli", "generate", *arguments]
    child = os.posix_spawn(sys.executable, command, clean_environment() | {"PWD": str(folder)})
    _, status, usage = os.wait4(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def source(folder: Path, pairs: int) -> str:
    """So many pairs, each of which makes a row of 100 KB."""
    path = folder / f"{pairs}.jsonl"
    with path.open("w") as lines:
        for number in range(pairs):
            lines.write(json.dumps({**PAIR, "column": "x" * 100_000, "id": f"{number}"}) + "\n")
    return str(path)


def test_i9_memory_is_not_proportional_to_the_output(tmp_path: Path) -> None:
    """Sixteen times as many bytes, and then a run that finds them all, take no more memory."""
    few, many = source(tmp_path, 100), source(tmp_path, 1600)
    output = str(tmp_path / "many.jsonl")
    command = ("--engine", "echo", "-q", "-j", "64", "-o")
    small = peak(tmp_path, few, *command, str(tmp_path / "few.jsonl"))
    assert peak(tmp_path, many, *command, output) < small + GROWTH
    assert (tmp_path / "many.jsonl").stat().st_size > 150 * MB
    assert peak(tmp_path, many, *command, output) < small + GROWTH
