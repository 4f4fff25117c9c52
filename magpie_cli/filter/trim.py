"""Courtesies at the end of a dialogue, taken off in whole turns: who ends it stays the same.

CAMEL and UltraChat drop what ends in a loop of thanks and goodbyes; most of it is good before.
"""

import json
from dataclasses import replace

import orjson

from magpie_cli.checks import CHECKS, findings
from magpie_cli.checks.manner import is_courtesy
from magpie_cli.records import Dialogue, Record, Turn
from magpie_cli.rows import Row, spoken

TRIMMED = "courtesies_trimmed"
CHANGED = ("num_turns", "dialogue", "findings", "reasoning")
UNSEEN = "truncated"  # the one check that rows do not show


def trimmed(row: Row) -> Row:
    """The row without its last turns in which both only say thanks or goodbye; one turn stays.

    `num_turns`, `dialogue` and `reasoning` are those of what is left, and `findings` too, with
    `courtesies_trimmed`. All else is as it was, the usage also: it was paid.
    """
    if row.record is None:
        return row
    dialogue = row.record.dialogue
    left = len(dialogue.turns)
    while left > 1 and _is_courtesy(dialogue.turns[left - 1]):
        left -= 1
    if left == len(dialogue.turns):
        return row
    kept = (*dialogue.reasoning[: 2 * left],) if dialogue.reasoning else ()
    rest = Dialogue(
        dialogue.turns[:left],
        dialogue.model,
        dialogue.usage,
        reasoning=kept if any(kept) else None,
    )
    record = replace(row.record, num_turns=left, dialogue=rest, findings=())
    record = replace(record, findings=_findings(row.record.findings, record))
    written = orjson.loads(record.to_json())
    changed = {key: written[key] for key in CHANGED}
    # Not by orjson: to it, a whole number of more than 64 bits is a float.
    line = json.dumps(json.loads(row.line) | changed, ensure_ascii=False, separators=(",", ":"))
    return Row(row.number, line.encode(), record, row.fields | changed)


def _is_courtesy(turn: Turn) -> bool:
    answer = turn.responder  # where there is none, what is left would end with the other
    return answer is not None and is_courtesy(turn.instructor) and is_courtesy(answer)


def _findings(before: tuple[str, ...], record: Record) -> tuple[str, ...]:
    """What only the writer could know, and what is found in the words that are left."""
    known = [name for name in before if name not in CHECKS or name == UNSEEN]
    found = [name for said in spoken(record) for name in findings(said)]
    return tuple(dict.fromkeys([*known, *found, TRIMMED]))
