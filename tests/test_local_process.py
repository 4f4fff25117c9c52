"""`magpie generate --engine local` as real processes: who ends with whom, and what is said then."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGKILL, SIGTERM, Signals

import pexpect  # type: ignore[import-untyped] # it ships no types
import pytest

from tests.conftest import Magpie, clean_environment, needs_llama, rows_of
from tests.local_engine import children_of, is_alive, write_endless_model
from tests.processes import (
    MAGPIE,
    PATIENCE,
    command_started,
    end,
    killed_at,
    started,
    wait_for_row,
    wait_for_words,
    wait_until,
)

Pairs = Callable[..., Path]
Fake = Callable[[str], str]

LOCAL = ("generate", "pairs.jsonl", "--engine", "local", "-o", "out.jsonl")
LONG = ("--max-tokens", "200000")  # minutes, on a model without end
LOADS_FOR_LONG = """
import ctypes
def Server(parameters):
    open("loading", "w").close()
    ctypes.PyDLL(None).sleep(60)  # deaf: no thread of Python runs meanwhile
"""
PARAMETERS = """
from types import SimpleNamespace as Some
def CommonParams():
    return Some(model=Some(), cpuparams=Some(), cpuparams_batch=Some())
"""


@pytest.fixture
def fake_llama(tmp_path: Path) -> Fake:
    """Write a package `xllamacpp` with this code; what PYTHONPATH has to be for it."""

    def write(code: str) -> str:
        package = tmp_path / "fake" / "xllamacpp.py"
        package.parent.mkdir(exist_ok=True)
        package.write_text(PARAMETERS + code)
        return str(package.parent)

    return write


@pytest.fixture
def endless_model(tmp_path: Path) -> Path:
    """A file of a model that goes on until --max-tokens."""
    path = tmp_path / "endless.gguf"
    write_endless_model(path, context=500_000)
    return path


def only_child_of(process: subprocess.Popen[bytes]) -> int:
    """Its llama.cpp, once there is one."""
    wait_until(lambda: children_of(process.pid), "llama.cpp is started")
    [child] = children_of(process.pid)
    return child


def ids_of(folder: Path) -> set[str]:
    """The ids of all rows, each of which is there once."""
    ids = [row["id"] for row in rows_of(folder / "out.jsonl")]
    assert len(ids) == len(set(ids))
    return set(ids)


@needs_llama
def test_stdout_has_rows_alone(magpie: Magpie, pairs: Pairs, tiny_model: Path) -> None:
    """llama.cpp writes nothing on magpie's streams: rows here, two sentences there."""
    pairs(5)
    done = magpie("generate", "pairs.jsonl", "--engine", "local", "-m", tiny_model, "-t", "2")
    assert done.returncode == 0
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [len(row["dialogue"]) for row in rows] == [4] * 5
    start, last = done.stderr.splitlines()
    assert start.startswith("engine local")
    assert last.startswith("made 5 dialogues")


@needs_llama
def test_its_threads_do_not_spin(tmp_path: Path, pairs: Pairs, endless_model: Path) -> None:
    """llama.cpp waits with OMP_WAIT_POLICY=passive, whatever the user's environment says."""
    pairs(1)
    command = (*LOCAL, "-m", endless_model, *LONG)
    with started(tmp_path, *command, OMP_WAIT_POLICY="active") as process:
        wait_for_words(process, "engine local")
        environment = Path(f"/proc/{only_child_of(process)}/environ").read_bytes()
    assert b"OMP_WAIT_POLICY=passive" in environment.split(b"\0")


@needs_llama
def test_it_dies_with_its_parent(tmp_path: Path, pairs: Pairs, endless_model: Path) -> None:
    """Magpie's kill -9 ends a llama.cpp that is in the middle of its words."""
    pairs(4)
    with started(tmp_path, *LOCAL, "-m", endless_model, *LONG) as process:
        wait_for_words(process, "engine local")
        child = only_child_of(process)
        process.kill()
        process.wait(PATIENCE)
        wait_until(lambda: not is_alive(child), "llama.cpp has ended too")


@pytest.mark.parametrize("number", [SIGKILL, SIGTERM, SIGHUP, SIGINT])
def test_it_dies_with_its_parent_while_it_loads(
    tmp_path: Path, pairs: Pairs, tiny_model: Path, fake_llama: Fake, number: Signals
) -> None:
    """A model that takes minutes to load, and hears nothing, does not outlive magpie."""
    pairs(1)
    path = fake_llama(LOADS_FOR_LONG)
    with started(tmp_path, *LOCAL, "-m", tiny_model, PYTHONPATH=path) as process:
        wait_until((tmp_path / "loading").exists, "it loads")
        child = only_child_of(process)
        process.send_signal(number)
        code, said = end(process)
        wait_until(lambda: not is_alive(child), "llama.cpp has ended too")
    assert code == -number
    assert "Traceback" not in said
    assert not (tmp_path / "out.jsonl").exists()


