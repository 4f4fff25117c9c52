"""What an HTTP answer means for a pair."""

import json
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from magpie_cli.engine import (
    EngineError,
    EngineRefused,
    PairRefused,
    StatusMeaning,
    Throttled,
    Transient,
)
from magpie_cli.engines.http_errors import (
    CONTEXT_EXCEEDED,
    MESSAGE_SHOWN,
    ServerWords,
    classify,
    error_in_reply,
    retry_after,
    server_words,
)

URL = "http://localhost:8000/v1/chat/completions"
NO_WORDS = ServerWords("", "")
NOW = 1_700_000_000.0
MEANINGS = {
    402: StatusMeaning("no credits left"),
    503: StatusMeaning("no node serves it", wait=True),
}
MODERATE = example_settings(deadline=None, max_examples=80)

# STORE.md's table of requests.
CLASSES: dict[type[EngineError], tuple[int, ...]] = {
    Transient: (408, 409, 425, 500, 501, 502, 503, 504, 507, 520, 524, 529, 599),
    Throttled: (429,),
    PairRefused: (400, 413, 422),
    EngineRefused: (401, 402, 403, 404, 405, 410, 451, 201, 204, 301, 302, 307, 308),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
REPLIES = st.one_of(
    st.binary(),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries(
        {}, optional={"error": JSON, "message": JSON, "detail": JSON, "code": JSON}
    ).map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries(
        {}, optional={"message": JSON, "detail": JSON, "code": JSON, "type": JSON}
    ).map(lambda value: json.dumps({"error": value}).encode()),
)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(status, kind) for kind, statuses in CLASSES.items() for status in statuses],
)
def test_a_status_has_one_meaning(status: int, expected: type[EngineError]) -> None:
    """Each status is one of the four errors, whose kind and message hold it, and the address."""
    error = classify(status, ServerWords("the server's words", ""), {}, URL)
    assert type(error) is expected
    assert error.kind == f"http_{status}"
    assert error.message == f"{URL} answered {status}: the server's words"


@pytest.mark.parametrize(
    ("status", "header", "expected"),
    [
        (429, "7", 7.0),
        (429, "0.5", 0.5),
        (503, "7", 7.0),
        (503, "0", 0.0),
        (429, None, None),
        (429, "soon", None),
        (429, "nan", None),
        (429, "-3", 0.0),
    ],
)
def test_a_throttle_carries_the_wait_it_asks_for(
    status: int, header: str | None, expected: float | None
) -> None:
    """429, and 503 with Retry-After, ask for patience; an unreadable time is none."""
    headers = {} if header is None else {"Retry-After": header}
    error = classify(status, NO_WORDS, headers, URL)
    assert isinstance(error, Throttled)
    assert error.retry_after == expected


@pytest.mark.parametrize(
    ("status", "expected", "said"),
    [
        (402, EngineRefused, "no credits left: the server's words"),
        (503, Throttled, "no node serves it: the server's words"),
        (500, Transient, "the server's words"),
    ],
)
def test_a_status_may_mean_something_of_its_own(
    status: int, expected: type[EngineError], said: str
) -> None:
    """What this server means stands before its words, and a 503 that means something is a wait."""
    reply = json.dumps({"error": {"message": "the server's words", "code": status}}).encode()
    answered = classify(status, server_words(reply), {}, URL, MEANINGS)
    for error in (answered, error_in_reply(reply, URL, meanings=MEANINGS)):
        assert (type(error), error.kind) == (expected, f"http_{status}")
        assert error.message == f"{URL} answered {status}: {said}"


def test_a_meaning_needs_no_words() -> None:
    """A status that means something is explained by that alone, and keeps its Retry-After."""
    error = classify(503, NO_WORDS, {"Retry-After": "7"}, URL, MEANINGS)
    assert error.message == f"{URL} answered 503: no node serves it"
    assert isinstance(error, Throttled)
    assert error.retry_after == 7.0


def test_a_retry_after_of_an_error_that_is_not_a_throttle_changes_nothing() -> None:
    """500 with Retry-After stays transient, and 401 with it stays fatal."""
    headers = {"Retry-After": "7"}
    assert type(classify(500, NO_WORDS, headers, URL)) is Transient
    assert type(classify(401, NO_WORDS, headers, URL)) is EngineRefused


def test_a_used_up_quota_is_not_a_throttle() -> None:
    """OpenAI's 429 with `insufficient_quota` ends the run, since no waiting helps."""
    error = classify(429, ServerWords("pay", "insufficient_quota"), {"Retry-After": "1"}, URL)
    assert type(error) is EngineRefused
    assert "quota" in (error.hint or "")


@pytest.mark.parametrize(
    ("status", "headers", "hint"),
    [
        (401, {}, "key"),
        (403, {}, "key"),
        (402, {}, "credit"),
        (404, {}, "--base-url"),
        (308, {"Location": "https://other/v1"}, "https://other/v1"),
        (302, {}, "another address"),
    ],
)
def test_what_ends_a_run_comes_with_a_hint(status: int, headers: dict[str, str], hint: str) -> None:
    """Each status that no pair survives says what a person can change."""
    assert hint in (classify(status, NO_WORDS, headers, URL).hint or "")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("0", 0.0),
        ("-5", 0.0),
        ("-inf", None),
        ("inf", None),
        ("nan", None),
        ("1e400", None),
        ("1e300", 1e300),
        ("", None),
        ("soon", None),
        ("7 seconds", None),
        ("Mon, 99 Foo 2025 00:00:00 GMT", None),
        ("Mon, 01 Jan 2025 00:00:00 +99999999999", None),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), 0.0),
        ("Tuesday, 14-Nov-23 22:14:20 GMT", 60.0),
        ("Tue, 14 Nov 2023 23:14:20 +0100", 60.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, expected: float | None) -> None:
    """A number is seconds, a date is seconds from now, the past is 0, anything else is nothing."""
    assert retry_after(value, NOW) == expected


