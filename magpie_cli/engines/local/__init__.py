"""`local`: a model inside the box. llama.cpp in a child process, asked over loopback.

process.py   starts llama.cpp, ends it, and says why it ended
child.py     the process itself
memory.py    whether it fits
tiny.py      a model for self-tests, written from scratch
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import aiohttp

from magpie_cli.engine import (
    Completion,
    EngineRefused,
    EngineRow,
    Message,
    Sampling,
    Transient,
    processors,
)
from magpie_cli.engines.http_chat import HttpChatModel
from magpie_cli.engines.http_server import CONNECT_TIMEOUT, HttpServer
from magpie_cli.engines.local.memory import available, needed
from magpie_cli.engines.local.process import LlamaProcess, Load, llama_process
from magpie_cli.engines.local.tiny import write_tiny_model
from magpie_cli.errors import MagpieError, UsageError
from magpie_cli.models import (
    ASK_FIRST,
    CATALOGUE,
    DEFAULT_MODEL,
    Wanted,
    ask_first,
    fetch,
    find_model,
    resolve,
    size_text,
)
from magpie_cli.models.header import read_header
from magpie_cli.settings import Settings

SAY_SECONDS = 5.0  # between two words about a download
MOST_SLOTS = 32
LEAST_CONTEXT = 4096  # tokens of a slot
PERSONAS = 1024  # tokens that go before the first utterance
MAX_TOKENS = 512  # of an utterance, where --max-tokens does not say: one has to end
TINY_FILE = 20_000_000  # bytes; below, a second thread costs more than it gains

# llama.cpp's own defaults, said aloud.
_SAMPLING = {"temperature": 0.8, "top_p": 0.95, "top_k": 40, "min_p": 0.05, "cache_prompt": True}


def _wanted(settings: Settings) -> Wanted:
    if settings.base_url:
        raise UsageError("the local engine asks no server", "leave out --base-url, or --engine")
    return find_model(settings.model or DEFAULT_MODEL)


async def check_llama() -> None:
    """Raises MagpieError where llama.cpp cannot serve even a tiny model."""
    with TemporaryDirectory(prefix="magpie-llama-") as folder:
        path = Path(folder) / "tiny.gguf"
        write_tiny_model(path)
        async with llama_process(Load(path, slots=1, context=LEAST_CONTEXT, threads=1)):
            pass


async def prepare(settings: Settings, say: Callable[[str], None]) -> None:
    """Fetch the model where it is not here yet. `say` hears what is fetched, and how far it is.

    Raises MagpieError: it is too large to be fetched unasked, or cannot be fetched.
    """
    wanted = _wanted(settings)
    if wanted.present:
        return
    await check_llama()  # before a gigabyte comes for nothing
    wanted = await resolve(wanted, say=say)
    if wanted.size is None or wanted.size > ASK_FIRST:
        raise ask_first(wanted)
    check_size(wanted.name, wanted.size, needed(wanted.size, 0, 0), available())
    say(f"fetching {wanted.sentence()} to {wanted.path}")
    told = monotonic()

    def progress(done: int, total: int | None) -> None:
        nonlocal told
        if monotonic() - told >= SAY_SECONDS:
            told = monotonic()
            say(f"fetched {size_text(done)}" + (f" of {size_text(total)}" if total else ""))

    await fetch(wanted, progress, say=say)


@asynccontextmanager
async def connect(row: EngineRow, settings: Settings) -> AsyncIterator["LocalModel"]:
    """The model that --model names, loaded. Raises MagpieError where it is too large."""
    wanted = _wanted(settings)
    load = plan_load(wanted.path, settings, row.concurrency)
    check_memory(wanted.name, load, available())
    limits = aiohttp.ClientTimeout(total=settings.timeout, sock_connect=CONNECT_TIMEOUT)
    async with (
        llama_process(load) as llama,
        aiohttp.ClientSession(
            # llama.cpp closes a connection after a streamed answer, without saying so before.
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=limits,
        ) as session,
    ):
        yield LocalModel(row.name, wanted.name, llama, session)


class LocalModel:
    """A ChatModel of a llama.cpp server of our own; `template` and `write` are its raw side."""

    def __init__(
        self, name: str, model: str, llama: LlamaProcess, session: aiohttp.ClientSession
    ) -> None:
        self.name = name
        self.model = model
        self._llama = llama
        self._root = HttpServer(session, llama.url, llama.key, {})
        server = HttpServer(session, f"{llama.url}/v1", llama.key, {})
        extra = _SAMPLING | {"max_tokens": MAX_TOKENS}
        self._chat = HttpChatModel(name, model, server, extra, streams=True)

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """In the model's own chat template. Raises EngineError; EngineRefused once it has died."""
        try:
            return await self._chat.complete(messages, sampling)
        except Transient as error:
            raise await self._why(error) from error

    async def write(self, prompt: str, sampling: Sampling, stop: Sequence[str] = ()) -> Completion:
        """What follows `prompt`, which no template touches, up to one of `stop`. As `complete`."""
        try:
            return await self._chat.write(prompt, sampling, stop)
        except Transient as error:
            raise await self._why(error) from error

    async def template(self, messages: Sequence[Message]) -> str:
        """The prompt that the model's chat template makes of `messages`. Raises EngineError."""
        answer = await self._root.ask("POST", "/apply-template", {"messages": messages})
        return str(answer["prompt"])

    async def _why(self, error: Transient) -> Transient | EngineRefused:
        if error.kind != "connection" or not await self._llama.has_died():
            return error
        reason = self._llama.explained()
        return EngineRefused("llama_died", reason.message, reason.hint)


def plan_load(path: Path, settings: Settings, concurrency: int) -> Load:
    """Slots, context and threads for a run. Raises UsageError where `path` is no model.

    A dialogue has two system messages, so two slots keep both of its prefixes. The context of a
    slot holds a whole dialogue, as far as the model was trained for it.
    """
    header = read_header(path)
    slots = min(MOST_SLOTS, 2 * (settings.concurrency or concurrency))
    whole = PERSONAS + 2 * settings.turns * (settings.max_tokens or MAX_TOKENS)
    context = min(header.context, max(LEAST_CONTEXT, whole))
    tiny = path.stat().st_size < TINY_FILE
    return Load(path, slots, slots * context, 1 if tiny else processors())


def check_memory(name: str, load: Load, free: int | None) -> None:
    """Raises MagpieError where the model would not fit, with one that does.

    `free` in bytes, None where nobody knows: then it is tried.
    """
    size = load.path.stat().st_size
    check_size(name, size, needed(size, read_header(load.path).cache_bytes, load.context), free)


def check_size(name: str, size: int, need: int, free: int | None) -> None:
    """As `check_memory`, of a file of `size` bytes that takes `need` bytes of memory."""
    if free is None or need <= free:
        return
    smaller = [
        entry
        for entry in CATALOGUE.values()
        if entry.size < size and needed(entry.size, 0, 0) * 1.2 < free
    ]
    best = max(smaller, key=lambda entry: entry.size, default=None)
    fits = f"--model {best.name} fits; " if best else ""
    raise MagpieError(
        f"{name} needs {size_text(need)} of memory, and {size_text(free)} are free",
        f"{fits}a smaller -j needs less, or name a server with --base-url",
    )
