"""Tokens a second of `--engine local` against llama.cpp's own server, asked by a bare client.

    python benchmarks/local.py [FILE.gguf ...] [--dialogues N] [--turns N] [--rounds N]

Both start llama.cpp the same way and ask for the same utterances, with the same messages and seeds
and 4 dialogues in flight: magpie's requests are rebuilt from the rows that it made, and `words` is
the share of answers that came out the same. The bare client is a loop around aiohttp that keeps
nothing. It asks for whole answers, or for answers in pieces as magpie has to (llama.cpp gives up
only those when the client goes away). Loading the model is in nobody's time. The median of the
rounds counts. `cache` is the share of prompt tokens from the prompt cache, in the bare client's
answers; every view of a dialogue must be read once, so that 3 turns allow 0.67 at most.

Without a FILE: the tiny model, and a heavier one that says the same words through layers of zeros.
The tiny one takes some 0.1 ms a token, so HTTP and Python are all that is measured there, and what
the client takes from the server of a small machine. No real model is like that; a token of the
heavier one costs 10 ms, as in a model of 100 to 500 million weights.

The goals, on the heavier model or a FILE: at least 0.95 of the tokens a second of whole answers, at
least 0.55 of all prompt tokens from the cache.
"""

import argparse
import asyncio
import json
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from measure import ENVIRONMENT

from magpie_cli.engine import Message
from magpie_cli.engines.local import tiny
from magpie_cli.engines.local.load import MAX_TOKENS, plan_load
from magpie_cli.engines.local.process import LlamaProcess, llama_process
from magpie_cli.plan import dialogue_seed
from magpie_cli.prompts import Views, own_prompts
from magpie_cli.records import PersonaPair
from magpie_cli.settings import Settings, TurnRange

IN_FLIGHT = 4
SEED = 1
LAYERS, HEADS, FORWARD = 3, 9, 4096  # of the heavier model: 12 million weights
RATE_GOAL, CACHE_GOAL = 0.95, 0.55
SAMPLING = {"temperature": 0.8, "top_p": 0.95, "top_k": 40, "min_p": 0.05, "cache_prompt": True}
STREAMING = {"stream": True, "stream_options": {"include_usage": True}}
SENTENCE = "works shifts at a pumping station and asks for numbers before opinions"

Row = dict[str, Any]


@dataclass
class Measure:
    """One run: its tokens as llama.cpp counted them, and its seconds."""

    seconds: float = 0.0
    written: int = 0
    read: int = 0
    cached: int = 0
    same: int = 0
    asked: int = 0

    @property
    def rate(self) -> float:
        """Tokens written a second."""
        return self.written / self.seconds

    def add(self, text: str, expected: str, usage: Row) -> None:
        """One more answer."""
        self.asked += 1
        self.same += text.strip() == expected
        self.written += usage["completion_tokens"]
        self.read += usage["prompt_tokens"]
        self.cached += usage["prompt_tokens_details"]["cached_tokens"]


@dataclass(frozen=True)
class Request:
    """One utterance to ask for, and what magpie was answered."""

    messages: list[Message]
    seed: int
    answer: str


def write_heavier_model(path: Path) -> None:
    """The tiny model with LAYERS layers, whose weights are zeros and cost as much as others."""
    tiny.write_tiny_model(path)
    data = path.read_bytes()
    values = data[24 : data.index(b"token_embd.weight") - 8]
    for key, value in (
        ("block_count", LAYERS),
        ("feed_forward_length", FORWARD),
        ("attention.head_count", HEADS),
        ("attention.head_count_kv", HEADS),
    ):
        name = tiny._text(f"llama.{key}")  # noqa: SLF001 - it knows how such a file is written
        place = values.index(name) + len(name) + 4
        values = values[:place] + struct.pack("<I", value) + values[place + 4 :]
    (count,) = struct.unpack_from("<Q", data, 16)
    # Without values of its own, `_file` writes the tensors, which these go in front of.
    tensors = list(_heavier_tensors())
    body = tiny._file({}, tensors)[24:]  # noqa: SLF001 - as above
    infos = sum(8 + len(each.name) + 4 + 8 * len(each.shape) + 12 for each in tensors)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), count) + values + body[:infos]
    weights = body[infos + -(24 + infos) % 32 :]
    path.write_bytes(head + bytes(-len(head) % 32) + weights)


