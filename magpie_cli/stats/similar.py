"""How alike dialogues are, within themselves and to each other, on a sample of the rows."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from magpie_cli.checks.words import Run, ngrams, words
from magpie_cli.records import Record

SAMPLE = 400  # rows; each is compared with each other, in about a second
SEED = 42
HOW = "Jaccard similarity of three-word runs, 0 to 1"

Runs = frozenset[Run]


@dataclass(frozen=True, slots=True)
class Similarity:
    """Means of Jaccard similarities of three-word runs over `sampled` rows of a seeded draw.

    `within`: of each utterance and the same speaker's one before, in its row. `between`: of each
    dialogue and each other. `nearest`: of each dialogue and the one most like it, `nearest_p95` the
    value that one in twenty passes. None where there is nothing to compare.
    """

    sampled: int
    within: float | None
    between: float | None
    nearest: float | None
    nearest_p95: float | None


class Sample:
    """A fair draw from rows of an unknown number (Vitter's algorithm R), the same on every run."""

    def __init__(self, size: int = SAMPLE) -> None:
        self._size = size
        self._seen = 0
        self._random = random.Random(SEED)  # noqa: S311 - a draw, no secret
        self._rows: list[Record] = []

    def add(self, record: Record) -> None:
        """Offer one more row."""
        self._seen += 1
        if len(self._rows) < self._size:
            self._rows.append(record)
        elif (place := self._random.randrange(self._seen)) < self._size:
            self._rows[place] = record

    def similarity(self) -> Similarity:
        """Of the rows drawn."""
        within: list[float] = []
        wholes: list[Runs] = []
        for record in self._rows:
            turns = record.dialogue.turns
            speakers = ([t.instructor for t in turns], [t.responder for t in turns if t.responder])
            for texts in speakers:
                runs = [ngrams(words(text), 3) for text in texts]
                within += [jaccard(left, right) for left, right in pairwise(runs)]
            said = words("\n".join(record.dialogue.utterances))
            wholes.append(ngrams(said, 3))
        between, nearest = _compared(wholes)
        return Similarity(
            len(wholes),
            fmean(within) if within else None,
            between,
            fmean(nearest) if nearest else None,
            sorted(nearest)[max(0, -(-len(nearest) * 95 // 100) - 1)] if nearest else None,
        )


def jaccard(left: Runs, right: Runs) -> float:
    """What two sets share of what they have together; 0 where both are empty."""
    both = len(left & right)
    together = len(left) + len(right) - both
    return both / together if together else 0.0


def _compared(wholes: Sequence[Runs]) -> tuple[float | None, list[float]]:
    """The mean over all pairs, and for each the most."""
    if len(wholes) < 2:
        return None, []
    nearest = [0.0] * len(wholes)
    total = 0.0
    for place, left in enumerate(wholes):
        for other in range(place):
            alike = jaccard(left, wholes[other])
            total += alike
            nearest[place] = max(nearest[place], alike)
            nearest[other] = max(nearest[other], alike)
    return total / (len(wholes) * (len(wholes) - 1) / 2), nearest
