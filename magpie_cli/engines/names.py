"""Names of models as servers and networks list them, for a person to read."""

from collections.abc import Iterable
from itertools import islice

MOST_LETTERS = 80


def shown(names: Iterable[str], most: int) -> str:
    """The first `most` of them, each on one line and short, and how many more there are."""
    names = list(names)
    first = (" ".join(name.split())[:MOST_LETTERS] for name in islice(names, most))
    more = len(names) - most
    return ", ".join(first) + (f" and {more} more" if more > 0 else "")