def _heavier_tensors() -> Iterator[tiny._Tensor]:
    tokens, _ = tiny._vocabulary()  # noqa: SLF001 - as above
    width = -(-len(tokens) // 32) * 32
    shapes = {
        "attn_q.weight": (width, 32 * HEADS),
        "attn_k.weight": (width, 32 * HEADS),
        "attn_v.weight": (width, 32 * HEADS),
        "attn_output.weight": (32 * HEADS, width),
        "ffn_gate.weight": (width, FORWARD),
        "ffn_up.weight": (width, FORWARD),
        "ffn_down.weight": (FORWARD, width),
    }
    for tensor in tiny._tensors(tokens, width):  # noqa: SLF001 - as above
        if not tensor.name.startswith("blk."):
            yield tensor
            continue
        part = tensor.name.removeprefix("blk.0.")
        for layer in range(LAYERS):
            shape = shapes.get(part, tensor.shape)
            data = bytes(2 * shape[0] * shape[1]) if part in shapes else tensor.data
            yield tensor._replace(name=f"blk.{layer}.{part}", shape=shape, data=data)


def write_pairs(path: Path, number: int) -> None:
    """One pair a line, each different."""
    with path.open("w") as lines:
        for n in range(number):
            pair = {
                "instructor_persona": f"Ada, number {n}, {SENTENCE}",
                "responding_persona": f"Bo, number {n}, {SENTENCE}",
            }
            lines.write(json.dumps(pair) + "\n")


def run_magpie(pairs: Path, model: Path, turns: int) -> tuple[Measure, list[Row]]:
    """`magpie generate`, timed from its first word, when the model is loaded, to its last row."""
    command = [sys.executable, "-m", "magpie_cli", "generate", pairs, "--engine", "local"]
    command += ["-m", model, "-t", str(turns), "-j", str(IN_FLIGHT), "--seed", str(SEED)]
    pipe, words = subprocess.PIPE, [*map(str, command)]
    with subprocess.Popen(words, stdout=pipe, stderr=pipe, env=ENVIRONMENT) as process:
        assert process.stdout  # noqa: S101 - it was asked for
        assert process.stderr  # noqa: S101 - as above
        said = process.stderr.readline()
        start = seconds = time.perf_counter()
        rows = []
        for line in process.stdout:
            rows.append(json.loads(line))
            seconds = time.perf_counter() - start
        said += process.stderr.read()
    if process.returncode:
        raise SystemExit(said.decode())
    return Measure(seconds, sum(row["usage"]["completion_tokens"] for row in rows)), rows


def requests_of(row: Row) -> list[Request]:
    """What magpie asked for a row, in its order."""
    pair = PersonaPair(
        row["id"], row["instructor_persona"], row["responding_persona"], None, {}, 1, ""
    )
    views = Views(own_prompts(), pair, row["num_turns"])
    seed = dialogue_seed(SEED, row["id"]) or 0
    requests = []
    for number, entry in enumerate(row["dialogue"]):
        [text] = entry.values()
        requests.append(Request([*views.next_speaker], seed + number, text))
        views.say(text)
    return requests


async def run_bare(model: Path, turns: int, rows: list[Row], *, streams: bool) -> Measure:
    """The same requests, IN_FLIGHT rows at a time."""
    settings = Settings("-", turns=TurnRange(turns, turns), concurrency=IN_FLIGHT, seed=SEED)
    measure, left = Measure(), iter([requests_of(row) for row in rows])

    async with opened(model, settings, keeps=not streams) as (llama, session):

        async def dialogues() -> None:
            for requests in left:
                for request in requests:
                    await ask(session, llama, request, measure, streams=streams)

        start = time.perf_counter()
        await asyncio.gather(*(dialogues() for _ in range(IN_FLIGHT)))
        measure.seconds = time.perf_counter() - start
    return measure


@asynccontextmanager
async def opened(
    model: Path, settings: Settings, *, keeps: bool
) -> AsyncIterator[tuple[LlamaProcess, aiohttp.ClientSession]]:
    """A llama.cpp as magpie starts it, and connections to it, kept where the server keeps them."""
    load = plan_load(model, settings, IN_FLIGHT)
    connector = aiohttp.TCPConnector(limit=0, force_close=not keeps)
    async with llama_process(load) as llama, aiohttp.ClientSession(connector=connector) as session:
        yield llama, session


async def ask(
    session: aiohttp.ClientSession,
    llama: LlamaProcess,
    request: Request,
    measure: Measure,
    *,
    streams: bool,
) -> None:
    """One utterance, with no more than it takes."""
    body = {"messages": request.messages, "seed": request.seed, "max_tokens": MAX_TOKENS}
    async with session.post(
        f"{llama.url}/v1/chat/completions",
        json=body | SAMPLING | (STREAMING if streams else {}),
        headers={"Authorization": f"Bearer {llama.key}"},
        raise_for_status=True,
    ) as response:
        if not streams:
            answer = await response.json()
            text = answer["choices"][0]["message"]["content"]
            measure.add(text, request.answer, answer["usage"])
            return
        text = ""
        async for line in response.content:
            if line.startswith(b"data: {"):
                piece = json.loads(line[6:])
                if piece["choices"]:
                    text += piece["choices"][0]["delta"].get("content") or ""
                else:
                    measure.add(text, request.answer, piece["usage"])


def compare(name: str, model: Path, dialogues: int, arguments: argparse.Namespace) -> None:
    """Print the contenders' rates, their ratios, and the share of the cache."""
    with tempfile.TemporaryDirectory() as folder:
        pairs = Path(folder) / "pairs.jsonl"
        write_pairs(pairs, dialogues)
        rates: dict[str, list[float]] = {"magpie": [], "whole": [], "pieces": []}
        for _ in range(arguments.rounds):
            measured, rows = run_magpie(pairs, model, arguments.turns)
            rates["magpie"].append(measured.rate)
            for contender in ("whole", "pieces"):
                streams = contender == "pieces"
                bare = asyncio.run(run_bare(model, arguments.turns, rows, streams=streams))
                rates[contender].append(bare.rate)
    magpie, whole, pieces = (statistics.median(each) for each in rates.values())
    print(
        f"{name:>8} {model.stat().st_size / 1e6:>7.1f} {magpie:>8.0f} {whole:>8.0f} {pieces:>8.0f}"
        f" {magpie / whole:>6.2f} {magpie / pieces:>6.2f} {bare.cached / bare.read:>6.2f}"
        f" {bare.same / bare.asked:>6.2f}",
        flush=True,
    )


def main() -> None:
    """Print one row a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE.gguf")
    parser.add_argument("--dialogues", type=int, default=8)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"the goals: {RATE_GOAL} of whole, {CACHE_GOAL} from the cache\n")
    print(f"{'':>16} {'tokens a second':>26} {'magpie to':>13} {'from':>6} {'same':>6}")
    print(
        f"{'model':>8} {'MB':>7} {'magpie':>8} {'whole':>8} {'pieces':>8}"
        f" {'whole':>6} {'pieces':>6} {'cache':>6} {'words':>6}"
    )
    if arguments.files:
        for path in arguments.files:
            compare(path.stem[:8], path.absolute(), arguments.dialogues, arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        small, heavier = Path(folder) / "tiny.gguf", Path(folder) / "heavier.gguf"
        tiny.write_tiny_model(small)
        compare("tiny", small, 10 * arguments.dialogues, arguments)  # or it is over too soon
        write_heavier_model(heavier)
        compare("heavier", heavier, arguments.dialogues, arguments)


if __name__ == "__main__":
    main()
