"""What every peer's script is given, and the messages that each speaker sees."""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

Messages = list[dict[str, str]]
MAX_TOKENS = 256
TIMEOUT = 120
TRIES = 6


def read_arguments(description: str | None) -> argparse.Namespace:
    """As `bare.py` takes them; OUT is the file for rows of `id` and `turns`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("prompts", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("-j", type=int, default=64)
    parser.add_argument("--turns", type=int, default=3)
    return parser.parse_args()


def read_prompts(path: Path) -> Iterator[dict[str, str]]:
    """Lines of `id`, `instructor`, `responder` and `opener`."""
    with path.open() as lines:
        for line in lines:
            yield json.loads(line)


def messages(prompt: dict[str, str], said: Sequence[str]) -> Messages:
    """Those for whoever speaks next: the instructor first."""
    speaker = len(said) % 2
    if speaker == 0:
        head = [("system", prompt["instructor"]), ("user", prompt["opener"])]
    else:
        head = [("system", prompt["responder"])]
    roles = [("assistant", "user")[(n + speaker) % 2] for n in range(len(said))]
    return [{"role": r, "content": c} for r, c in [*head, *zip(roles, said, strict=True)]]
