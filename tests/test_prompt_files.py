"""`--prompts DIR` and `--system`: the user's own words, checked before anything is asked."""

import json
from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from magpie_cli.errors import UsageError
from magpie_cli.prompt_files import copy_prompts, read_prompts
from magpie_cli.prompts import own_prompts
from tests.chat_server import ChatServer, hangs
from tests.conftest import PAIR, Magpie, rows_of
from tests.processes import started, wait_until

Pairs = Callable[..., Path]

FILES = {
    "instructor.md": "You are {instructor_persona}. Ask about {topic}.",
    "responder.md": "You are {responding_persona}, for {num_turns} turns.",
    "opener.md": 'Begin. Not as {"a": {}}, please.',
}


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder of prompts that name the column `topic`."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(f"\n{text}\n")
    return folder


@pytest.mark.parametrize("flag", ["--system", "--model", "--failures"])
def test_what_is_no_text_is_refused(flag: str, magpie: Magpie, pairs: Pairs) -> None:
    """Neither a file nor a request could hold it."""
    done = magpie("generate", pairs(1), "-o", "out.jsonl", flag, "caf\udce9")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {flag[2:]} 'caf\\udce9' is not UTF-8\n")
    assert not Path("out.jsonl").exists()


def write(path: Path, *rows: dict[str, Any]) -> Path:
    """An input of these pairs."""
    path.write_text("".join(json.dumps(PAIR | row) + "\n" for row in rows))
    return path


def messages_of(server: ChatServer) -> list[list[str]]:
    """The contents of each request."""
    return [[m["content"] for m in asked.body["messages"]] for asked in server.asked]


def test_a_copy_says_the_same(tmp_path: Path) -> None:
    """Files that nobody has changed yet are magpie's own prompts, and the same identity."""
    paths = copy_prompts(str(tmp_path / "new" / "mine"))
    assert [path.name for path in paths] == list(FILES)
    read = read_prompts(str(tmp_path / "new" / "mine"), None)
    assert (read, read.digest()) == (own_prompts(), own_prompts().digest())
    assert own_prompts().identity() == {}
    with pytest.raises(UsageError, match="there already"):
        copy_prompts(str(tmp_path / "new" / "mine"))


def test_files_are_read_as_people_save_them(mine: Path) -> None:
    """A byte order mark, CRLF and blank lines around the text do not matter; braces stay."""
    (mine / "responder.md").write_bytes("\ufeff\r\nÜ {responding_persona}\r\n".encode())
    prompts = read_prompts(str(mine), None)
    assert prompts.responder == "Ü {responding_persona}"
    assert prompts.opener == FILES["opener.md"]
    assert prompts.columns == {"topic": "instructor.md"}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("opener.md", None, "opener.md is not there"),
        ("opener.md", b" \n", "opener.md is empty"),
        ("responder.md", b"caf\xe9 {responding_persona}", "responder.md is not UTF-8: byte 4"),
        ("responder.md", b"You are {instructor_persona}", "{responding_persona} is not in it"),
        ("instructor.md", b"You are {responding_persona}", "{instructor_persona} is not in it"),
        ("instructor.md", b"You are { instructor_persona }", "{instructor_persona} is not in it"),
    ],
)
def test_a_folder_that_will_not_do_is_refused(  # noqa: PLR0917 - fixtures
    magpie: Magpie, pairs: Pairs, mine: Path, name: str, text: bytes | None, words: str
) -> None:
    """Exit 2 with the file, what is wrong with it and what to type, before anything is written."""
    (mine / name).unlink() if text is None else (mine / name).write_bytes(text)
    for more in ((), ("--dry-run",)):
        command = ("generate", pairs(1, topic="moths"), "--engine", "echo", "-o", "out.jsonl")
        done = magpie(*command, "--prompts", mine, *more)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr
        assert str(mine / name) in done.stderr
        assert "hint: " in done.stderr
        assert not (mine.parent / "out.jsonl").exists()


def test_a_folder_that_is_not_there_says_how_to_begin(magpie: Magpie, pairs: Pairs) -> None:
    """Exit 2 with the command that makes one."""
    done = magpie("generate", pairs(1), "--engine", "echo", "--prompts", "nowhere")
    assert done.returncode == 2
    assert "magpie prompts copy nowhere" in done.stderr


@pytest.mark.parametrize("way", ["file", "pipe", "strict pipe", "rehearsal"])
def test_a_slip_in_a_name_is_seen_before_the_first_request(
    tmp_path: Path, magpie: Magpie, server: ChatServer, mine: Path, way: str
) -> None:
    """A placeholder that is no column of the first pair is exit 2, with the names there are."""
    (mine / "opener.md").write_text("Speak of {tpoic}.")
    path = write(tmp_path / "pairs.jsonl", {"topic": "moths", "level": 2}, {"tpoic": "x"})
    source = "-" if "pipe" in way else path
    more = {"strict pipe": ("--strict",), "rehearsal": ("--dry-run",)}.get(way, ())
    flags = ("--prompts", mine, "-o", "out.jsonl", *more)
    command = ("generate", source, "--base-url", server.url, *flags)
    done = magpie(*command, stdin=path.read_text())
    assert (done.returncode, done.stdout) == (2, "")
    assert "{tpoic} in opener.md is neither built in nor a column of" in done.stderr
    assert "{instructor_persona}, {responding_persona} and {num_turns}" in done.stderr
    assert "columns of that line: {level}, {topic}" in done.stderr
    assert server.asked == []
    assert way == "pipe" or not (tmp_path / "out.jsonl").exists()
    (mine / "opener.md").write_text("Speak of {topic}.")
    good = path.read_text().splitlines()[0]
    assert magpie("generate", "-", *command[2:], stdin=good).returncode == 0


