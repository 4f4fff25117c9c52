"""What an HTTP answer holds: its body, bounded, whole or by lines, and the JSON object in it."""

from collections.abc import AsyncGenerator
from typing import Any

import orjson
from pyreqwest.exceptions import (
    BodyDecodeError,
    DecodeError,
    DetailedPyreqwestError,
    PyreqwestError,
)
from pyreqwest.response import Response

from magpie_cli.engine import Transient

MAX_LINE_BYTES = 256 * 1024


def header(response: Response, name: str) -> str | None:
    """The first header of that name; None where there is none, or it holds no ASCII."""
    try:
        return response.get_header(name)
    except ValueError:  # pyreqwest's, of a value that is no text to it
        return None


async def read_words(response: Response, most: int) -> bytes:
    """The beginning of a body, where no more than its words matter."""
    words = b""
    while len(words) < most and (chunk := await response.body_reader.read_chunk()):
        words += chunk
    return words[:most]


async def read_body(response: Response, most: int) -> bytes:
    """The body, up to `most` bytes: a server gone mad must not fill the memory."""
    chunks = []
    size = 0
    while chunk := await response.body_reader.read_chunk():
        chunks.append(chunk)
        size += len(chunk)
        if size > most:
            raise Transient("reply_too_large", f"a reply of more than {most:,} bytes")
    return b"".join(chunks)


async def read_lines(response: Response) -> AsyncGenerator[bytes]:
    """Each line of a body the moment it is there, without its end."""
    rest = b""
    while chunk := await response.body_reader.read_chunk():
        *lines, rest = (rest + bytes(chunk)).split(b"\n")
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


def reason(error: PyreqwestError) -> str:
    """What was wrong at the bottom, without the words that each layer puts around it."""
    causes = (isinstance(error, DetailedPyreqwestError) and error.details["causes"]) or ()
    words = " ".join((causes[-1]["message"] if causes else error.message).split())
    is_no_http = isinstance(error, DecodeError) and not isinstance(error, BodyDecodeError)
    return f"an answer that is no HTTP: {words}" if is_no_http else words
