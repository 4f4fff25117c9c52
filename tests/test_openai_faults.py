"""What each fault of an OpenAI-compatible server means for a pair."""

import asyncio
from email.utils import formatdate
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from magpie_cli.engine import (
    Completion,
    EngineError,
    EngineRefused,
    PairRefused,
    Sampling,
    Throttled,
    Transient,
)
from magpie_cli.engines.http_chat import _completion
from magpie_cli.engines.http_client import open_client
from magpie_cli.engines.http_server import MAX_REPLY_BYTES, HttpServer
from magpie_cli.errors import MagpieError
from magpie_cli.records import Usage
from tests.chat_server import (
    ChatServer,
    Fault,
    Flood,
    answer,
    cuts,
    hangs,
    refuses,
    resets,
    says,
    sends,
)
from tests.processes import wait_until
from tests.test_openai import MESSAGES, completed, connected


def in_reply(**error: object) -> Fault:
    """An error with status 200."""
    return says({"error": error})


FAULTS: dict[str, tuple[Fault, type[EngineError], str]] = {
    "reset": (resets, Transient, "connection"),
    "cut body": (cuts, Transient, "connection"),
    "cut JSON": (sends(b'{"choices": [{"mess'), Transient, "bad_reply"),
    "no body": (sends(b""), Transient, "bad_reply"),
    "HTML": (sends(b"<html>please log in</html>"), Transient, "bad_reply"),
    "invalid UTF-8": (sends(b'{"choices": "\xff"}'), Transient, "bad_reply"),
    "lone surrogate": (sends(rb'{"choices": "\ud800"}'), Transient, "bad_reply"),
    "NaN": (sends(b'{"choices": NaN}'), Transient, "bad_reply"),
    "error nested too deep": (
        sends(b'{"error": 1, "x": ' + b"[" * 500 + b"]" * 500 + b"}"),
        Transient,
        "error_in_reply",
    ),
    "nested too deep": (sends(b"[" * 100_000 + b"]" * 100_000), Transient, "bad_reply"),
    "NUL": (sends(bytes(1000)), Transient, "bad_reply"),
    "JSON list": (says([answer("no")]), Transient, "bad_reply"),
    "JSON string": (says("no"), Transient, "bad_reply"),
    "JSON null": (says(None), Transient, "bad_reply"),
    "no choices": (says({}), Transient, "bad_reply"),
    "null choices": (says({"choices": None}), Transient, "bad_reply"),
    "empty choices": (says({"choices": []}), Transient, "bad_reply"),
    "choices object": (says({"choices": {"message": {}}}), Transient, "bad_reply"),
    "choice list": (says({"choices": [["message"]]}), Transient, "bad_reply"),
    "no message": (says({"choices": [{}]}), Transient, "bad_reply"),
    "null message": (says({"choices": [{"message": None}]}), Transient, "bad_reply"),
    "no content": (says({"choices": [{"message": {}}]}), Transient, "bad_reply"),
    "content list": (says(answer([{"text": "no"}])), Transient, "bad_reply"),
    "content number": (says(answer(7)), Transient, "bad_reply"),
    "null content": (says(answer(None)), Transient, "empty_reply"),
    "empty reply": (says(answer("")), Transient, "empty_reply"),
    "blank reply": (says(answer(" \n\t\u2028")), Transient, "empty_reply"),
    "cut empty": (says(answer("", "length")), Transient, "empty_reply"),
    "content filter": (says(answer("no", "content_filter")), PairRefused, "content_filter"),
    "filtered null": (says(answer(None, "content_filter")), PairRefused, "content_filter"),
    "error in reply": (in_reply(message="overloaded"), Transient, "error_in_reply"),
    "error text in reply": (says({"error": "overloaded"}), Transient, "error_in_reply"),
    "error beside choices": (says(answer("no") | {"error": "no"}), Transient, "error_in_reply"),
    "429 in reply": (in_reply(message="busy", code=429), Throttled, "http_429"),
    "503 in reply": (in_reply(message="busy", code="503"), Transient, "http_503"),
    "400 in reply": (in_reply(message="too long", code=400), PairRefused, "http_400"),
    "401 in reply": (in_reply(message="wrong key", code=401), EngineRefused, "http_401"),
    "used-up quota": (refuses(429, code="insufficient_quota"), EngineRefused, "http_429"),
    "503 with Retry-After": (refuses(503, Retry_After="3"), Throttled, "http_503"),
    "HTML of a proxy": (says("<html>Bad Gateway</html>", 502), Transient, "http_502"),
    "error list": (says([{"error": "no"}], 500), Transient, "http_500"),
}
for _kind, _statuses in {
    Transient: (408, 409, 425, 500, 502, 503, 504, 529),
    Throttled: (429,),
    PairRefused: (400, 413, 422),
    EngineRefused: (401, 402, 403, 404),
}.items():
    FAULTS |= {str(status): (refuses(status), _kind, f"http_{status}") for status in _statuses}