def test_columns_stand_in_prompts(
    tmp_path: Path, magpie: Magpie, server: ChatServer, mine: Path
) -> None:
    """Text as it is but for control tokens, numbers as they are written; later lines as the first.

    A line without the column, or with something else in it, is a failure that names it.
    """
    rows: tuple[dict[str, Any], ...] = (
        {"topic": "moths<|im_end|> {num_turns}"},
        *({"topic": value} for value in (7, 2.5, None, True, ["a"])),
        {"level": 1},
    )
    path = write(tmp_path / "pairs.jsonl", *rows)
    flags = ("--prompts", mine, "-o", "out.jsonl", "-j", "1")
    command = ("generate", path, "--base-url", server.url, *flags)
    done = magpie(*command)
    assert done.returncode == 3
    asked = [contents for contents in messages_of(server) if "Ask about" in contents[0]]
    topics = [contents[0].split("Ask about ")[1] for contents in asked]
    assert topics == ["moths< |im_end|> {num_turns}.", "7.", "2.5."]
    assert {contents[1] for contents in asked} == {FILES["opener.md"]}
    failures = rows_of(tmp_path / "out.failures.jsonl")
    kinds = ["bad_column"] * 3 + ["missing_column"]
    assert [(row["stage"], row["kind"]) for row in failures] == [("input", kind) for kind in kinds]
    assert all('"topic"' in row["message"] and "pairs.jsonl:" in row["message"] for row in failures)
    assert [row["metadata"] for row in rows_of(tmp_path / "out.jsonl")] == [*rows[:3]]
    assert "1 control token" in done.stderr
    verified = magpie("verify", "out.jsonl", "--input", path)
    assert verified.returncode == 0, verified.stdout
    again = magpie(*command)
    assert (again.returncode, len(server.asked)) == (3, 6)
    strict = magpie(*command, "--strict")
    assert strict.returncode == 2
    assert "(missing_column)" in strict.stderr


def test_a_pipe_whose_first_pair_has_the_columns_goes_on(
    tmp_path: Path, magpie: Magpie, mine: Path
) -> None:
    """Later lines without one are failures there too, also in the run that goes on."""
    path = write(tmp_path / "pairs.jsonl", {"topic": "a"}, {"level": 1}, {"topic": "b"})
    command = ("generate", "-", "--engine", "echo", "--prompts", mine, "-o", "out.jsonl")
    for _ in range(2):
        done = magpie(*command, stdin=path.read_text())
        assert done.returncode == 3, done.stderr
        assert len(rows_of(tmp_path / "out.jsonl")) == 2
        assert len(rows_of(tmp_path / "out.failures.jsonl")) == 1


def test_other_prompts_are_other_rows(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, mine: Path
) -> None:
    """An output is refused to changed files, another system line and other columns."""
    command = ("generate", pairs(1, topic="moths", level=1), "--engine", "echo", "-o", "out.jsonl")
    assert magpie(*command, "--prompts", mine).returncode == 0
    manifest = json.loads((tmp_path / "out.jsonl.magpie" / "manifest.json").read_bytes())
    assert manifest["identity"]["columns"] == ["topic"]
    for more, words in (
        (("--system", "Be brief."), "system: not set -> Be brief."),
        (("--system", "On {level}."), "columns: ['topic'] -> ['level', 'topic']"),
    ):
        done = magpie(*command, "--prompts", mine, *more)
        assert done.returncode == 2
        assert words in done.stderr
        assert magpie(*command, "--prompts", mine, *more, "--dry-run").returncode == 2
    (mine / "opener.md").write_text("Go.")
    done = magpie(*command, "--prompts", mine)
    assert done.returncode == 2
    assert "prompts: " in done.stderr


def test_a_key_in_a_system_line_is_not_written(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, server: ChatServer
) -> None:
    """It is sent, as it was asked for, and stands in no file; the same command goes on."""
    key = "sk-0123456789abcdef"
    command = ("generate", pairs(1), "--base-url", server.url, "-o", "out.jsonl")
    for more in ((), ("--dry-run",), ()):
        done = magpie(*command, "--system", f"The word is {key}.", *more, MAGPIE_API_KEY=key)
        assert done.returncode == 0, done.stderr
        assert key not in done.stdout + done.stderr
    assert key in messages_of(server)[1][0]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 3
    assert not any(key.encode() in path.read_bytes() for path in files)


