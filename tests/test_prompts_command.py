"""`magpie prompts`: what is sent, shown without asking anybody."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chat_server import ChatServer
from tests.conftest import Magpie

Pairs = Callable[..., Path]


def test_it_shows_what_a_server_gets(magpie: Magpie, pairs: Pairs, server: ChatServer) -> None:
    """Of every turn and both speakers, word for word but for what is said in between."""
    path = pairs(2, topic="moths")
    flags = ("--turns", "3", "--system", "On {topic}, {num_turns} times.")
    sent = ("generate", path, "--base-url", server.url, "-j", "1", "--limit", "1")
    assert magpie(*sent, *flags).returncode == 75
    for turn in (1, 2, 3):
        shown = json.loads(
            magpie("prompts", "show", "--input", path, *flags, "--turn", f"{turn}", "--json").stdout
        )
        assert (shown["turn"], shown["num_turns"]) == (turn, 3)
        for offset, speaker in enumerate(("instructor", "responder")):
            messages = server.asked[2 * turn - 2 + offset].body["messages"]
            assert [m["role"] for m in shown[speaker]] == [m["role"] for m in messages]
            fixed = 2 - offset
            assert shown[speaker][:fixed] == messages[:fixed]
            assert all(m["content"].startswith("[the ") for m in shown[speaker][fixed:])


def test_it_is_plain_text_for_people(magpie: Magpie) -> None:
    """Without arguments, magpie's own prompts for an example, first turn of three."""
    done = magpie("prompts", "show")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("pair example, turn 1 of 3\n\n--- instructor, system ---\n")
    heads = [line for line in done.stdout.splitlines() if line.startswith("---")]
    speakers = ("instructor, system", "instructor, user", "responder, system", "responder, user")
    assert heads == [f"--- {speaker} ---" for speaker in speakers]
    assert "\x1b" not in done.stdout


def test_a_copy_is_shown_as_the_own(tmp_path: Path, magpie: Magpie) -> None:
    """`copy` names its files, `show DIR` shows them, with columns where they have some."""
    done = magpie("prompts", "copy", "mine")
    names = [f"mine/{name}.md" for name in ("instructor", "responder", "opener")]
    assert done.stdout.splitlines() == names
    assert magpie("prompts", "show", "mine").stdout == magpie("prompts", "show").stdout
    (tmp_path / "mine" / "opener.md").write_text("Speak of {topic}.")
    assert "Speak of [the column topic]." in magpie("prompts", "show", "mine").stdout
    again = magpie("prompts", "copy", "mine")
    assert again.returncode == 2
    assert "mine/instructor.md is there already" in again.stderr


def test_a_pair_is_found_by_its_id(magpie: Magpie, pairs: Pairs) -> None:
    """The first good line is the default, and a line that is none is passed over."""
    path = pairs(3)
    lines = path.read_text().splitlines()
    lines[2] = lines[2].replace("{", '{"id": "third", "num_turns": 7, ', 1)
    path.write_text("\n".join(["oops", *lines]))
    show = ("prompts", "show", "--input", path)
    assert "number 0" in magpie(*show).stdout
    third = magpie(*show, "--id", "third", "--turn", "7").stdout
    assert third.startswith("pair third, turn 7 of 7\n")
    assert "number 2" in third


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--turn", "4"), "has no turn 4: it has 3"),
        (("--id", "a"), "--id names a pair of a file"),
        (("--input", "pairs.jsonl", "--id", "nobody"), "there is no pair 'nobody' in pairs.jsonl"),
        (("--input", "bad.jsonl"), "there is no pair in bad.jsonl (bad.jsonl:1: not JSON"),
        (("--input", "nowhere.jsonl"), "nowhere.jsonl"),
        (("nowhere",), "magpie prompts copy nowhere"),
        (("--input", "pairs.jsonl", "--system", "{nothing}"), "{nothing} in --system is neither"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_shown_is_an_error(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, arguments: tuple[str, ...], words: str
) -> None:
    """Exit 2, with what to type instead."""
    pairs(1)
    (tmp_path / "bad.jsonl").write_text("oops\n")
    done = magpie("prompts", "show", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "hint: " in done.stderr
