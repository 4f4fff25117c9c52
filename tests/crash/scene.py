"""An input, a command, and what an undisturbed run makes of them."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson

from tests.crash.calls import Fault
from tests.crash.nursery import Child, Nursery, Order

BAD_LINES = (b"not JSON\n", b'{"instructor_persona":"alone"}\n', b"\xff\xfe\n")
OUTPUT = "out.jsonl"
FAILURES = "out.failures.jsonl"


@dataclass(frozen=True, slots=True)
class Scene:
    """`lines` are the input's, `options` those of `magpie generate`."""

    lines: tuple[bytes, ...]
    options: tuple[str, ...]

    @property
    def arguments(self) -> tuple[str, ...]:
        """Of `magpie`, in a folder of `prepare`."""
        return ("generate", "pairs.jsonl", "-o", OUTPUT, *self.options)

    def prepare(self, folder: Path) -> Path:
        """Make `folder`, with the input in it."""
        folder.mkdir()
        folder.joinpath("pairs.jsonl").write_bytes(b"".join(self.lines))
        return folder

    def order(
        self,
        folder: Path,
        *,
        fault: Fault | None = None,
        room: int | None = None,
        options: Sequence[str] = (),
    ) -> Order:
        """The command in `folder`. With a fault, the calls are named in `folder`.calls."""
        return Order(
            folder=str(folder),
            arguments=(*self.arguments, *options),
            room=room,
            log=str(log_of(folder)) if fault else None,
            fault=fault,
        )


@dataclass(frozen=True, slots=True)
class Quiet:
    """What an undisturbed run left: its rows sorted, the ids of its failures, its exit code."""

    rows: list[bytes]
    failed: list[str]
    code: int


def log_of(folder: Path) -> Path:
    """Where the calls of a process in `folder` are named."""
    return folder.with_name(f"{folder.name}.calls")


@contextmanager
def stage(name: str) -> Iterator[Path]:
    """A folder for the length of one part; in memory where there is such a place, as it is fast."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of our own in it
    with TemporaryDirectory(
        prefix=f"magpie-{name}-", dir=memory if memory.is_dir() else None
    ) as folder:
        yield Path(folder)


def quiet_run(nursery: Nursery, scene: Scene, folder: Path) -> Quiet:
    """Run undisturbed in `folder`, which is made for it. Raises RuntimeError where that fails."""
    child = nursery.run(scene.order(scene.prepare(folder)))
    wrong = list(faults_of(folder))
    if child.code not in (0, 3) or wrong:
        raise RuntimeError(f"exit {child.code}, {wrong}: {child.said}")
    return Quiet(
        sorted(lines_of(folder / OUTPUT)), sorted(set(ids_of(folder / FAILURES))), child.code
    )


def differences(folder: Path, quiet: Quiet, child: Child) -> Iterator[str]:
    """What is not as the undisturbed run left it (I4: crash equivalence), after `child` ended."""
    if child.code != quiet.code:
        yield f"exit {child.code}, not {quiet.code}: {child.said}"
    rows = sorted(lines_of(folder / OUTPUT))
    if rows != quiet.rows:
        lost, more = Counter(quiet.rows) - Counter(rows), Counter(rows) - Counter(quiet.rows)
        yield f"{lost.total()} rows lost, {more.total()} too many: {_first(lost)} {_first(more)}"
    failed = sorted(set(ids_of(folder / FAILURES)))
    if failed != quiet.failed:
        yield f"failures {failed}, not {quiet.failed}"
    yield from faults_of(folder)


def faults_of(folder: Path) -> Iterator[str]:
    """What no run that got through its input may leave, whatever it was disturbed by."""
    ids = Counter(ids_of(folder / OUTPUT))
    if twice := [id_ for id_, times in ids.items() if times > 1]:
        yield f"I2: {twice} stand twice in the output"
    if both := ids.keys() & set(ids_of(folder / FAILURES)):
        yield f"I1: {both} have a row and a failure"
    state = folder / f"{OUTPUT}.magpie"
    manifest = orjson.loads(state.joinpath("manifest.json").read_bytes())
    if not manifest["clean"] or manifest["rewrite"]:
        yield f"the manifest is not that of a clean end: {manifest}"
    litter = [
        path.name
        for path in (*folder.iterdir(), *state.iterdir())
        if path.suffix in (".new", ".tail", ".log")
    ]
    if litter:
        yield f"left behind: {litter}"


def lines_of(path: Path) -> list[bytes]:
    """The lines of a file with their newlines, none where it is not there."""
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


def whole_lines(path: Path) -> bytes:
    """A file up to its last newline."""
    data = path.read_bytes() if path.exists() else b""
    return data[: data.rfind(b"\n") + 1]


def is_torn(path: Path) -> bool:
    """Whether a file ends in the middle of a line."""
    return path.exists() and path.stat().st_size > len(whole_lines(path))


def ids_of(path: Path) -> list[str]:
    """The id of each whole line; one that is not JSON is its own."""
    return [_id(line) for line in whole_lines(path).split(b"\n")[:-1]]


def _id(line: bytes) -> str:
    try:
        id_: str = orjson.loads(line)["id"]
    except orjson.JSONDecodeError:
        return f"(not JSON: {line[:60]!r})"
    return id_


def pairs(number: int, sizes: Iterable[int] = ()) -> tuple[bytes, ...]:
    """Lines of input, three of them bad ones; `sizes` are those of a column, in bytes."""
    column = [*sizes] or [0]
    good = [
        orjson.dumps(
            {
                "id": f"pair-{n}",
                "instructor_persona": f"Instructor number {n}: patient, curious, “schön” 🐦",
                "responding_persona": f"Responder number {n}: careful, exact, seldom wrong",
                "notes": "x" * column[n % len(column)],
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )
        for n in range(number)
    ]
    for position, bad in zip((0, number // 2, number), BAD_LINES, strict=True):
        good.insert(position, bad)
    return tuple(good)


def moments(seed: int | None) -> random.Random:
    """Where chance comes from."""
    return random.Random(seed)  # noqa: S311 - no secret


def _first(rows: Counter[bytes]) -> list[bytes]:
    return [row[:60] for row in rows][:2]
