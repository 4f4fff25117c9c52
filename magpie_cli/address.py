"""Where a server is, whether a key may travel there, and through which proxy."""

import re
from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from magpie_cli.errors import UsageError

LOOPBACK = ("localhost", "127.0.0.1", "::1")
PROXIES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")

_NO_HOST = re.compile(
    r"""[\s<>^`{|}%"\\]"""
)  # https://url.spec.whatwg.org/#forbidden-host-code-point


def checked_url(
    base_url: str, flag: str = "--base-url", example: str = "http://localhost:8000/v1"
) -> str:
    """`base_url` without a slash at its end. Raises UsageError where it is no address.

    `flag` is where it came from, `example` a good one.
    """
    url = _split(base_url, ("http", "https"))
    if not url or url.query or url.fragment or "@" in base_url:
        address = "with a user or password in it" if "@" in base_url else repr(base_url)
        raise UsageError(
            f"{flag} {address} is not an http or https address",
            f"{flag} {example}, and the key or token in the environment",
        )
    return base_url.rstrip("/")


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
    """HTTPS_PROXY and its kin, as urllib finds them; None on loopback, and where none is set.

    Raises UsageError where it is no address, or of a scheme that is not in PROXIES.
    """
    url = urlsplit(base_url)
    if url.hostname in LOOPBACK or proxy_bypass(url.hostname or ""):
        return None
    proxy = getproxies().get(url.scheme)
    if not proxy:
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if not _split(proxy, PROXIES):
        variable = f"{url.scheme.upper()}_PROXY"  # what it holds may be a password: not repeated
        raise UsageError(
            f"{variable} is not the address of a proxy", f"export {variable}=http://host:port"
        )
    return proxy


def _split(address: str, schemes: Collection[str]) -> SplitResult | None:
    """Its parts, None where it is no address that can be connected to, or of another scheme."""
    try:
        url = urlsplit(address)
        host = url.hostname or ""
        host.encode("idna")
        address.encode()
        good = url.scheme in schemes and host and url.port != 0 and not _NO_HOST.search(host)
    except ValueError:  # a port, a name or an IPv6 address that is none
        return None
    return url if good else None
