"""Requests to the hosts that models come from. A token goes to the host it is for, and no other."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from magpie_cli.address import find_proxy
from magpie_cli.errors import MagpieError
from magpie_cli.models.retry import Interrupted

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

CONNECT_TIMEOUT = 10.0  # seconds
MOST_REDIRECTS = 10
BUFFER = 1024 * 1024  # bytes that wait to be written
MOST_JSON = 4 * 1024 * 1024  # bytes

_NO_HEADERS: Mapping[str, str] = {}
Refusal = Callable[["aiohttp.ClientResponse"], MagpieError]

_TRANSIENT = frozenset({408, 425, 429})


class Web:
    """One session. Made by `open_web`."""

    def __init__(self, session: "aiohttp.ClientSession") -> None:
        self._session = session

    @asynccontextmanager
    async def open(
        self,
        method: str,
        url: str,
        *,
        token: str | None = None,
        headers: Mapping[str, str] = _NO_HEADERS,
        leave: bool = True,
    ) -> AsyncIterator["aiohttp.ClientResponse"]:
        """The answer at the end of all redirects; `token` is sent to the host of `url` alone.

        Without `leave`, a redirect to another host is itself the answer. Raises Interrupted, also
        in the middle of the body, and for statuses that may pass.
        """
        import aiohttp
        from yarl import URL

        target = home = URL(url)
        host = home.host
        try:
            for _ in range(MOST_REDIRECTS):
                host = target.host
                own = {"Accept-Encoding": "identity", **headers}
                if token and target.origin() == home.origin():
                    own["Authorization"] = f"Bearer {token}"
                async with self._session.request(
                    method,
                    target,
                    headers=own,
                    allow_redirects=False,
                    proxy=find_proxy(str(target)),
                ) as response:
                    after = _redirect(response)
                    if after is None or not (leave or after.origin() == home.origin()):
                        _check(response, host)
                        yield response
                        return
                    target = after
        except (aiohttp.ClientError, OSError) as error:
            raise _explained(error, host) from error
        raise MagpieError(f"{home.host} redirects without end", "try again later")

    async def json(
        self,
        url: str,
        *,
        token: str | None = None,
        headers: Mapping[str, str] = _NO_HEADERS,
        refusal: Refusal,
    ) -> dict[str, Any]:
        """The object that `url` answers with; empty where it is none. `refusal` explains a 4xx."""
        import orjson

        async with self.open("GET", url, token=token, headers=headers) as response:
            if response.status != 200:
                raise refusal(response)
            reply = await beginning(response, MOST_JSON)
        try:
            found = orjson.loads(reply)
        except orjson.JSONDecodeError:
            return {}
        return found if isinstance(found, dict) else {}


@asynccontextmanager
async def open_web(silence: float) -> AsyncIterator[Web]:
    """A session in which a server may be silent for so many seconds."""
    import aiohttp

    async with aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=BUFFER,
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=min(CONNECT_TIMEOUT, silence), sock_read=silence
        ),
    ) as session:
        yield Web(session)


async def beginning(response: "aiohttp.ClientResponse", most: int) -> bytes:
    """The first bytes of a body, `most` at the most."""
    read = b""
    async for chunk in response.content.iter_any():
        read += chunk
        if len(read) >= most:
            break
    return read[:most]


def is_page(response: "aiohttp.ClientResponse") -> bool:
    """Whether it is a page for people, by its own word."""
    return response.content_type in ("text/html", "application/xhtml+xml")


def a_page(host: str | None) -> MagpieError:
    """A page instead of a file."""
    return MagpieError(
        f"{host} answered with an HTML page instead of the file",
        "a login page of this network, or of a proxy? Open that address in a browser, then run "
        "the same command again",
    )


def _redirect(response: "aiohttp.ClientResponse") -> "URL | None":
    from yarl import URL

    location = response.headers.get("Location")
    if response.status not in (301, 302, 303, 307, 308) or not location:
        return None
    try:
        after = response.url.join(URL(location))
        good = after.scheme in ("http", "https") and after.host
    except ValueError:
        good = None
    if not good:
        raise MagpieError(f"{response.url.host} redirects to what is no address", "try again later")
    return after


def _check(response: "aiohttp.ClientResponse", host: str | None) -> None:
    if response.status in _TRANSIENT or response.status >= 500:
        wait = response.headers.get("Retry-After", "")
        raise Interrupted(
            f"{host} answered {response.status}",
            retry_after=float(wait) if wait.isdecimal() else None,
        )


def _explained(error: Exception, host: str | None) -> Interrupted | MagpieError:
    """What may pass, and what will not."""
    import aiohttp

    if isinstance(error, TimeoutError):
        connected = not isinstance(error, aiohttp.ConnectionTimeoutError)
        return Interrupted(f"no word from {host} in time", answered=connected)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return MagpieError(
            f"the proxy on the way to {host} answered {error.status}",
            "if it wants a password: export HTTPS_PROXY=http://user:password@host:port",
        )
    if isinstance(error, aiohttp.ClientSSLError):
        return MagpieError(
            f"no safe connection to {host}: {_reason(error)}",
            "behind a proxy that reads along, name its certificates: export "
            "SSL_CERT_FILE=/path/to/them.pem",
        )
    if isinstance(error, aiohttp.ClientConnectorError):
        return Interrupted(f"{host}: {_reason(error)}", answered=False)
    return Interrupted(f"the connection to {host} was cut")


def _reason(error: "aiohttp.ClientConnectorError") -> str:
    """Without the words that aiohttp puts around what the system said."""
    return error.os_error.strerror or str(error.os_error) or type(error.os_error).__name__
