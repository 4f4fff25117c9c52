"""The bytes of one file: from where it stands to its end, checked, and then renamed."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from magpie_cli.errors import MagpieError
from magpie_cli.models.cache import Note
from magpie_cli.models.means import Means
from magpie_cli.models.origin import Origin
from magpie_cli.models.part import MAGIC, Part
from magpie_cli.models.retry import Interrupted, retried
from magpie_cli.models.wanted import Wanted, check_space, size_text
from magpie_cli.models.web import Web, a_page, is_page

if TYPE_CHECKING:
    import aiohttp

SAID_ALOUD = 1_000_000_000  # bytes; checking so many takes a while

OnProgress = Callable[[int, int | None], None]

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d+/(\d{1,18}|\*)")


@dataclass(frozen=True, slots=True)
class Transfer:
    """One file on its way, with its part open and locked."""

    wanted: Wanted
    origin: Origin
    web: Web
    part: Part
    on_progress: OnProgress
    say: Callable[[str], None]
    means: Means

    async def run(self) -> None:
        """Until the file is whole, checked and renamed. Raises MagpieError."""
        part, wanted = self.part, self.wanted
        if part.on_disk > SAID_ALOUD:
            self.say(f"checking the {size_text(part.on_disk)} that are there")
        await part.take_stock(wanted.sha256, wanted.size)
        if wanted.size is not None:
            self._check_space(wanted.size)
        self.on_progress(part.size, wanted.size)
        await retried(
            self._request, sleep=self.means.sleep, say=self.say, progress=lambda: part.size
        )
        self._check_whole()
        note = Note(wanted.name, str(wanted.source), part.size, part.sha256, wanted.licence)
        await part.keep(note)

    async def _request(self) -> None:
        """Ask for what is missing, and take it. Raises Interrupted where that was not all."""
        part, wanted = self.part, self.wanted
        if part.size and part.size == wanted.size:
            return
        url = self.origin.url(wanted.sha256)
        async with self.web.open(
            "GET", url, token=self.origin.token, headers=self._range()
        ) as response:
            self._check_status(response)
            total = self._begin(response)
            async for chunk in response.content.iter_any():
                self._take(chunk)
                self.on_progress(part.size, total)
        if total is not None and part.size < total:
            raise Interrupted(f"the connection to {response.url.host} was cut")

    def _range(self) -> dict[str, str]:
        """What is missing; of a file without a checksum only as long as it stays the same."""
        part, wanted = self.part, self.wanted
        if not part.size:
            return {}
        asked = {"Range": f"bytes={part.size}-"}
        if wanted.sha256:
            return asked
        return asked | {"If-Range": part.etag} if part.etag else {}

    def _check_status(self, response: "aiohttp.ClientResponse") -> None:
        if response.status == 416:  # there is nothing behind what we have
            self.part.empty(self.wanted.sha256)
            raise Interrupted(f"{response.url.host} has less than what is here: starting over")
        if response.status not in (200, 206):
            if response.url.authority == self.origin.host:
                raise self.origin.refusal(response)
            raise MagpieError(
                f"{response.url.host} answered {response.status}, where {self.origin.host} had "
                "sent us",
                "run the same command again later",
            )
        if is_page(response):
            raise a_page(response.url.host)

    def _begin(self, response: "aiohttp.ClientResponse") -> int | None:
        """How large the file will be, with the part as long as where the answer begins."""
        part, wanted, host = self.part, self.wanted, response.url.host
        if response.status == 206:
            found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if not found or int(found[1]) != part.size:
                part.empty(wanted.sha256)
                raise Interrupted(f"{host} sent another piece than the one asked for")
            total = int(found[2]) if found[2].isdecimal() else wanted.size
        else:
            etag = response.headers.get("ETag", "")
            part.empty(wanted.sha256, None if etag.startswith("W/") else etag or None)
            total = response.content_length if response.content_length is not None else wanted.size
        if total is None and not wanted.sha256:
            self._refuse(f"{host} says neither how long the file is nor its checksum")
        if wanted.size is None and total is not None:
            self._check_space(total)
        elif total != wanted.size:
            self._refuse(
                f"{host} has {total:,} bytes, and {wanted.size:,} were expected: the file there "
                "was cut off or replaced"
            )
        return total

    def _take(self, chunk: bytes) -> None:
        part, size = self.part, self.wanted.size
        before = part.size
        part.append(chunk)
        if before < len(MAGIC) <= part.size:
            self._check_head()
        if size is not None and part.size > size:
            self._refuse(f"more than the {size:,} bytes came that were expected")

    def _check_head(self) -> None:
        head = self.part.head
        if head.startswith(b"<"):
            self.part.discard()
            raise a_page(self.origin.host)
        if head != MAGIC:
            self._refuse(f"{self.wanted.name} is no GGUF file: it begins with {head!r}")

    def _check_whole(self) -> None:
        """Size, form and checksum; what is wrong is removed."""
        part, wanted = self.part, self.wanted
        if part.size < len(MAGIC):
            self._check_head()
        if wanted.sha256 and part.sha256 != wanted.sha256:
            self._refuse(
                f"{wanted.name} arrived with the wrong checksum ({part.sha256[:12]}..., not "
                f"{wanted.sha256[:12]}...): a byte was changed on the way"
            )

    def _check_space(self, total: int) -> None:
        folder = self.part.path.parent
        check_space(folder, total - self.part.size, self.means.free_space(folder))

    def _refuse(self, what: str) -> NoReturn:
        """Raise MagpieError, with nothing kept of a file that cannot be used."""
        self.part.discard()
        raise MagpieError(
            f"{what}; it was deleted",
            "run the same command again; if it comes out the same, choose another source",
        )
