"""What may be on a disk after the power went at some moment.

Of a file, what its last sync covered is there. Each page (4 KiB) that was touched since then is as
that sync, or any change since, left it; a page that never arrived reads as zeros. Its size is that
of any moment since, or between two, at the edge of a page or of a line more often than elsewhere.
Of a folder's names, those of its last sync are there, and of the changes since, in their order, any
number.
"""

from bisect import bisect_right
from collections.abc import Callable
from operator import itemgetter

from tests.power.recording import PAGE, Folder, Image, Inode, Version, pages_of, with_pages

Chance = Callable[[], float]  # a number from 0 to 1, another one each time


def cut(tree: Folder, moment: int, chance: Chance) -> Image:
    """One of the many things that may be left of `tree` after the call number `moment`."""
    synced = _last(tree.synced, moment)
    since = [names for time, names in tree.versions if synced < time <= moment]
    before = [names for time, names in tree.versions if time <= synced][-1]
    names = pick([before, *since], chance)
    return {
        name: cut(node, moment, chance) if isinstance(node, Folder) else _left(node, moment, chance)
        for name, node in names.items()
    }


def pick(choices: list[dict[str, Inode | Folder]], chance: Chance) -> dict[str, Inode | Folder]:
    """Often the last or the first, else any."""
    luck = chance()
    if luck < 0.4:
        return choices[-1]
    return choices[0] if luck < 0.6 else choices[int(chance() * len(choices))]


def _last(times: list[int], moment: int) -> int:
    return times[bisect_right(times, moment) - 1]


def _left(inode: Inode, moment: int, chance: Chance) -> bytes:
    """What may be left of a file."""
    found = bisect_right(inode.synced, moment, key=itemgetter(0))
    synced, before = inode.synced[max(0, found - 1)]
    since = [one for one in inode.versions if synced < one.time <= moment]
    if not since:
        return before
    size = _size(before, since, chance)
    luck = chance()
    if luck < 0.25:
        return with_pages(before, size, {})
    pages = {}
    for page in pages_of(since):
        sources = [one.data for one in since if one.first <= page <= one.last]
        if luck < 0.5:
            pages[page] = sources[-1]
        elif chance() < 0.6:
            pages[page] = sources[int(chance() * len(sources))]
    return with_pages(before, size, pages)


def _size(before: bytes, since: list[Version], chance: Chance) -> int:
    """That of a moment, or of a change that was half done."""
    sizes = [len(before), *(len(one.data) for one in since)]
    number = int(chance() * len(sizes)) if chance() < 0.7 else len(sizes) - 1
    size, smaller = sizes[number], sizes[max(0, number - 1)]
    luck, where = chance(), chance()
    if luck < 0.5 or size <= smaller:
        return size
    inside = smaller + int(where * (size - smaller))
    if luck < 0.7:
        edge = -(-inside // PAGE) * PAGE
        return edge if smaller <= edge <= size else inside
    if luck < 0.8:
        return size - 1
    return smaller + 1 if luck < 0.9 else inside
