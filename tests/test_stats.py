"""`magpie stats`: what it measures is what is there, in memory that does not grow."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magpie_cli.checks import CHECKS
from magpie_cli.checks.words import ngrams, words
from magpie_cli.errors import UsageError
from magpie_cli.records import Failure
from magpie_cli.stats import stats
from magpie_cli.stats.counts import Commonest, Numbers
from magpie_cli.stats.similar import Sample, jaccard
from tests.conftest import Magpie
from tests.output_rows import GOOD, MISBEHAVED, distinct, record, write_rows


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_it_counts_what_is_there() -> None:
    """Rows, utterances, lengths, tokens, personas, models: by hand."""
    rows = [record("a", ("One two three.", "Four five.")), record("b", GOOD), record("b", GOOD)]
    write_rows(Path("out.jsonl"), rows)
    with Path("out.jsonl").open("ab") as file:
        file.write(b"oops")
    found = stats("out.jsonl")
    assert (found.rows, found.no_records, found.repeated_ids, found.utterances) == (3, 1, 1, 10)
    assert found.turns
    assert (found.turns.least, found.turns.p50, found.turns.most) == (1, 2, 2)
    responder = found.words["responder"]
    assert responder
    assert (responder.count, responder.least) == (5, 2)
    assert responder.most == max(len(words(text)) for text in GOOD[1::2])
    assert (found.tokens.prompt_tokens, found.tokens.completion_tokens) == (30, 300)
    assert found.tokens.per_utterance
    assert (found.tokens.per_utterance.least, found.tokens.per_utterance.most) == (25, 50)
    assert (found.personas.instructor, found.personas.responder) == (1, 1)
    assert found.models == {"some-model": 3}
    assert found.engines == {"echo": 3}
    assert found.failures is None


def test_openings_and_trigrams_are_of_utterances() -> None:
    """A beginning's share is among its speaker's; a trigram counts once an utterance."""
    eager = [
        ("Tell me more, tell me more. Why?", f"Of course, I will say word{n}.") for n in range(4)
    ]
    rows = [record(str(n), said) for n, said in enumerate([*eager, GOOD])]
    found = stats(str(write_rows(Path("out.jsonl"), rows)))
    first = found.openings["responder"].commonest[0]
    assert (first.words, first.utterances, first.share) == ("of course i", 4, 4 / 6)
    assert found.openings["responder"].distinct == 3
    assert not found.openings["responder"].cut
    trigrams = {common.words: common for common in found.trigrams.commonest}
    assert trigrams["tell me more"].utterances == 4
    assert trigrams["tell me more"].share == 4 / 12
    assert found.trigrams.missed == 0


def test_writers_that_misbehave_are_shown_by_kind() -> None:
    """Each fault is a finding of its name; those that rows hold are counted apart."""
    rows = [record(name, said) for name, said in MISBEHAVED.items()]
    found = stats(str(write_rows(Path("out.jsonl"), [*rows, record("z", GOOD, ["truncated"])])))
    kinds = {finding.name: finding for finding in found.findings}
    assert kinds.keys() >= MISBEHAVED.keys()
    assert "truncated" not in kinds
    assert kinds["farewell"].rows == 1
    assert found.recorded == {"truncated": 1}
    (section,) = (s for s in found.sections() if s.title == "findings")
    assert any(CHECKS["farewell"].reason in entry.name for entry in section.entries)


def test_a_farewell_loop_counts_its_utterances() -> None:
    """One row, several utterances."""
    said = (*GOOD, *("Thank you, goodbye!", "Goodbye, take care!") * 3)
    found = stats(str(write_rows(Path("out.jsonl"), [record("a", said)])))
    (farewell,) = (finding for finding in found.findings if finding.name == "farewell")
    assert (farewell.rows, farewell.utterances) == (1, 5)


def test_similarity_is_of_three_word_runs() -> None:
    """Rows of the same words are alike, those of others not; a repeated answer shows within."""
    alike = [record(str(n)) for n in range(4)]
    found = stats(str(write_rows(Path("out.jsonl"), alike))).similarity
    assert (found.sampled, found.between, found.nearest, found.nearest_p95) == (4, 1, 1, 1)
    strange = [
        record(str(n), tuple(f"a{n}{k} b{n}{k} c{n}{k}" for k in range(4))) for n in range(3)
    ]
    found = stats(str(write_rows(Path("out.jsonl"), strange))).similarity
    assert (found.within, found.between, found.nearest) == (0, 0, 0)
    found = stats(str(write_rows(Path("out.jsonl"), [record("a", GOOD[:2] * 2)]))).similarity
    assert (found.within, found.between, found.nearest) == (1, None, None)
    runs = [ngrams(words(text), 3) for text in ("a b c d", "b c d e")]
    assert jaccard(*runs) == 1 / 3
    assert jaccard(frozenset(), frozenset()) == 0


def test_the_sample_is_the_same_each_time_and_fair() -> None:
    """Its size and seed are fixed, and it takes rows from the end as from the start."""
    rows = [record(str(n), distinct(n)) for n in range(300)]
    drawn = []
    for _ in range(2):
        sample = Sample(30)
        for row in rows:
            sample.add(row)
        drawn.append([row.id for row in sample._rows])
    assert drawn[0] == drawn[1]
    assert len({*drawn[0]}) == 30
    assert 5 <= sum(int(id_) >= 150 for id_ in drawn[0]) <= 25
    assert sample.similarity().sampled == 30


def test_failures_are_of_pairs_without_a_row() -> None:
    """Beside the output, or by --failures; the last line of an id counts, a torn one not."""

    def failure(id_: str, kind: str) -> bytes:
        return Failure(id_, "generate", kind, "no", 1, True, "{}").to_json()  # noqa: FBT003

    write_rows(Path("out.jsonl"), [record("a")])
    lines = [failure("a", "timeout"), failure("b", "timeout"), failure("b", "refused")]
    Path("out.failures.jsonl").write_bytes(b"".join([*lines, failure("c", "timeout")[:30]]))
    assert stats("out.jsonl").failures == {"refused": 1}
    Path("out.failures.jsonl").rename("elsewhere.jsonl")
    assert stats("out.jsonl").failures is None
    assert stats("out.jsonl", "elsewhere.jsonl").failures == {"refused": 1}
    with pytest.raises(UsageError, match="no such file"):
        stats("out.jsonl", "nowhere.jsonl")


def test_failures_are_found_by_the_manifest(magpie: Magpie) -> None:
    """Where generate put them elsewhere, they are found without a word."""
    Path("pairs.jsonl").write_text('{"instructor_persona":"A","responding_persona":"B"}\noops\n')
    made = magpie(
        *("generate", "pairs.jsonl", "--engine", "echo", "-o", "out.jsonl"),
        *("--failures", "bad.jsonl"),
    )
    assert made.returncode == 3
    told = magpie("stats", "out.jsonl", "--json")
    assert sum(json.loads(told.stdout)["failures"].values()) == 1


def test_for_people_and_for_programs(magpie: Magpie) -> None:
    """Plain lines without an escape code off a terminal, whatever rows hold; JSON; pipes."""
    rows = [record(str(n), MISBEHAVED["farewell"]) for n in range(2)]
    text = (
        write_rows(Path("out.jsonl"), rows).read_text().replace("some-model", "\\u001b[31m[/red]")
    )
    shown = magpie("stats", "-", stdin=text)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "\x1b" not in shown.stdout
    assert "standard input" in shown.stdout
    assert "one goodbye after another" in shown.stdout
    told = json.loads(magpie("stats", "out.jsonl", "--json").stdout)
    assert told["rows"] == 2
    assert told["words"]["instructor"]["p50"] > 0
    assert magpie("stats", "none.jsonl").returncode == 2


@pytest.mark.parametrize("text", ["", "oops\n"])
def test_nothing_has_statistics_too(magpie: Magpie, text: str) -> None:
    """An output without a record is measured, not divided by."""
    shown = magpie("stats", "-", stdin=text)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert json.loads(magpie("stats", "-", "--json", stdin=text).stdout)["rows"] == 0


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=60))
def test_percentiles_are_numbers_that_came(numbers: list[int]) -> None:
    """By nearest rank: exact up to 10,000, to four digits above; in order."""
    counted = Numbers()
    for number in numbers:
        counted.add(number)
    spread = counted.spread()
    assert spread
    ordered = sorted(numbers)
    cuts = {spread.least: 1, spread.p50: -(-len(numbers) // 2), spread.most: len(numbers)}
    for cut, rank in cuts.items():
        assert cut == pytest.approx(ordered[rank - 1], rel=1e-3)
    assert spread.least <= spread.p5 <= spread.p25 <= spread.p50 <= spread.p75 <= spread.p95
    assert spread.mean == sum(numbers) / len(numbers)


def test_many_numbers_take_few_places() -> None:
    """A million different token counts do not become a million counters."""
    counted = Numbers()
    for number in range(0, 10_000_000, 100):
        counted.add(number)
    assert len(counted._counts) < 40_000


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 60), max_size=8), max_size=60), st.integers(1, 12))
def test_the_commonest_are_right_within_what_is_said(lists: list[list[int]], kept: int) -> None:
    """The table stays small; no count is too high, none too low by more than `missed`."""
    table = Commonest[int](kept)
    true = Counter[int]()
    for things in lists:
        table.add(things)
        true.update(things)
        assert len(table._counts) <= 2 * kept
    found = dict(table.first(1000))
    for thing, count in true.items():
        assert found.get(thing, 0) <= count <= found.get(thing, 0) + table.missed
    assert table.distinct <= len(true)
    assert table.forgot or found == dict(true)


def test_a_file_whose_name_is_not_utf_8_has_statistics_too(magpie: Magpie, tmp_path: Path) -> None:
    """Its name comes with the bytes as JSON can say them."""
    (tmp_path / os.fsdecode(b"\xff.jsonl")).write_bytes(record().to_json())
    done = magpie("stats", os.fsdecode(b"\xff.jsonl"), "--json")
    assert done.returncode == 0, done.stderr
    assert "\\udcff.jsonl" in done.stdout
    assert json.loads(done.stdout)["rows"] == 1
