"""Answers of HTTP/1.1, piece by piece: what is one, what is none, and where each ends."""

import pytest
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from magpie_cli.engines.http_answer import MAX_HEADER_BYTES, MAX_WORDS_BYTES, Answer, Reply

GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
MOST = 1000


def fed(*pieces: bytes, most: int = MOST, flows: bool = False, has_body: bool = True) -> Answer:
    """An answer that was given these, as long as it was not done."""
    answer = Answer()
    answer.begin(most, flows=flows, has_body=has_body)
    for piece in pieces:
        if not answer.is_done:
            answer.feed(piece)
    return answer


def ended(*pieces: bytes, most: int = MOST) -> Answer:
    """As `fed`, and then the connection was closed."""
    answer = fed(*pieces, most=most)
    answer.end()
    return answer


WHOLE: dict[str, tuple[bytes, int, bytes]] = {
    "a length": (GOOD, 200, b"hello"),
    "chunks": (CHUNKED + b"3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nTrailer: no\r\n\r\n", 200, b"hello"),
    "an empty header": (b"HTTP/1.1 200 OK\r\nA:\r\nContent-Length: 0\r\n\r\n", 200, b""),
    "no reason": (b"HTTP/1.1 429\r\nContent-Length: 2\r\n\r\nno", 429, b"no"),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "304 of a length": (b"HTTP/1.1 304 Same\r\nContent-Length: 10\r\n\r\n", 304, b""),
    "behind 100": (b"HTTP/1.1 100 Continue\r\n\r\n" + GOOD, 200, b"hello"),
    "behind 103": (b"HTTP/1.1 103 Early\r\nLink: </x>\r\n\r\n" + GOOD, 200, b"hello"),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi"),
    "to the end": (b"HTTP/1.1 200 OK\r\n\r\nto the end", 200, b"to the end"),
    "an error to the end": (b"HTTP/1.1 500 No\r\n\r\nto the end", 500, b"to the end"),
    "identity": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhi", 200, b"hi"),
    "too much": (CHUNKED + b"7d0\r\n" + b"x" * 2000 + b"\r\n0\r\n\r\n", 200, b"x" * MOST),
}


@pytest.mark.parametrize("name", WHOLE)
@given(data=st.data())
@example_settings(deadline=None, max_examples=50)
def test_where_an_answer_is_split_does_not_matter(name: str, data: st.DataObject) -> None:
    """However the network cuts it, the reply is the same, and so is whether more may follow."""
    raw, status, body = WHOLE[name]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1), max_size=8)))
    pieces = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    answer, whole = ended(*pieces), ended(raw)
    assert answer.reply() == whole.reply()
    assert (whole.reply().status, whole.reply().body) == (status, body)
    assert whole.reply().is_cut == (name == "too much")
    assert fed(*pieces).is_last == fed(raw).is_last


@pytest.mark.parametrize("name", WHOLE)
def test_an_answer_comes_byte_by_byte(name: str) -> None:
    """Also then it is the same."""
    raw, *_ = WHOLE[name]
    pieces = [raw[at : at + 1] for at in range(len(raw))]
    assert ended(*pieces).reply() == ended(raw).reply()


KEPT = [name for name, (raw, *_) in WHOLE.items() if not fed(raw).is_last and fed(raw).is_done]


@given(names=st.lists(st.sampled_from(KEPT), max_size=6), size=st.integers(1, 200))
@example_settings(deadline=None)
def test_answers_of_a_connection_do_not_mix(names: list[str], size: int) -> None:
    """What an earlier one was changes nothing of the next."""
    answer = Answer()
    for name in names:
        raw, status, body = WHOLE[name]
        answer.begin(MOST)
        for at in range(0, len(raw), size):
            assert not answer.is_done
            answer.feed(raw[at : at + size])
        assert answer.is_done
        assert not answer.is_last
        assert answer.reply() == fed(raw).reply()
        assert (answer.reply().status, answer.reply().body) == (status, body)


