"""What an HTTP answer holds: the lines of its body, and the JSON object in it."""

import os
import re
import socket
import ssl
from collections.abc import AsyncGenerator
from typing import Any

import orjson

from magpie_cli.engine import Transient

MAX_LINE_BYTES = 256 * 1024
_ERRNO = re.compile(r"\[Errno (\d+)\]")


async def read_lines(pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Each line of a body the moment it is there, without its end."""
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line
        if len(rest) > MAX_LINE_BYTES:
            raise Transient("bad_reply", f"a piece of the answer is over {MAX_LINE_BYTES:,} bytes")
    yield rest


def json_object(reply: bytes, url: str) -> dict[str, Any]:
    """The JSON object that `url` answered with. Raises Transient where it is none."""
    if reply.lstrip()[:1] == b"<":
        page = f"{url} answered with an HTML page, not with JSON"
        raise Transient("bad_reply", page)
    try:
        answer = orjson.loads(reply)
    except orjson.JSONDecodeError as error:
        raise Transient("bad_reply", f"{url} answered with invalid JSON: {error}") from error
    if not isinstance(answer, dict):
        raise Transient("bad_reply", f"{url} answered with a JSON {type(answer).__name__}")
    return answer


def reason(error: OSError) -> str:
    """What broke a connection, in the system's words, without the addresses that asyncio adds."""
    if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
        return "no TLS is spoken there: http:// in place of https://?"
    if isinstance(error, ssl.SSLError):
        return getattr(error, "verify_message", "") or error.reason or str(error)
    if isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    found = _ERRNO.search(str(error))  # also of one address of several
    said = os.strerror(int(found[1])) if found else str(error)
    return said or "the connection was closed"  # of TLS, asyncio says nothing
