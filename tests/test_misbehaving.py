"""Writers that misbehave, each in one way: mended, sampled again, named in the row, and caught."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest
from aiohttp import web

from magpie_cli.checks import CHECKS
from magpie_cli.converse import CheckedEngine, Demands
from magpie_cli.engine import ECHO, DialogueRequest, Transient
from magpie_cli.records import Dialogue, PersonaPair
from magpie_cli.settings import Settings
from tests.chat_server import ChatServer, Fault, answer, hangs, says
from tests.conftest import Magpie, rows_of
from tests.output_rows import GOOD, LIBRARIAN, MISBEHAVED, SCIENTIST
from tests.processes import started, wait_until

PAIR = {"instructor_persona": SCIENTIST, "responding_persona": LIBRARIAN}
FLIPPED = "You're in luck: I'm here to help. What would you like to know about the drawers?"
MENDED = {"speaker_label": "label_stripped", "both_speakers": "cut_at_other"}
HARD = [name for name in MISBEHAVED if CHECKS[name].is_hard and name not in MENDED]
SAMPLES = 3


def writes(texts: Sequence[str], finish_reason: str = "stop") -> Fault:
    """Say the text of whichever utterance of a dialogue is asked for."""

    async def fault(request: web.Request) -> web.StreamResponse:
        messages = (await request.json())["messages"]
        leads = "Your part is to lead" in messages[0]["content"]
        text = texts[len(messages) - (2 if leads else 1)]
        return web.json_response(answer(text, finish_reason))

    return fault


def command(folder: Path, server: ChatServer, *more: str, turns: int = 2) -> tuple[str, ...]:
    """A run of one pair at that server."""
    (folder / "pairs.jsonl").write_text(json.dumps(PAIR) + "\n")
    asks = ("--base-url", server.url, "-o", "out.jsonl", "-t", str(turns))
    return ("generate", "pairs.jsonl", *asks, *more)


def made(folder: Path, magpie: Magpie, server: ChatServer, *more: str) -> dict[str, Any]:
    """The one row of a run."""
    done = magpie(*command(folder, server, *more))
    assert done.returncode == 0, done.stderr
    [row] = rows_of(folder / "out.jsonl")
    return row


def words_of(row: dict[str, Any]) -> list[str]:
    """What was said, in order."""
    return [text for entry in row["dialogue"] for text in entry.values()]


def caught(magpie: Magpie, *more: str) -> list[str]:
    """What `magpie filter` says of the one row; nothing where it stays."""
    done = magpie("filter", "out.jsonl", "-o", "clean.jsonl", "--fresh", "--json", *more)
    return [rule["rule"] for rule in json.loads(done.stdout)["rules"]]


def counted(magpie: Magpie) -> tuple[dict[str, int], set[str]]:
    """What `magpie stats` says: the findings that the row holds, and those of all checks afresh."""
    stats = json.loads(magpie("stats", "out.jsonl", "--json").stdout)
    return stats["recorded"], {finding["name"] for finding in stats["findings"]}


@pytest.mark.parametrize("fault", HARD)
def test_a_writer_that_never_behaves_is_named(
    fault: str, tmp_path: Path, magpie: Magpie, server: ChatServer
) -> None:
    """It is asked three times; its row says what is wrong, to filter and to stats too."""
    server.faults = repeat(writes(MISBEHAVED[fault]))
    row = made(tmp_path, magpie, server)
    assert fault in row["findings"]
    assert words_of(row) == [*MISBEHAVED[fault]]
    assert len(server.asked) == 4 + SAMPLES - 1
    assert row["usage"]["completion_tokens"] == 5 * len(server.asked)
    assert fault in caught(magpie)
    recorded, afresh = counted(magpie)
    assert recorded[fault] == 1
    assert fault in afresh


@pytest.mark.parametrize("fault", HARD)
def test_a_writer_that_misbehaves_once_is_mended(
    fault: str, tmp_path: Path, magpie: Magpie, server: ChatServer
) -> None:
    """Another sample is good: the row has no finding, and the run says that it was sampled."""
    bad, good = MISBEHAVED[fault], [*MISBEHAVED[fault]]
    place = next(n for n, text in enumerate(bad) if text != GOOD[n])
    if fault == "farewell":  # its first goodbye is none too many
        place = 3
    good[place] = GOOD[place]
    server.faults = iter([*repeat(writes(good), place), writes(bad), *repeat(writes(good), 5)])
    done = magpie(*command(tmp_path, server, "--log-format", "json"))
    [row] = rows_of(tmp_path / "out.jsonl")
    assert (row["findings"], words_of(row)) == ([], good)
    assert len(server.asked) == 5
    assert row["usage"]["completion_tokens"] == 5 * 5
    end = json.loads(done.stderr.splitlines()[-1])
    assert (end["sampled_again"], end["findings"]) == (1, {})
    assert "1 utterance sampled again" in end["message"]
    assert caught(magpie) == []


@pytest.mark.parametrize("fault", MENDED)
def test_what_can_be_mended_is_not_asked_again(
    fault: str, tmp_path: Path, magpie: Magpie, server: ChatServer
) -> None:
    """A label or the other's words come off, which the row names, and filter lets pass."""
    server.faults = repeat(writes(MISBEHAVED[fault]))
    row = made(tmp_path, magpie, server)
    assert row["findings"] == [MENDED[fault]]
    assert words_of(row)[:3] == [*GOOD[:3]]
    assert words_of(row)[3].startswith("By the stamp")
    assert not any(name in words_of(row)[3] for name in ("User", "Assistant", "Responder"))
    assert len(server.asked) == 4
    assert caught(magpie) == []
    assert caught(magpie, "--check", MENDED[fault]) == [MENDED[fault]]
    assert counted(magpie) == ({MENDED[fault]: 1}, set())


