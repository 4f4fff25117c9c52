"""Hugging Face: which file, how large, with which checksum and licence.

A file is at `{endpoint}/{repository}/resolve/{revision}/{file}`; for a large one the answer is a
redirect to another host, with its SHA-256 in X-Linked-ETag and its size in X-Linked-Size. Errors
have a word in X-Error-Code (huggingface_hub's `hf_raise_for_status` lists them).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from magpie_cli.address import check_key, checked_url
from magpie_cli.errors import MagpieError, UsageError
from magpie_cli.models.names import HubFile
from magpie_cli.models.origin import LICENCE_LENGTH, Facts, checksum, whole_number
from magpie_cli.models.retry import Interrupted
from magpie_cli.models.web import Web, a_page, is_page

if TYPE_CHECKING:
    import aiohttp

ENDPOINT = "https://huggingface.co"
ENDPOINT_VARIABLE = "HF_ENDPOINT"
TOKEN_VARIABLE = "HF_TOKEN"  # noqa: S105 - its name
BAD_TOKEN = "Invalid credentials"  # noqa: S105 - how X-Error-Message begins then


class Hub:
    """Where one file of a repository comes from. Raises UsageError for a bad HF_* variable."""

    def __init__(self, file: HubFile, environment: Mapping[str, str]) -> None:
        endpoint = environment.get(ENDPOINT_VARIABLE, "").strip() or ENDPOINT
        self._endpoint = checked_url(endpoint, ENDPOINT_VARIABLE, "https://huggingface.co")
        token = environment.get(TOKEN_VARIABLE, "").strip()
        check_key(TOKEN_VARIABLE, token, self._endpoint)
        self.token = token or None
        self.host = urlsplit(self._endpoint).netloc
        self._file = file

    def url(self, sha256: str | None = None) -> str:  # noqa: ARG002 - a revision says it here
        """The file's address."""
        file = self._file
        revision = quote(file.revision, safe="")
        return f"{self._endpoint}/{file.repository}/resolve/{revision}/{quote(file.file)}"

    async def describe(self, web: Web, licence: str | None) -> Facts:
        """What the hub's own answer says, before it sends us elsewhere."""
        async with web.open("HEAD", self.url(), token=self.token, leave=False) as response:
            if response.status >= 400:
                raise self.refusal(response)
            if response.status == 200 and is_page(response):
                raise a_page(self.host)
            headers = response.headers
            length = headers.get("Content-Length", "") if response.status == 200 else ""
            size = headers.get("X-Linked-Size") or length
            sha256 = checksum(headers.get("X-Linked-ETag", ""))
        return Facts(whole_number(size), sha256, licence or await self._licence(web))

    async def _licence(self, web: Web) -> str | None:
        """As the repository's card names it; None where the hub does not say."""
        revision = quote(self._file.revision, safe="")
        url = f"{self._endpoint}/api/models/{self._file.repository}/revision/{revision}"
        try:
            answer = await web.json(url, token=self.token, refusal=self.refusal)
        except (Interrupted, MagpieError):  # the file may come all the same
            return None
        return _card_licence(answer)

    def refusal(self, response: "aiohttp.ClientResponse") -> MagpieError:
        """Gated, private, not there, or something else."""
        file, status = self._file, response.status
        code = response.headers.get("X-Error-Code", "")
        page = f"{self._endpoint}/{file.repository}"
        bad_token = response.headers.get("X-Error-Message", "").startswith(BAD_TOKEN)
        if status in (401, 403) and (bad_token or code != "RepoNotFound"):
            return self._gated(status, page)
        if status == 404 and code == "RevisionNotFound":
            return UsageError(f"{page} has no revision {file.revision!r}", f"see {page}/tree/main")
        if status == 404 and code != "RepoNotFound":
            return UsageError(f"{page} has no file {file.file!r}", f"see {page}/tree/main")
        if status in (401, 403, 404):
            which = f"that {TOKEN_VARIABLE} may read" if self.token else "(or it is private)"
            return UsageError(
                f"{self.host} has no repository {file.repository} {which}",
                f"check the name; for a private one, export {TOKEN_VARIABLE}=... of an account "
                "that may read it",
            )
        return MagpieError(f"{response.url.host} answered {status} for {file}", f"see {page}")

    def _gated(self, status: int, page: str) -> MagpieError:
        if not self.token:
            return MagpieError(
                f"{page} gives its files only to accounts that have accepted its licence",
                f"accept it on that page, then export {TOKEN_VARIABLE}=... (made at "
                f"{self._endpoint}/settings/tokens), and run the same command again",
            )
        if status == 401:
            return MagpieError(
                f"{self.host} does not accept {TOKEN_VARIABLE}",
                f"make another at {self._endpoint}/settings/tokens, or unset {TOKEN_VARIABLE}",
            )
        return MagpieError(
            f"{TOKEN_VARIABLE} may not read {page}: its account has not accepted the licence",
            "accept it on that page, and run the same command again",
        )


def _card_licence(answer: dict[str, Any]) -> str | None:
    card = answer.get("cardData")
    fields = card if isinstance(card, dict) else {}
    licence = fields.get("license_name") or fields.get("license")
    licence = licence[0] if isinstance(licence, list) and licence else licence
    return licence[:LICENCE_LENGTH] if isinstance(licence, str) else None