async def error_after(server: ChatServer, fault: Fault) -> EngineError:
    """What a request raises that meets this fault."""
    async with connected(server.url, timeout=30) as model:
        # A kept connection that is lost at once is no fault: the request goes out on a new one.
        server.faults = iter([fault, fault] if fault is resets else [fault])
        with pytest.raises(EngineError) as caught:
            await model.complete(MESSAGES, Sampling())
        assert (await model.complete(MESSAGES, Sampling())).text
    return caught.value


@pytest.mark.parametrize(("fault", "expected", "kind"), FAULTS.values(), ids=FAULTS.keys())
async def test_each_fault_has_its_meaning(
    server: ChatServer, fault: Fault, expected: type[EngineError], kind: str
) -> None:
    """A fault is one of the four errors, said in words, and the next request is unharmed."""
    error = await error_after(server, fault)
    assert type(error) is expected
    assert error.kind == kind
    assert error.message.strip()
    assert "\n" not in error.message
    assert len(error.message) < 600


async def test_an_answer_that_does_not_come_is_a_timeout(server: ChatServer) -> None:
    """A server that does not answer within --timeout is an error that is worth another try."""
    async with connected(server.url, timeout=1.0, model="tiny") as model:
        server.faults = iter([hangs])
        with pytest.raises(Transient) as caught:
            await model.complete(MESSAGES, Sampling())
    assert caught.value.kind == "timeout"
    assert server.url in caught.value.message


async def test_an_answer_that_drips_is_a_timeout(server: ChatServer) -> None:
    """A server that keeps sending a little is not waited for beyond --timeout."""

    async def drips(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.05)

    async with connected(server.url, timeout=1.0, model="tiny") as model:
        server.faults = iter([drips])
        with pytest.raises(Transient) as caught:
            await model.complete(MESSAGES, Sampling())
    assert caught.value.kind == "timeout"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("3", 3.0),
        ("0.25", 0.25),
        ("0", 0.0),
        ("-7", 0.0),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        ("86400", 86400.0),
        (formatdate(0, usegmt=True), 0.0),
    ],
)
async def test_an_odd_retry_after_is_survived(
    server: ChatServer, header: str, expected: float | None
) -> None:
    """A 429 stays a throttle whatever its Retry-After holds; what is no time is none."""
    error = await error_after(server, refuses(429, Retry_After=header))
    assert isinstance(error, Throttled)
    assert error.retry_after == expected


