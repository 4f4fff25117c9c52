"""`magpie filter`: which rows stay, why the others do not, and the files that are left."""

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magpie_cli.checks import CHECKS
from magpie_cli.cli.app import app
from magpie_cli.errors import UsageError
from magpie_cli.filter import Report, filter_rows
from magpie_cli.filter.near import Seen
from magpie_cli.filter.rules import rules_of
from magpie_cli.records import Record
from tests.conftest import Magpie, rows_of
from tests.output_rows import GOOD, MISBEHAVED, distinct, record, write_rows


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*records: Record, **flags: Any) -> tuple[Report, list[str], dict[str, list[str]]]:
    """The report, the ids that stay, and of the others the reasons."""
    write_rows(Path("out.jsonl"), records)
    for name in ("clean.jsonl", "rejected.jsonl"):
        Path(name).unlink(missing_ok=True)
    report = filter_rows("out.jsonl", "clean.jsonl", rules_of(**flags), rejected="rejected.jsonl")
    stay = [row["id"] for row in rows_of(Path("clean.jsonl"))]
    others = {row["id"]: row["rejected_by"] for row in rows_of(Path("rejected.jsonl"))}
    return report, stay, others


@pytest.mark.parametrize("fault", [name for name in MISBEHAVED if CHECKS[name].is_hard])
def test_a_writer_that_misbehaves_is_caught(fault: str) -> None:
    """Each fault of a writer rejects its row by that name, and the good row stays."""
    report, stay, others = run(record("good"), record("bad", MISBEHAVED[fault]))
    assert stay == ["good"]
    assert fault in others["bad"]
    assert {rule.rule for rule in report.rules} == set(others["bad"])


def test_what_is_not_hard_is_asked_for() -> None:
    """A soft finding rejects with --check alone; --no-check takes a hard one out."""
    soft, hard = MISBEHAVED["sycophantic_opening"], MISBEHAVED["speaker_label"]
    rows = (record("soft", soft), record("hard", hard))
    assert run(*rows)[1] == ["soft"]
    assert run(*rows, checks=["sycophantic_opening"])[1] == []
    assert run(*rows, checks=["all"], without=["speaker_label"])[1] == ["hard"]
    assert run(*rows, without=["speaker_label, refusal"])[1] == ["soft", "hard"]
    assert run(*rows, without=["all"])[1] == ["soft", "hard"]
    assert run(*rows, without=["all"], checks=["sycophantic_opening"])[1] == ["hard"]


def test_what_generate_has_found_counts() -> None:
    """A finding in the row rejects it, where its check is chosen, though nothing shows any more."""
    rows = (record("cut", findings=["truncated"]), record("odd", distinct(1), ["of my own"]))
    assert run(*rows)[2] == {"cut": ["truncated"]}
    assert run(*rows, without=["truncated"])[1] == ["cut", "odd"]


BYE = ("Thank you so much, goodbye!", "You're welcome. Goodbye, take care!")


def trim(found: Record, **flags: Any) -> Record:
    """What stays of a row that ends in courtesies."""
    assert run(found, trim=True, **flags)[2] == {}
    return Record.from_json(Path("clean.jsonl").read_bytes())


def test_courtesies_are_taken_off_in_whole_turns() -> None:
    """The responder still ends it, and the row says what it has: turns, findings, reasoning."""
    whole = record("a", (*GOOD, *BYE, *BYE), ["farewell", "label_stripped"], topic="maps")
    thought = (None, "Hm.", *[None] * 5, "Bye.")
    whole = replace(whole, dialogue=replace(whole.dialogue, reasoning=thought))
    kept = trim(whole)
    assert kept.dialogue.turns == whole.dialogue.turns[:2]
    assert (kept.num_turns, kept.metadata) == (2, {"topic": "maps"})
    assert kept.findings == ("label_stripped", "courtesies_trimmed")
    assert kept.dialogue.reasoning == thought[:4]
    assert kept.dialogue.usage == whole.dialogue.usage


