"""What is kept of dialogues that are not finished: a crash costs what is in flight, no more."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, Signals

import pytest

from magpie_cli.ids import IdSet
from magpie_cli.records import Dialogue, PersonaPair, Record, Turn, Usage, Utterance
from magpie_cli.store import Facts, StoreOptions, open_store, turn_log
from tests.chat_server import ChatServer, hangs, refuses
from tests.conftest import Magpie, rows_of
from tests.processes import end, started, wait_for_words, wait_until
from tests.test_failures import pair, write
from tests.test_store import IDENTITY

TURNS = 3
UTTERANCES = 2 * TURNS
LOG = Path("out.jsonl.magpie", "turns.log")


def command(server: ChatServer, *more: str) -> tuple[str, ...]:
    """One dialogue at a time, three turns each."""
    options = ("-o", "out.jsonl", "--turns", f"{TURNS}", "-j", "1", *more)
    return ("generate", "pairs.jsonl", "--base-url", server.url, *options)


def lines_of(folder: Path) -> list[bytes]:
    """What stands in the log."""
    log = folder / LOG
    return log.read_bytes().splitlines(keepends=True) if log.exists() else []


def begin(folder: Path, server: ChatServer) -> None:
    """A run that is killed when five of six utterances of its one dialogue are there."""
    write(folder / "pairs.jsonl", pair("a"))
    server.faults = chain(repeat(None, UTTERANCES - 1), [hangs])
    with started(folder, *command(server)) as process:
        wait_until(lambda: len(server.asked) == UTTERANCES, "the last utterance is asked for")
        process.kill()
        assert process.wait() == -SIGKILL
    assert len(lines_of(folder)) == UTTERANCES - 1
    server.faults = iter(())
    server.asked.clear()


def finish(folder: Path, magpie: Magpie, server: ChatServer, *more: str) -> int:
    """How many requests the rest took, after which the row is whole and the log gone."""
    assert magpie(*command(server, *more)).returncode == 0
    [row] = rows_of(folder / "out.jsonl")
    assert row["usage"] == {
        "prompt_tokens": 5 * len(row["dialogue"]) * 2,
        "completion_tokens": 5 * len(row["dialogue"]),
    }
    assert not (folder / LOG).exists()
    return len(server.asked)


def test_a_killed_dialogue_goes_on_where_it_was(
    tmp_path: Path, magpie: Magpie, server: ChatServer
) -> None:
    """After five of six utterances one request is left, and the row is that of a quiet run."""
    begin(tmp_path, server)
    assert finish(tmp_path, magpie, server) == 1
    row = (tmp_path / "out.jsonl").read_bytes()
    assert finish(tmp_path, magpie, server, "--fresh") == 1 + UTTERANCES
    assert (tmp_path / "out.jsonl").read_bytes() == row


def test_a_refused_key_costs_no_utterance(
    tmp_path: Path, magpie: Magpie, server: ChatServer
) -> None:
    """What ends the whole run ends no dialogue: the next run asks for what is missing."""
    write(tmp_path / "pairs.jsonl", pair("a"))
    server.faults = chain(repeat(None, 3), [refuses(401)])
    assert magpie(*command(server)).returncode == 1
    assert len(lines_of(tmp_path)) == 3
    server.asked.clear()
    assert finish(tmp_path, magpie, server) == UTTERANCES - 3


def test_a_failed_dialogue_begins_anew(tmp_path: Path, magpie: Magpie, server: ChatServer) -> None:
    """A pair that is refused in the middle is done with: nothing of it is kept."""
    write(tmp_path / "pairs.jsonl", pair("a"))
    server.faults = chain(repeat(None, 3), [refuses(400)])
    assert magpie(*command(server)).returncode == 3
    assert lines_of(tmp_path) == []
    server.asked.clear()
    assert finish(tmp_path, magpie, server, "--retry-failed", "all") == UTTERANCES


@pytest.mark.parametrize(
    ("columns", "more", "asked"),
    [
        ({"instructor_persona": "Someone else"}, (), UTTERANCES),
        ({"responding_persona": "Someone else"}, (), UTTERANCES),
        ({"num_turns": 2}, (), 4),
        ({}, ("--temperature", "0.5"), UTTERANCES),
        ({}, ("--seed", "5"), UTTERANCES),
        ({}, ("--turns", "2"), 4),
        ({"topic": "birds"}, ("--timeout", "5"), 1),
    ],
    ids=["instructor", "responder", "num_turns", "temperature", "seed", "turns", "the same"],
)
def test_utterances_of_something_else_are_not_used(
    tmp_path: Path,
    magpie: Magpie,
    server: ChatServer,
    *,
    columns: dict[str, object],
    more: tuple[str, ...],
    asked: int,
) -> None:
    """Under the same id, other personas, other turns or other settings are another dialogue."""
    begin(tmp_path, server)
    write(tmp_path / "pairs.jsonl", pair("a", **columns))
    assert finish(tmp_path, magpie, server, *more) == asked


def flip(line: bytes) -> bytes:
    """One byte of an utterance is another one."""
    return line.replace(b"Utterance", b"Utterancf")


@pytest.mark.parametrize(
    ("damage", "asked"),
    [
        pytest.param(lambda log: [*log[:2], flip(log[2]), *log[3:]], 4, id="a wrong checksum"),
        pytest.param(lambda log: [*log[:4], log[4][:-9]], 2, id="a torn end"),
        pytest.param(lambda log: [*log[:4], log[4][:-1]], 2, id="all but its newline"),
        pytest.param(lambda log: [*log[:3], b"\0" * 90 + b"\n", *log[3:]], 1, id="zeros between"),
        pytest.param(lambda log: [*log, b"\0" * 4096], 1, id="zeros at the end"),
        pytest.param(lambda log: [b"00000000 \n", b"\n", *log, b"00000000 "], 1, id="stray bytes"),
        pytest.param(lambda log: [*log[:2], log[1], *log[2:]], 1, id="a line twice"),
        pytest.param(lambda log: [*log[1:]], 6, id="without its first"),
        pytest.param(lambda _: [], 6, id="empty"),
    ],
)
def test_a_bad_line_is_as_if_it_were_not_there(
    tmp_path: Path, magpie: Magpie, server: ChatServer, damage: object, asked: int
) -> None:
    """What is damaged in the log, and what follows it in its dialogue, is asked for again."""
    begin(tmp_path, server)
    assert callable(damage)
    (tmp_path / LOG).write_bytes(b"".join(damage(lines_of(tmp_path))))
    assert finish(tmp_path, magpie, server) == asked


@pytest.mark.parametrize("signals", [(SIGKILL,), (SIGINT, SIGINT), (SIGTERM, SIGTERM)])
def test_a_stop_in_the_middle_costs_the_requests_in_flight(
    tmp_path: Path, magpie: Magpie, server: ChatServer, signals: tuple[Signals, ...]
) -> None:
    """I6: however it stopped, no more is asked for twice than there was in flight, and I2 holds."""
    in_flight, total = 4, 10
    write(tmp_path / "pairs.jsonl", *(pair(f"p{n}") for n in range(total)))
    several = command(server, "-j", f"{in_flight}")
    server.delay = 0.02
    with started(tmp_path, *several) as process:
        wait_until(lambda: len(server.asked) >= 30, "half of it is asked for")
        server.delay = 30
        process.send_signal(signals[0])
        for again in signals[1:]:
            wait_for_words(process, "once more stops at once")
            process.send_signal(again)
        code, said = end(process)
    assert code == -signals[0]
    assert "Traceback" not in said
    server.delay = 0
    assert magpie(*several).returncode == 0
    assert total * UTTERANCES <= len(server.asked) <= total * UTTERANCES + in_flight
    rows = (tmp_path / "out.jsonl").read_bytes().splitlines()
    assert magpie(*several, "--fresh").returncode == 0
    assert sorted(rows) == sorted((tmp_path / "out.jsonl").read_bytes().splitlines())


PAIR = PersonaPair("", "a scientist", "a librarian", None, {}, 1, "{}")


def whole(id_: str, texts: list[str]) -> Record:
    """The row that these utterances make."""
    turns = tuple(Turn(*two) for two in zip(texts[::2], texts[1::2], strict=True))
    fields = (PAIR.instructor_persona, PAIR.responding_persona, len(turns), Dialogue(turns, "tiny"))
    return Record(id_, *fields, "echo", (), {})


@contextmanager
def small(limit: int) -> Iterator[None]:
    """As if the log were to be written anew so early."""
    before = turn_log.MOST_DEAD_BYTES
    turn_log.MOST_DEAD_BYTES = limit
    try:
        yield
    finally:
        turn_log.MOST_DEAD_BYTES = before


def test_the_log_does_not_grow_with_the_run(tmp_path: Path) -> None:
    """Utterances of finished dialogues are dropped now and then, those of begun ones never."""
    output, log = str(tmp_path / "out.jsonl"), tmp_path / LOG
    sizes = []
    with small(2_000), open_store(output, None, Facts(IDENTITY), StoreOptions()) as store:
        store.begin("first", PAIR, 2)
        store.heard("first", Utterance("It stays.", Usage(1, 1)))
        for n in range(100):
            begun = store.begin(f"d{n}", PAIR, 2)
            for text in ("one", "two", "three", "four"):
                store.heard(f"d{n}", Utterance(text, Usage(1, 1)))
            kept = [utterance.text for utterance in begun.utterances]
            assert kept == ["one", "two", "three"]  # the fourth makes a row
            asyncio.run(store.write(whole(f"d{n}", [*kept, "four"])))
            sizes.append(log.stat().st_size)
        store.heard("first", Utterance("And goes on.", Usage(2, 2)))
    assert max(sizes) < 2_000 + 1_000
    with open_store(output, None, Facts(IDENTITY), StoreOptions()) as store:
        assert len(store.done) == 100
        found = store.begin("first", PAIR, 2)
        assert found.utterances == [
            Utterance("It stays.", Usage(1, 1)),
            Utterance("And goes on.", Usage(2, 2)),
        ]
        store.finish(101, IdSet(), IdSet())
    assert not log.exists()


def test_a_dialogue_that_begins_again_does_not_mix_its_words(tmp_path: Path) -> None:
    """What was kept under one id for other personas never stands in front of the new words."""
    output = str(tmp_path / "out.jsonl")
    other = PersonaPair("", "a scientist", "a baker", None, {}, 1, "{}")
    hello = Utterance("hello", Usage(1, 1))
    for personas, before in ((PAIR, []), (other, []), (other, [hello]), (PAIR, [])):
        with open_store(output, None, Facts(IDENTITY), StoreOptions()) as store:
            assert store.begin("a", personas, 2).utterances == before
            if not before:
                store.heard("a", hello)
