"""What is to do, and what is done already."""

import io
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from magpie_cli.engine import DialogueRequest
from magpie_cli.ids import IdSet
from magpie_cli.personas import PairReader
from magpie_cli.plan import LONG_STRETCH, Plan, dialogue_seed, plan_dialogues
from magpie_cli.records import Failure, PersonaPair, Usage, Utterance
from magpie_cli.settings import Settings, TurnRange
from magpie_cli.tally import Tally
from tests.conftest import PAIR

BAD = b"{"


def row(id_: str, **columns: Any) -> bytes:
    """A line with a good pair under this id."""
    return orjson.dumps({**PAIR, "id": id_, **columns})


@dataclass
class Planned:
    """A plan, worked through."""

    plan: Plan[PersonaPair, DialogueRequest]
    tally: Tally
    items: list[DialogueRequest | Failure] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        """The id of each request, and the kind of each failure."""
        return [item.kind if isinstance(item, Failure) else item.id for item in self.items]

    @property
    def requests(self) -> list[DialogueRequest]:
        """Without the failures."""
        return [item for item in self.items if isinstance(item, DialogueRequest)]


def planned(*lines: bytes, done: tuple[str, ...] = (), **flags: Any) -> Planned:
    """What is to do for these lines."""
    there, tally = IdSet(), Tally()
    for id_ in done:
        there.add(id_)
    reader = PairReader(io.BytesIO(b"\n".join(lines)), "pairs.jsonl")
    plan = plan_dialogues(reader, Settings("pairs.jsonl", **flags), there, tally)
    return Planned(plan, tally, [item for item in plan if item is not None])


def test_every_pair_is_one_request() -> None:
    """Without flags each pair is asked for once, by its own id; each bad line is a failure."""
    work = planned(row("a"), BAD, row("b"))
    assert work.ids == ["a", "not_json", "b"]
    assert [request.pair.id for request in work.requests] == ["a", "b"]
    assert (work.plan.pairs, work.plan.expected, work.plan.exhausted) == (2, 3, True)


@pytest.mark.parametrize(
    ("samples", "ids"),
    [(1, ["a", "b"]), (2, ["a", "a~2", "b", "b~2"]), (3, ["a", "a~2", "a~3", "b", "b~2", "b~3"])],
)
def test_samples_multiply_the_requests(samples: int, ids: list[str]) -> None:
    """Each pair is asked for as often as --samples says, each time under its own id."""
    work = planned(row("a"), row("b"), samples=samples)
    assert work.ids == ids
    assert (work.plan.pairs, work.plan.expected) == (2, len(ids))


def test_more_samples_only_add() -> None:
    """With one dialogue a pair done, asking for two leaves the second ones to do."""
    work = planned(row("a"), row("b"), samples=2, done=("a", "b"))
    assert work.ids == ["a~2", "b~2"]
    assert (work.tally.skipped, work.plan.expected) == (2, 4)


def test_a_pair_may_have_turns_of_its_own() -> None:
    """A line's num_turns beats --turns, in each of its samples."""
    work = planned(
        row("a", num_turns=5), row("b", num_turns=None), row("c"), turns=TurnRange(2, 2), samples=2
    )
    assert [request.num_turns for request in work.requests] == [5, 5, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("limit", "ids", "exhausted"),
    [
        (None, ["a", "not_json", "b", "c", "not_json"], True),
        (1, ["a", "not_json"], False),
        (2, ["a", "not_json", "b"], False),
        (3, ["a", "not_json", "b", "c", "not_json"], True),
        (9, ["a", "not_json", "b", "c", "not_json"], True),
    ],
)
def test_a_limit_leaves_the_rest(limit: int | None, ids: list[str], *, exhausted: bool) -> None:
    """After --limit dialogues the plan ends, and is exhausted only where none would follow."""
    work = planned(row("a"), BAD, row("b"), row("c"), BAD, limit=limit)
    assert work.ids == ids
    assert work.plan.exhausted is exhausted