ANY = st.binary(max_size=100) | st.sampled_from([
    *(piece for raw, *_ in WHOLE.values() for piece in (raw, raw[:30], raw[30:])),
    *(b"HTTP/1.1 ", b"\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"\0"),
    *(b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", b"Connection: close\r\n"),
])  # fmt: skip


@given(
    pieces=st.lists(ANY, max_size=6),
    most=st.integers(0, 20),
    flows=st.booleans(),
    has_body=st.booleans(),
)
@example_settings(deadline=None, max_examples=500)
def test_any_bytes_are_a_reply_or_an_oserror(
    *, pieces: list[bytes], most: int, flows: bool, has_body: bool
) -> None:
    """Nothing that a server sends raises anything else, and no reply is larger than asked for."""
    answer = fed(*pieces, most=most, flows=flows, has_body=has_body)
    answer.end()
    assert answer.is_done
    try:
        reply = answer.reply()
    except OSError:
        assert answer.is_last
    else:
        assert reply.status >= 200
        assert len(reply.body) <= most or (flows and reply.is_good)


CUT_OFF = {
    "nothing": b"",
    "half a header": b"HTTP/1.1 200 OK\r\nContent-Le",
    "only an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n",
    "half a body": GOOD[:-1],
    "half a chunk": CHUNKED + b"5\r\nhel",
    "no last chunk": CHUNKED + b"5\r\nhello\r\n",
    "204 without its end": b"HTTP/1.1 204 No Content\r\nA: b",
}


@pytest.mark.parametrize("name", CUT_OFF)
def test_an_answer_that_is_cut_off_is_none(name: str) -> None:
    """An end before its own is an error, and never a shorter answer."""
    with pytest.raises(ConnectionResetError, match="before the answer's end"):
        ended(CUT_OFF[name]).reply()


NO_HTTP = {
    "a greeting": b"220 mail.example.com ESMTP\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nabc",
    "another protocol without a name": b"HTTP/1.1 101 Switching\r\n\r\n",
    "HTTP/2": b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a length that is none": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "a chunk that is none": CHUNKED + b"hello\r\n",
}


@pytest.mark.parametrize("name", NO_HTTP)
def test_what_is_no_http_is_said_at_once(name: str) -> None:
    """It is not waited for."""
    answer = fed(NO_HTTP[name])
    assert answer.is_done
    assert answer.is_last
    with pytest.raises(ConnectionAbortedError, match=r"no HTTP|another protocol"):
        answer.reply()


ENDLESS = {
    "headers": (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"),
    "one header": (b"HTTP/1.1 200 OK\r\nA: ", b"bbbbbbb"),
    "a header's name": (b"HTTP/1.1 200 OK\r\n", b"aaaaaaa"),
    "a reason": (b"HTTP/1.1 200 ", b"OK OK "),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "trailers": (CHUNKED + b"2\r\nhi\r\n0\r\n", b"A: b\r\n"),
    "one trailer": (CHUNKED + b"2\r\nhi\r\n0\r\nA: ", b"bbbbbbb"),
    "a chunk's extension": (CHUNKED + b"2;", b"bbbbbbb"),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_is_endless_and_no_body_is_given_up(name: str) -> None:
    """It fills no memory, however much of it comes."""
    begin, more = ENDLESS[name]
    answer = fed(begin, *(more * 100 for _ in range(2 * MAX_HEADER_BYTES // len(more) // 100)))
    with pytest.raises(ConnectionAbortedError, match="endless headers"):
        answer.reply()


def test_a_long_answer_in_short_chunks_is_not_endless() -> None:
    """Sizes and ends of chunks may be more than headers may be, as long as a body comes."""
    chunks = MAX_HEADER_BYTES // 4
    answer = fed(CHUNKED, *(b"1\r\nx\r\n" for _ in range(chunks)), b"0\r\n\r\n", most=chunks)
    assert answer.reply().body == b"x" * chunks


@pytest.mark.parametrize(
    ("raw", "is_last"),
    [
        pytest.param(GOOD, False, id="HTTP/1.1"),
        pytest.param(GOOD.replace(b"1.1", b"1.0"), True, id="HTTP/1.0"),
        pytest.param(
            GOOD.replace(b"Type:", b"Type: x\r\nConnection: close\r\nX:"), True, id="close"
        ),
        pytest.param(CHUNKED + b"0\r\n\r\n", False, id="chunks"),
        pytest.param(GOOD + b"garbage", True, id="garbage behind it"),
        pytest.param(GOOD + GOOD, True, id="another behind it"),
        pytest.param(GOOD + b"HTTP/1.1 404 No\r\nA: b\r\n\r\n", True, id="an error behind it"),
        pytest.param(GOOD + b"HTTP/1.1 100 Continue\r\n\r\n", True, id="an interim one behind it"),
    ],
)
def test_whether_a_connection_can_be_kept(raw: bytes, *, is_last: bool) -> None:
    """It cannot where the server says so, or sends more than was asked for; the answer counts."""
    answer = fed(raw)
    assert answer.is_last == is_last
    assert answer.reply().status == 200
    assert answer.reply().headers == fed(raw[: raw.index(b"\r\n\r\n") + 9]).reply().headers


def test_an_answer_that_is_too_large_is_cut() -> None:
    """The moment that it is larger than asked for, the rest is nobody's; an error is read less."""
    answer = fed(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * (MOST + 1))
    assert answer.reply() == Reply(200, [], b"x" * MOST, is_cut=True)
    assert answer.is_last
    assert not fed(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * MOST).is_done
    error = fed(b"HTTP/1.1 500 No\r\n\r\n", b"x" * (MAX_WORDS_BYTES + 1), most=2**30)
    assert len(error.reply().body) == MAX_WORDS_BYTES


def test_a_good_answer_flows_and_an_error_does_not() -> None:
    """What is taken of it is gone, and there is no bound to it."""
    answer = fed(CHUNKED, flows=True)
    assert answer.is_flowing
    for _ in range(3):
        answer.feed(b"400\r\n" + b"x" * 1024 + b"\r\n")
        assert len(answer.take()) == 1024
    answer.feed(b"0\r\n\r\n")
    assert answer.is_done
    assert answer.error is None
    assert answer.take() == b""
    assert not fed(b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno", flows=True).is_flowing


def test_a_tunnel_begins_behind_its_headers() -> None:
    """A body that they name does not count (RFC 9110, 9.3.6), and what comes next is not ours."""
    for headers in (b"", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n"):
        answer = fed(b"HTTP/1.1 200 Established\r\n" + headers + b"\r\n", has_body=False)
        assert answer.reply().is_good
        assert not answer.is_last
    assert fed(b"HTTP/1.1 200 Established\r\n\r\nhello", has_body=False).is_last
    refused = fed(b"HTTP/1.1 407 No\r\n\r\n", has_body=False)  # not waited for an end
    assert (refused.reply().status, refused.is_last) == (407, True)


def test_a_header_is_found_by_its_name() -> None:
    """Upper and lower case are the same, and the first of several counts."""
    reply = Reply(200, [(b"X-Name", b"one"), (b"x-name", b"two"), (b"L", b"\xe9")], b"")
    assert reply.header("x-NAME") == "one"
    assert reply.header("l") == "\xe9"
    assert reply.header("none") is None
