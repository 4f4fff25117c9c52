"""What `--engine local` says of a file that is no model, or one no longer."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from magpie_cli.engines.local import tiny
from magpie_cli.errors import UsageError
from magpie_cli.models.header import Header, read_header
from tests.conftest import Magpie, needs_llama

Pairs = Callable[..., Path]

STRING, ARRAY, U32, U64, F32 = 8, 9, 4, 10, 6
NAMED = b"general.architecture"
SMALL: dict[str, tuple[int, object]] = {
    "general.architecture": (STRING, "thing"),
    "thing.block_count": (U32, 3),
    "thing.attention.head_count": (U32, 8),
    "thing.embedding_length": (U32, 512),
    "thing.context_length": (U32, 2048),
}


def numbers(*items: int) -> tuple[int, object]:
    """An array of a header."""
    return ARRAY, tiny._Array(U32, [*items])


def flipped(data: bytes, after: bytes) -> bytes:
    """With one bit changed, in the byte after the first `after`."""
    place = data.index(after) + len(after)
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "HTML": lambda _: b"<!doctype html><title>504 Gateway Time-out</title>" * 100,
    "noise": lambda data: b"\xa5\x5a\x00" * (len(data) // 3),
    "cut in its header": lambda data: data[:700],
    "cut after its header": lambda data: data[: data.index(b"token_embd")],
    "cut in its weights": lambda data: data[:-5_000],
    "a flipped bit in the magic": lambda data: flipped(data, b"GGU"),
    "a flipped bit in a count": lambda data: flipped(data, data[:8]),
    "a flipped bit in the kind": lambda data: flipped(data, NAMED + struct.pack("<IQ", STRING, 5)),
    "a flipped bit in a key": lambda data: flipped(data, b"llama.block_coun"),
    "a flipped bit in the tokenizer": lambda data: flipped(data, b"gpt"),
    "a flipped bit in a tensor's name": lambda data: flipped(data, b"output_norm"),
    "a flipped bit in a tensor's shape": lambda data: flipped(
        data, b"blk.0.attn_q.weight" + bytes([2, 0, 0, 0])
    ),
}


@needs_llama
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_one_sentence(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, tiny_model: Path, damage: str
) -> None:
    """Exit 1 or 2, the file's name, what to type next, and neither a traceback nor an output."""
    pairs(1)
    path = tmp_path / "damaged.gguf"
    path.write_bytes(DAMAGE[damage](tiny_model.read_bytes()))
    done = magpie("generate", "pairs.jsonl", "--engine", "local", "-m", path, "-o", "out.jsonl")
    assert done.returncode in {1, 2}, done.stderr
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert "damaged.gguf" in error
    assert hint.startswith("hint: ")
    assert "magpie pull" in hint
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("name", ["missing.gguf", "folder.gguf", "no/such/folder.gguf"])
def test_a_path_without_a_file_is_one_sentence(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, name: str
) -> None:
    """Exit 2 with the name as it was typed and the forms that a name may have."""
    pairs(1)
    (tmp_path / "folder.gguf").mkdir()
    done = magpie("generate", "pairs.jsonl", "--engine", "local", "-m", name, "-o", "out.jsonl")
    assert done.returncode == 2
    error, hint = done.stderr.splitlines()
    assert error.startswith(f"error: {name}: ")
    assert "FILE.gguf" in hint
    assert not (tmp_path / "out.jsonl").exists()


def test_the_tiny_model_says_what_it_is(tiny_model: Path) -> None:
    """8,192 tokens of context; one head of 32 keys and 32 values, half a float each."""
    assert read_header(tiny_model) == Header(context=8192, cache_bytes=(32 + 32) * 2)


