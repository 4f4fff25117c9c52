"""`local`: a model inside the box. llama.cpp in a child process, asked over loopback.

load.py      how a model is loaded, and whether there is room for it
memory.py    how much memory there is, and how much it takes
process.py   starts llama.cpp, ends it, and says why it ended
child.py     the process itself
tiny.py      a model for self-tests, written from scratch
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from magpie_cli.engine import (
    Completion,
    EngineError,
    EngineRefused,
    EngineRow,
    Message,
    PairRefused,
    Sampling,
    Transient,
)
from magpie_cli.engines.http_chat import HttpChatModel
from magpie_cli.engines.http_client import HttpClient, open_client
from magpie_cli.engines.http_errors import CONTEXT_EXCEEDED
from magpie_cli.engines.http_server import HttpServer
from magpie_cli.engines.local.load import (
    LEAST_CONTEXT,
    MAX_TOKENS,
    Load,
    check_memory,
    check_size,
    plan_load,
)
from magpie_cli.engines.local.memory import available, needed
from magpie_cli.engines.local.process import LlamaProcess, llama_process
from magpie_cli.engines.local.tiny import write_tiny_model
from magpie_cli.models import (
    ASK_FIRST,
    DEFAULT_MODEL,
    ask_first,
    fetch,
    find_model,
    resolve,
    size_text,
)
from magpie_cli.settings import Settings

SAY_SECONDS = 5.0  # between two words about a download
TEST_SECONDS = 30.0  # for a tiny model's answer

# llama.cpp's own defaults, said aloud.
_SAMPLING = {"temperature": 0.8, "top_p": 0.95, "top_k": 40, "min_p": 0.05, "cache_prompt": True}


@asynccontextmanager
async def open_tiny_model() -> AsyncIterator["LocalModel"]:
    """A model that is written for this, loaded. Raises MagpieError where not even it can be."""
    with TemporaryDirectory(prefix="magpie-llama-") as folder:
        path = Path(folder) / "tiny.gguf"
        write_tiny_model(path)
        load = Load(path, slots=1, context=LEAST_CONTEXT, threads=1)
        async with _loaded("local", path.stem, load, TEST_SECONDS) as model:
            yield model


async def prepare(settings: Settings, say: Callable[[str], None]) -> None:
    """Fetch the model where it is not here yet. `say` hears what is fetched, and how far it is.

    Raises MagpieError: it is too large to be fetched unasked, or cannot be fetched.
    """
    wanted = find_model(settings.model or DEFAULT_MODEL)
    if wanted.present:
        return
    async with open_tiny_model():  # before a gigabyte comes for nothing
        pass
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
    wanted = find_model(settings.model or DEFAULT_MODEL)
    free = available()
    load = plan_load(wanted.path, settings, row.concurrency, free)
    check_memory(wanted.name, load, free)
    async with _loaded(row.name, wanted.name, load, settings.timeout) as model:
        yield model


@asynccontextmanager
async def _loaded(name: str, model: str, load: Load, seconds: float) -> AsyncIterator["LocalModel"]:
    async with (
        llama_process(load) as llama,
        open_client(llama.url, seconds) as client,
    ):
        yield LocalModel(name, model, llama, client)


class LocalModel:
    """A ChatModel of a llama.cpp server of our own; `template` and `write` are its raw side."""

    def __init__(self, name: str, model: str, llama: LlamaProcess, client: HttpClient) -> None:
        self.name = name
        self.model = model
        self._llama = llama
        self._root = HttpServer(client, llama.url, llama.key, {})
        server = HttpServer(client, f"{llama.url}/v1", llama.key, {})
        extra = _SAMPLING | {"max_tokens": MAX_TOKENS}
        self._chat = HttpChatModel(name, model, server, extra, streams=True)

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """In the model's own chat template. Raises EngineError; EngineRefused once it has died."""
        try:
            return await self._chat.complete(messages, sampling)
        except EngineError as error:
            raise await self._why(error) from error

    async def write(self, prompt: str, sampling: Sampling, stop: Sequence[str] = ()) -> Completion:
        """What follows `prompt`, which no template touches, up to one of `stop`. As `complete`."""
        try:
            return await self._chat.write(prompt, sampling, stop)
        except EngineError as error:
            raise await self._why(error) from error

    async def template(self, messages: Sequence[Message]) -> str:
        """The prompt that the model's chat template makes of `messages`. As `complete`."""
        try:
            answer = await self._root.ask("POST", "/apply-template", {"messages": messages})
        except EngineError as error:
            raise await self._why(error) from error
        return str(answer["prompt"])

    async def _why(self, error: EngineError) -> EngineError:
        """What it means here: a process that may be dead, a context that we have chosen."""
        load = self._llama.load
        if error.kind == CONTEXT_EXCEEDED:
            each = load.context // load.slots
            return PairRefused(
                error.kind, f"the dialogue outgrows its {each:,} tokens of context; {load.way_out}"
            )
        broken = isinstance(error, Transient) and error.kind == "connection"
        if broken and await self._llama.has_died():
            reason = self._llama.explained()
            return EngineRefused("llama_died", reason.message, reason.hint)
        return error