def test_no_retry_after_is_none() -> None:
    """A header that is not there asks for no time."""
    assert retry_after(None, NOW) is None


def test_an_http_date_is_in_greenwich_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The third form of RFC 9110, section 5.6.7, names no zone, and does not mean the local one."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert retry_after("Tue Nov 14 22:14:20 2023", NOW) == 60.0
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_date_counts_from_the_clock_on_the_wall() -> None:
    """Without a time given, a date is seconds from now."""
    seconds = retry_after(formatdate(time.time() + 1000, usegmt=True))
    assert seconds is not None
    assert 0 < seconds <= 1000


@MODERATE
@given(st.text() | st.floats().map(str) | st.integers().map(str))
def test_any_retry_after_is_a_finite_time_or_none(value: str) -> None:
    """No header raises, and none asks for a negative or endless wait."""
    seconds = retry_after(value, NOW)
    assert seconds is None or 0 <= seconds < float("inf")


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('{"error": {"message": "no", "code": "bad"}}', ("no", "bad")),
        ('{"error": {"message": "no", "code": 429}}', ("no", "429")),
        ('{"error": {"message": "no"}}', ("no", "")),
        ('{"error": "no"}', ("no", "")),
        ('{"message": "no", "code": 400}', ("no", "400")),
        ('{"detail": "no"}', ("no", "")),
        ('{"detail": "no", "error": {"message": "yes"}}', ("yes", "")),
        ('"no"', ("no", "")),
        ("no", ("no", "")),
        ("", ("", "")),
        ("{}", ("{}", "")),
        ('{"error": {"message": "two\\n  lines\\t."}}', ("two lines .", "")),
        ("<html>\n<h1>502 Bad Gateway</h1>\n</html>", ("<html> <h1>502 Bad Gateway</h1> </html>",)),
        ('{"error": {"message": "no", "code": null}}', ("no", "")),
        ('{"error": null, "message": "no"}', ("no", "")),
    ],
)
def test_the_servers_words_are_found(reply: str, expected: tuple[str, ...]) -> None:
    """Each common shape of an error gives its sentence, on one line, and its code."""
    words = server_words(reply.encode())
    assert words[:2] == (*expected, "")[:2]


@pytest.mark.parametrize(
    "error",
    [
        {"code": 400, "type": "exceed_context_size_error", "message": "too long"},
        {"code": "context_length_exceeded", "type": "invalid_request_error", "message": "too long"},
    ],
    ids=["llama.cpp", "OpenAI"],
)
def test_a_dialogue_that_is_too_long_has_a_kind_of_its_own(error: dict[str, object]) -> None:
    """By the word that is for programs, whatever the sentence says."""
    words = server_words(json.dumps({"error": error}).encode())
    found = classify(400, words, {}, URL)
    assert isinstance(found, PairRefused)
    assert found.kind == CONTEXT_EXCEEDED
    assert classify(400, words._replace(type="", code="400"), {}, URL).kind == "http_400"


@pytest.mark.parametrize(
    "reply",
    [
        '{"error": {"type": "deep inside"}}',
        '[{"error": "deep inside"}]',
        '{"detail": [{"loc": ["body"], "msg": "deep inside"}]}',
        '{"error": {"message": {"text": "deep inside"}}}',
        '{"error": {"error": {"message": "deep inside"}}}',
    ],
)
def test_unusual_shapes_still_show_what_the_server_said(reply: str) -> None:
    """A list or a nested object is quoted rather than lost."""
    assert "deep inside" in server_words(reply.encode()).message


@pytest.mark.parametrize(
    "reply", [b"a" * 10_000, b'{"error": "%s"}' % (b"a" * 10_000)], ids=["text", "JSON"]
)
def test_long_words_are_cut(reply: bytes) -> None:
    """No more than 300 characters of a server's own words are shown."""
    assert server_words(reply).message == "a" * 300


@pytest.mark.parametrize("depth", [300, 1000, 100_000])
@pytest.mark.parametrize("shape", ["%s", '{"error": {"type": %s}}', '{"error": {"message": %s}}'])
def test_deep_nesting_is_survived(shape: str, depth: int) -> None:
    """An error of brackets within brackets has words too."""
    assert server_words((shape % ("[" * depth + "]" * depth)).encode()).message


@MODERATE
@given(REPLIES)
def test_any_reply_has_words(reply: bytes) -> None:
    """No bytes raise; the words are text of one line and bounded length."""
    words = server_words(reply)
    assert isinstance(words.code, str)
    assert len(words.message) <= MESSAGE_SHOWN
    assert len(words.message.splitlines()) <= 1


@MODERATE
@given(REPLIES)
def test_any_error_with_status_200_is_classified(reply: bytes) -> None:
    """No bytes raise, whatever they hold as a code."""
    assert isinstance(error_in_reply(reply, URL), EngineError)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("429", Throttled),
        ("500", Transient),
        ("400", PairRefused),
        ("401", EngineRefused),
        ("399", Transient),
        ("600", Transient),
        ("overloaded", Transient),
        ("²", Transient),
        ("9" * 5000, Transient),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else value.__name__,
)
def test_an_error_with_status_200_is_what_its_code_says(
    code: str, expected: type[EngineError]
) -> None:
    """A code that is an HTTP status counts as one; any other makes the error transient."""
    reply = json.dumps({"error": {"message": "no", "code": code}}).encode()
    error = error_in_reply(reply, URL)
    assert type(error) is expected
    assert error.message.endswith("no")
