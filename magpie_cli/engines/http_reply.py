"""What an HTTP answer holds: its body, bounded, and the JSON object in it."""

from typing import Any

import aiohttp
import orjson

from magpie_cli.engine import Transient


async def read_words(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The beginning of a body, where no more than its words matter."""
    words = b""
    while len(words) < most and (chunk := await response.content.read(most - len(words))):
        words += chunk
    return words


async def read_body(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The body, up to `most` bytes: a server gone mad must not fill the memory."""
    chunks = []
    size = 0
    while chunk := await response.content.readany():
        chunks.append(chunk)
        size += len(chunk)
        if size > most:
            response.close()
            raise Transient("reply_too_large", f"a reply of more than {most:,} bytes")
    return b"".join(chunks)


def json_object(reply: bytes, url: str) -> dict[str, Any]:
    """The JSON object that `url` answered with. Raises Transient where it is none."""
    try:
        answer = orjson.loads(reply)
    except orjson.JSONDecodeError as error:
        raise Transient("bad_reply", f"{url} answered with invalid JSON: {error}") from error
    if not isinstance(answer, dict):
        raise Transient("bad_reply", f"{url} answered with a JSON {type(answer).__name__}")
    return answer


def reason(error: Exception) -> str:
    """Without the words that aiohttp puts around what the system said."""
    if isinstance(error, aiohttp.ClientResponseError):  # its text holds the proxy's password
        is_proxy = isinstance(error, aiohttp.ClientHttpProxyError)
        said = f"the proxy answered {error.status}" if is_proxy else "an answer that is no HTTP:"
        return " ".join(f"{said} {error.message}".split())
    inner = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return str(inner) or type(inner).__name__
