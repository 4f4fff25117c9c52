"""How a model is loaded here: slots, context, threads; and whether there is room for it."""

from dataclasses import dataclass
from pathlib import Path

from magpie_cli.engine import processors
from magpie_cli.engines.local.memory import needed
from magpie_cli.errors import MagpieError
from magpie_cli.models import CATALOGUE, Wanted, check_space, size_text
from magpie_cli.models.header import Header, read_header
from magpie_cli.settings import Settings

MOST_SLOTS = 32
LEAST_CONTEXT = 4096  # tokens of a slot
CACHE_SHARE = 0.8  # of the memory that is left: others live here too
PERSONAS = 1024  # tokens that go before the first utterance
MAX_TOKENS = 512  # of an utterance, where --max-tokens does not say: one has to end
TINY_FILE = 20_000_000  # bytes; below, a second thread costs more than it gains

_CUT_BY_MODEL = "the model takes no more: name another --model, or ask for fewer turns"
_CUT_BY_MEMORY = "memory holds no more: a smaller -j leaves more to each dialogue"
_UNFORESEEN = (
    f"they were meant for personas of {PERSONAS:,} tokens and the most turns that could be seen "
    "before the run: shorter personas help, or, where the input is a pipe, a file or --strict"
)


@dataclass(frozen=True, slots=True)
class Load:
    """What llama.cpp is to do: `context` is in tokens, for all slots together.

    `size` is that of the file in bytes, `cache_bytes` what each token of the context takes.
    `way_out` is what to do about a dialogue that outgrows its slot.
    """

    path: Path
    slots: int
    context: int
    threads: int
    size: int = 0
    cache_bytes: int = 0
    way_out: str = _UNFORESEEN

    @property
    def memory(self) -> int:
        """Bytes that it takes."""
        return needed(self.size, self.cache_bytes, self.context)


def plan_load(path: Path, settings: Settings, concurrency: int, free: int | None = None) -> Load:
    """Slots, context and threads for a run. Raises UsageError where `path` is no model.

    A dialogue has two system messages, so two slots keep both of its prefixes. The context of a
    slot holds a whole dialogue of `settings.turns`, as far as the model was trained for it and
    `free` bytes of memory hold it (None: nobody knows how many there are).
    """
    header, size = read_header(path), path.stat().st_size
    slots = min(MOST_SLOTS, 2 * (settings.concurrency or concurrency))
    whole = PERSONAS + 2 * settings.turns.most * (settings.max_tokens or MAX_TOKENS)
    wish = min(header.context, max(LEAST_CONTEXT, whole))
    context = _affordable(wish, header, slots, None if free is None else free - needed(size, 0, 0))
    way_out = _UNFORESEEN
    if context < wish:
        way_out = _CUT_BY_MEMORY
    elif context == header.context:
        way_out = _CUT_BY_MODEL
    threads = 1 if size < TINY_FILE else processors()
    return Load(path, slots, slots * context, threads, size, header.cache_bytes, way_out)


def _affordable(wish: int, header: Header, slots: int, room: int | None) -> int:
    """As many of `wish` tokens a slot as fit into `room` bytes, and never fewer than usual."""
    if room is None or not header.cache_bytes:
        return wish
    most = int(room * CACHE_SHARE) // (slots * header.cache_bytes)
    return max(min(wish, LEAST_CONTEXT), min(wish, most))


def check_memory(name: str, load: Load, free: int | None) -> None:
    """Raises MagpieError where the model would not fit, with one that does.

    `free` in bytes, None where nobody knows: then it is tried.
    """
    check_size(name, load.size, load.memory, free)


def check_size(name: str, size: int, need: int, free: int | None) -> None:
    """As `check_memory`, of a file of `size` bytes that takes `need` bytes of memory."""
    if free is None or need <= free:
        return
    raise MagpieError(
        f"{name} needs {size_text(need)} of memory, and {size_text(free)} are free",
        f"{_smaller(size, free)}a smaller -j needs less, or name a server with --base-url",
    )


def check_room(wanted: Wanted, concurrency: int, memory: int | None, disk: int) -> None:
    """Raises MagpieError where `memory`, or the `disk` of what has to be fetched, is too small.

    Both are free bytes. A file whose size nobody has asked for yet may fit.
    """
    if wanted.present:
        check_memory(
            wanted.name, plan_load(wanted.path, Settings("-"), concurrency, memory), memory
        )
    elif wanted.size is not None:
        check_size(wanted.name, wanted.size, needed(wanted.size, 0, 0), memory)
        missing = wanted.size - wanted.in_part
        check_space(wanted.path.parent, missing, disk, _smaller(wanted.size, memory, disk))


def _smaller(size: int, memory: int | None, disk: int | None = None) -> str:
    """`--model NAME fits; `, of the largest smaller model for which there is room; or nothing."""
    smaller = [
        entry
        for entry in CATALOGUE.values()
        if entry.size < size
        and (memory is None or needed(entry.size, 0, 0) * 1.2 < memory)
        and (disk is None or entry.size < disk)
    ]
    best = max(smaller, key=lambda entry: entry.size, default=None)
    return f"--model {best.name} fits; " if best else ""
