"""I6: the utterances of dialogues that a crash broke off are not paid for twice."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import pytest

from magpie_cli.ids import IdSet
from magpie_cli.records import PersonaPair, Usage, Utterance
from magpie_cli.store import Begun, Facts, StoreOptions, open_store
from magpie_cli.store.turn_log import TurnLog
from tests.test_store import IDENTITY

PAIR = PersonaPair("a", "a scientist", "a librarian", 2, {}, 1, "{}")
OTHER = PersonaPair("a", "a sailor", "a librarian", 2, {}, 1, "{}")
ONE, TWO, THREE = (Utterance(text, Usage(10, 1)) for text in ("one", "two", "three"))


class Crash(Exception):  # noqa: N818 - it stands for one
    """The end of a run."""


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Where the rows go."""
    return tmp_path / "out.jsonl"


def hear(output: Path, *utterances: Utterance) -> None:
    """A run that ends in the middle of a dialogue."""
    with suppress(Crash), open_store(str(output), None, Facts(IDENTITY), StoreOptions()) as store:
        store.begin("a", PAIR, 2)
        for utterance in utterances:
            store.heard("a", utterance)
        raise Crash


def begun(output: Path, pair: PersonaPair = PAIR, num_turns: int = 2) -> Begun:
    """What the next run has of it."""
    with open_store(str(output), None, Facts(IDENTITY), StoreOptions()) as store:
        return store.begin("a", pair, num_turns)


def test_what_was_heard_is_there_again(output: Path) -> None:
    """I6: the utterances come back in their order, with all that is known of them."""
    said = [ONE, replace(TWO, findings=("truncated",)), replace(THREE, reasoning="Which number?")]
    hear(output, *said)
    assert begun(output).utterances == said


def test_a_log_of_before_there_was_reasoning_goes_on(output: Path) -> None:
    """Utterances that an older magpie kept are there with none."""
    hear(output, ONE)
    log = Path(f"{output}.magpie", "turns.log")
    body = log.read_bytes()[9:].replace(b',"reasoning":null', b"")
    log.write_bytes(b"%08x %s" % (crc32(body), body))
    assert b"reasoning" not in body
    assert begun(output).utterances == [ONE]


@pytest.mark.parametrize(
    ("pair", "num_turns"), [(OTHER, 2), (PAIR, 3)], ids=["other personas", "other turns"]
)
def test_other_words_are_never_gone_on_with(
    output: Path, pair: PersonaPair, num_turns: int
) -> None:
    """I8: an id that comes back with other personas, or turns, begins anew."""
    hear(output, ONE, TWO)
    assert begun(output, pair, num_turns).utterances == []


def test_a_damaged_line_ends_what_is_known(output: Path) -> None:
    """An utterance that is not as it was written is dropped, and those behind it."""
    hear(output, ONE, TWO, THREE)
    log = Path(f"{output}.magpie", "turns.log")
    log.write_bytes(log.read_bytes().replace(b"two", b"owt"))
    assert begun(output).utterances == [ONE]


def test_a_finished_dialogue_leaves_the_log(tmp_path: Path) -> None:
    """A log that is written anew holds what is live, and goes on."""
    log = TurnLog(tmp_path / "turns.log", IdSet())
    for id_ in ("a", "b"):
        log.begin(id_, PAIR, 2)
        log.add(id_, ONE)
    log.end("a")
    log.write_anew()
    log.add("b", TWO)
    log.close()
    again = TurnLog(tmp_path / "turns.log", IdSet())
    assert again.begin("a", PAIR, 2).utterances == []
    assert again.begin("b", PAIR, 2).utterances == [ONE, TWO]