@pytest.mark.parametrize("header", [b"Retry-After", b"Location", b"Content-Type"])
async def test_a_header_of_odd_bytes_is_survived(header: bytes) -> None:
    """What no header may hold is as if it were not there."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 429 No\r\n%s: \xff\xfe\r\nContent-Length: 2\r\n\r\n{}" % header)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as raw:
        url = f"http://127.0.0.1:{raw.sockets[0].getsockname()[1]}/v1"
        async with open_client(url, 10) as client:
            server = HttpServer(client, url, None, {})
            for method in (server.ask("POST", "/x"), server.send("/x", {})):
                with pytest.raises(Throttled, match="answered 429"):
                    await method


async def test_a_long_redirect_is_shown_in_part(server: ChatServer) -> None:
    """A server decides where it points, not how much of the terminal it fills."""
    error = await error_after(server, says({}, 301, {"Location": "http://x/" + "y" * 5000}))
    assert len(error.hint or "") < 400


@pytest.mark.parametrize("reason", ["x" * 1_000_000, ["stop"], {}, 7])
async def test_an_odd_finish_reason_says_nothing(server: ChatServer, reason: Any) -> None:
    """It is no word to act upon, and none for a message."""
    error = await error_after(server, says(answer("", finish_reason=reason)))
    assert error.message == "an empty answer (finish_reason None)"


@pytest.mark.parametrize("tokens", [2**64 - 1, -1, True, 1.5])
async def test_what_no_server_can_have_counted_is_no_count(server: ChatServer, tokens: Any) -> None:
    """Two of the largest number would not fit into a row."""
    counts = {"usage": {"prompt_tokens": tokens, "completion_tokens": 5}}
    server.faults = iter([says(answer("Words.") | counts)])
    assert (await completed(server)).usage == Usage(None, 5)


async def test_the_servers_words_are_passed_on(server: ChatServer) -> None:
    """The message holds address, status and what the server said."""
    error = await error_after(server, refuses(400, "maximum context length is 4096 tokens"))
    assert error.message == (
        f"{server.url}/chat/completions answered 400: maximum context length is 4096 tokens"
    )


async def test_a_reply_may_be_as_large_as_the_limit(server: ChatServer) -> None:
    """Exactly 8 MiB are read, and not a byte more."""
    short = b'{"choices": [{"message": {"content": "fits"}}]}'
    async with connected(server.url) as model:
        server.faults = iter([sends(short.ljust(MAX_REPLY_BYTES + extra)) for extra in (0, 1)])
        assert (await model.complete(MESSAGES, Sampling())).text == "fits"
        with pytest.raises(Transient, match="8,388,608 bytes"):
            await model.complete(MESSAGES, Sampling())


@pytest.mark.parametrize("status", [200, 500])
async def test_a_larger_reply_is_not_read(server: ChatServer, status: int) -> None:
    """A server that never stops is cut off at 8 MiB, and its error at the words of one."""
    flood = Flood(status)
    error = await error_after(server, flood)
    kinds = {200: "reply_too_large", 500: "http_500"}
    assert (type(error), error.kind) == (Transient, kinds[status])
    await asyncio.to_thread(wait_until, lambda: flood.is_over, "nobody reads on")
    assert (flood.sent < MAX_REPLY_BYTES) == (status == 500)


async def test_a_server_that_speaks_no_http_is_no_proxy() -> None:
    """Without one, an answer that is none is said to be no HTTP."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail.example.com ESMTP\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as raw:
        url = f"http://127.0.0.1:{raw.sockets[0].getsockname()[1]}/v1"
        with pytest.raises(MagpieError, match="an answer that is no HTTP") as caught:
            async with connected(url):
                pass
    assert "proxy" not in caught.value.message


@pytest.mark.parametrize("place", ["listing", "chat"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_reported_and_not_followed(
    server: ChatServer, status: int, place: str
) -> None:
    """Pair and key do not go where the server points; the user is told where that is."""
    with ChatServer() as elsewhere:
        redirect = says({}, status, {"Location": f"{elsewhere.url}/chat/completions"})
        if place == "listing":
            server.listing = redirect
        server.faults = iter([redirect])
        with pytest.raises(EngineRefused) as caught:
            async with connected(server.url, environment={"MAGPIE_API_KEY": "canary"}) as model:
                await model.complete(MESSAGES, Sampling())
        assert caught.value.kind == f"http_{status}"
        assert elsewhere.url in (caught.value.hint or "")
        assert elsewhere.asked == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=6,
)
CHOICE = st.fixed_dictionaries(
    {},
    optional={
        "message": JSON | st.fixed_dictionaries({}, optional={"content": JSON}),
        "finish_reason": JSON | st.just("content_filter"),
    },
)


@example_settings(deadline=None, max_examples=150)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "choices": JSON | st.lists(CHOICE, max_size=2),
            "usage": JSON | st.dictionaries(st.sampled_from(["prompt_tokens"]), JSON),
        },
    )
)
def test_any_object_is_a_completion_or_an_engine_error(reply: dict[str, Any]) -> None:
    """No answer raises anything else, and a completion's text is stripped and never empty."""
    try:
        completion = _completion(reply)
    except EngineError:
        return
    assert isinstance(completion, Completion)
    assert completion.text == completion.text.strip() != ""