def test_what_was_cut_off_with_the_others_words_is_not_missed(
    tmp_path: Path, magpie: Magpie, server: ChatServer
) -> None:
    """The limit of tokens came in words that nobody wants: the utterance is whole without them."""
    server.faults = repeat(writes((*GOOD[:3], "By the stamp\n\nUser: And then the"), "length"))
    row = made(tmp_path, magpie, server)
    assert (words_of(row)[3], row["findings"]) == ("By the stamp", ["cut_at_other"])


def test_the_other_hears_what_was_mended(
    tmp_path: Path, magpie: Magpie, server: ChatServer
) -> None:
    """The messages that follow hold the words as the row does."""
    texts = (f"Instructor: {GOOD[0]}\n\nAssistant: In the drawer.", *GOOD[1:])
    server.faults = repeat(writes(texts))
    row = made(tmp_path, magpie, server)
    assert row["findings"] == ["label_stripped", "cut_at_other"]
    assert words_of(row) == [*GOOD]
    assert server.asked[1].body["messages"][-1] == {"role": "user", "content": GOOD[0]}


def test_flattery_is_named_and_no_more(tmp_path: Path, magpie: Magpie, server: ChatServer) -> None:
    """A soft finding stands in the row; it costs no other sample, and filter lets it pass."""
    server.faults = repeat(writes(MISBEHAVED["sycophantic_opening"]))
    row = made(tmp_path, magpie, server)
    assert row["findings"] == ["sycophantic_opening"]
    assert len(server.asked) == 4
    assert caught(magpie) == []
    assert counted(magpie) == ({"sycophantic_opening": 1}, {"sycophantic_opening"})


def test_an_answer_that_is_always_cut_off_is_named(
    tmp_path: Path, magpie: Magpie, server: ChatServer
) -> None:
    """Only the run can know it: stats counts it in the row, and filter takes the row's word."""
    cut = [text.rstrip("?.") for text in GOOD]
    server.faults = repeat(writes(cut, "length"))
    row = made(tmp_path, magpie, server)
    assert row["findings"] == ["truncated"]
    assert len(server.asked) == 4 * SAMPLES
    assert caught(magpie) == ["truncated"]
    assert counted(magpie) == ({"truncated": 1}, set())


def test_a_language_that_was_not_asked_for_is_named(
    tmp_path: Path, magpie: Magpie, server: ChatServer
) -> None:
    """The column `language` of the pair says which was."""
    server.faults = repeat(writes((*GOOD[:3], "По номеру: он стоит на каждом листе.")))
    ask = command(tmp_path, server)
    (tmp_path / "pairs.jsonl").write_text(json.dumps(PAIR | {"language": "en"}) + "\n")
    assert magpie(*ask).returncode == 0
    assert rows_of(tmp_path / "out.jsonl")[0]["findings"] == ["language"]
    assert caught(magpie) == ["language"]


def test_of_bad_samples_the_best_stays(tmp_path: Path, magpie: Magpie, server: ChatServer) -> None:
    """That with the fewest hard findings, wherever it came."""
    one = "As an AI language model, I have no drawers."
    two = "As an AI language model, a careful librarian with a cupboard of lost maps, I have none."
    last = [writes((*GOOD[:3], text)) for text in (two, one, two)]
    server.faults = iter([*repeat(writes(GOOD), 3), *last])
    row = made(tmp_path, magpie, server)
    assert (words_of(row)[3], row["findings"]) == (one, ["refusal"])


REFUSAL = MISBEHAVED["refusal"]


