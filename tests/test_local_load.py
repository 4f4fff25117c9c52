"""What the local engine takes of the machine: slots, context, threads and memory."""

import os
from pathlib import Path
from typing import Any

import pytest

from magpie_cli.engines.local import check_memory, plan_load
from magpie_cli.engines.local.memory import Cgroup, available, needed
from magpie_cli.engines.local.process import Load
from magpie_cli.engines.local.tiny import write_tiny_model
from magpie_cli.errors import MagpieError, UsageError
from magpie_cli.models import CATALOGUE
from magpie_cli.settings import Settings

GB = 1_000_000_000
TOKEN = 128  # bytes in the cache of the tiny model


@pytest.fixture(scope="session")
def wide_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that takes 100,000 tokens."""
    path = tmp_path_factory.mktemp("wide") / "wide.gguf"
    write_tiny_model(path, context=100_000)
    return path


def grown(path: Path, folder: Path, size: int) -> Path:
    """A copy of so many bytes, nearly all of which take no place on the disk."""
    copy = folder / "grown.gguf"
    copy.write_bytes(path.read_bytes())
    os.truncate(copy, size)
    return copy


@pytest.mark.parametrize(
    ("flags", "concurrency", "slots"),
    [
        ({}, 2, 4),
        ({}, 4, 8),
        ({"concurrency": 1}, 4, 2),
        ({"concurrency": 3}, 4, 6),
        ({"concurrency": 16}, 4, 32),
        ({"concurrency": 17}, 4, 32),
        ({"concurrency": 256}, 4, 32),
    ],
)
def test_a_dialogue_has_two_slots(
    tiny_model: Path, flags: dict[str, Any], concurrency: int, slots: int
) -> None:
    """One for each view of it, by -j or what is usual here, and never more than 32."""
    load = plan_load(tiny_model, Settings("-", **flags), concurrency)
    assert (load.slots, load.context) == (slots, slots * 4096)


@pytest.mark.parametrize(
    ("flags", "context"),
    [
        pytest.param({}, 4096, id="the least"),
        pytest.param({"turns": 3}, 4096, id="still the least"),
        pytest.param({"turns": 10}, 1024 + 20 * 512, id="turns"),
        pytest.param({"turns": 10, "max_tokens": 500}, 1024 + 20 * 500, id="long utterances"),
        pytest.param({"turns": 10, "max_tokens": 10}, 4096, id="short utterances"),
        pytest.param({"turns": 1000}, 100_000, id="no more than the model takes"),
    ],
)
def test_a_slot_holds_a_whole_dialogue(
    wide_model: Path, flags: dict[str, Any], context: int
) -> None:
    """Its context grows with --turns and --max-tokens, up to what the model was made for."""
    load = plan_load(wide_model, Settings("-", **flags), concurrency=2)
    assert load.context == 4 * context


def test_a_model_of_small_context_gets_no_more(tmp_path: Path) -> None:
    """2,000 tokens of a model stay 2,000, though 4,096 are usual."""
    path = tmp_path / "narrow.gguf"
    write_tiny_model(path, context=2000)
    assert plan_load(path, Settings("-"), concurrency=1).context == 2 * 2000


def test_a_tiny_file_gets_one_thread(tmp_path: Path, tiny_model: Path) -> None:
    """A second one would make it slower; a file of some size gets all processors."""
    large = grown(tiny_model, tmp_path, 20_000_000)
    assert plan_load(tiny_model, Settings("-"), 1).threads == 1
    assert plan_load(large, Settings("-"), 1).threads == os.cpu_count()


def test_a_load_of_what_is_no_model_is_a_usage_error(tmp_path: Path) -> None:
    """Nothing is started for a file without a header."""
    path = tmp_path / "page.gguf"
    path.write_text("<html>")
    with pytest.raises(UsageError, match="is no GGUF model"):
        plan_load(path, Settings("-"), 1)


def test_the_memory_is_that_of_weights_and_cache(tmp_path: Path, tiny_model: Path) -> None:
    """1.7 x the file and the cache of all slots fit to the byte, and not one byte less."""
    load = Load(grown(tiny_model, tmp_path, GB), 4, 40_000, 1)
    need = GB * 17 // 10 + TOKEN * 40_000
    assert needed(GB, TOKEN, 40_000) == need
    check_memory("it", load, free=need)
    with pytest.raises(MagpieError, match=r"it needs 1\.71 GB of memory, and 1\.71 GB are free"):
        check_memory("it", load, free=need - 1)


@pytest.mark.parametrize(
    ("free", "best"),
    [
        (6 * GB, "gemma4:e2b"),
        (2 * GB, "gemma3:1b"),
        (GB, "smollm2:360m"),
        (GB // 10, None),
    ],
)
def test_a_model_that_does_not_fit_names_one_that_does(
    tmp_path: Path, tiny_model: Path, free: int, best: str | None
) -> None:
    """The largest of the catalogue that the free memory holds with some room for its cache."""
    load = Load(grown(tiny_model, tmp_path, 9 * GB), 4, 16_384, 1)
    with pytest.raises(MagpieError, match=r"needs 15\.3 GB of memory") as caught:
        check_memory("the model", load, free)
    hint = caught.value.hint or ""
    assert [name for name in CATALOGUE if f"--model {name} fits" in hint] == [best] * bool(best)
    assert "a smaller -j needs less" in hint
    assert "--base-url" in hint


def test_only_smaller_models_are_named(tmp_path: Path, tiny_model: Path) -> None:
    """Where the cache is what does not fit, a larger model is no way out."""
    load = Load(grown(tiny_model, tmp_path, 400_000_000), 32, 10**9, 1)
    with pytest.raises(MagpieError) as caught:
        check_memory("the model", load, free=50 * GB)
    assert "--model smollm2:360m fits" in (caught.value.hint or "")


def test_the_tiny_model_fits_here(tiny_model: Path) -> None:
    """What this machine has free is enough for it."""
    check_memory("tiny", plan_load(tiny_model, Settings("-"), 2), None)


def test_the_free_memory_is_the_kernels_word(tiny_model: Path) -> None:
    """It is something, and no more than all there is."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    total = int(next(line.split()[1] for line in lines if line.startswith("MemTotal"))) * 1024
    assert 0 < (available() or 0) < total
    assert tiny_model.stat().st_size < (available() or 0)


MEMINFO = "MemTotal: 9000 kB\nMemAvailable:    4000 kB\n"


@pytest.mark.parametrize(
    ("meminfo", "limit", "used", "cache", "free"),
    [
        (MEMINFO, "max", "1", "0", 4_096_000),
        (MEMINFO, "3000000", "1000000", "0", 2_000_000),
        (MEMINFO, "3000000", "1000000", "400000", 2_400_000),
        (MEMINFO, "1000", "5000", "0", 0),
        (MEMINFO, "9000000", "0", "0", 4_096_000),
        ("MemTotal: 9000 kB\n", "max", "1", "0", None),
    ],
)
def test_a_containers_limit_counts_and_its_page_cache_does_not(  # noqa: PLR0917 - a table
    tmp_path: Path, meminfo: str, limit: str, used: str, cache: str, free: int | None
) -> None:
    """What the machine has is cut to what the container may still take; files it read are free."""
    texts = {"meminfo": meminfo, "max": limit, "current": used}
    texts["stat"] = f"anon 5\ninactive_file {cache}\n"
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    group = Cgroup(tmp_path / "max", tmp_path / "current", tmp_path / "stat", "inactive_file")
    assert available(tmp_path / "meminfo", [group]) == free
    assert available(tmp_path / "no such file", [group]) is None