def test_a_row_that_is_trimmed_keeps_its_numbers() -> None:
    """The user's own columns are as they were, also where they do not fit into 64 bits."""
    line = record("a", (*GOOD, *BYE), topic=1).to_json()
    Path("out.jsonl").write_bytes(line.replace(b'"topic":1', b'"topic":%d' % 2**80))
    filter_rows("out.jsonl", "clean.jsonl", rules_of(trim=True))
    [row] = rows_of(Path("clean.jsonl"))
    assert row["metadata"] == {"topic": 2**80}
    assert row["num_turns"] < len(GOOD)


def test_a_row_nested_too_deep_is_no_record() -> None:
    """What could be read, but not be written again, ends no run."""
    deep = b"[" * 300 + b"]" * 300
    line = record("a", (*GOOD, *BYE), topic=1).to_json().replace(b'"topic":1', b'"topic":' + deep)
    Path("out.jsonl").write_bytes(line + record("b").to_json())
    report = filter_rows("out.jsonl", "clean.jsonl", rules_of(trim=True), rejected="rejected.jsonl")
    assert (report.kept, report.rejected) == (1, 1)
    assert report.no_records == ("line 1: nested too deep to be written again",)
    assert rows_of(Path("rejected.jsonl"))[0]["input"] == line.decode().strip()


def test_reasoning_of_what_is_taken_off_goes_too() -> None:
    """Where the rest has none, the row has none."""
    whole = record("a", (*GOOD, *BYE))
    whole = replace(whole, dialogue=replace(whole.dialogue, reasoning=(*[None] * 5, "Bye.")))
    assert trim(whole).dialogue.reasoning is None
    assert rows_of(Path("clean.jsonl"))[0]["reasoning"] is None


def test_only_courtesies_of_both_come_off_and_one_turn_stays() -> None:
    """An answer that says something keeps its turn; a dialogue of nothing else is rejected."""
    answered = (*GOOD[:2], BYE[0], GOOD[3])
    assert trim(record("a", answered)) == record("a", answered)
    cut = trim(record("a", findings=["truncated"]), without=["truncated"])
    assert cut.findings == ("truncated",)
    assert run(record("a", (*BYE, *BYE)), trim=True)[2] == {"a": ["farewell"]}
    [rejected] = rows_of(Path("rejected.jsonl"))
    assert (rejected["num_turns"], rejected["findings"][-1]) == (1, "courtesies_trimmed")


def test_bounds_are_of_each_utterance() -> None:
    """One utterance too short or too long is enough; without bounds none is."""
    rows = (record("short", (*GOOD[:3], "Yes.")), record("long", distinct(1)), record("good"))
    assert run(*rows)[1] == ["short", "long", "good"]
    assert run(*rows, min_words=5, max_words=40)[2] == {
        "short": ["too_short"],
        "long": ["too_long"],
    }


def test_the_language_asked_for_is_the_column() -> None:
    """A row with `language` is held to its script; a language by its name, or unknown, to none."""
    texts: list[dict[str, Any]] = [
        {"language": "ru"},
        {"language": "en"},
        {"language": "German"},
        {"language": 7},
        {},
    ]
    rows = [record(str(n), distinct(n), (), **columns) for n, columns in enumerate(texts)]
    assert run(*rows)[2] == {"0": ["language"]}


def test_the_first_of_doubles_that_passes_stays() -> None:
    """The same words are a duplicate, whatever the id; a rejected row does not take others out."""
    same = [record("a", findings=["farewell"]), record("b"), record("c"), record("b")]
    report, stay, others = run(*same)
    assert stay == ["b"]
    assert (report.kept, report.rejected) == (1, 3)
    assert others["c"] == ["duplicate"]
    assert run(*same, keep_duplicates=True)[1] == ["b", "c", "b"]


def test_near_doubles_name_the_row_they_are_like() -> None:
    """A word more is near; another dialogue is not; --near 1 takes only the same words."""
    words = distinct(1)
    rows = [record("a a", words), record("b", (words[0] + " Now?", *words[1:])), record("c")]
    _, stay, others = run(*rows, record("d", words), near=0.8)
    assert stay == ["a a", "c"]
    assert others == {"b": ["near_duplicate"], "d": ["duplicate"]}
    assert {row["duplicate_of"] for row in rows_of(Path("rejected.jsonl"))} == {"a a"}
    assert run(*rows, near=1)[1] == ["a a", "b", "c"]
    assert run(*rows)[1] == ["a a", "b", "c"]


