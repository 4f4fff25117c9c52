"""What the local engine takes of the machine: slots, context, threads and memory."""

import os
from pathlib import Path
from typing import Any

import pytest

from magpie_cli.engine import processors
from magpie_cli.engines.local.load import Load, check_memory, check_room, plan_load
from magpie_cli.engines.local.memory import Cgroup, available, needed
from magpie_cli.engines.local.tiny import write_tiny_model
from magpie_cli.errors import MagpieError, UsageError
from magpie_cli.models import CATALOGUE, DEFAULT_MODEL, Wanted, find_model
from magpie_cli.settings import Settings, TurnRange

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
        pytest.param({"turns": TurnRange(3, 3)}, 4096, id="still the least"),
        pytest.param({"turns": TurnRange(10, 10)}, 1024 + 20 * 512, id="turns"),
        pytest.param(
            {"turns": TurnRange(10, 10), "max_tokens": 500}, 1024 + 20 * 500, id="long utterances"
        ),
        pytest.param({"turns": TurnRange(10, 10), "max_tokens": 10}, 4096, id="short utterances"),
        pytest.param({"turns": TurnRange(1000, 1000)}, 100_000, id="no more than the model takes"),
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
    load = Load(grown(tiny_model, tmp_path, GB), 4, 40_000, 1, GB, TOKEN)
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
    load = plan_load(grown(tiny_model, tmp_path, 9 * GB), Settings("-"), 2)
    with pytest.raises(MagpieError, match=r"needs 15\.3 GB of memory") as caught:
        check_memory("the model", load, free)
    hint = caught.value.hint or ""
    assert [name for name in CATALOGUE if f"--model {name} fits" in hint] == [best] * bool(best)
    assert "a smaller -j needs less" in hint
    assert "--base-url" in hint


def test_only_smaller_models_are_named(tmp_path: Path, tiny_model: Path) -> None:
    """Where the cache is what does not fit, a larger model is no way out."""
    path = grown(tiny_model, tmp_path, 400_000_000)
    load = Load(path, 32, 10**9, 1, 400_000_000, TOKEN)
    with pytest.raises(MagpieError) as caught:
        check_memory("the model", load, free=50 * GB)
    assert "--model smollm2:360m fits" in (caught.value.hint or "")


def test_a_longer_dialogue_gets_what_memory_holds(wide_model: Path) -> None:
    """Never less than usual, never more than it wants; what is cut says why."""
    settings = Settings("-", turns=TurnRange(50, 50), concurrency=1)
    size = wide_model.stat().st_size
    whole = 1024 + 100 * 512

    def free(tokens: int) -> int:
        return needed(size, 0, 0) + TOKEN * 2 * tokens * 5 // 4

    def plan(tokens: int) -> Load:
        return plan_load(wide_model, settings, 2, free(tokens))

    assert plan(whole + 1000).context == 2 * whole
    assert plan(20_000).context == 2 * 20_000
    assert plan(100).context == 2 * 4096
    assert "a smaller -j" in plan(20_000).way_out
    assert "--strict" in plan(whole).way_out
    check_memory("it", plan(20_000), free(20_000))


def test_a_model_of_small_context_says_that_it_is_small(tmp_path: Path) -> None:
    """No flag of a run makes more of it: another model does."""
    path = tmp_path / "narrow.gguf"
    write_tiny_model(path, context=2000)
    assert (
        "another --model"
        in plan_load(path, Settings("-", turns=TurnRange(9, 9)), 1, free=10 * GB).way_out
    )


def test_a_header_is_read_once(tmp_path: Path, tiny_model: Path) -> None:
    """What the plan has seen is enough for the check of memory."""
    path = tmp_path / "gone.gguf"
    path.write_bytes(tiny_model.read_bytes())
    load = plan_load(path, Settings("-"), 2)
    path.unlink()
    size = tiny_model.stat().st_size
    assert load.memory == needed(size, TOKEN, load.context)
    check_memory("it", load, free=load.memory)
    with pytest.raises(MagpieError):
        check_memory("it", load, free=load.memory - 1)


def absent(name: str = DEFAULT_MODEL) -> Wanted:
    """A model of the catalogue that nobody has fetched."""
    return find_model(name, {"XDG_CACHE_HOME": "/nowhere"})


def test_there_is_room_for_the_default_model() -> None:
    """Where memory and disk are as large as it, nothing is said; where nobody knows, neither."""
    check_room(absent(), 2, memory=3 * GB, disk=2 * GB)
    check_room(absent(), 2, memory=None, disk=2 * GB)
    check_room(absent("nobody/knows"), 2, memory=1, disk=1)


@pytest.mark.parametrize(
    ("memory", "disk", "words", "best"),
    [
        (1 * GB, 9 * GB, "needs 1.9 GB of memory, and 1 GB are free", "smollm2:360m"),
        (9 * GB, 1 * GB, "1.12 GB to fetch, 1 GB free", "gemma3:1b"),
        (2 * GB, GB // 2, "1.12 GB to fetch, 500 MB free", "qwen2.5:0.5b"),
    ],
)
def test_too_little_room_names_a_model_that_fits(
    memory: int, disk: int, words: str, best: str
) -> None:
    """Of memory as the run itself would say, of disk as the download would."""
    with pytest.raises(MagpieError) as caught:
        check_room(absent(), 2, memory, disk)
    assert words in caught.value.message
    assert f"--model {best} fits" in (caught.value.hint or "")


def test_what_an_earlier_download_left_needs_no_more_disk(tmp_path: Path) -> None:
    """Only the rest has to have room."""
    wanted = find_model(DEFAULT_MODEL, {"XDG_CACHE_HOME": str(tmp_path)})
    wanted.path.parent.mkdir(parents=True)
    part = wanted.path.with_name(f"{wanted.path.name}.part")
    part.touch()
    os.truncate(part, GB)
    check_room(wanted, 2, memory=9 * GB, disk=GB // 5)
    with pytest.raises(MagpieError, match="117 MB to fetch"):
        check_room(wanted, 2, memory=9 * GB, disk=GB // 10)


@pytest.mark.parametrize(
    ("text", "least"),
    [
        ("max 100000\n", None),
        ("50000 100000\n", 1),
        ("100000 100000\n", 1),
        ("110000 100000\n", 2),
        ("99900000 100000\n", None),
        ("nonsense\n", None),
        ("1 0\n", None),
    ],
)
def test_a_containers_share_of_processors_is_heeded(
    tmp_path: Path, text: str, least: int | None
) -> None:
    """Rounded up, and never more than there are; where no share is set, all of them."""
    quota = tmp_path / "cpu.max"
    quota.write_text(text)
    there = len(os.sched_getaffinity(0))
    assert processors(quota) == (there if least is None else min(least, there))
    assert processors(tmp_path / "no such file") == there


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
