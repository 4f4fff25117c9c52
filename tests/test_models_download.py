"""A download against a hub that misbehaves: whole and checked, or not there at all."""

import asyncio
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from magpie_cli.errors import MagpieError, NotFinished, UsageError
from magpie_cli.models import Wanted, fetch, find_model, resolve
from magpie_cli.models.cache import Note, part_path
from magpie_cli.models.means import Means
from magpie_cli.models.part import open_part
from magpie_cli.models.retry import RETRIES
from tests import model_hub
from tests.model_hub import (
    CONTENT,
    FILE,
    NAME,
    SHA256,
    SIZE,
    TOKEN,
    Fault,
    ModelHub,
    cuts,
    flips,
    hangs,
    ignores_range,
    refuses,
    resets,
    sends,
    slow,
    unbounded,
    wrong_piece,
)

OLLAMA = "small:q4_K"
PAGE = b"<!DOCTYPE html><title>Please log in</title>"


class Case:
    """One cache and one hub, and the sleeps that were asked for."""

    def __init__(self, hub: ModelHub, folder: Path) -> None:
        self.hub = hub
        self.folder = folder / "magpie" / "models"
        self.environment = hub.environment | {"XDG_CACHE_HOME": str(folder)}
        self.slept: list[float] = []
        self.said: list[str] = []
        self.progress: list[tuple[int, int | None]] = []
        self.means = Means(self.environment, self.sleep)

    async def sleep(self, seconds: float) -> None:
        """No time passes."""
        self.slept.append(seconds)
        await asyncio.sleep(0)

    def find(self, name: str = NAME) -> Wanted:
        """What a name means here."""
        return find_model(name, self.environment)

    async def fetch(self, name: str = NAME) -> Path:
        """All of it, as `magpie pull` does."""
        return await fetch(
            self.find(name),
            lambda done, total: self.progress.append((done, total)),
            say=self.said.append,
            means=self.means,
        )

    async def fails(self, kind: type[MagpieError] = MagpieError, name: str = NAME) -> str:
        """The sentence and the hint; nothing stands under the final name."""
        with pytest.raises(MagpieError) as failure:
            await self.fetch(name)
        assert type(failure.value) is kind
        assert failure.value.hint
        assert not self.find(name).path.exists()
        assert TOKEN not in f"{failure.value.message} {failure.value.hint}"
        assert "signature" not in failure.value.message
        return f"{failure.value.message}\n{failure.value.hint}"

    def leave_part(self, size: int, content: bytes = CONTENT, sha256: str = SHA256) -> Path:
        """As if a process had been killed after so many bytes."""
        self.folder.mkdir(parents=True)
        part = part_path(self.find().path)
        part.write_bytes(content[:size])
        Path(f"{part}.json").write_text(json.dumps({"sha256": sha256, "etag": None}))
        return part


@pytest.fixture
def case(hub: ModelHub, tmp_path: Path) -> Case:
    """An empty cache, and a hub that is well."""
    return Case(hub, tmp_path / "cache")


async def until(condition: Callable[[], object]) -> None:
    """Return once it is so."""
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("waited in vain")


def names_in(folder: Path) -> list[str]:
    """What is there, without the names' own parts."""
    return sorted("".join(path.suffixes[-2:]) for path in folder.iterdir())


@pytest.mark.parametrize(
    ("name", "licence"), [(NAME, "small-1.0"), (OLLAMA, "Small Licence 1.0")], ids=["hub", "ollama"]
)
async def test_a_file_arrives_whole_with_its_note(case: Case, name: str, licence: str) -> None:
    """Behind a redirect to another host; then it is present, and nobody is asked again."""
    wanted = await resolve(case.find(name), means=case.means)
    assert (wanted.present, wanted.size, wanted.sha256) == (False, SIZE, SHA256)
    assert wanted.licence == licence
    path = await case.fetch(name)
    assert path == wanted.path
    assert path.read_bytes() == CONTENT
    note = Note.of(path)
    assert note
    assert (note.name, note.size, note.sha256, note.licence) == (name, SIZE, SHA256, licence)
    assert len(names_in(case.folder)) == 2
    assert case.progress[0] == (0, SIZE)
    assert case.progress[-1] == (SIZE, SIZE)
    asked = len(case.hub.asked)
    again = case.find(name)
    assert (again.present, again.size, again.licence) == (True, SIZE, licence)
    assert await case.fetch(name) == path
    assert len(case.hub.asked) == asked


