"""Which line is which: ids made from content, and a set of ids that stays small."""

import hashlib
import re
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Self

import orjson

from magpie_cli.errors import UsageError

SAMPLE_SUFFIX = re.compile(r"~[0-9]+\Z")  # never the end of an id that a user gives

SHARD_IDS = 512  # on average, before each is cut in two

_HASH = 2**64 - 1  # Python's hash of a string without its sign


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
    """A set of ids in about 10 bytes each, where a `set[str]` takes about 140.

    It keeps the 64-bit hash of each id, so two different ids are taken for one with a chance of
    2**-64 a pair of ids (3e-8 over a whole run of a million). Hashes stand in sorted shards, each
    with its own first bits of them: no shard is ever large, so that an insertion moves little, and
    growing copies one small shard at a time. A hash table would stand half empty, and twice in
    memory while it grows.
    """

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._shards = [array("Q")]
        self._shift = 64  # a hash without so many of its last bits is the number of its shard
        self._used = 0
        self._room = SHARD_IDS
        for id_ in ids:
            self.add(id_)

    def __len__(self) -> int:
        return self._used

    # The same search twice: a call for each id would take a sixth of a million's time.

    def __contains__(self, id_: str) -> bool:
        key = hash(id_) & _HASH
        shard = self._shards[key >> self._shift]
        place = bisect_left(shard, key)
        return place < len(shard) and shard[place] == key

    def add(self, id_: str) -> bool:
        """Add `id_`; False if it was there already."""
        key = hash(id_) & _HASH
        shard = self._shards[key >> self._shift]
        place = bisect_left(shard, key)
        if place < len(shard) and shard[place] == key:
            return False
        shard.insert(place, key)
        self._used += 1
        if self._used > self._room:
            self._grow()
        return True

    def _grow(self) -> None:
        """Cut each shard in two, by one more bit."""
        self._shift -= 1
        half = 1 << self._shift
        shards: list[array[int]] = []
        for number, shard in enumerate(self._shards):
            middle = bisect_left(shard, (2 * number + 1) * half)
            shards += [shard, shard[middle:]]
            del shard[middle:]
        self._shards = shards
        self._room = SHARD_IDS * len(shards)