def test_a_run_without_these_flags_is_who_it_was(
    tmp_path: Path, magpie: Magpie, pairs: Pairs
) -> None:
    """The manifest of a plain run holds the settings that it always held, and no new one."""
    assert magpie("generate", pairs(1), "--engine", "echo", "-o", "out.jsonl").returncode == 0
    identity = json.loads((tmp_path / "out.jsonl.magpie" / "manifest.json").read_bytes())[
        "identity"
    ]
    always = {"engine", "model", "turns", "shard", "prompts"}
    assert identity.keys() == always | {"temperature", "top_p", "max_tokens", "seed"}
    assert identity["turns"] == 1


def test_a_system_line_stands_in_front_of_the_responders_prompt(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, server: ChatServer
) -> None:
    """There alone, filled for each pair, and each row keeps what was sent."""
    flags = ("--system", "Answer in {language}, {num_turns} times.", "-o", "out.jsonl", "-j", "1")
    path = pairs(2, language="Latin", num_turns=2)
    assert magpie("generate", path, "--base-url", server.url, *flags).returncode == 0
    line = "Answer in Latin, 2 times."
    for contents, number in zip(messages_of(server), range(8), strict=True):
        assert contents[0].startswith(f"{line}\n\nYou speak as one person") == bool(number % 2)
        assert line not in "".join(contents[1:])
    rows = rows_of(tmp_path / "out.jsonl")
    assert [row["system"] for row in rows] == [line, line]
    assert list(rows[0])[3:6] == ["num_turns", "system", "dialogue"]


def test_a_system_line_may_come_from_a_file(tmp_path: Path, magpie: Magpie, pairs: Pairs) -> None:
    """`@FILE`; the text is what counts, wherever it comes from."""
    (tmp_path / "line.txt").write_text("Be brief.\n")
    command = ("generate", pairs(1), "--engine", "echo", "-o", "out.jsonl", "--system")
    assert magpie(*command, "@line.txt").returncode == 0
    assert magpie(*command, "Be brief.").returncode == 0
    assert [row["system"] for row in rows_of(tmp_path / "out.jsonl")] == ["Be brief."]
    for given, words in (
        ("@nowhere.txt", "nowhere.txt cannot be read"),
        (" ", "--system is empty"),
    ):
        done = magpie(*command, given)
        assert done.returncode == 2
        assert words in done.stderr


def test_without_a_system_line_each_row_says_null(
    tmp_path: Path, magpie: Magpie, pairs: Pairs
) -> None:
    """The key is in every row."""
    assert magpie("generate", pairs(3), "--engine", "echo", "-o", "out.jsonl").returncode == 0
    assert [row["system"] for row in rows_of(tmp_path / "out.jsonl")] == [None] * 3


def test_rows_and_utterances_of_before_are_gone_on_with(
    tmp_path: Path, magpie: Magpie, pairs: Pairs
) -> None:
    """An output whose rows have no `system` yet is read by all commands, and continued."""
    command = ("generate", pairs(4), "--engine", "echo", "-o", "out.jsonl")
    assert magpie(*command, "--limit", "2").returncode == 75
    output = tmp_path / "out.jsonl"
    output.write_bytes(output.read_bytes().replace(b'"system":null,', b""))
    assert magpie(*command).returncode == 0
    assert ["system" in row for row in rows_of(output)] == [False, False, True, True]
    assert magpie("verify", "out.jsonl", "--input", tmp_path / "pairs.jsonl").returncode == 0
    assert "4 rows" in magpie("filter", "out.jsonl", "-o", "clean.jsonl").stdout
    assert magpie("stats", "out.jsonl").returncode == 0


@pytest.mark.parametrize("topic", ["moths", "birds"])
def test_a_killed_run_goes_on_with_the_same_words(
    tmp_path: Path, magpie: Magpie, server: ChatServer, mine: Path, topic: str
) -> None:
    """Three of four utterances are there; they are used unless a column that is sent has changed.

    The line has an id of its own, so that only its words tell.
    """
    path = write(tmp_path / "pairs.jsonl", {"id": "a", "topic": "moths", "other": 1})
    flags = ("--prompts", mine, "--system", "Be brief.", "--turns", "2", "-o", "out.jsonl")
    command = ("generate", path, "--base-url", server.url, *flags)
    server.faults = chain(repeat(None, 3), [hangs])
    with started(tmp_path, *map(str, command)) as process:
        wait_until(lambda: len(server.asked) == 4, "the last request hangs")
        process.kill()
        assert process.wait() == -SIGKILL
    write(path, {"id": "a", "topic": topic, "other": 2})
    server.asked.clear()
    assert magpie(*command).returncode == 0
    assert len(server.asked) == (1 if topic == "moths" else 4)
    [row] = rows_of(tmp_path / "out.jsonl")
    assert (len(row["dialogue"]), row["system"]) == (4, "Be brief.")


def test_a_file_without_end_is_no_prompt() -> None:
    """No more than a model could read is read of it."""
    with pytest.raises(UsageError, match="over 1,048,576 bytes"):
        read_prompts(None, "@/dev/zero")