@pytest.mark.parametrize(
    ("flags", "asked"),
    [
        (["--on-finding", "keep"], 4),
        (["--resample", "0"], 4),
        (["--resample", "5"], 9),
        (["--temperature", "0"], 4),
    ],
    ids=["keep", "never again", "oftener", "the same each time"],
)
def test_how_often_is_up_to_the_user(
    flags: list[str], asked: int, tmp_path: Path, magpie: Magpie, server: ChatServer
) -> None:
    """The finding is named all the same."""
    server.faults = repeat(writes(REFUSAL))
    assert made(tmp_path, magpie, server, *flags)["findings"] == ["refusal"]
    assert len(server.asked) == asked


def test_findings_can_be_ignored(tmp_path: Path, magpie: Magpie, server: ChatServer) -> None:
    """Nothing is mended or looked for, and only the cut is named, which no one else can know."""
    label = "Responder: The map is in the north drawer, by the window and the"
    server.faults = iter([None, says(answer(label, "length")), None, None])
    row = made(tmp_path, magpie, server, "--on-finding", "ignore")
    assert words_of(row)[1] == label
    assert row["findings"] == ["truncated"]
    assert len(server.asked) == 4


@pytest.mark.parametrize("more", [[], ["--seed", "7"], ["--temperature", "0"]])
def test_a_pair_can_fail_by_its_finding(
    more: list[str], tmp_path: Path, magpie: Magpie, server: ChatServer
) -> None:
    """The check names the kind. Another try may pass, but with a seed, or at temperature 0."""
    server.faults = repeat(writes(REFUSAL))
    ask = command(tmp_path, server, "--on-finding", "fail", *more)
    assert magpie(*ask).returncode == 3
    [failure] = rows_of(tmp_path / "out.failures.jsonl")
    assert (failure["kind"], failure["transient"]) == ("refusal", not more)
    assert failure["attempts"] == (1 if "0" in more else SAMPLES)
    assert "utterance 4, the responder's: a model that will not" in failure["message"]
    kinds = json.loads(magpie("stats", "out.jsonl", "--json").stdout)["failures"]
    assert kinds == {"refusal": 1}
    server.faults = repeat(writes(GOOD))
    assert magpie(*ask).returncode == 0 or more
    assert (rows_of(tmp_path / "out.jsonl") == []) == bool(more)


def test_each_sample_has_a_seed_of_its_own(
    tmp_path: Path, magpie: Magpie, server: ChatServer
) -> None:
    """No two of a dialogue are the same, and the same run gives the same ones."""
    flipped = [FLIPPED] * 4
    runs = []
    for fresh in ([], ["--fresh"]):
        server.asked.clear()
        server.faults = repeat(writes(flipped))
        made(tmp_path, magpie, server, "--seed", "7", "--resample", "10", *fresh)
        runs.append([asked.body["seed"] for asked in server.asked])
    assert runs[0] == runs[1]
    assert len(set(runs[0])) == len(runs[0]) > 2 * 10
    assert max(runs[0]) < 2**31


def test_goodbye_for_ever_is_named_and_trimmed(
    tmp_path: Path, magpie: Magpie, server: ChatServer
) -> None:
    """The row keeps its turns; `filter --trim` leaves those before, and says so in the row."""
    bye = ("Thank you so much, goodbye!", "You're welcome. Goodbye, take care!")
    server.faults = repeat(writes((*GOOD, *bye, *bye)))
    assert magpie(*command(tmp_path, server, turns=4)).returncode == 0
    [row] = rows_of(tmp_path / "out.jsonl")
    assert row["num_turns"] == 4
    assert "farewell" in row["findings"]
    assert magpie("verify", "out.jsonl", "--input", "pairs.jsonl").returncode == 0
    assert "farewell" in caught(magpie)
    assert caught(magpie, "--trim") == []
    [clean] = rows_of(tmp_path / "clean.jsonl")
    trimmed = {"num_turns": 2, "dialogue": row["dialogue"][:4], "findings": ["courtesies_trimmed"]}
    assert clean == row | trimmed
    assert caught(magpie, "--trim", "--where", "num_turns > 2") == ["where: num_turns > 2"]


REFUSED = {
    "--resample 1 --engine echo": "nobody checks",
    "--on-finding fail --devnet": "nobody checks",
    "--resample 1 --engine dria": "samples no utterance again",
    "--on-finding resample --engine dria": "samples no utterance again",
    "--on-finding keep --engine dria": "samples no utterance again",
    "--on-finding keep --resample 1 --engine ollama": "samples nothing again",
    "--on-finding ignore --resample 1 --engine ollama": "samples nothing again",
    "--temperature 0 --resample 1 --engine ollama": "says the same",
}


