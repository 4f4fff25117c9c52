"""Where a server is, which key may go there, and through which proxy."""

from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from magpie_cli.engine import EngineRow
from magpie_cli.engines import LOOPBACK, OWN_KEY
from magpie_cli.errors import UsageError


def checked_url(
    base_url: str, flag: str = "--base-url", example: str = "http://localhost:8000/v1"
) -> str:
    """`base_url` without a slash at its end. Raises UsageError where it is no address.

    `flag` is where it came from, `example` a good one.
    """
    try:
        url = urlsplit(base_url)
        good = url.scheme in ("http", "https") and url.hostname and url.port != 0
        (url.hostname or "").encode("idna")
    except ValueError:  # a port, a name or an IPv6 address that is none
        good = False
    good = good and not (url.query or url.fragment)
    if not good or "@" in base_url:
        address = "with a user or password in it" if "@" in base_url else repr(base_url)
        raise UsageError(
            f"{flag} {address} is not an http or https address",
            f"{flag} {example}, and the key or token in the environment",
        )
    return base_url.rstrip("/")


def find_key(row: EngineRow, base_url: str, environment: Mapping[str, str]) -> str | None:
    """The key to send to `base_url`, None for none.

    A preset's key goes to the preset's own address alone, MAGPIE_API_KEY to any other. Raises
    UsageError where the key lacks, cannot be sent, or would travel unencrypted.
    """
    own_address = base_url == row.base_url
    variable = (row.credential or "") if own_address else OWN_KEY
    key = environment.get(variable, "").strip()
    if own_address and row.required and not key:
        raise UsageError(
            f"the {row.name} engine needs a key, and {variable} is not set",
            f"export {variable}=...",
        )
    check_key(variable, key, base_url)
    return key or None


def check_key(variable: str, key: str, url: str) -> None:
    """Raises UsageError where `key`, of `variable`, cannot be sent or would travel unencrypted."""
    if not (key.isascii() and key.isprintable()):
        raise UsageError(
            f"{variable} holds what cannot be sent as a key: a line break, say",
            f"export {variable}=... with the key alone",
        )
    parts = urlsplit(url)
    if key and parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise UsageError(
            f"{url} is not encrypted, and {variable} is set",
            "use https://, or a server on this machine",
        )


def find_proxy(base_url: str) -> str | None:
    """HTTPS_PROXY and its kin, read once: aiohttp would look them up at every request.

    Raises UsageError where it is no address.
    """
    url = urlsplit(base_url)
    if url.hostname in LOOPBACK or proxy_bypass(url.hostname or ""):
        return None
    proxy = getproxies().get(url.scheme)
    if not proxy:
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    try:
        good = urlsplit(proxy).hostname and urlsplit(proxy).port != 0
    except ValueError:
        good = False
    if not good:  # it may hold a password: it is not repeated
        variable = f"{url.scheme.upper()}_PROXY"
        raise UsageError(
            f"{variable} is not the address of a proxy", f"export {variable}=http://host:port"
        )
    return proxy