@pytest.mark.parametrize("near", [0.5, 0.8, 0.95])
def test_near_is_the_similarity_it_says(near: float) -> None:
    """Well above the threshold nearly all are found, well below it none, at any threshold."""
    draw = random.Random(1)  # noqa: S311 - texts
    found: Counter[bool] = Counter()
    for _ in range(60):
        said = [f"w{draw.randrange(10**9)}" for _ in range(400)]
        for above in (True, False):
            # A word that changes takes three runs of both sides with it.
            wanted = near + (1 - near) * 0.6 if above else near - 0.15
            changed = list(said)
            for place in range(2, 2 + 3 * round(400 / 3 * (1 - wanted) / (1 + wanted)), 3):
                changed[place] = f"x{draw.randrange(10**9)}"
            seen = Seen(near)
            assert seen.repeats(1, record("a", (" ".join(said), "Yes."))) == ("", None)
            rule, _ = seen.repeats(2, record("b", (" ".join(changed), "Yes.")))
            found[above] += rule == "near_duplicate"
    assert found[True] >= 55
    assert found[False] <= 5


def test_expressions_reject_by_their_own_words() -> None:
    """Each --where that does not hold is a reason; all must hold."""
    rows = [record("a", topic="maps"), record("b", distinct(2), topic="moths")]
    report, stay, others = run(*rows, where=['metadata.topic == "maps"', "num_turns >= 2"])
    assert stay == ["a"]
    assert others == {"b": ['where: metadata.topic == "maps"']}
    assert report.rules[0].rule == 'where: metadata.topic == "maps"'


def test_a_field_that_no_row_has_is_a_slip() -> None:
    """It is refused with the fields that there are, and no file is left."""
    write_rows(Path("out.jsonl"), [record()])
    with pytest.raises(UsageError, match="no field `num_turn`") as refused:
        filter_rows("out.jsonl", "clean.jsonl", rules_of(where=["num_turn > 2"]))
    assert "num_turns" in str(refused.value.hint)
    assert sorted(path.name for path in Path().iterdir()) == ["out.jsonl"]


def test_what_is_no_record_is_named_and_kept() -> None:
    """A broken line goes to the rejected ones whole, with its number; the others go on."""
    good = record().to_json()
    torn = good[: len(good) // 2]
    Path("out.jsonl").write_bytes(b"oops\xff\n\n" + good + b'{"id":"x"}\n[1]\n' + torn)
    report = filter_rows("out.jsonl", "clean.jsonl", rules_of(), rejected="rejected.jsonl")
    assert (report.rows, report.kept, report.rejected) == (5, 1, 4)
    assert Path("clean.jsonl").read_bytes() == good
    others = rows_of(Path("rejected.jsonl"))
    assert [row["line_number"] for row in others] == [1, 4, 5, 6]
    assert {*map(str, (row["rejected_by"] for row in others))} == {"['no_record']"}
    assert others[0]["input"] == "oops\\xff"
    assert others[3]["input"] == torn.decode()
    assert report.no_records[1] == 'line 4: "dialogue" is missing'
    assert report.rules[0].alone == 4


def test_rows_that_stay_are_the_same_bytes() -> None:
    """Key order, spaces, numbers and keys of others are not touched; a rejected row only grows."""
    text = record().to_json().decode().rstrip("\n")
    odd = text.replace('"usage":{', '"usage" : { ').replace(
        '"metadata":{}', '"score":1.50,"metadata":{}'
    )
    bad = odd.replace('"findings":[]', '"findings":["refusal"]')
    Path("out.jsonl").write_text(f"{odd}\r\n{bad}")
    filter_rows("out.jsonl", "clean.jsonl", rules_of(), rejected="rejected.jsonl")
    assert Path("clean.jsonl").read_text() == odd + "\n"
    rejected = Path("rejected.jsonl").read_text()
    assert rejected == bad[:-1] + ',"rejected_by":["refusal"],"duplicate_of":null}\n'
    filter_rows("rejected.jsonl", "again.jsonl", rules_of(), rejected="twice.jsonl")
    assert rows_of(Path("twice.jsonl"))[0]["rejected_by"] == ["refusal"]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from([*MISBEHAVED, "good", "broken"]), max_size=8).filter(
        lambda kinds: not kinds or {*kinds} != {"broken"}
    )
)
def test_no_row_is_lost(kinds: list[str]) -> None:
    """Kept and rejected are all rows, each in one of the files, in their order."""
    lines = [
        b"{\n" if kind == "broken" else record(str(n), MISBEHAVED.get(kind, GOOD)).to_json()
        for n, kind in enumerate(kinds)
    ]
    Path("out.jsonl").write_bytes(b"".join(lines))
    for name in ("clean.jsonl", "rejected.jsonl"):
        Path(name).unlink(missing_ok=True)
    report = filter_rows("out.jsonl", "clean.jsonl", rules_of(), rejected="rejected.jsonl")
    clean = Path("clean.jsonl").read_bytes().splitlines(keepends=True)
    others = rows_of(Path("rejected.jsonl"))
    assert report.rows == len(lines) == len(clean) + len(others)
    assert report.kept == len(clean)
    assert sorted([*clean, *map(_as_it_was, others)]) == sorted(lines)
    assert clean == [line for line in lines if line in clean]


