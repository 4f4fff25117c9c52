"""Anything that may happen to an output, in any order; every finished run makes it whole."""

import os
import shutil
import tempfile
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from magpie_cli.errors import InvalidRecord, MagpieError, UsageError
from magpie_cli.records import Failure
from magpie_cli.settings import RetryFailed
from magpie_cli.store.scan import strict
from magpie_cli.verify import repair, verify
from tests.power.world import Rows, World, image_of, row_of, words

GARBAGE = (b"garbage\n", b"\0" * 50 + b"\n", b'{"id":5}\n', b'{"id":"torn', b"[]\n", b"\xff\n")
KINDS = ("talks", "talks", "talks", "is slow", "is refused")
RETRY = st.sampled_from([None, "transient", "all", "none"])
PLACES = st.integers(0, 50)


def line(id_: str | None, kind: str, number: int) -> bytes:
    """One line of the input."""
    row = {"instructor_persona": f"who {kind}", "responding_persona": f"p{number}"}
    return orjson.dumps(row if id_ is None else {"id": id_, **row})


def is_failure(text: bytes) -> bool:
    """Whether it can be read as one."""
    try:
        Failure.from_json(text)
    except InvalidRecord:
        return False
    return True


LINES = st.one_of(
    st.builds(line, st.none(), st.sampled_from(KINDS), st.integers(0, 5)),
    st.builds(line, st.sampled_from("abcd"), st.sampled_from(KINDS), st.integers(0, 5)),
    st.sampled_from([b"not json", b'{"instructor_persona":"alone"}']),
)