@needs_llama
def test_ctrl_c_on_a_terminal_finishes_what_is_in_flight(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, tiny_model: Path
) -> None:
    """llama.cpp does not hear Ctrl-C: it answers until the drain ends, and then both are gone."""
    pairs(60)
    command = (*LOCAL, "-m", str(tiny_model), "-j", "3")
    terminal = pexpect.spawn(
        MAGPIE[0],
        [*MAGPIE[1:], *command],
        cwd=str(tmp_path),
        env=clean_environment() | {"TERM": "xterm-256color"},
        timeout=PATIENCE,
    )
    wait_for_row(tmp_path / "out.jsonl")
    [child] = children_of(terminal.pid)
    terminal.sendintr()
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.signalstatus == SIGINT
    assert b"finishing the dialogues in flight" in terminal.before
    assert b"llama.cpp" not in terminal.before
    assert not is_alive(child)
    assert 0 < len(ids_of(tmp_path)) < 60
    assert not (tmp_path / "out.failures.jsonl").exists()
    assert magpie(*command).returncode == 0
    assert len(ids_of(tmp_path)) == 60


@needs_llama
def test_the_second_signal_stops_both_at_once(
    tmp_path: Path, pairs: Pairs, endless_model: Path
) -> None:
    """Answers that have minutes to go hold back nobody who asks twice."""
    pairs(4)
    with started(tmp_path, *LOCAL, "-m", endless_model, *LONG) as process:
        wait_for_words(process, "engine local")
        child = only_child_of(process)
        process.send_signal(SIGINT)
        wait_for_words(process, "once more stops at once")
        process.send_signal(SIGINT)
        code, said = end(process)
    assert code == -SIGINT
    assert "Traceback" not in said
    assert not is_alive(child)


@needs_llama
def test_a_death_of_llama_is_no_failure_of_a_pair(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, tiny_model: Path
) -> None:
    """Killed as the kernel kills when memory is full: exit 1 with a way out, then it goes on."""
    pairs(60)
    command = (*LOCAL, "-m", tiny_model, "-j", "2")
    with started(tmp_path, *command) as process:
        wait_for_row(tmp_path / "out.jsonl")
        os.kill(only_child_of(process), SIGKILL)
        code, said = end(process)
    assert code == 1
    assert "llama.cpp was killed, most likely because the memory is full" in said
    assert "hint: a smaller --model (magpie models), a smaller -j" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out.failures.jsonl").exists()
    assert 0 < len(ids_of(tmp_path)) < 60
    assert magpie(*command).returncode == 0
    assert len(ids_of(tmp_path)) == 60


@needs_llama
def test_a_killed_run_goes_on(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, tiny_model: Path
) -> None:
    """After kill -9 in the middle, the same command makes each missing row once."""
    pairs(40)
    command = (*LOCAL, "-m", str(tiny_model), "--seed", "5", "-j", "2")
    assert killed_at(4_000, tmp_path, *command)
    assert len(ids_of(tmp_path)) < 40
    assert magpie(*command).returncode == 0
    assert len(ids_of(tmp_path)) == 40


@pytest.mark.parametrize(
    ("code", "sentence", "way_out"),
    [
        pytest.param(
            "raise ImportError('libgomp.so.1: cannot open shared object file')",
            "cannot load llama.cpp: libgomp.so.1: cannot open",
            "apt-get install libgomp1",
            id="libgomp",
        ),
        pytest.param(
            "raise ModuleNotFoundError(\"No module named 'xllamacpp'\")",
            "xllamacpp is not here: No module named 'xllamacpp'",
            "pip install xllamacpp",
            id="no package",
        ),
        pytest.param(
            "import os; os.kill(os.getpid(), 4)",
            "needs a processor with AVX2",
            "use another machine",
            id="SIGILL",
        ),
        pytest.param(
            "import os; Server = lambda _: os.kill(os.getpid(), 9)",
            "the memory is full",
            "a smaller --model",
            id="SIGKILL",
        ),
        pytest.param(
            "import os; Server = lambda _: os.abort()",
            "llama.cpp ended: ",
            "run it again",
            id="abort",
        ),
        pytest.param(
            "print('loading', flush=True); raise ImportError('libgomp.so.1 is not here')",
            "cannot load llama.cpp: libgomp.so.1 is not here",
            "apt-get install libgomp1",
            id="words on stdout",
        ),
        pytest.param(
            "raise OSError('a library is cut off')",
            "a library is cut off",
            "or another engine",
            id="another error",
        ),
    ],
)
def test_llama_that_cannot_start_is_one_sentence(  # noqa: PLR0917 - fixtures and a table
    tmp_path: Path,
    magpie: Magpie,
    pairs: Pairs,
    tiny_model: Path,
    fake_llama: Fake,
    code: str,
    sentence: str,
    way_out: str,
) -> None:
    """Whatever it dies of: exit 1, what happened, the way out, no traceback and no output."""
    pairs(1)
    done = magpie(*LOCAL, "-m", tiny_model, PYTHONPATH=fake_llama(code))
    assert done.returncode == 1
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert sentence in error
    assert hint.startswith("hint: ")
    assert way_out in hint
    assert not (tmp_path / "out.jsonl").exists()


@needs_llama
def test_it_runs_where_magpie_is_process_1(tmp_path: Path, pairs: Pairs, tiny_model: Path) -> None:
    """As the only command of a container, whose children have the parent 1 that orphans have."""
    pairs(2)
    alone = ("unshare", "--user", "--map-root-user", "--pid", "--fork")
    if not shutil.which("unshare") or subprocess.run([*alone, "true"], check=False).returncode:
        pytest.skip("no namespaces of processes here")
    with command_started(tmp_path, *alone, *MAGPIE, *LOCAL, "-m", tiny_model) as process:
        code, said = end(process)
    assert code == 0, said
    assert len(ids_of(tmp_path)) == 2
