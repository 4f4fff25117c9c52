"""Answers that come in pieces: what they make together, and what is no answer."""

from collections.abc import AsyncGenerator
from typing import Any

import orjson
import pytest

from magpie_cli.engine import (
    Completion,
    EngineError,
    Message,
    PairRefused,
    Sampling,
    Throttled,
    Transient,
)
from magpie_cli.engines.http_chat import HttpChatModel, _completion, _joined
from magpie_cli.engines.http_client import open_client
from magpie_cli.engines.http_server import HttpServer
from magpie_cli.records import Usage
from tests.chat_server import ChatServer, Fault, cuts, resets, sends

Piece = dict[str, Any]

HELLO: list[Message] = [{"role": "user", "content": "Hi"}]
FIRST: Piece = {"choices": [{"delta": {"role": "assistant", "content": None}}]}
LAST: Piece = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
USAGE: Piece = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}


def says(text: object) -> Piece:
    """A piece of a chat."""
    return {"choices": [{"delta": {"content": text}, "finish_reason": None}]}


async def joined(*pieces: Piece) -> Completion:
    """What comes of these pieces."""

    async def stream() -> AsyncGenerator[Piece]:
        for piece in pieces:
            yield piece

    return _completion(await _joined(stream()))


def events(*pieces: Piece, done: bytes = b"data: [DONE]\n\n") -> bytes:
    """The body of a stream."""
    return b"".join(b"data: " + orjson.dumps(piece) + b"\n\n" for piece in pieces) + done


async def streamed(server: ChatServer, fault: Fault) -> Completion:
    """What a model that streams makes of this answer."""
    server.faults = iter([fault])
    async with open_client(server.url, 60) as client:
        asked = HttpServer(client, server.url, None, {})
        return await HttpChatModel("x", "tiny", asked, {}, streams=True).complete(HELLO, Sampling())


async def test_pieces_make_one_answer() -> None:
    """Their texts are put together, and reason and usage are the last ones named."""
    done = await joined(FIRST, says(" two"), says(" words\n"), LAST, USAGE)
    assert done == Completion("two words", "stop", Usage(5, 2))


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
async def test_pieces_of_reasoning_make_one_thought(key: str) -> None:
    """What comes beside the words is put together, and stays beside them."""
    thought = [{"choices": [{"delta": {key: word}}]} for word in ("Two, ", "I think.")]
    done = await joined(FIRST, *thought, says("two words"), LAST)
    assert (done.text, done.reasoning) == ("two words", "Two, I think.")


async def test_pieces_of_a_plain_text_make_one_answer() -> None:
    """The older API says `text` where chats have a `delta`."""
    pieces = [{"choices": [{"text": word}]} for word in (" two", " words")]
    end = {"choices": [{"text": "", "finish_reason": "length"}]}
    assert await joined(*pieces, end) == Completion("two words", "length", Usage(None, None))


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"choices": None}, id="null"),
        pytest.param({"choices": []}, id="no choice"),
        pytest.param({"choices": [{"delta": {}}]}, id="no words"),
        pytest.param({"choices": [{"delta": {"role": "assistant"}}]}, id="a role"),
        pytest.param({"choices": [{"delta": {"reasoning_content": None}}]}, id="no thought"),
        pytest.param({"usage": None}, id="no usage"),
    ],
)
async def test_a_piece_without_words_changes_nothing(extra: Piece) -> None:
    """Wherever it comes, the text is that of the others."""
    done = await joined(extra, says("one"), extra, LAST, USAGE, extra)
    assert done == Completion("one", "stop", Usage(5, 2))


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param({"choices": 5}, id="a number for choices"),
        pytest.param({"choices": "stop"}, id="a text for choices"),
        pytest.param({"choices": {"delta": {}}}, id="an object for choices"),
        pytest.param({"choices": [None]}, id="a null for a choice"),
        pytest.param({"choices": [[]]}, id="a list for a choice"),
        pytest.param({"choices": [{"delta": None}]}, id="a null for a delta"),
        pytest.param({"choices": [{"delta": "words"}]}, id="a text for a delta"),
        pytest.param(
            says(5),
            id="a number for a text",
        ),
        pytest.param(
            says(["a"]),
            id="a list for a text",
        ),
    ],
)
async def test_a_malformed_piece_is_tried_again(piece: Piece) -> None:
    """One piece of the wrong shape spoils the answer, and never the run."""
    with pytest.raises(Transient) as caught:
        await joined(says("one"), piece, LAST)
    assert caught.value.kind == "bad_reply"


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        pytest.param((), "bad_reply", id="nothing"),
        pytest.param((says("one"), says(" two")), "bad_reply", id="no end"),
        pytest.param((says("one"), USAGE), "bad_reply", id="usage without an end"),
        pytest.param((FIRST, LAST, USAGE), "empty_reply", id="no words"),
        pytest.param((says(" \n "), LAST), "empty_reply", id="white space"),
    ],
)
async def test_an_answer_that_is_not_whole_is_tried_again(
    pieces: tuple[Piece, ...], kind: str
) -> None:
    """Without a reason why it ended it was cut off, and without words it is empty."""
    with pytest.raises(Transient) as caught:
        await joined(*pieces)
    assert caught.value.kind == kind


async def test_a_content_filter_refuses_the_pair() -> None:
    """A stream that a filter ends is no text that the pair may keep."""
    with pytest.raises(PairRefused):
        await joined(says("one"), {"choices": [{"delta": {}, "finish_reason": "content_filter"}]})


async def test_a_stream_is_read_from_a_server(server: ChatServer) -> None:
    """Comments, blank lines and other fields between the pieces are passed over."""
    body = b": ping\n\nevent: x\n" + events(FIRST, says("one"), LAST, USAGE)
    assert await streamed(server, sends(body)) == Completion("one", "stop", Usage(5, 2))
    [asked] = server.asked
    assert asked.body["stream"] is True
    assert asked.body["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        pytest.param(resets, "connection", id="reset"),
        pytest.param(cuts, "connection", id="cut"),
        pytest.param(sends(b""), "bad_reply", id="no body"),
        pytest.param(sends(events(says("one"))), "bad_reply", id="no end"),
        pytest.param(sends(events(says("one"), done=b'data: {"cho')), "bad_reply", id="cut JSON"),
        pytest.param(sends(b"data: [1]\n\n"), "bad_reply", id="a list"),
        pytest.param(sends(b"data: \xff\n\n"), "bad_reply", id="not UTF-8"),
        pytest.param(
            sends(b"data: " + b"x" * 2_000_000),
            "bad_reply",
            id="a line without end",
        ),
        pytest.param(sends(b"<html>please log in</html>"), "bad_reply", id="HTML"),
    ],
)
async def test_a_faulty_stream_is_tried_again(server: ChatServer, fault: Fault, kind: str) -> None:
    """Whatever breaks a stream is transient, and named."""
    with pytest.raises(Transient) as caught:
        await streamed(server, fault)
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    ("code", "meaning"), [(400, PairRefused), (429, Throttled), (500, Transient)]
)
async def test_an_error_in_a_stream_is_what_its_code_says(
    server: ChatServer, code: int, meaning: type[EngineError]
) -> None:
    """After a good beginning, an error object ends the answer as the same status would."""
    error = {"error": {"message": "no such luck", "code": code}}
    with pytest.raises(meaning, match="no such luck"):
        await streamed(server, sends(events(says("one"), error)))