class Machine(RuleBasedStateMachine):
    """`rows` must be in the output, as they are; `foreign` says that a stranger was here."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="machine-"))
        folder = self.root / "work"
        folder.mkdir()
        self.world = World(folder)
        self.rows: Rows = {}
        self.foreign = False

    def teardown(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self.root)

    @initialize(lines=st.lists(LINES, min_size=1, max_size=6))
    def begin(self, lines: list[bytes]) -> None:
        """An input."""
        self.world.lines = lines

    @rule(new=LINES, place=PLACES)
    def a_line_is_added(self, new: bytes, place: int) -> None:
        """Anywhere in the input."""
        self.world.lines.insert(place % (len(self.world.lines) + 1), new)

    @precondition(lambda self: len(self.world.lines) > 1)
    @rule(place=PLACES)
    def a_line_is_removed(self, place: int) -> None:
        """Its row stays."""
        self.world.lines.pop(place % len(self.world.lines))

    @rule(new=LINES, place=PLACES)
    def a_line_is_edited(self, new: bytes, place: int) -> None:
        """Its row stays; under an own id, other personas may stand now."""
        self.world.lines[place % len(self.world.lines)] = new

    @rule(random=st.randoms(use_true_random=False))
    def lines_are_reordered(self, random: "object") -> None:
        """An id hashes content, never position."""
        random.shuffle(self.world.lines)  # type: ignore[attr-defined]

    @rule(steps=st.integers(1, 25), torn=st.sampled_from([b"", *GARBAGE]))
    def crash(self, steps: int, torn: bytes) -> None:
        """I3: kill -9 after so many steps, in the middle of a write: no row of before is lost."""
        before = self.world.rows()
        passed = self._passed_over(None)
        try:
            self.world.run(crash_in=steps)
        except MagpieError as error:
            self._repair(error)
            return
        if self.world.left is None:  # it had less to do
            self._compare(before, passed)
            return
        if torn and self.world.output.exists() and self.world.rows():
            with self.world.output.open("ab") as file:
                file.write(torn)
        now = self.world.rows()
        assert before.items() <= now.items()
        self.rows = now

    @rule(retry=RETRY)
    def run_again(self, retry: RetryFailed | None) -> None:
        """I1, I2, I4, I6: a run that comes to its end."""
        before = self.world.rows()
        passed = self._passed_over(retry)
        owed = self._owed(before)
        try:
            self.world.run(retry=retry)
        except MagpieError as error:
            self._repair(error)
            before, passed = self.world.rows(), self._passed_over(retry)
            owed = self._owed(before)
            self.world.run(retry=retry)
        assert self.world.asked <= owed
        self._compare(before, passed)

    def _passed_over(self, retry: RetryFailed | None) -> set[str]:
        """Ids that the next run does not try: they have failed, whatever their line says now."""
        failed = self.world.failed().items()
        for_good = {id_ for id_, line in failed if not orjson.loads(line).get("transient", True)}
        if retry == "none":
            return {id_ for id_, _ in failed}
        return set() if retry == "all" else for_good

    def _owed(self, rows: Rows) -> int:
        """The utterances that may be asked for, if nothing is paid twice."""
        return sum(
            2 * item.num_turns - self.world.known.get(words(item), 0)
            for item in self.world.items()
            if not isinstance(item, Failure) and item.id not in rows and row_of(item)
        )

    def _compare(self, before: Rows, passed_over: set[str]) -> None:
        rows, failed = dict(before), set()
        for item in self.world.items():
            row = None
            if not isinstance(item, Failure) and item.id not in passed_over:
                row = row_of(item)
            if row is None and item.id not in rows:
                failed.add(item.id)
            elif row is not None:
                rows.setdefault(item.id, row)
        output = self.world.output
        data = output.read_bytes() if output.exists() else b""
        assert sorted(data.splitlines(keepends=True)) == sorted(rows.values())
        failures = self.world.failures
        lines = failures.read_bytes().splitlines() if failures.exists() else []
        assert sorted(orjson.loads(one)["id"] for one in lines) == sorted(failed)
        verdict = verify(str(output), source=str(self.world.source))
        assert (verdict.faults, verdict.left) == ((), 0)
        self.rows, self.foreign = rows, False
        self.world.known.clear()

    def _repair(self, error: MagpieError) -> None:
        """Only where a stranger was here may a run stop; repair then shows the way out."""
        assert self.foreign, error.message
        assert "magpie repair" in str(error.hint)
        before = self.world.rows()
        assert repair(str(self.world.output), yes=True).stretches
        assert self.world.rows() == before

    @precondition(lambda self: self.rows)
    @rule()
    def other_settings(self) -> None:
        """I8: another seed is refused, and nothing is changed."""
        before = image_of(self.world.folder)
        if not self.world.output.stat().st_size:
            return
        with pytest.raises(UsageError, match="other settings"):
            self.world.run(seed=2)
        assert image_of(self.world.folder) == before

    @precondition(lambda self: self.rows)
    @rule(place=PLACES)
    def a_row_is_removed(self, place: int) -> None:
        """By a stranger."""
        lines = self.world.output.read_bytes().splitlines(keepends=True)
        lines.pop(place % len(lines))
        self._write(self.world.output, b"".join(lines))

    @precondition(lambda self: self.rows)
    @rule(garbage=st.sampled_from(GARBAGE), place=PLACES)
    def garbage_is_added(self, garbage: bytes, place: int) -> None:
        """By a stranger, at the end or in the middle."""
        lines = self.world.output.read_bytes().splitlines(keepends=True)
        lines.insert(len(lines) if place > 25 else place % (len(lines) + 1), garbage)
        self._write(self.world.output, b"".join(lines))

    @precondition(lambda self: self.rows)
    @rule(place=PLACES)
    def a_row_is_doubled(self, place: int) -> None:
        """By a stranger."""
        data = self.world.output.read_bytes()
        lines = data.splitlines(keepends=True)
        if data.endswith(b"\n"):
            self._write(self.world.output, data + lines[place % len(lines)])

    @precondition(lambda self: self.rows)
    @rule(gone=st.integers(1, 400))
    def the_output_is_truncated(self, gone: int) -> None:
        """By a stranger."""
        size = self.world.output.stat().st_size
        os.truncate(self.world.output, max(0, size - gone))
        self._strange()

    @precondition(lambda self: self.world.failed())
    @rule(place=PLACES, cut=st.integers(0, 60))
    def a_failure_is_edited(self, place: int, cut: int) -> None:
        """By a stranger: a byte of one line is another now.

        Where it still is JSON with an id, but no failure, a run lets it be; `verify` tells of it.
        """
        lines = self.world.failures.read_bytes().splitlines(keepends=True)
        number = place % len(lines)
        edited = lines[number]
        lines[number] = edited[:cut] + b"x" + edited[cut + 1 :]
        if not strict(lines[number])[0] and not is_failure(lines[number]):
            return
        self._write(self.world.failures, b"".join(lines))

    @rule()
    def the_failures_are_deleted(self) -> None:
        """By a stranger."""
        self.world.failures.unlink(missing_ok=True)
        self._strange()

    @rule()
    def the_turn_log_is_deleted(self) -> None:
        """By a stranger: what was heard is paid for again, and that is all."""
        Path(f"{self.world.output}.magpie", "turns.log").unlink(missing_ok=True)
        self.world.known.clear()

    @precondition(lambda self: self.world.output.exists())
    @rule()
    def look(self) -> None:
        """`magpie verify` and `magpie repair` without --yes change nothing."""
        before = image_of(self.world.folder)
        verify(str(self.world.output))
        repair(str(self.world.output))
        assert image_of(self.world.folder) == before

    @precondition(lambda self: self.world.output.exists())
    @rule()
    def repair_now(self) -> None:
        """`magpie repair --yes` leaves every good row, and nothing to repair."""
        before = self.world.rows()
        repair(str(self.world.output), yes=True)
        assert repair(str(self.world.output)).stretches == ()
        assert self.world.rows() == before

    def _write(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)
        self._strange()

    def _strange(self) -> None:
        self.rows = self.world.rows()
        self.foreign = True


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    deadline=None,
    max_examples=100,
    stateful_step_count=30,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
TestMachine.pytestmark = [pytest.mark.crash]  # type: ignore[attr-defined]
