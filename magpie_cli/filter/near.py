"""Dialogues that others repeat: to the letter, or nearly."""

from collections.abc import Iterator, Sequence

from magpie_cli.checks.words import words
from magpie_cli.ids import IdSet
from magpie_cli.records import Record

SHINGLE = 3  # words
PERMUTATIONS = 128  # the error of an estimate: 0.035 at 0.8
RECALL = 0.9  # of pairs exactly as alike as asked for; those more alike are found more surely
SEED = 42


class Seen:
    """The dialogues that were kept. Exact: 12 to 24 bytes each; near: about 2.2 KB each.

    Two are near when the Jaccard similarity of their three-word shingles is `near` or more, as
    MinHash estimates it (Broder 1997). Speakers and personas are not looked at, only words.
    """

    def __init__(self, near: float | None) -> None:
        self._exact = IdSet()
        self._near = _Near(near) if near is not None else None

    def repeats(self, number: int, record: Record) -> tuple[str, str | None]:
        """The rule that the dialogue breaks, empty if it is new; and the id of what it is like.

        A new one is remembered. The id of an exact double is known only where near ones are looked
        for.
        """
        utterances = record.dialogue.utterances
        is_new = self._exact.add("\0".join(utterances))
        if self._near is None:
            return ("" if is_new else "duplicate"), None
        other = self._near.add(f"{number} {record.id}", utterances)
        if not is_new:
            return "duplicate", other
        return ("near_duplicate" if other is not None else ""), other


class _Near:
    def __init__(self, threshold: float) -> None:
        # rensa has no stubs.
        from rensa import RMinHashDeduplicator  # type: ignore[import-untyped]

        self._index = RMinHashDeduplicator(
            threshold, PERMUTATIONS, use_lsh=True, num_bands=_bands(threshold), seed=SEED
        )

    def add(self, key: str, utterances: Sequence[str]) -> str | None:
        """The id of one that is like it; None, and it is remembered, if there is none."""
        from rensa import RMinHash

        sketch = RMinHash(PERMUTATIONS, SEED)
        sketch.update([*_shingles(utterances)])
        if self._index.add(key, sketch):
            return None
        found = self._index.get_duplicates(sketch)
        return found[0].split(" ", 1)[1] if found else None


def _shingles(utterances: Sequence[str]) -> Iterator[str]:
    """Runs of words across the whole dialogue; all of it where it has fewer."""
    said = [word for text in utterances for word in words(text)]
    for start in range(max(1, len(said) - SHINGLE + 1)):
        yield " ".join(said[start : start + SHINGLE])


def _bands(threshold: float) -> int:
    """The fewest of equal size by which RECALL of the pairs at the threshold are looked at."""
    for bands in (1, 2, 4, 8, 16, 32, 64):
        if 1 - (1 - threshold ** (PERMUTATIONS // bands)) ** bands >= RECALL:
            return bands
    return PERMUTATIONS