@pytest.mark.parametrize("length", range(0, 2_000, 50))
def test_a_header_that_is_cut_anywhere_is_a_usage_error(
    tmp_path: Path, tiny_model: Path, length: int
) -> None:
    """Never a struct.error or an index out of range, wherever the download broke off."""
    path = tmp_path / "cut.gguf"
    path.write_bytes(tiny_model.read_bytes()[:length])
    with pytest.raises(UsageError, match=r"cut.gguf is no GGUF model, or it is cut off") as caught:
        read_header(path)
    assert "magpie pull" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("more", "cache_bytes"),
    [
        pytest.param({}, 3 * 8 * 128 * 2, id="as many as heads"),
        pytest.param({"thing.attention.head_count_kv": (U32, 2)}, 3 * 2 * 128 * 2, id="fewer"),
        pytest.param(
            {"thing.attention.head_count_kv": numbers(4, 0, 1)}, 5 * 128 * 2, id="by layer"
        ),
        pytest.param(
            {"thing.attention.key_length": (U32, 100), "thing.attention.value_length": (U32, 28)},
            3 * 8 * 128 * 2,
            id="of their own lengths",
        ),
        pytest.param({"thing.block_count": (STRING, "three")}, 0, id="layers that are no number"),
        pytest.param({"thing.attention.head_count": (U32, 0)}, 0, id="no attention"),
        pytest.param({"thing.attention.head_count": numbers(8, 4, 8)}, 0, id="heads by layer"),
    ],
)
def test_a_token_costs_the_keys_and_values_of_each_layer(
    tmp_path: Path, more: dict[str, tuple[int, object]], cache_bytes: int
) -> None:
    """Half a float each, for as many heads as the header gives every layer; 0 where unknown."""
    path = tmp_path / "small.gguf"
    path.write_bytes(tiny._file(SMALL | more, []))
    assert read_header(path) == Header(2048, cache_bytes)


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"thing.context_length": (F32, 2048.0)}, id="a fraction for a number"),
        pytest.param({"general.architecture": (STRING, "other")}, id="keys of another kind"),
    ],
)
def test_a_header_without_sense_is_a_usage_error(
    tmp_path: Path, more: dict[str, tuple[int, object]]
) -> None:
    """Values that no model has are told as a file that is none."""
    path = tmp_path / "small.gguf"
    path.write_bytes(tiny._file(SMALL | more, []))
    with pytest.raises(UsageError, match="is no GGUF model"):
        read_header(path)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(struct.pack("<IIQ", ARRAY, ARRAY, 1) * 3_000, id="arrays in arrays"),
        pytest.param(struct.pack("<IIQ", ARRAY, U32, 2**63), id="an array without end"),
        pytest.param(struct.pack("<IIQ", ARRAY, STRING, 2**63), id="texts without end"),
        pytest.param(struct.pack("<IQ", STRING, 2**63), id="a text without end"),
        pytest.param(struct.pack("<I", 99), id="a type that is none"),
    ],
)
def test_a_header_that_is_made_to_harm_is_a_usage_error(tmp_path: Path, value: bytes) -> None:
    """Nests and counts beyond all measure cost neither memory nor a traceback."""
    path = tmp_path / "harmful.gguf"
    key = struct.pack("<Q", 3) + b"key"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + key + value)
    with pytest.raises(UsageError, match=r"is no GGUF model|cannot be read"):
        read_header(path)


@needs_llama
def test_endless_words_of_llama_cpp_are_cut(tmp_path: Path, magpie: Magpie, pairs: Pairs) -> None:
    """A file that makes llama.cpp write a line of 100,000 letters is one sentence all the same."""
    path = tmp_path / "loud.gguf"
    tiny.write_tiny_model(path)
    loud = b"x" * 100_000
    old = struct.pack("<Q", 5) + b"gpt-2"
    assert path.read_bytes().count(old) == 1
    data = path.read_bytes().replace(old, struct.pack("<Q", len(loud)) + loud)
    path.write_bytes(data)
    pairs(1)
    done = magpie("generate", "pairs.jsonl", "--engine", "local", "--model", "loud.gguf")
    assert done.returncode == 1
    assert "cannot be loaded" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 5000
