"""Pairs for magpie, and the same dialogues' messages for contenders that make no prompts."""

import json
from collections import Counter
from pathlib import Path

from magpie_cli.prompts import Views, own_prompts
from magpie_cli.records import PersonaPair

LIKES = (
    "works shifts at a coastal pumping station, keeps a paper log, distrusts dashboards, writes "
    "short sentences and asks for numbers before opinions"
)


def write_pairs(path: Path, number: int) -> None:
    """One pair a line, each different."""
    with path.open("w") as lines:
        for n in range(number):
            pair = {
                "id": f"pair-{n:08}",
                "instructor_persona": f"Ada, number {n}, {LIKES}; {LIKES}",
                "responding_persona": f"Bo, number {n}, {LIKES}; {LIKES}",
            }
            lines.write(json.dumps(pair) + "\n")


def write_prompts(path: Path, pairs: Path, turns: int) -> None:
    """What magpie tells each speaker of `pairs`, one pair a line."""
    prompts = own_prompts()
    with pairs.open() as source, path.open("w") as lines:
        for line in source:
            values = json.loads(line)
            ada, bo = values["instructor_persona"], values["responding_persona"]
            views = Views(prompts, PersonaPair(values["id"], ada, bo, None, {}, 1, ""), turns)
            prompt = {
                "id": values["id"],
                "instructor": views.instructor[0]["content"],
                "opener": views.instructor[1]["content"],
                "responder": views.responder[0]["content"],
            }
            lines.write(json.dumps(prompt) + "\n")


def count_rows(path: Path, turns: int) -> Counter[str]:
    """How often each id has a whole dialogue in an output."""
    ids: Counter[str] = Counter()
    if path.exists():
        with path.open("rb") as rows:
            for line in rows:
                if line.endswith(b"\n"):
                    row = json.loads(line)
                    ids[row["id"]] += len(row.get("dialogue") or row["turns"]) == 2 * turns
    return ids
