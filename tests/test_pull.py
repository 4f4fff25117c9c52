"""`magpie pull` and `magpie models` as real processes: killed, doubled, on a terminal."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGKILL, SIGTERM, Signals

import pexpect  # type: ignore[import-untyped] # it ships no types
import pytest

from magpie_cli.display.download import DownloadLog, open_download
from magpie_cli.engines.local.tiny import write_tiny_model
from magpie_cli.models.catalogue import DEFAULT_MODEL
from tests.conftest import Magpie, clean_environment
from tests.golden import FOLDER
from tests.model_hub import (
    CONTENT,
    NAME,
    SHA256,
    SIZE,
    TOKEN,
    ModelHub,
    cuts,
    flips,
    hangs,
    holds,
    serves,
    slow,
)
from tests.processes import MAGPIE, PATIENCE, command_started, end, wait_for_words, wait_until


class Box:
    """A folder of its own to run in, with its cache, and the hub that it asks."""

    def __init__(self, folder: Path, hub: ModelHub) -> None:
        self.folder = folder
        self.hub = hub
        self.cache = folder / "cache" / "magpie" / "models"
        self.environment = hub.environment | {"XDG_CACHE_HOME": str(folder / "cache")}

    @property
    def command(self) -> list[str]:
        """`magpie pull`, with the environment it needs."""
        return ["env", *(f"{k}={v}" for k, v in self.environment.items()), *MAGPIE, "pull"]

    def files(self, ending: str) -> list[Path]:
        """What the cache holds of a kind."""
        there = self.cache.iterdir() if self.cache.exists() else ()
        return sorted(path for path in there if path.name.endswith(ending))

    def part_has(self, size: int) -> bool:
        """Whether so many bytes have arrived."""
        return any(path.stat().st_size >= size for path in self.files(".part"))


@pytest.fixture
def box(tmp_path: Path, hub: ModelHub) -> Box:
    """An empty cache, and a hub that is well."""
    return Box(tmp_path, hub)


def test_it_prints_the_path_and_says_what_it_did(box: Box, magpie: Magpie) -> None:
    """Stdout is the path alone; stderr says how large, under which licence, and how it went."""
    done = magpie("pull", NAME, **box.environment)
    assert done.returncode == 0
    path = Path(done.stdout.removesuffix("\n"))
    assert path.read_bytes() == CONTENT
    assert path.parent == box.cache
    first, last = done.stderr.splitlines()
    assert first == f"fetching {NAME}, 300 kB, licence small-1.0, from {NAME}"
    assert last == f"{NAME} is here, and its checksum is right"
    again = magpie("pull", NAME, **box.environment)
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert "it is here already" in again.stderr
    assert len(box.hub.fetched) == 1


def test_quiet_leaves_the_path_alone(box: Box, magpie: Magpie) -> None:
    """With -q a script gets the path and nothing else; errors are still said."""
    box.hub.faults = iter([cuts(1000)])
    done = magpie("pull", "small:q4_K", "-q", **box.environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()).read_bytes() == CONTENT
    wrong = magpie("pull", "small:none", "-q", **box.environment)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert len(wrong.stderr.splitlines()) == 2


def test_a_file_of_ones_own_is_nothing_to_fetch(box: Box, magpie: Magpie) -> None:
    """A path comes back as an absolute one, and a sentence says that it is here."""
    write_tiny_model(box.folder / "mine.gguf")
    done = magpie("pull", "mine.gguf", **box.environment)
    assert (done.returncode, done.stdout) == (0, f"{box.folder / 'mine.gguf'}\n")
    assert re.fullmatch(
        r"mine\.gguf \(\d+ kB\) is a model on this machine already: nothing to fetch\n", done.stderr
    )
    assert not box.cache.exists()
    assert box.hub.asked == []


@pytest.mark.parametrize("content", [b"", b"<html>", b"GGUF"], ids=["empty", "a page", "cut off"])
def test_a_file_of_ones_own_that_is_no_model_is_exit_2(
    box: Box, magpie: Magpie, content: bytes
) -> None:
    """Its header is looked at before anybody is told that it is a model."""
    (box.folder / "mine.gguf").write_bytes(content)
    done = magpie("pull", "mine.gguf", **box.environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert "mine.gguf is no GGUF model" in done.stderr


def test_without_a_name_it_is_the_default(box: Box, magpie: Magpie) -> None:
    """The one that the help names; a hub that has another file under its name is found out."""
    assert f"[default: {DEFAULT_MODEL}]" in " ".join((FOLDER / "pull.txt").read_text().split())
    box.environment["HF_ENDPOINT"] = "http://127.0.0.1:1"
    done = magpie("pull", **box.environment)
    assert done.returncode == 1
    assert f"fetching {DEFAULT_MODEL}, 1.12 GB, licence Apache-2.0" in done.stderr
    assert "error: nothing answers: " in done.stderr


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        (NAME, 1, "wrong checksum"),
        ("a b", 2, "is no name of a model"),
        ("none.gguf", 2, "there is no such file"),
        ("hf:owner/nobody/x.gguf", 2, "has no repository owner/nobody"),
    ],
)
def test_each_failure_is_two_lines_and_a_code(
    box: Box, magpie: Magpie, name: str, code: int, words: str
) -> None:
    """What happened, and what to type; no traceback and no file."""
    box.hub.faults = iter([flips])
    done = magpie("pull", name, **box.environment)
    assert (done.returncode, done.stdout) == (code, "")
    error, hint = done.stderr.splitlines()[-2:]
    assert error.startswith("error: ")
    assert words in error
    assert hint.startswith("hint: ")
    assert box.files("") == []


def test_kill_9_in_the_middle_costs_nothing(box: Box, magpie: Magpie) -> None:
    """The same command asks for the rest alone; until then nothing has the final name."""
    box.hub.faults = iter([holds(100_000)])
    with command_started(box.folder, *box.command, NAME) as process:
        wait_until(lambda: box.part_has(100_000), "100,000 bytes are there")
        process.kill()
        assert process.wait(PATIENCE) == -SIGKILL
    assert box.files(".gguf") == []
    done = magpie("pull", NAME, **box.environment)
    assert done.returncode == 0
    assert [each.range for each in box.hub.fetched] == [None, "bytes=100000-"]
    assert Path(done.stdout.strip()).read_bytes() == CONTENT
    assert len(box.files("")) == 2


@pytest.mark.parametrize("number", [SIGINT, SIGTERM, SIGHUP])
def test_a_signal_ends_it_and_keeps_the_part(box: Box, number: Signals) -> None:
    """It dies by the signal, with one sentence and no traceback."""
    box.hub.faults = iter([holds(100_000)])
    with command_started(box.folder, *box.command, NAME) as process:
        wait_until(lambda: box.part_has(100_000), "100,000 bytes are there")
        process.send_signal(number)
        code, said = end(process)
    assert code == -number
    assert said.splitlines()[-1] == (
        f"stopped by {number.name}; the same command goes on where it stopped"
    )
    assert "Traceback" not in said
    assert box.files(".part")[0].read_bytes() == CONTENT[:100_000]
    assert box.files(".gguf") == []


def test_a_signal_ends_it_before_anything_answers(box: Box) -> None:
    """A hub that says nothing does not hold back Ctrl-C."""
    box.hub.hub_faults = iter([hangs])
    with command_started(box.folder, *box.command, NAME) as process:
        wait_until(lambda: box.hub.asked, "the hub is asked")
        process.send_signal(SIGINT)
        code, said = end(process)
    assert code == -SIGINT
    assert "Traceback" not in said


def test_a_signal_that_was_ignored_stays_ignored(box: Box) -> None:
    """Under nohup a closed terminal does not end it."""
    box.hub.faults = iter([holds(100_000)])
    shell = 'trap "" HUP; exec "$@"'
    with command_started(box.folder, "sh", "-c", shell, "sh", *box.command, NAME) as process:
        wait_until(lambda: box.part_has(100_000), "100,000 bytes are there")
        process.send_signal(SIGHUP)
        box.hub.release()
        code, _ = end(process)
    assert code == 0
    assert box.files(".gguf")[0].read_bytes() == CONTENT


def test_a_second_start_waits_for_the_first(box: Box) -> None:
    """Two at once fetch it once, and both print its path."""
    box.hub.faults = iter([holds(100_000)])
    with command_started(box.folder, *box.command, NAME) as first:
        wait_until(lambda: box.part_has(100_000), "100,000 bytes are there")
        with command_started(box.folder, *box.command, NAME) as second:
            wait_for_words(second, "another magpie is fetching it: waiting for that")
            box.hub.release()
            assert end(first)[0] == end(second)[0] == 0
            assert first.stdout
            assert second.stdout
            assert first.stdout.read() == second.stdout.read() != b""
    assert len(box.hub.fetched) == 1
    assert len(box.files("")) == 2


def test_a_second_start_goes_on_where_the_first_was_killed(box: Box) -> None:
    """Whoever waits takes over, and asks for the rest alone."""
    box.hub.faults = iter([holds(100_000), serves])
    with command_started(box.folder, *box.command, NAME) as first:
        wait_until(lambda: box.part_has(100_000), "100,000 bytes are there")
        with command_started(box.folder, *box.command, NAME) as second:
            wait_for_words(second, "waiting for that")
            first.kill()
            assert end(second)[0] == 0
    assert box.hub.fetched[-1].range == "bytes=100000-"
    assert box.files(".gguf")[0].read_bytes() == CONTENT


def test_a_disk_that_fills_up_is_one_sentence(box: Box, magpie: Magpie) -> None:
    """What fits stays, and with more room the same command goes on."""
    shell = 'ulimit -f 100; exec "$@"'
    with command_started(box.folder, "bash", "-c", shell, "bash", *box.command, NAME) as process:
        code, said = end(process)
    assert code == 1
    error, hint = said.splitlines()[-2:]
    assert re.fullmatch(r"error: .*\.gguf\.part cannot be written: File too large", error)
    assert "XDG_CACHE_HOME" in hint
    assert box.files(".part")[0].stat().st_size == 100 * 1024
    assert magpie("pull", NAME, **box.environment).returncode == 0
    assert box.hub.fetched[-1].range == "bytes=102400-"


def test_the_token_is_in_no_file_and_on_no_screen(box: Box, magpie: Magpie) -> None:
    """Neither where it is accepted nor where it is refused."""
    box.hub.token = TOKEN
    right = magpie("pull", NAME, HF_TOKEN=TOKEN, **box.environment)
    wrong = magpie("pull", f"{NAME}@refs/pr/1", HF_TOKEN=f"{TOKEN}x", **box.environment)
    assert (right.returncode, wrong.returncode) == (0, 1)
    shown = right.stdout + right.stderr + wrong.stdout + wrong.stderr
    kept = b"".join(path.read_bytes() for path in box.folder.rglob("*") if path.is_file())
    assert TOKEN not in shown
    assert TOKEN.encode() not in kept
    assert "Authorization" not in box.hub.fetched[0].headers


def show(box: Box, *arguments: str, columns: int = 100, **environment: str) -> str:
    """All that `magpie pull` sends to a terminal."""
    child = pexpect.spawn(
        box.command[0],
        [*box.command[1:], *arguments],
        cwd=str(box.folder),
        env=clean_environment() | {"TERM": "xterm-256color"} | environment,
        dimensions=(30, columns),
        timeout=PATIENCE,
    )
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    shown: bytes = child.before
    return shown.decode()


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_terminal_gets_a_bar(box: Box, columns: int) -> None:
    """Bytes, speed and time left in one line of it; the cursor comes back; the path is last."""
    box.hub.faults = iter([slow(3, 0.3)])
    shown = show(box, NAME, columns=columns)
    assert "\x1b[?25h" in shown[shown.rindex("\x1b[?25l") :]
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", plain)]
    frames = [line for line in lines if "━" in line]
    assert frames
    assert max(map(len, frames)) <= columns - 4
    if columns > 40:
        assert any(re.search(r" kB of 300 kB, .*B/s, 0:00:0\d left", each) for each in frames)
    assert "/magpie/models/owner-small-gguf-small-q4-" in "".join(lines[-3:])


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(box: Box) -> None:
    """With TERM=dumb there is no bar and no escape code."""
    shown = show(box, NAME, TERM="dumb")
    assert "\x1b" not in shown
    assert "its checksum is right" in shown


def test_control_characters_of_a_licence_stay_off_the_terminal(box: Box, magpie: Magpie) -> None:
    """What a registry says is shown without what could steer the screen."""
    licence = b"\x1b]0;owned\x07 licence [/red]\n"
    box.hub.layers = [
        {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{SHA256}"}
        | {"size": SIZE},
        {"mediaType": "application/vnd.ollama.image.license", "digest": f"sha256:{'0' * 64}"},
    ]
    box.hub.licence = licence
    shown = show(box, "small:q4_K", NO_COLOR="1")
    assert "owned" in shown
    assert "\x1b]" not in shown
    assert "\x07" not in shown
    listed = magpie("models", **box.environment).stdout
    assert "owned" in listed
    assert "\x1b" not in listed


def test_a_log_says_once_a_minute_how_far_it_is() -> None:
    """Off a terminal, between the sentences, without a single escape code."""
    stream, now = io.StringIO(), 0.0
    log = DownloadLog(stream, lambda: now)
    for second in range(130):
        now = float(second)
        log.progress(second * 1_000_000, 500_000_000)
    log.progress(130_000_000, None)
    log.say("two\nlines \x1b[31m")
    assert stream.getvalue().splitlines() == [
        "60 MB of 500 MB",
        "120 MB of 500 MB",
        "two lines \N{REPLACEMENT CHARACTER}[31m",
    ]


def test_nobody_has_to_listen() -> None:
    """A stream that is closed does not end the download."""
    stream = io.StringIO()
    with open_download(quiet=False, stream=stream) as display:
        stream.close()
        display.say("words")
        display.progress(1, 2)


def test_models_lists_the_catalogue_and_the_cache(box: Box, magpie: Magpie) -> None:
    """What is here, what is here in part, what could be; in words and as JSON."""
    assert not box.cache.exists()
    before = json.loads(magpie("models", "--json", **box.environment).stdout)
    assert DEFAULT_MODEL in [line["name"] for line in before]
    assert {line["place"] for line in before} == {"not here"}
    assert not box.cache.exists()
    path = magpie("pull", "small:q4_K", **box.environment).stdout.strip()
    default = next(line for line in before if line["name"] == DEFAULT_MODEL)
    Path(f"{default['path']}.part").write_bytes(b"GGUF")
    (box.cache / "copied.gguf").write_bytes(b"GGUF+")
    (box.cache / "unrelated.txt").write_text("x")
    lines = {
        line["name"]: line
        for line in json.loads(magpie("models", "--json", **box.environment).stdout)
    }
    assert len(lines) == len(before) + 2
    small = lines["small:q4_K"]
    assert (small["place"], small["size"], small["path"]) == ("here", SIZE, path)
    assert small["licence"] == "Small Licence 1.0"
    assert (lines[DEFAULT_MODEL]["place"], lines[DEFAULT_MODEL]["there"]) == ("in part", 4)
    assert (lines["copied.gguf"]["place"], lines["copied.gguf"]["licence"]) == ("here", None)
    words = magpie("models", **box.environment).stdout
    resumed = "; magpie pull qwen2.5:1.5b goes on"
    for line in (
        f"small:q4_K +300 kB +Small Licence 1.0 +here +{path}",
        rf"qwen2.5:1.5b +1.12 GB +Apache-2.0 +in part +4 bytes in /.*\.part{resumed}",
    ):
        assert re.search(f"^{line}$", words, re.MULTILINE)
    assert "magpie pull NAME" in words


@pytest.mark.parametrize("name", [NAME, "small:q4_K"])
def test_models_says_how_to_go_on_with_a_part(box: Box, magpie: Magpie, name: str) -> None:
    """A download that was killed is listed by the name that was typed, and that name resumes it."""
    box.hub.faults = iter([holds(100_000)])
    with command_started(box.folder, *box.command, name) as process:
        wait_until(lambda: box.part_has(100_000), "100,000 bytes are there")
        process.kill()
        process.wait(PATIENCE)
    listed = json.loads(magpie("models", "--json", **box.environment).stdout)
    [part] = [line for line in listed if line["place"] == "in part"]
    assert (part["name"], part["resume"], part["there"]) == (name, name, 100_000)
    assert f"; magpie pull {name} goes on\n" in magpie("models", **box.environment).stdout
    assert magpie("pull", part["resume"], **box.environment).returncode == 0
    assert box.hub.fetched[-1].range == "bytes=100000-"
    after = json.loads(magpie("models", "--json", **box.environment).stdout)
    assert {line["resume"] for line in after} == {None}


def test_a_cache_that_cannot_be_read_is_named(box: Box, magpie: Magpie) -> None:
    """A file where the folder should be is an error, not an empty list."""
    box.cache.parent.mkdir(parents=True)
    box.cache.write_text("")
    done = magpie("models", **box.environment)
    assert done.returncode == 1
    assert f"{box.cache} cannot be read" in done.stderr


def test_listing_models_loads_no_http_client() -> None:
    """`magpie models` is as light as what it does."""
    program = (
        "import sys; sys.argv = ['magpie', 'models']\n"
        "from magpie_cli.cli import main\n"
        "try: main()\n"
        "except SystemExit: print('aiohttp' in sys.modules, 'rich' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=clean_environment() | {"HOME": os.devnull},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "False False"


@pytest.mark.parametrize(("words", "expected"), [("magpie pull qwen2.5", "qwen2.5")])
def test_shells_complete_names(magpie: Magpie, words: str, expected: str) -> None:
    """Completion knows the catalogue."""
    done = magpie(
        _MAGPIE_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(words.count(" "))
    )
    assert any(line.startswith(expected) for line in done.stdout.split())