@pytest.mark.parametrize(
    ("faults", "sleeps"),
    [
        pytest.param([cuts(1000)], 1, id="cut once"),
        pytest.param([cuts(1000)] * 8, 8, id="cut often, each time further on"),
        pytest.param([cuts(0)] * RETRIES, RETRIES, id="cut five times at the start"),
        pytest.param([cuts(2), cuts(1), cuts(1)], 3, id="cut inside the first four bytes"),
        pytest.param([hangs, None], 1, id="hangs"),
        pytest.param([cuts(1000), hangs], 2, id="hangs in the middle"),
        pytest.param([refuses(500), refuses(503), refuses(429)], 3, id="busy"),
        pytest.param([cuts(1000), ignores_range], 1, id="ignores Range"),
        pytest.param([cuts(1000), cuts(100), ignores_range], 2, id="cuts, then ignores Range"),
        pytest.param([cuts(1000), refuses(416)], 2, id="416"),
        pytest.param([cuts(1000), wrong_piece], 2, id="another piece"),
        pytest.param([unbounded], 0, id="no length"),
        pytest.param([slow(4, 0.1)], 0, id="slow"),
    ],
)
async def test_what_passes_is_waited_out(
    case: Case, faults: list[Fault | None], sleeps: int
) -> None:
    """The file is whole in the end, and each retry waited first."""
    case.hub.faults = iter(faults)
    if hangs in faults:
        case.means = replace(case.means, silence=1.0)
    path = await case.fetch()
    assert path.read_bytes() == CONTENT
    assert len(case.slept) == sleeps
    assert len([sentence for sentence in case.said if "trying again" in sentence]) == sleeps


async def test_a_dropped_connection_is_made_again(case: Case) -> None:
    """Before the first byte and later (aiohttp itself makes up for some of these)."""
    case.hub.faults = iter([resets, resets, resets, cuts(70_000), resets, resets, resets])
    assert (await case.fetch()).read_bytes() == CONTENT
    assert case.slept


async def test_a_retry_asks_for_the_rest_alone(case: Case) -> None:
    """After a cut the next request begins where the last one ended, in the same file."""
    case.hub.faults = iter([cuts(1000), cuts(70_000)])
    await case.fetch()
    assert [each.range for each in case.hub.fetched] == [None, "bytes=1000-", "bytes=71000-"]
    done = [done for done, _ in case.progress]
    assert done == sorted(done)


async def test_retries_wait_longer_each_time(case: Case) -> None:
    """Twice as long each time without progress; as long as the server says where it does."""
    case.hub.faults = iter([refuses(500), refuses(500), refuses(429, Retry_After="7")])
    await case.fetch()
    assert case.slept == [0.5, 1.0, 7.0]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        pytest.param(cuts(0), "was cut: given up after 5 retries without progress", id="cut"),
        pytest.param(refuses(503), "answered 503: given up", id="busy"),
        pytest.param(refuses(429, Retry_After="3600"), "asks to wait 3600 s", id="much later"),
    ],
)
async def test_what_does_not_pass_is_given_up(case: Case, fault: Fault, words: str) -> None:
    """After five retries without progress; what is there stays for the next time."""
    case.hub.faults = iter([cuts(1000)] + [fault] * (RETRIES + 1))
    assert words in await case.fails(NotFinished)
    assert part_path(case.find().path).read_bytes() == CONTENT[:1000]
    case.hub.faults = iter(())
    await case.fetch()
    assert case.hub.fetched[-1].range == "bytes=1000-"


