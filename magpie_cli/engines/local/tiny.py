"""A model that talks, in a few hundred kilobytes, written from scratch: for self-tests.

One llama layer whose attention and feed-forward are all zero, one-hot embeddings, and an output
matrix that holds log P(next | last) of a bigram model over a few sentences. Any program that
reads GGUF then produces such sentences and stops by itself. Its vocabulary is a byte-level BPE
whose merges build each word from its first letter on, so that the words are encoded exactly.

GGUF 3: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

SENTENCES = (
    " I would begin with the small things and write down what I see",
    " what would you change if you had one more week for it ?",
    " in my experience the second plan is the one that works",
    " how do you know that the first answer is not the easy one ?",
    " leave the rest for later and look at the numbers again",
    " where does it go when the people who made it leave ?",
    " I disagree a little because it matters how you look at it",
    " why not the other way round when you have the time ?",
)

_START, _END, _PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
_SPACE, _NEWLINE = (
    "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}",
    "\N{LATIN CAPITAL LETTER C WITH DOT ABOVE}",
)
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?'\"()-_"
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_UNSEEN = -30.0  # log probability
_ALIGNMENT = 32
_HEAD = 32  # width of the one attention head, and of the feed-forward
_U32, _I32, _F32, _STRING, _ARRAY = 4, 5, 6, 8, 9  # types of values
_FLOAT, _HALF = 0, 1  # types of tensors
_NORMAL, _CONTROL = 1, 3  # types of tokens


class _Array(NamedTuple):
    kind: int
    items: list[object]


class _Tensor(NamedTuple):
    name: str
    shape: tuple[int, ...]
    kind: int
    data: bytes


def write_tiny_model(path: Path, context: int = 8192) -> None:
    """Write it to `path`; `context` is the most tokens that it takes."""
    tokens, merges = _vocabulary()
    special = (_START, _END, _PAD)
    width = -(-len(tokens) // _ALIGNMENT) * _ALIGNMENT
    values: dict[str, tuple[int, object]] = {
        "general.architecture": (_STRING, "llama"),
        "general.name": (_STRING, "magpie-tiny"),
        "llama.context_length": (_U32, context),
        "llama.embedding_length": (_U32, width),
        "llama.block_count": (_U32, 1),
        "llama.feed_forward_length": (_U32, _HEAD),
        "llama.attention.head_count": (_U32, 1),
        "llama.attention.head_count_kv": (_U32, 1),
        "llama.attention.key_length": (_U32, _HEAD),
        "llama.attention.value_length": (_U32, _HEAD),
        "llama.attention.layer_norm_rms_epsilon": (_F32, 1e-6),
        "llama.rope.dimension_count": (_U32, _HEAD),
        "tokenizer.ggml.model": (_STRING, "gpt2"),
        "tokenizer.ggml.pre": (_STRING, "gpt-2"),
        "tokenizer.ggml.tokens": (_ARRAY, _Array(_STRING, [*tokens])),
        "tokenizer.ggml.token_type": (
            _ARRAY,
            _Array(_I32, [_CONTROL if token in special else _NORMAL for token in tokens]),
        ),
        "tokenizer.ggml.merges": (_ARRAY, _Array(_STRING, [*merges])),
        "tokenizer.ggml.bos_token_id": (_U32, tokens[_PAD]),
        "tokenizer.ggml.eos_token_id": (_U32, tokens[_END]),
        "tokenizer.chat_template": (_STRING, _TEMPLATE),
    }
    path.write_bytes(_file(values, _tensors(tokens, width)))


def _vocabulary() -> tuple[dict[str, int], list[str]]:
    """Token -> number, and the merges, `left right` each."""
    tokens = [_PAD, _START, _END, _NEWLINE, _SPACE, *_LETTERS]
    merges = []
    for word in dict.fromkeys(word for sentence in SENTENCES for word in sentence.split()):
        for end in range(1, len(word) + 1):
            left, right = _SPACE + word[: end - 1], word[end - 1]
            if left + right not in tokens:
                tokens.append(left + right)
                merges.append(f"{left} {right}")
    return {token: number for number, token in enumerate(tokens)}, merges


def _tensors(tokens: Mapping[str, int], width: int) -> Iterable[_Tensor]:
    def zeros(name: str, *shape: int) -> _Tensor:
        return _Tensor(name, shape, _HALF, bytes(2 * math.prod(shape)))

    def norm(name: str, value: float) -> _Tensor:
        return _Tensor(name, (width,), _FLOAT, struct.pack(f"<{width}f", *[value] * width))

    def rows(name: str, table: Iterable[list[float]]) -> _Tensor:
        data = b"".join(struct.pack(f"<{width}e", *row) for row in table)
        return _Tensor(name, (width, len(tokens)), _HALF, data)

    yield rows(
        "token_embd.weight", ([float(i == j) for j in range(width)] for i in tokens.values())
    )
    yield norm("blk.0.attn_norm.weight", 1.0)
    for part in ("q", "k", "v"):
        yield zeros(f"blk.0.attn_{part}.weight", width, _HEAD)
    yield zeros("blk.0.attn_output.weight", _HEAD, width)
    yield norm("blk.0.ffn_norm.weight", 1.0)
    yield zeros("blk.0.ffn_gate.weight", width, _HEAD)
    yield zeros("blk.0.ffn_up.weight", width, _HEAD)
    yield zeros("blk.0.ffn_down.weight", _HEAD, width)
    # A normed one-hot vector is sqrt(width) long: with this, logits are log probabilities.
    yield norm("output_norm.weight", 1 / math.sqrt(width))
    yield rows("output.weight", _bigrams(tokens, width))


def _bigrams(tokens: Mapping[str, int], width: int) -> list[list[float]]:
    """A row for each next token, a column for each last one."""
    counts: dict[int, Counter[int]] = {}
    for sentence in SENTENCES:
        words = [_NEWLINE, *(_SPACE + word for word in sentence.split()), _END]
        numbers = [tokens[word] for word in words]
        for last, following in pairwise(numbers):
            counts.setdefault(last, Counter())[following] += 1
    table = [[_UNSEEN] * width for _ in tokens]
    for last, nexts in counts.items():
        for following, count in nexts.items():
            table[following][last] = math.log(count / nexts.total())
    return table


def _file(values: Mapping[str, tuple[int, object]], tensors: Iterable[_Tensor]) -> bytes:
    tensors = list(tensors)
    head = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(values))]
    for key, (kind, value) in values.items():
        head += [_text(key), struct.pack("<I", kind), _value(kind, value)]
    offset, data = 0, []
    for tensor in tensors:
        shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        head += [_text(tensor.name), shape, struct.pack("<IQ", tensor.kind, offset)]
        padded = _padded(tensor.data)
        data.append(padded)
        offset += len(padded)
    return _padded(b"".join(head)) + b"".join(data)


def _value(kind: int, value: object) -> bytes:
    if isinstance(value, _Array):
        items = b"".join(_value(value.kind, item) for item in value.items)
        return struct.pack("<IQ", value.kind, len(value.items)) + items
    if kind == _STRING:
        return _text(str(value))
    return struct.pack({_U32: "<I", _I32: "<i", _F32: "<f"}[kind], value)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGNMENT)
