"""`magpie generate --engine local` with a model that is not here yet, from a hub on loopback."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from signal import SIGINT

import pytest

from tests.conftest import Magpie, needs_llama, rows_of
from tests.model_hub import NAME, ModelHub, cuts, holds
from tests.processes import end, started, wait_until

pytestmark = needs_llama

Pairs = Callable[..., Path]

COMMAND = ("generate", "pairs.jsonl", "--engine", "local", "-m", NAME, "-o", "out.jsonl")


@pytest.fixture
def environment(tmp_path: Path, hub: ModelHub, tiny_model: Path) -> dict[str, str]:
    """What leads to a hub that has the tiny model, and to an empty cache."""
    hub.content = tiny_model.read_bytes()
    hub.size = len(hub.content)
    hub.sha256 = hashlib.sha256(hub.content).hexdigest()
    return hub.environment | {"XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_the_first_run_fetches_the_model(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, hub: ModelHub, environment: dict[str, str]
) -> None:
    """It says what, how large, under which licence and where to; the next run asks no hub."""
    pairs(2)
    first = magpie(*COMMAND, **environment)
    assert first.returncode == 0, first.stderr
    said = first.stderr.splitlines()
    much = f"{len(hub.content) / 1000:.0f} kB"
    what = f"fetching {NAME}, {much}, licence small-1.0, from {NAME} to "
    assert said[0].startswith(f"engine local (as named): {what}")
    assert said[0].endswith(".gguf")
    assert said[1].startswith(f"engine local (as named), model {NAME}: ")
    assert {row["model"] for row in rows_of(tmp_path / "out.jsonl")} == {NAME}
    asked = len(hub.asked)
    second = magpie(*COMMAND, "--fresh", **environment)
    assert second.returncode == 0
    assert "fetching" not in second.stderr
    assert len(hub.asked) == asked


def test_a_download_that_is_stopped_goes_on(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, hub: ModelHub, environment: dict[str, str]
) -> None:
    """SIGINT while the model comes ends magpie at once; the same command fetches the rest."""
    pairs(1)
    hub.faults = iter([holds(200_000)])
    with started(tmp_path, *COMMAND, **environment) as process:
        part = tmp_path / "cache" / "magpie" / "models"
        wait_until(lambda: any(p.stat().st_size for p in part.glob("*.part")), "some has come")
        process.send_signal(SIGINT)
        code, said = end(process)
    hub.release()
    assert code == -SIGINT
    assert "Traceback" not in said
    assert not (tmp_path / "out.jsonl").exists()
    assert magpie(*COMMAND, **environment).returncode == 0
    assert hub.fetched[-1].range
    assert len(rows_of(tmp_path / "out.jsonl")) == 1


def test_a_cut_download_is_mended(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, hub: ModelHub, environment: dict[str, str]
) -> None:
    """A connection that breaks in the middle costs nobody a second command."""
    pairs(1)
    hub.faults = iter([cuts(100_000)])
    done = magpie(*COMMAND, **environment)
    assert done.returncode == 0, done.stderr
    assert len(rows_of(tmp_path / "out.jsonl")) == 1


def test_more_than_4_gb_is_not_fetched_by_the_way(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, hub: ModelHub, environment: dict[str, str]
) -> None:
    """Exit 2 with the command that fetches it, before a byte of it has come."""
    pairs(1)
    hub.size = 4_000_000_001
    done = magpie(*COMMAND, **environment)
    assert done.returncode == 2
    error, hint = done.stderr.splitlines()
    assert error.startswith(f"error: {NAME}, 4 GB, licence small-1.0, ")
    assert hint.startswith(f"hint: magpie pull {NAME}, and then the same command again")
    assert not hub.fetched
    assert not (tmp_path / "out.jsonl").exists()


def test_no_network_and_no_model_is_one_sentence(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, environment: dict[str, str]
) -> None:
    """Where nobody answers it says so and what to do; nothing stands in for the model."""
    pairs(1)
    done = magpie(*COMMAND, **environment | {"HF_ENDPOINT": "http://127.0.0.1:1"})
    assert done.returncode in {1, 75}
    *notes, error, hint = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert "nothing answers: 127.0.0.1" in error
    assert hint.startswith("hint: ")
    assert "--model FILE.gguf" in hint
    assert "--base-url URL" in hint
    assert "Traceback" not in done.stderr
    assert all(note.startswith("engine local (as named): ") for note in notes)
    assert not (tmp_path / "out.jsonl").exists()