async def test_a_silent_hub_is_given_up(case: Case) -> None:
    """Where the hub never answers, the sentence names it and the cache stays empty."""
    case.hub.hub_faults = iter([refuses(500)] * (RETRIES + 1))
    assert "127.0.0.1 answered 500: given up" in await case.fails(NotFinished)
    assert not case.folder.exists()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        pytest.param(flips, "wrong checksum", id="a flipped byte"),
        pytest.param(sends(PAGE, "text/html"), "HTML page instead of the file", id="HTML"),
        pytest.param(sends(PAGE + bytes(SIZE - len(PAGE))), "HTML page", id="HTML in disguise"),
        pytest.param(sends(b"PK" + bytes(SIZE - 2)), "is no GGUF file", id="something else"),
        pytest.param(sends(CONTENT[:-1]), "299,999 bytes, and 300,000 were expected", id="short"),
        pytest.param(sends(CONTENT + b"x"), "300,001 bytes, and 300,000", id="long"),
        pytest.param(refuses(403), "answered 403, where 127.0.0.1:", id="the store refuses"),
    ],
)
async def test_what_is_wrong_is_not_kept(case: Case, fault: Fault, words: str) -> None:
    """Each has its own sentence, and leaves an empty cache."""
    case.hub.faults = iter([fault])
    assert words in await case.fails()
    assert names_in(case.folder) == []


async def test_a_body_without_end_is_stopped(case: Case) -> None:
    """More bytes than there should be are refused as they come."""
    case.hub.content = CONTENT + bytes(1000)
    case.hub.faults = iter([unbounded])
    assert "more than the 300,000 bytes" in await case.fails()
    assert names_in(case.folder) == []


async def test_a_body_without_length_that_ends_early_is_a_cut(case: Case) -> None:
    """What a server without Content-Length leaves out is asked for again."""
    whole, case.hub.content = case.hub.content, CONTENT[:1000]

    async def heals(hub: ModelHub, request: web.Request) -> web.StreamResponse:
        response = await unbounded(hub, request)
        hub.content = whole
        return response

    case.hub.faults = iter([heals])
    assert (await case.fetch()).read_bytes() == CONTENT
    assert case.hub.fetched[-1].range == "bytes=1000-"


@pytest.mark.parametrize(
    ("size", "content", "sha256", "asked"),
    [
        pytest.param(1000, CONTENT, SHA256, ["bytes=1000-"], id="a part"),
        pytest.param(0, CONTENT, SHA256, [None], id="nothing yet"),
        pytest.param(SIZE, CONTENT, SHA256, [], id="all of it"),
        pytest.param(SIZE + 9, CONTENT + bytes(9), SHA256, [None], id="longer than the file"),
        pytest.param(1000, CONTENT, "f" * 64, [None], id="of another file"),
    ],
)
async def test_a_part_is_filled_up(
    case: Case, size: int, content: bytes, sha256: str, asked: list[str | None]
) -> None:
    """What an earlier process left is used where it is a part of this file."""
    case.leave_part(size, content, sha256)
    assert (await case.fetch()).read_bytes() == CONTENT
    assert [each.range for each in case.hub.fetched] == asked
    assert len(names_in(case.folder)) == 2


async def test_a_damaged_part_is_found_out(case: Case) -> None:
    """The checksum is of the whole file, also of what was there before; then it starts anew."""
    case.leave_part(1000, b"GGUF" + bytes(996))
    assert "wrong checksum" in await case.fails()
    assert (await case.fetch()).read_bytes() == CONTENT


@pytest.mark.parametrize(("etag", "asked"), [('"v1"', "bytes=1000-"), ('W/"v1"', None)])
async def test_without_a_checksum_the_servers_own_mark_counts(
    case: Case, etag: str, asked: str | None
) -> None:
    """A hub that names none is asked for the rest of the same thing only (If-Range)."""
    case.hub.sha256 = case.hub.size = None
    case.hub.etag = etag
    case.hub.faults = iter([cuts(1000)])
    path = await case.fetch()
    assert path.read_bytes() == CONTENT
    assert case.hub.fetched[-1].range == asked
    note = Note.of(path)
    assert note
    assert note.sha256 == SHA256


async def test_a_file_that_changed_meanwhile_starts_over(case: Case) -> None:
    """Without a checksum, the other version is fetched from its first byte."""
    case.hub.sha256 = case.hub.size = None

    async def replaced(hub: ModelHub, request: web.Request) -> web.StreamResponse:
        response = await cuts(1000)(hub, request)
        hub.content, hub.etag = CONTENT[::-1][:-4] + b"more", '"v2"'
        hub.content = b"GGUF" + hub.content
        return response

    case.hub.faults = iter([replaced])
    path = await case.fetch()
    assert path.read_bytes() == case.hub.content


