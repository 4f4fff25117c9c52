"""What a person sees on a real terminal, and what must never reach it."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import pexpect  # type: ignore[import-untyped] # it ships no types
import pytest

from tests.chat_server import ChatServer, Fault, answer, refuses, says
from tests.conftest import PAIR, clean_environment
from tests.output_rows import MISBEHAVED, record, write_rows
from tests.processes import MAGPIE, PATIENCE

Pairs = Callable[..., Path]
Screen = Callable[..., bytes]

GENERATE = ("generate", "pairs.jsonl", "--engine", "echo", "--echo-delay", "0.02", "-j", "1")
COLOUR = re.compile(rb"\x1b\[[0-9;]*(?:3[0-8]|4[0-8]|9[0-7])[;m]")
BIDI = "\u202e\u202a\u2066\u2069"
HOSTILE = f"\x1b]0;owned\x07 \x9b31m \x7f [/red] {BIDI} \x1b[2J \x1bc \x85 \x90q\x9c \r forged"
CONTROLS = (
    *(b"\x1b]", b"\x1b[2J", b"\x1bc", b"\x07", b"\x7f", b"\r forged"),
    *(mark.encode() for mark in f"\x85\x90\x9b\x9c{BIDI}"),
)


@pytest.fixture
def screen(tmp_path: Path) -> Screen:
    """All that `magpie ARGUMENTS` sends to a terminal of `columns`, as bytes."""

    def show(*arguments: str, code: int = 0, columns: int = 100, **environment: str) -> bytes:
        child = pexpect.spawn(
            MAGPIE[0],
            [*MAGPIE[1:], *arguments],
            cwd=str(tmp_path),
            env=clean_environment() | {"TERM": "xterm-256color"} | environment,
            dimensions=(30, columns),
            timeout=PATIENCE,
        )
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == code
        shown: bytes = child.before
        return shown

    return show


def test_a_terminal_gets_a_bar_and_a_last_word(screen: Screen, pairs: Pairs) -> None:
    """The bar counts to the total; the last line names the output and what to type next."""
    pairs(4)
    shown = screen(*GENERATE, "-o", "out.jsonl")
    assert b"0/4" in shown
    assert b"4/4" in shown
    assert b"\x1b[?25l" in shown
    assert b"\x1b[?25h" in shown[shown.rindex(b"\x1b[?25l") :]
    assert COLOUR.search(shown)
    last = shown.split(b"\n")[-2].decode()
    assert "made 4 dialogues" in last
    assert "-> out.jsonl. Next: magpie status out.jsonl" in last


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_bar_fits_its_terminal(screen: Screen, pairs: Pairs, columns: int) -> None:
    """However wide the terminal, one line holds a bar and how much is done."""
    pairs(3)
    shown = screen(*GENERATE, "-o", "out.jsonl", columns=columns, NO_COLOR="1").decode()
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    frames = [line.rstrip() for line in re.split(r"\r|\n", plain) if "/3, " in line]
    assert any("━" in frame and "3/3, " in frame for frame in frames)
    assert max(map(len, frames)) <= columns - 4


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(screen: Screen, pairs: Pairs) -> None:
    """With TERM=dumb there is no bar and no escape code."""
    pairs(2)
    shown = screen(*GENERATE, "-o", "out.jsonl", TERM="dumb")
    assert b"\x1b" not in shown
    assert b"/2" not in shown
    assert b"made 2 dialogues" in shown


def test_no_color_is_respected(screen: Screen, pairs: Pairs) -> None:
    """With NO_COLOR the bar is there, and has no colour."""
    pairs(2)
    shown = screen(*GENERATE, "-o", "out.jsonl", NO_COLOR="1")
    assert b"2/2" in shown
    assert not COLOUR.search(shown)


def test_rows_on_the_terminal_are_not_torn_by_a_bar(screen: Screen, pairs: Pairs) -> None:
    """Where rows go to the terminal too, each stands on a line of its own, without a bar."""
    pairs(2)
    shown = screen(*GENERATE)
    assert b"\x1b" not in shown
    assert b"/2" not in shown
    rows = [json.loads(line) for line in shown.splitlines() if line.startswith(b"{")]
    assert len(rows) == 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param(GENERATE, 3, id="rows on the terminal"),
        pytest.param((*GENERATE, "-o", "out.jsonl"), 3, id="bar"),
        pytest.param((*GENERATE, "-o", "out.jsonl", "--log-format", "json"), 3, id="JSON log"),
        pytest.param((*GENERATE, "--strict"), 2, id="strict"),
        pytest.param((*GENERATE, "--dry-run"), 0, id="dry run"),
        pytest.param((*GENERATE, "-o", f"{HOSTILE[:9]}/out.jsonl"), 2, id="file name"),
        pytest.param((*GENERATE, "--progress", HOSTILE), 2, id="flag"),
    ],
)
def test_text_from_outside_never_steers_the_terminal(
    tmp_path: Path, screen: Screen, arguments: tuple[str, ...], code: int
) -> None:
    """Control bytes of a persona, an id, a bad line or a name do not arrive as control bytes."""
    lines = [
        {**PAIR, "instructor_persona": HOSTILE, "id": f"id {HOSTILE}", HOSTILE: HOSTILE},
        {**PAIR, "id": f"id {HOSTILE}"},
        {"instructor_persona": HOSTILE, HOSTILE: 1},
        {**PAIR, "num_turns": HOSTILE},
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (tmp_path / "pairs.jsonl").write_text(text + f'{{"{HOSTILE}"\n')
    shown = screen(*arguments, code=code)
    assert b"owned" in shown
    assert [control for control in CONTROLS if control in shown] == []


@pytest.mark.parametrize(
    "more",
    [
        pytest.param((), id="rows on the terminal"),
        pytest.param(("-o", "out.jsonl"), id="bar"),
        pytest.param(("-o", "out.jsonl", "--progress", "log"), id="log"),
        pytest.param(("-o", "out.jsonl", "--log-format", "json"), id="JSON log"),
    ],
)
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        pytest.param(refuses(400, HOSTILE, HOSTILE), 3, id="a refused pair"),
        pytest.param(refuses(401, HOSTILE), 1, id="a refused key"),
        pytest.param(refuses(503, HOSTILE, Retry_After="1"), 0, id="a busy server"),
        pytest.param(says(answer(HOSTILE)), 0, id="an utterance"),
    ],
)
def test_a_server_never_steers_the_terminal(
    screen: Screen,
    pairs: Pairs,
    server: ChatServer,
    *,
    more: tuple[str, ...],
    fault: Fault,
    code: int,
) -> None:
    """I12: what a server says, in errors as in answers, arrives as letters."""
    pairs(1)
    server.faults = repeat(fault) if code else iter([fault])
    command = ("generate", "pairs.jsonl", "--base-url", server.url, "--give-up-after", "3")
    shown = screen(*command, *more, code=code)
    assert not [control for control in CONTROLS if control in shown]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("verify", "out.jsonl", "--input", "pairs.jsonl"), 1),
        (("verify", "out.jsonl", "--json"), 1),
        (("repair", "out.jsonl"), 0),
        (("repair", "out.jsonl", "--yes"), 0),
        (("repair", "out.jsonl", "--json"), 0),
        (("verify", HOSTILE.replace("/", "")), 2),
        ((*GENERATE, "-o", "out.jsonl"), 1),
        ((*GENERATE, "-o", "out.jsonl", "--max-failures", HOSTILE), 2),
        ((*GENERATE, "-o", "out.jsonl", "--max-time", HOSTILE), 2),
        ((*GENERATE, "-o", "out.jsonl", "--retry-failed", HOSTILE), 2),
    ],
)
def test_an_output_never_steers_the_terminal(
    tmp_path: Path, screen: Screen, arguments: tuple[str, ...], code: int
) -> None:
    """I12: ids of damaged rows, names of files and flags arrive as letters."""
    line = {**PAIR, "id": f"id {HOSTILE}", "column": HOSTILE}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(line) + "\n")
    screen(*GENERATE, "-o", "out.jsonl", "-q")
    output = tmp_path / "out.jsonl"
    row = output.read_bytes()
    output.write_bytes(row + row + f'{{"{HOSTILE}"\n'.encode())
    manifest = tmp_path / "out.jsonl.magpie" / "manifest.json"
    size = f'"durable_output": {len(row)}'
    text = manifest.read_text()
    assert size in text
    manifest.write_text(text.replace(size, f'"durable_output": {output.stat().st_size}'))
    shown = screen(*arguments, code=code)
    assert not [control for control in CONTROLS if control in shown]
    assert b"Traceback" not in shown


def test_rows_are_measured_and_filtered_on_a_terminal(screen: Screen, tmp_path: Path) -> None:
    """Bars, and nothing of what rows say steers the terminal; NO_COLOR has no colour."""
    row = record("a", MISBEHAVED["farewell"], model=HOSTILE)
    hostile = replace(row, dialogue=replace(row.dialogue, model=HOSTILE))
    write_rows(tmp_path / "out.jsonl", [hostile])
    for command in (
        ("stats", "out.jsonl"),
        ("filter", "out.jsonl", "-o", "clean.jsonl"),
        ("filter", "out.jsonl", "--no-check", "all"),
    ):
        shown = screen(*command, NO_COLOR="1")
        assert not COLOUR.search(shown)
        assert not [control for control in CONTROLS if control in shown]
        assert "\u2588".encode() in shown
