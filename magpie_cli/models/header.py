"""What a GGUF file says of its model, in the values at its beginning.

GGUF 2 and 3: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from magpie_cli.errors import UsageError

MOST_ITEMS = 4096  # of an array that is kept: longer ones are vocabularies
HALF = 2  # bytes of a number in the KV cache

_FORMATS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9
_MALFORMED = (
    *(struct.error, KeyError, ValueError, TypeError, OverflowError),
    *(MemoryError, ZeroDivisionError, RecursionError),
)


@dataclass(frozen=True, slots=True)
class Header:
    """`context` is the most tokens that the model takes, `cache_bytes` what each one costs."""

    context: int
    cache_bytes: int


def read_header(path: Path) -> Header:
    """Of the file at `path`. Raises UsageError where it is not a whole GGUF header."""
    try:
        with path.open("rb") as stream:
            return _header(_values(stream))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "check the path") from error
    except _MALFORMED as error:
        raise UsageError(
            f"{path} is no GGUF model, or it is cut off at its beginning",
            "copy the file again (a fetched one: magpie pull NAME), or name another --model",
        ) from error


def _values(stream: BinaryIO) -> dict[str, object]:
    if stream.read(4) != b"GGUF":
        raise ValueError("the file does not begin with GGUF")
    _, _, count = _unpack(stream, "IQQ")
    values = {}
    for _ in range(int(count)):
        key = _text(stream)
        (kind,) = _unpack(stream, "I")
        values[key] = _value(stream, int(kind))
    return values


def _value(stream: BinaryIO, kind: int) -> object:
    if kind == _STRING:
        return _text(stream)
    if kind != _ARRAY:
        return _unpack(stream, _FORMATS[kind])[0]
    inner, count = (int(number) for number in _unpack(stream, "IQ"))
    if inner in _FORMATS and count > MOST_ITEMS:
        stream.seek(count * struct.calcsize("<" + _FORMATS[inner]), 1)
        return None
    items = [_value(stream, inner) for _ in range(count)]
    return items if count <= MOST_ITEMS else None


def _text(stream: BinaryIO) -> str:
    (length,) = _unpack(stream, "Q")
    if length > 64 * 1024 * 1024:
        raise ValueError("a text without end")
    return stream.read(int(length)).decode("utf-8", "replace")


def _unpack(stream: BinaryIO, layout: str) -> tuple[int | float | bool, ...]:
    layout = "<" + layout
    return struct.unpack(layout, stream.read(struct.calcsize(layout)))


def _header(values: dict[str, object]) -> Header:
    kind = values["general.architecture"]
    context = _number(values[f"{kind}.context_length"])
    try:
        return Header(context, _cache_bytes(values, kind))
    except (KeyError, TypeError, ZeroDivisionError):  # another kind of attention, or none
        return Header(context, 0)


def _cache_bytes(values: dict[str, object], kind: object) -> int:
    """Keys and values of every layer, half a float each; `head_count_kv` may differ by layer."""
    layers = _number(values[f"{kind}.block_count"])
    heads = _number(values[f"{kind}.attention.head_count"])
    width = _number(values[f"{kind}.embedding_length"]) // heads
    per_layer = values.get(f"{kind}.attention.head_count_kv", heads)
    if isinstance(per_layer, list):
        kv_heads = sum(map(_number, per_layer))
    else:
        kv_heads = layers * _number(per_layer)
    key = _number(values.get(f"{kind}.attention.key_length", width))
    value = _number(values.get(f"{kind}.attention.value_length", width))
    return kv_heads * (key + value) * HALF


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError("not a whole number")
    return value