def test_a_limit_counts_new_dialogues_alone() -> None:
    """What is done already, and what cannot be done, takes nothing from --limit."""
    work = planned(row("a"), row("b"), BAD, row("c"), row("d"), done=("a", "b"), limit=1)
    assert work.ids == ["not_json", "c"]
    assert (work.tally.skipped, work.plan.exhausted) == (2, False)


def test_a_limit_may_fall_within_a_pair() -> None:
    """--limit counts dialogues, not pairs."""
    work = planned(row("a"), row("b"), samples=3, limit=2)
    assert (work.ids, work.plan.exhausted) == (["a", "a~2"], False)


def test_what_is_done_is_skipped_and_counted() -> None:
    """An id in the output is not asked for again, but is expected."""
    work = planned(row("a"), row("b"), row("c"), done=("c", "a", "elsewhere"))
    assert work.ids == ["b"]
    assert (work.tally.skipped, work.plan.expected, work.plan.exhausted) == (2, 3, True)


def test_a_long_stretch_that_is_done_is_passed_in_steps() -> None:
    """A plan gives back control now and then, so that a signal need not wait for its end."""
    done = IdSet()
    lines = [row(f"{n}") for n in range(3 * LONG_STRETCH)]
    for n in range(3 * LONG_STRETCH - 1):
        done.add(f"{n}")
    reader = PairReader(io.BytesIO(b"\n".join(lines)), "pairs.jsonl")
    *steps, last = plan_dialogues(reader, Settings("pairs.jsonl"), done, Tally())
    assert steps == [None, None]
    assert isinstance(last, DialogueRequest)
    assert last.id == f"{3 * LONG_STRETCH - 1}"


def test_nothing_is_expected_of_an_input_without_lines() -> None:
    """Blank lines alone are no work."""
    work = planned(b"", b" ")
    assert (work.items, work.plan.expected, work.plan.exhausted) == ([], 0, True)


def test_no_line_takes_the_id_of_a_sample() -> None:
    """An id that ends as a further sample's does is refused, whatever --samples is now."""
    for samples in (1, 2):
        work = planned(row("a~2"), row("a"), row("b~x"), row("c~2d"), samples=samples)
        assert work.ids[0] == "bad_id"
        assert len({item.id for item in work.items}) == len(work.items) == work.plan.expected


def test_each_request_reports_to_the_tally() -> None:
    """The tokens of a request are counted as they are spent."""
    work = planned(row("a"))
    work.requests[0].on_utterance(Utterance("Why?", Usage(10, 3)))
    work.requests[0].on_utterance(Utterance("Because.", Usage()))
    assert work.tally.tokens == 3


def test_each_dialogue_has_a_seed_of_its_own() -> None:
    """With --seed every request has another seed, the same in every run; without, none."""
    lines = [row(f"{n}") for n in range(20)]
    first, again = (planned(*lines, seed=7, samples=2).requests for _ in range(2))
    seeds = [request.seed for request in first]
    assert len(set(seeds)) == 40
    assert seeds == [request.seed for request in again]
    assert {request.seed for request in planned(*lines).requests} == {None}


def test_a_seed_does_not_depend_on_the_others() -> None:
    """A request has the same seed whatever else is asked for, before it or after."""
    alone = planned(row("b"), seed=7).requests[0]
    among = planned(row("a"), row("b"), row("c"), seed=7, samples=3).requests[3]
    assert (among.id, among.seed) == ("b", alone.seed)


@examples(deadline=None, max_examples=200)
@given(st.integers(-(2**63), 2**63), st.text())
def test_a_seed_fits_every_server(run_seed: int, id_: str) -> None:
    """A seed leaves room for one number an utterance below the 32-bit limit of some servers."""
    seed = dialogue_seed(run_seed, id_)
    assert seed is not None
    assert 0 <= seed < 2**31 - 2**16
    assert seed == dialogue_seed(run_seed, id_)


def test_a_seed_never_changes_between_versions() -> None:
    """The seeds of a run are a promise: other ones would make other rows under the same ids."""
    assert dialogue_seed(7, "5f0c6c0de1b2a394") == 1_859_817_531
    assert dialogue_seed(8, "5f0c6c0de1b2a394") != 1_859_817_531
    assert dialogue_seed(0, "a") is not None
    assert dialogue_seed(None, "a") is None