@pytest.mark.parametrize("flags", REFUSED)
def test_a_flag_that_would_do_nothing_is_refused(
    flags: str, tmp_path: Path, magpie: Magpie, server: ChatServer
) -> None:
    """With what to type instead, before anybody is asked."""
    command(tmp_path, server)
    done = magpie("generate", "pairs.jsonl", *flags.split())
    assert done.returncode == 2
    assert REFUSED[flags] in done.stderr
    assert "hint: leave out" in done.stderr


def test_an_output_belongs_to_what_was_done_about_findings(
    tmp_path: Path, magpie: Magpie, server: ChatServer
) -> None:
    """What is usual, said aloud, goes on with an older output; all else is named."""
    assert {"resample", "on_finding"}.isdisjoint(Settings("-").identity("a", "b", "c"))
    made(tmp_path, magpie, server)
    made(tmp_path, magpie, server, "--resample", "2", "--on-finding", "resample")
    other = magpie(*command(tmp_path, server, "--on-finding", "keep", "--resample", "0"))
    assert other.returncode == 2
    assert "on_finding: not set -> keep" in other.stderr
    assert "resample: not set -> 0" in other.stderr


def test_what_was_mended_and_thought_outlives_a_kill(
    tmp_path: Path, magpie: Magpie, server: ChatServer
) -> None:
    """I4: after kill -9 the row is that of a quiet run, byte for byte, the paid samples too."""
    refusing = MISBEHAVED["refusal"][3]
    first = f"<think>Where to begin?</think>Instructor: {GOOD[0]}"
    said = writes((first, refusing, *GOOD[2:]))
    server.faults = repeat(said)
    made(tmp_path, magpie, server)
    quiet = (tmp_path / "out.jsonl").read_bytes()
    assert json.loads(quiet)["findings"] == ["label_stripped", "refusal"]
    assert json.loads(quiet)["reasoning"] == ["Where to begin?", None, None, None]
    server.asked.clear()
    server.faults = iter([*repeat(said, 1 + SAMPLES + 1), hangs])
    with started(tmp_path, *command(tmp_path, server, "--fresh")) as process:
        wait_until(lambda: len(server.asked) == 1 + SAMPLES + 2, "the last is asked for")
        process.kill()
        assert process.wait() == -SIGKILL
    server.faults = repeat(said)
    made(tmp_path, magpie, server)
    assert len(server.asked) == 1 + SAMPLES + 2 + 1
    assert (tmp_path / "out.jsonl").read_bytes() == quiet


class Whole:
    """An engine to which dialogues come at once."""

    name = "whole"

    def __init__(self, texts: Sequence[str], model: str = "tiny") -> None:
        self.model = model
        self._texts = texts

    async def dialogue(self, _: DialogueRequest) -> Dialogue:
        """The same each time."""
        return Dialogue.from_texts(self._texts, self.model)


REQUEST = DialogueRequest("a", PersonaPair("a", SCIENTIST, LIBRARIAN, 2, {}, 1, "{}"), 2)


@pytest.mark.parametrize("fault", MISBEHAVED)
async def test_a_whole_dialogue_is_checked_when_it_is_there(fault: str) -> None:
    """Its findings are named, its words stay as they are; placeholder text is nobody's business."""
    engine = Whole(MISBEHAVED[fault])
    plain = await engine.dialogue(REQUEST)
    found = await CheckedEngine(engine, Demands()).dialogue(REQUEST)
    assert fault in found.findings
    assert replace(found, findings=()) == plain
    placeholder = Whole(MISBEHAVED[fault], ECHO)
    checked = CheckedEngine(placeholder, Demands(fails=True))
    assert (await checked.dialogue(REQUEST)).findings == ()


async def test_a_whole_dialogue_can_fail_by_its_finding() -> None:
    """Another one may pass; a soft finding fails nobody."""
    with pytest.raises(Transient, match="utterance 4") as failed:
        await CheckedEngine(Whole(REFUSAL), Demands(fails=True)).dialogue(REQUEST)
    assert failed.value.kind == "refusal"
    soft = CheckedEngine(Whole(MISBEHAVED["sycophantic_opening"]), Demands(fails=True))
    assert (await soft.dialogue(REQUEST)).findings == ("sycophantic_opening",)


def test_a_writer_without_words_is_an_empty_reply(
    tmp_path: Path, magpie: Magpie, server: ChatServer
) -> None:
    """No sample is spent on it: a request that brings nothing is tried again as before."""
    server.faults = iter([says(answer(" \n"))])
    assert made(tmp_path, magpie, server)["findings"] == []
    assert len(server.asked) == 5