async def test_a_full_disk_is_seen_before(case: Case) -> None:
    """What does not fit is not begun; the sentence says how much lacks."""
    case.means = Means(case.environment, case.sleep, free_space=lambda _: SIZE - 1)
    said = await case.fails()
    assert f"the disk of {case.folder} is too full: 300 kB to fetch" in said
    assert "XDG_CACHE_HOME" in said
    assert case.hub.fetched == []
    case.hub.size = case.hub.sha256 = None
    assert "is too full" in await case.fails()


async def test_what_is_there_already_needs_no_space(case: Case) -> None:
    """Only what lacks must fit."""
    case.leave_part(1000)
    case.means = Means(case.environment, case.sleep, free_space=lambda _: SIZE - 1000)
    assert (await case.fetch()).read_bytes() == CONTENT


async def test_a_cache_that_cannot_be_made_is_named(case: Case) -> None:
    """A file where the folder should be is an error that names it."""
    case.folder.parent.mkdir(parents=True)
    case.folder.write_text("")
    said = await case.fails()
    assert f"{case.folder} cannot be written" in said


async def test_a_cancelled_download_goes_on_later(case: Case) -> None:
    """Cancelled in the middle, it leaves its part, and the lock is free."""
    case.hub.faults = iter([model_hub.holds(1000)])
    task = asyncio.create_task(case.fetch())
    await until(lambda: (1000, SIZE) in case.progress)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await case.fetch()).read_bytes() == CONTENT
    assert case.hub.fetched[-1].range == "bytes=1000-"


async def test_the_event_loop_goes_on_while_a_part_is_hashed(case: Case) -> None:
    """Hashing what is there leaves other tasks their turn, and comes out right."""
    there = 64 * 1024 * 1024
    part = case.leave_part(0)
    os.truncate(part, there)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    other = asyncio.create_task(count())
    async with open_part(case.find().path, NAME, case.sleep, lambda _: None) as opened:
        await opened.take_stock(SHA256, None)
        assert opened.size == there
        assert opened.sha256 == hashlib.sha256(bytes(there)).hexdigest()
    other.cancel()
    assert turns > 10


async def test_a_part_that_no_network_can_fill_is_no_reason_to_wait(case: Case) -> None:
    """What an earlier process left does not mean that somebody answers now."""
    case.leave_part(1000)
    wanted = await resolve(case.find(), means=case.means)
    case.hub.store_url = "http://127.0.0.1:1"
    with pytest.raises(MagpieError, match="nothing answers: 127"):
        await fetch(wanted, lambda *_: None, means=case.means)
    assert case.slept == []


async def test_without_a_network_a_slip_is_told_too(case: Case) -> None:
    """A name like one of the catalogue is asked of a registry; that nobody answers is not all."""
    case.environment["OLLAMA_REGISTRY"] = "http://127.0.0.1:1"
    said = await case.fails(MagpieError, "qwen2.5:1.5c")
    assert "nothing answers: 127.0.0.1" in said
    assert "\nqwen2.5:1.5b or " in said
    for way in ("is there a network?", "--model FILE.gguf", "--base-url"):
        assert way in said


async def test_the_hub_is_asked_once(case: Case) -> None:
    """What `resolve` could not learn, `fetch` does not ask again."""
    case.hub.sha256 = None
    wanted = await resolve(case.find(), means=case.means)
    await fetch(wanted, lambda *_: None, means=case.means)
    assert [each.method for each in case.hub.asked] == ["HEAD", "GET", "GET", "GET"]


async def test_a_revision_may_have_slashes(case: Case) -> None:
    """`refs/pr/1` is one step of the address."""
    assert (await case.fetch(f"{NAME}@refs/pr/1")).read_bytes() == CONTENT


async def test_a_server_without_tls_is_no_safe_connection(case: Case) -> None:
    """Https at the address of something else is said as that, not as a missing network."""
    case.environment["HF_ENDPOINT"] = case.hub.hub_url.replace("http://", "https://")
    said = await case.fails()
    assert "no safe connection to 127.0.0.1: " in said
    assert "SSL_CERT_FILE" in said