def _as_it_was(rejected: dict[str, Any]) -> bytes:
    return b"{\n" if "input" in rejected else Record.from_json(json.dumps(rejected)).to_json()


def test_a_file_without_a_dialogue_is_a_slip() -> None:
    """It is said so, and no file is made that would look like a result."""
    Path("pairs.jsonl").write_text('{"instructor_persona":"a","responding_persona":"b"}\n' * 3)
    with pytest.raises(UsageError, match=r"pairs\.jsonl holds no dialogue: line 1: ") as caught:
        filter_rows("pairs.jsonl", "clean.jsonl", rules_of(), rejected="rejected.jsonl")
    assert "magpie generate" in str(caught.value.hint)
    assert not Path("clean.jsonl").exists()
    assert not Path("rejected.jsonl").exists()


def test_a_name_that_is_no_check_is_refused() -> None:
    """With the names that are; and bounds that exclude each other are."""
    with pytest.raises(UsageError, match="no such check") as refused:
        rules_of(checks=["farewel"])
    assert "farewell" in str(refused.value.hint)
    with pytest.raises(UsageError, match="more than"):
        rules_of(min_words=9, max_words=3)
    with pytest.raises(UsageError, match="keeps them"):
        rules_of(near=0.8, keep_duplicates=True)


def test_the_report_says_what_each_rule_took(magpie: Magpie) -> None:
    """As plain lines off a terminal: rows, rows by that rule alone; JSON for programs."""
    both = ("Instructor: How can I help you today?", *GOOD[1:])
    rows = [record("a"), record("b", both), record("c", MISBEHAVED["refusal"])]
    write_rows(Path("out.jsonl"), rows)
    shown = magpie("filter", "out.jsonl", "-o", "clean.jsonl")
    assert shown.stderr == ""
    assert "\x1b" not in shown.stdout
    assert "kept      1 (33.3%) -> clean.jsonl" in shown.stdout
    told = magpie("filter", "out.jsonl", "-o", "clean.jsonl", "--fresh", "--json")
    rules = {rule["rule"]: rule for rule in json.loads(told.stdout)["rules"]}
    assert rules["refusal"] == {"rule": "refusal", "rows": 1, "alone": 1}
    assert rules["role_flip"]["alone"] == rules["speaker_label"]["alone"] == 0


def test_help_names_the_checks_that_reject() -> None:
    """The help lists every check, and those that do not reject unless asked for."""
    (command,) = (
        c for c in app.registered_commands if c.callback and c.callback.__name__ == "filter"
    )
    assert command.epilog
    listed, rest = command.epilog.split(". ", 1)
    assert listed.removeprefix("Checks: ").split(", ") == [*CHECKS]
    soft = [name for name, check in CHECKS.items() if not check.is_hard]
    assert [name for name in CHECKS if name in rest] == soft
    assert rules_of().checks == frozenset(CHECKS) - frozenset(soft)
