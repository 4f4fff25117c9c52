"""Which line is which: ids made from content, and a set of ids that stays small."""

import hashlib
import re
from array import array
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Self

import orjson

from magpie_cli.errors import UsageError

SAMPLE_SUFFIX = re.compile(r"~[0-9]+\Z")  # never the end of an id that a user gives

_EMPTY = 0


def content_id(row: Mapping[str, object]) -> str:
    """First 16 hex digits of sha256 over the row with its keys sorted.

    Content, never position: appending, reordering or deleting input lines keeps every id.
    """
    canonical = orjson.dumps(row, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(canonical).hexdigest()[:16]


def sample_id(pair_id: str, sample: int) -> str:
    """Id of the `sample`-th dialogue (1, 2, ...) of a pair: `id`, `id~2`, `id~3`.

    The first has no suffix, so that asking for more samples later only adds rows.
    """
    return pair_id if sample == 1 else f"{pair_id}~{sample}"


class Shard(NamedTuple):
    """The `number`-th (from 1) of `parts` parts of all pairs: each is in one, by its id alone."""

    number: int
    parts: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """`2/16`. Raises UsageError."""
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        shard = cls(*map(int, found.groups())) if found else cls(0, 0)
        if not 1 <= shard.number <= shard.parts:
            raise UsageError(f"--shard {text} is not I/N", "as 1/4, 2/4, 3/4 and 4/4")
        return shard

    def has(self, id_: str) -> bool:
        """Whether the pair `id_` is in it: by sha256, the same on every machine."""
        digest = hashlib.sha256(id_.encode()).digest()
        return int.from_bytes(digest[:8], "big") % self.parts == self.number - 1


class IdSet:
    """A set of ids in 12 to 24 bytes each, where a `set[str]` takes about 140.

    It keeps the 64-bit hash of each id in an open-addressing table, so two different ids are taken
    for one with a chance of 2**-64 a pair of ids (3e-8 over a whole run of a million).
    """

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._table = _empty(1024)
        self._used = 0
        for id_ in ids:
            self.add(id_)

    def __len__(self) -> int:
        return self._used

    # The same search three times: a call for each id would take a third of a million's time.

    def __contains__(self, id_: str) -> bool:
        key = hash(id_) or 1
        table = self._table
        mask = len(table) - 1
        slot = key & mask
        while found := table[slot]:
            if found == key:
                return True
            slot = (slot + 1) & mask
        return False

    def add(self, id_: str) -> bool:
        """Add `id_`; False if it was there already."""
        key = hash(id_) or 1
        table = self._table
        mask = len(table) - 1
        slot = key & mask
        while found := table[slot]:
            if found == key:
                return False
            slot = (slot + 1) & mask
        table[slot] = key
        self._used += 1
        if self._used * 3 > len(table) * 2:
            self._grow()
        return True

    def _grow(self) -> None:
        table = _empty(2 * len(self._table))
        mask = len(table) - 1
        for key in self._table:
            if key:
                slot = key & mask
                while table[slot]:
                    slot = (slot + 1) & mask
                table[slot] = key
        self._table = table


def _empty(places: int) -> "array[int]":
    return array("q", [_EMPTY]) * places  # exact: from bytes, it would take a sixteenth more
