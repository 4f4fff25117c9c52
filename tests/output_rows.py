"""Outputs made by writers that misbehave, each in one way, and by one that does not."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from magpie_cli.records import Dialogue, Record, Usage

SCIENTIST = "A curious scientist who counts moths by lamplight in an old tower by the sea"
LIBRARIAN = "A careful librarian with a cupboard of lost maps and a fear of open windows"
GOOD = (
    "I have looked for the chart of the northern coast all week. Where would you keep it?",
    "In the long drawer under the stairs, between two sheets of grey paper.",
    "And if somebody has put it back in the wrong place, how do you find it again?",
    "By the stamp: each sheet has a number, and the ledger says which drawer it belongs to.",
)
# What the last speaker, or the last two, say instead.
MISBEHAVED: dict[str, tuple[str, ...]] = {
    "speaker_label": (*GOOD[:3], "Responder: By the stamp on each sheet, as the ledger says."),
    "both_speakers": (*GOOD[:3], "By the stamp.\n\nUser: And then?\nAssistant: Then by number."),
    "farewell": (*GOOD[:2], "Thank you so much, goodbye!", "You're welcome. Goodbye, take care!"),
    "persona_leak": (*GOOD[:3], "As you count moths by lamplight in an old tower, by the stamp."),
    "prompt_echo": (
        *GOOD[:3],
        "As a careful librarian with a cupboard of lost maps, by the stamp.",
    ),
    "role_flip": (*GOOD[:2], "How can I help you today?", GOOD[3]),
    "refusal": (*GOOD[:3], "As an AI language model, I cannot look into drawers."),
    "repetition": (*GOOD[:3], GOOD[1]),
    "empty": (*GOOD[:3], "..."),
    "sycophantic_opening": (*GOOD[:3], "Certainly! By the stamp on each sheet."),
}


def record(
    id_: str = "a",
    utterances: Sequence[str] = GOOD,
    findings: Iterable[str] = (),
    **metadata: object,
) -> Record:
    """A row with these utterances."""
    dialogue = Dialogue.from_texts(utterances, "some-model", Usage(10, 100))
    turns = len(utterances) // 2
    return Record(id_, SCIENTIST, LIBRARIAN, turns, dialogue, "echo", tuple(findings), metadata)


def distinct(number: int, utterances: Sequence[str] = GOOD) -> tuple[str, ...]:
    """The same in other words: no double of the others by any measure."""
    return tuple(
        f"{text} {' '.join(f'word{number}x{place}x{n}' for n in range(60))}."
        for place, text in enumerate(utterances)
    )


def write_rows(path: Path, records: Iterable[Record]) -> Path:
    """An output of these rows."""
    path.write_bytes(b"".join(record.to_json() for record in records))
    return path