async def test_two_at_once_fetch_it_once(case: Case) -> None:
    """The second waits for the first, hears how far that is, and finds the file."""
    case.hub.faults = iter([model_hub.holds(1000)])
    first = asyncio.create_task(case.fetch())
    await until(lambda: (1000, SIZE) in case.progress)
    second = asyncio.create_task(case.fetch())
    await until(lambda: case.said)
    case.hub.release()
    assert await first == await second
    assert case.said == ["another magpie is fetching it: waiting for that"]
    assert len(case.hub.fetched) == 1
    assert len(names_in(case.folder)) == 2


async def test_whoever_waited_for_a_bad_file_fetches_a_good_one(case: Case) -> None:
    """The part that the first had to delete is not the one that the second fills."""

    async def held(hub: ModelHub, request: web.Request) -> web.StreamResponse:
        await hub.released.wait()
        return await flips(hub, request)

    case.hub.faults = iter([held])
    first = asyncio.create_task(case.fetch())
    await until(lambda: case.hub.fetched)
    second = asyncio.create_task(case.fetch())
    await until(lambda: case.said)
    case.hub.release()
    with pytest.raises(MagpieError, match="wrong checksum"):
        await first
    assert (await second).read_bytes() == CONTENT
    assert len(names_in(case.folder)) == 2


async def test_a_cut_file_in_the_cache_is_fetched_again(case: Case) -> None:
    """A file that is shorter than its note says is not present."""
    path = await case.fetch()
    path.write_bytes(CONTENT[:1000])
    assert not case.find().present
    assert (await case.fetch()).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (f"hf:owner/nobody/{FILE}", "has no repository owner/nobody (or it is private)"),
        ("hf:owner/small-GGUF/other.gguf", "small-GGUF has no file 'other.gguf'"),
        (f"{NAME}@v9", "has no revision 'v9'"),
        ("small:q9", "Ollama's registry has no model 'small:q9'"),
        ("qwen2.5:1.5c", "\nqwen2.5:1.5b or "),
        ("nobody/small", "any other name: that is asked of Ollama's registry"),
        ("nobody/small", "hf:owner/repo/file.gguf"),
    ],
)
async def test_what_is_not_there_is_a_usage_error(case: Case, name: str, words: str) -> None:
    """The sentence says which of all is missing, and the hint where to look."""
    assert words in await case.fails(UsageError, name)
    assert not case.folder.exists()


@pytest.mark.parametrize(
    "layers",
    [
        [],
        [{"mediaType": "application/vnd.ollama.image.tensor", "digest": "x", "size": 1}],
        [{"mediaType": "application/vnd.ollama.image.model", "digest": "md5:1", "size": 1}],
        [{"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{SHA256}"}],
        ["nonsense"],
    ],
    ids=["none", "tensors", "no digest", "no size", "no layer"],
)
async def test_a_tag_without_a_file_says_so(case: Case, layers: list[dict[str, object]]) -> None:
    """Models that Ollama runs elsewhere, or stores in another form, are a usage error."""
    case.hub.layers = layers
    assert "has no GGUF file" in await case.fails(UsageError, OLLAMA)


async def test_a_model_without_a_licence_comes_all_the_same(case: Case) -> None:
    """Who names none has none in the note."""
    case.hub.licences = 0
    note = Note.of(await case.fetch(OLLAMA))
    assert note
    assert note.licence is None


async def test_a_renamed_repository_is_followed(case: Case) -> None:
    """A redirect on the hub itself is not the answer yet."""
    name = f"hf:owner/Small-gguf/{FILE}"
    assert (await resolve(case.find(name), means=case.means)).sha256 == SHA256
    assert (await case.fetch(name)).read_bytes() == CONTENT


async def test_a_page_at_the_hubs_address_is_no_file(case: Case) -> None:
    """A network that wants a login first answers everything with its page."""
    case.hub.hub_faults = iter([sends(PAGE, "text/html")] * 3)
    assert "HTML page" in await case.fails()


async def test_hashes_are_those_of_hashlib() -> None:
    """The content that all of this is tested with has the checksum that the hub names."""
    assert hashlib.sha256(CONTENT).hexdigest() == SHA256
