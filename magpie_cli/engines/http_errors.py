"""What an HTTP answer means for a pair: status and headers -> one of the four engine errors. Pure.

Status codes: RFC 9110 section 15, RFC 6585 section 4 (429). Retry-After: RFC 9110 section 10.2.3.
"""

import math
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import NamedTuple

import orjson

from magpie_cli.engine import (
    NO_SYSTEM_ROLE,
    EngineError,
    EngineRefused,
    PairRefused,
    StatusMeaning,
    Throttled,
    Transient,
)

CONTEXT_EXCEEDED = "context_exceeded"  # the kind of a dialogue that is too long for the model
MESSAGE_SHOWN = 300  # characters of a server's own words
HEADERS = ("Retry-After", "Location")  # that say something about an error

_NO_MEANINGS: Mapping[int, StatusMeaning] = {}
_MESSAGES = ("message", "detail", "error")
_STATUS = re.compile("[45][0-9]{2}")
_TRANSIENT = frozenset({408, 409, 425})
# As llama.cpp and OpenAI call it: https://platform.openai.com/docs/guides/error-codes
_TOO_LONG = frozenset({"exceed_context_size_error", "context_length_exceeded"})
_PAIR = frozenset({400, 413, 422})
# In the words of Gemma's chat template, of the first Mistrals', and of OpenAI for o1-mini. Our
# messages do alternate: what the second means is the system message.
_NO_SYSTEM = re.compile(
    r"system role (is )?not supported"
    r"|conversation roles must alternate user/assistant"
    r"|does not support 'system'",
    re.IGNORECASE,
)


class ServerWords(NamedTuple):
    """What a server says of its error: a sentence for people, a code and a type for programs."""

    message: str
    code: str
    type: str = ""


def classify(
    status: int,
    words: ServerWords,
    headers: Mapping[str, str],
    url: str,
    meanings: Mapping[int, StatusMeaning] = _NO_MEANINGS,
) -> EngineError:
    """The error of an answer with `status`; `meanings` says what some mean on this server."""
    kind = f"http_{status}"
    meaning = meanings.get(status, StatusMeaning(""))
    said = ": ".join(filter(None, (meaning.words, words.message)))
    text = f"{url} answered {status}" + (f": {said}" if said else "")
    wait = retry_after(headers.get("Retry-After"))
    if status == 429 and words.code == "insufficient_quota":  # OpenAI's: waiting does not help
        return EngineRefused(kind, text, "the account's quota is used up: top it up")
    if status == 429 or meaning.wait or (status == 503 and wait is not None):
        return Throttled(kind, text, wait)
    if status >= 500 or status in _TRANSIENT:
        return Transient(kind, text)
    if status in _PAIR and _TOO_LONG & {words.code, words.type}:
        return PairRefused(CONTEXT_EXCEEDED, text)
    if status in _PAIR:
        no_system = _NO_SYSTEM.search(words.message)
        return PairRefused(NO_SYSTEM_ROLE if no_system else kind, text)
    return EngineRefused(kind, text, _hint(status, headers))


def error_in_reply(
    reply: bytes,
    url: str,
    hide: Callable[[str], str] = str,
    meanings: Mapping[int, StatusMeaning] = _NO_MEANINGS,
) -> EngineError:
    """The error in a body with status 200; its `code` may be the status that it should have had."""
    words = server_words(reply, hide)
    if _STATUS.fullmatch(words.code):
        return classify(int(words.code), words, {}, url, meanings)
    return Transient("error_in_reply", f"{url} answered 200 with an error: {words.message}")


def server_words(reply: bytes, hide: Callable[[str], str] = str) -> ServerWords:
    """From `{"error": {"message": ..., "code": ...}}`, its common variants, or plain text.

    `hide` takes out what must not be repeated, before the message is cut.
    """
    try:
        answer = orjson.loads(reply)
    except orjson.JSONDecodeError:
        answer = None
    error = (answer.get("error") or answer) if isinstance(answer, dict) else answer
    fields = error if isinstance(error, dict) else {"message": error}
    message = next((fields[key] for key in _MESSAGES if isinstance(fields.get(key), str)), None)
    code, type_ = fields.get("code"), fields.get("type")
    text = " ".join((message or _unescaped(answer, reply)).split())
    return ServerWords(
        hide(text)[:MESSAGE_SHOWN],
        str(code) if isinstance(code, str | int) else "",
        type_ if isinstance(type_, str) else "",
    )


def _unescaped(answer: object, reply: bytes) -> str:
    """The reply as text; JSON without its escapes, in which a key might hide."""
    try:
        return orjson.dumps(answer).decode() if answer else reply.decode("utf-8", "replace")
    except orjson.JSONEncodeError:  # nested too deep
        return "an error that cannot be shown"


def retry_after(value: str | None, now: float | None = None) -> float | None:
    """Seconds from now, from a number or an HTTP date; None where it is neither.

    `now` is the time in seconds since the epoch.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        from email.utils import parsedate_to_datetime

        try:
            date = parsedate_to_datetime(value)
            date = date if date.tzinfo else date.replace(tzinfo=UTC)  # HTTP dates are in GMT
            seconds = date.timestamp() - (time.time() if now is None else now)
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _hint(status: int, headers: Mapping[str, str]) -> str:
    if status in (401, 403):
        return "the key is wrong or lacks rights; magpie doctor names the variable it comes from"
    if status == 407:
        return "the proxy wants a user and a password: HTTP_PROXY=http://user:password@host:port"
    if status == 402:
        return "the account has no credit: top it up"
    if 300 <= status < 400:
        address = headers.get("Location", "another address")[:MESSAGE_SHOWN]
        return f"it redirects to {address}: mend --base-url"
    return "check --base-url (it usually ends in /v1) and --model"
