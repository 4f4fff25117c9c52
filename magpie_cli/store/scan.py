"""What an output holds: the id of each line, and where a line is none.

Below a point that is known to be durable a look at the first bytes of each line is enough: a
million rows of 5 KB take seconds. Above it a power cut may have left anything, zeros in the middle
too, so each line is read as JSON.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import orjson

from magpie_cli.errors import MagpieError
from magpie_cli.ids import IdSet

_ID_FIRST = b'{"id":"'
# Bytes. With Python's 8 KB, rows of 5 KB take three times as long; of blocks above 128 KB, malloc
# gives each back to the system, and fresh pages cost two thirds of the scan's time again.
_READ_AT_ONCE = 64 * 1024


class Bad(NamedTuple):
    """Bytes that are no line of magpie's: from `start` to `end`, and why."""

    start: int
    end: int
    why: str


@dataclass(slots=True)
class Scan:
    """`ids` are those of the lines in front of the first bad one, which ends at `good`.

    `bad` are all that are no lines; `behind` the good lines behind the first of them, as offsets.
    """

    ids: IdSet = field(default_factory=IdSet)
    good: int = 0
    bad: list[Bad] = field(default_factory=list)
    behind: list[tuple[int, int]] = field(default_factory=list)


def scan(
    path: Path, durable: int, *, unique: bool, anew: bool = False, output: Path | None = None
) -> Scan:
    """Look at every line of `path`; strictly from the offset `durable` on.

    Where `unique`, a second line of one id is bad. With `anew`, all above `durable` counts as
    standing behind something bad, because it is to be written once more. Raises MagpieError at a
    bad line below `durable`, with its offset: that is no trace of a crash. `output` is the one that
    it belongs to, if it is none itself.
    """
    durable = _checked(path, durable)
    found = Scan(good=durable)
    if durable and (bad := _look_quickly(path, durable, found.ids, unique=unique)):
        raise damaged(path, bad.start, bad.why, output)
    behind = IdSet()
    offset = durable
    for line in lines_of(path, durable):
        end = offset + len(line)
        why, id_ = strict(line)
        stays = not (found.bad or anew)
        if unique and not why:
            is_new = found.ids.add(id_) if stays else id_ not in found.ids and behind.add(id_)
            why = "" if is_new else _second(id_)
        if why:
            _add(found.bad, Bad(offset, end, why))
        elif stays:
            found.good = end
        else:
            found.behind.append((offset, end))
        offset = end
    return found


def read_ids(path: Path, output: Path | None = None) -> Iterator[str]:
    """The id of each whole line of `path`, by bytes; nothing where there is no such file.

    Raises MagpieError at a line without one. A torn last line is left alone: it may be about to be
    written.
    """
    offset = 0
    for line in lines_of(path):
        if not line.endswith(b"\n"):
            return
        why, id_ = _quick(line)
        if why:
            raise damaged(path, offset, why, output)
        yield id_
        offset += len(line)


def id_by_bytes(line: bytes) -> str:
    """The id that a scan finds in a good line."""
    return _quick(line)[1]


def strict(line: bytes) -> tuple[str, str]:
    """Why `line` is none, empty if it is one; and its id."""
    if not line.endswith(b"\n"):
        return "a line without its end", ""
    if b"\0" in line:
        return "a line with a NUL byte", ""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return f"not JSON: {error}", ""
    id_ = row.get("id") if isinstance(row, dict) else None
    if not isinstance(id_, str) or not id_:
        return "a line without an id", ""
    return "", id_


def _second(id_: str) -> str:
    return f"a second line of the id {id_}"


def _look_quickly(path: Path, end: int, ids: IdSet, *, unique: bool) -> Bad | None:
    """Add the id of each line up to the offset `end`, as fast as Python goes; the first bad one."""
    offset, rest, skip = 0, b"", len(_ID_FIRST)
    with path.open("rb", buffering=0) as file:
        while data := file.read(min(_READ_AT_ONCE, end - offset - len(rest))):
            block = rest + data
            is_clean = block.find(b"\0") < 0
            start = 0
            while stop := block.find(b"\n", start) + 1:
                # A line is copied only where something is odd about it.
                piece = block[start + skip : block.find(b'"', start + skip, stop)]
                if (
                    is_clean
                    and block.startswith(_ID_FIRST, start)
                    and block.endswith(b"}\n", start, stop)
                    and piece.isascii()
                    and b"\\" not in piece
                    and piece
                ):
                    why, id_ = "", piece.decode()
                else:
                    why, id_ = _quick(block[start:stop])
                if not why and not ids.add(id_) and unique:
                    why = _second(id_)
                if why:
                    return Bad(offset + start, offset + stop, why)
                start = stop
            offset, rest = offset + start, block[start:]
    return None


def _add(bad: list[Bad], more: Bad) -> None:
    """What stands side by side is one stretch."""
    if bad and bad[-1].end == more.start:
        more = Bad(bad[-1].start, more.end, bad[-1].why)
        bad.pop()
    bad.append(more)


def damaged(path: Path, offset: int, why: str, output: Path | None = None) -> MagpieError:
    """What a run stops with at bytes that no crash can have left."""
    return MagpieError(
        f"{path} is damaged at byte {offset:,}: {why}",
        f"magpie repair {shlex.quote(str(output or path))} shows what it would take out; "
        "or set it aside with --fresh",
    )


def _quick(line: bytes) -> tuple[str, str]:
    """As `strict`, by the first bytes where they are as magpie writes them."""
    if line.startswith(_ID_FIRST) and line.endswith(b"}\n") and b"\0" not in line:
        piece = line[len(_ID_FIRST) : line.find(b'"', len(_ID_FIRST))]
        if piece and b"\\" not in piece:
            try:
                return "", piece.decode()
            except UnicodeDecodeError:
                return strict(line)
    return strict(line)


def _checked(path: Path, durable: int) -> int:
    """`durable`, if a line does end there; 0 where somebody has changed the file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, durable - 1))
            return durable if file.read(1) == b"\n" else 0
    except FileNotFoundError:
        return 0


def lines_of(path: Path, start: int = 0) -> Iterator[bytes]:
    """Each line of `path` from an offset on, none where there is no such file.

    Raises MagpieError.
    """
    try:
        with path.open("rb", buffering=_READ_AT_ONCE) as lines:
            lines.seek(start)
            yield from lines
    except FileNotFoundError:
        return
    except OSError as error:
        raise MagpieError(f"{path} cannot be read: {error.strerror}") from error
