"""The utterances of dialogues that are not finished: a crash costs the request in flight, no more.

Each line is a CRC-32 in hex, a space and `{"id","of","position","text","usage","findings",
"reasoning"}`, where `of` is what the words belong to, as a number: an own id may come back with
other personas, or with other values in columns that the prompts name. Older logs have no
`reasoning`.
"""

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from magpie_cli.ids import IdSet
from magpie_cli.records import PersonaPair, Usage, Utterance
from magpie_cli.store import disk
from magpie_cli.store.append_file import AppendFile
from magpie_cli.store.scan import lines_of

MOST_DEAD_BYTES = 32 * 1024 * 1024  # of finished dialogues, before the log is written anew


@dataclass(slots=True)
class Begun:
    """What there is of a dialogue: its utterances in their order.

    Of the `wanted` ones, the last is not kept: it makes a row. (Where dialogues end with the
    instructor, it would be the one before, and is kept.) `is_kept` is false once an utterance
    could not be added: no later one may be, then.
    """

    of: int
    wanted: int = 0
    is_kept: bool = True
    utterances: list[Utterance] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)


class TurnLog:
    """Made where the first utterance is; gone when every dialogue is finished.

    A full disk costs utterances that could have been kept, and no row: then nothing is added.
    """

    def __init__(self, path: Path, done: IdSet, redact: Callable[[bytes], bytes] = bytes) -> None:
        self._path = path
        self._redact = redact
        self._begun: dict[str, Begun] = {}
        self._live = 0
        self._most_dead = MOST_DEAD_BYTES
        self.file: AppendFile | None = None
        for line in lines_of(path):
            self._read(line, done)
        if path.exists() and path.stat().st_size != self._live:
            self.write_anew()

    def begin(
        self, id_: str, pair: PersonaPair, num_turns: int, columns: Iterable[object] = ()
    ) -> Begun:
        """The dialogue `id_` goes on, or begins; what an earlier run has of the very same."""
        of = _number(pair, num_turns, columns)
        found = self._begun.get(id_)
        if found is None or found.of != of:
            self.end(id_)
            found = self._begun[id_] = Begun(of)
        found.wanted = 2 * num_turns
        return found

    def add(self, id_: str, utterance: Utterance) -> None:
        """One more utterance of a dialogue that was begun. Raises OSError where the disk fails."""
        begun = self._begun[id_]
        position = len(begun.utterances)
        if not begun.is_kept or position + 1 == begun.wanted:
            return
        row = {
            "id": id_,
            "of": begun.of,
            "position": position,
            "text": utterance.text,
            "usage": utterance.usage,
            "findings": utterance.findings,
            "reasoning": utterance.reasoning,
        }
        body = self._redact(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        line = b"%08x %s" % (zlib.crc32(body), body)
        try:
            self._file().append(line)
        except OSError as error:
            if error.errno not in disk.FULL:
                raise
            begun.is_kept = False
            return
        _keep(begun, line, utterance)
        self._live += len(line)

    def end(self, id_: str) -> None:
        """The dialogue has its outcome."""
        begun = self._begun.pop(id_, None)
        if begun:
            self._live -= sum(map(len, begun.lines))

    @property
    def is_mostly_dead(self) -> bool:
        """Whether it is time to `write_anew`."""
        return self.file is not None and self.file.size - self._live > self._most_dead

    def write_anew(self) -> None:
        """Without the utterances of finished dialogues; later, where the disk is full.

        Their outcomes must be durable: a power cut could take those, and what they were made of.
        """
        live = (line for begun in self._begun.values() for line in begun.lines)
        try:
            disk.replace(self._path, live)
        except OSError as error:
            if error.errno not in disk.FULL:
                raise
            self._most_dead *= 2  # not again at the next dialogue's end
        else:
            self.close()

    def forget(self) -> None:
        """Nothing of it belongs to this run."""
        self._begun.clear()
        self._live = 0
        self.remove()

    def remove(self) -> None:
        """Nothing is left that anybody could go on with."""
        self.close()
        disk.remove(self._path)

    def close(self) -> None:
        """Sync, unless it is gone."""
        if self.file:
            self.file.close()
            self.file = None

    def _file(self) -> AppendFile:
        if self.file is None:
            file = AppendFile(self._path)
            try:
                if file.size and file.read(file.size - 1, file.size) != b"\n":
                    file.append(b"\n")  # behind a torn line, where a full disk has left it
            except OSError:
                file.close(sync=False)
                raise
            self.file = file
        return self.file

    def _read(self, line: bytes, done: IdSet) -> None:
        """One line of an earlier run; what is torn, or out of its order, is as if it were not."""
        crc, _, body = line.partition(b" ")
        if not body or crc != b"%08x" % zlib.crc32(body):  # the checksum of nothing is 0
            return
        row = orjson.loads(body)
        if row["id"] in done:
            return
        begun = self._begun.setdefault(row["id"], Begun(row["of"]))
        if row["position"] == 0 and begun.utterances:  # begun once more
            self.end(row["id"])
            begun = self._begun[row["id"]] = Begun(row["of"])
        if row["of"] == begun.of and row["position"] == len(begun.utterances):
            _keep(begun, line, _utterance(row))
            self._live += len(line)


def _keep(begun: Begun, line: bytes, utterance: Utterance) -> None:
    begun.lines.append(line)
    begun.utterances.append(utterance)


def _utterance(row: dict[str, Any]) -> Utterance:
    findings = tuple(row["findings"])
    return Utterance(row["text"], Usage(**row["usage"]), findings, row.get("reasoning"))


def _number(pair: PersonaPair, num_turns: int, columns: Iterable[object]) -> int:
    text = f"{num_turns}\0{pair.instructor_persona}\0{pair.responding_persona}"
    text += "".join(f"\0{value}" for value in columns)
    return zlib.crc32(text.encode())
