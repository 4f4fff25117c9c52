"""What the two places that models come from have in common."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from magpie_cli.errors import MagpieError
from magpie_cli.models.web import Web

if TYPE_CHECKING:
    import aiohttp

SHA256_DIGITS = 64
MOST_DIGITS = 18
LICENCE_LENGTH = 100  # characters of it that are shown


@dataclass(frozen=True, slots=True)
class Facts:
    """Size in bytes, SHA-256 in hexadecimal, the licence's name; None where nobody says."""

    size: int | None
    sha256: str | None
    licence: str | None


class Origin(Protocol):
    """A host that has the file. `token` is sent to it alone."""

    @property
    def host(self) -> str:
        """Its name, for sentences."""
        ...

    @property
    def token(self) -> str | None:
        """The user's, None for none."""
        ...

    def url(self, sha256: str | None) -> str:
        """The address of the file that has this checksum."""
        ...

    async def describe(self, web: Web, licence: str | None) -> Facts:
        """What the file is; `licence` is what is known of that. Raises MagpieError."""
        ...

    def refusal(self, response: "aiohttp.ClientResponse") -> MagpieError:
        """What an answer means that is no file."""
        ...


def whole_number(text: str) -> int | None:
    """`text` if it is a number of bytes that can be."""
    return int(text) if text.isdecimal() and len(text) <= MOST_DIGITS else None


def checksum(text: str) -> str | None:
    """`text` if it is a SHA-256 in hexadecimal."""
    digits = text.strip().strip('"').lower()
    good = len(digits) == SHA256_DIGITS and set(digits) <= set("0123456789abcdef")
    return digits if good else None
