"""Keys: which one goes where, and that none is ever shown. And addresses that are none."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from aiohttp import web

from magpie_cli.engine import EngineError, EngineRefused, EngineRow, Sampling
from magpie_cli.engines import ENGINES
from magpie_cli.engines.keys import find_key
from magpie_cli.errors import MagpieError, UsageError
from tests.chat_server import ChatServer, Fault, answer, refuses, says
from tests.conftest import Magpie
from tests.test_openai import MESSAGES, connected

KEY = "sk/canary+5f0c&6c0d<e1b2>a394"
SERVERS_OWN = "another-key"
PAIR_LINE = '{"instructor_persona": "A scientist", "responding_persona": "A librarian"}\n'
ALL_KEYS = {row.credential: f"key of {row.name}" for row in ENGINES.values() if row.credential}
WITH_KEY = [row for row in ENGINES.values() if row.credential and row.base_url]


@pytest.mark.parametrize("row", WITH_KEY, ids=lambda row: row.name)
def test_a_presets_key_goes_to_its_own_address(row: EngineRow) -> None:
    """Each preset sends its own key, of all that are set, to the address in the table."""
    assert row.base_url
    assert find_key(row, row.base_url, ALL_KEYS) == f"key of {row.name}"


@pytest.mark.parametrize("row", WITH_KEY, ids=lambda row: row.name)
@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.example/v1",
        "http://localhost:1234/v1",
        "https://api.openai.com.evil.example/v1",
        "https://api.openai.com/v2",
        "https://API.openai.com@evil.example/v1",
    ],
)
def test_a_presets_key_goes_nowhere_else(row: EngineRow, url: str) -> None:
    """With another --base-url, no preset's key is sent, and none is asked for."""
    assert find_key(row, url, ALL_KEYS) is None
    assert find_key(row, url, {}) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.example/v1",
        "http://localhost:1234/v1",
        "http://127.0.0.1:1234/v1",
        "http://[::1]:1234/v1",
    ],
)
def test_magpies_own_key_goes_wherever_the_user_points(url: str) -> None:
    """MAGPIE_API_KEY is sent to any other https address and to this machine."""
    keys = {"MAGPIE_API_KEY": KEY, "OPENAI_API_KEY": "no"}
    assert find_key(ENGINES["openai"], url, keys) == KEY


def test_magpies_own_key_does_not_go_to_a_presets_address() -> None:
    """At a preset's own address only the preset's own key is used."""
    keys = {"MAGPIE_API_KEY": KEY, "OPENAI_API_KEY": "theirs"}
    assert find_key(ENGINES["openai"], "https://api.openai.com/v1", keys) == "theirs"


@pytest.mark.parametrize(
    "url",
    [
        "http://elsewhere.example/v1",
        "http://localhost.evil.example/v1",
        "http://127.0.0.1.evil.example/v1",
        "http://192.168.0.7:8000/v1",
        "http://0.0.0.0:8000/v1",
    ],
)
def test_no_key_travels_unencrypted(url: str) -> None:
    """Plain http beyond this machine is a usage error with a key, and allowed without one."""
    with pytest.raises(UsageError, match="not encrypted") as caught:
        find_key(ENGINES["openai"], url, {"MAGPIE_API_KEY": KEY})
    assert "https://" in (caught.value.hint or "")
    assert KEY not in f"{caught.value} {caught.value.hint}"
    assert find_key(ENGINES["openai"], url, {"OPENAI_API_KEY": KEY}) is None


@pytest.mark.parametrize("row", WITH_KEY, ids=lambda row: row.name)
@pytest.mark.parametrize("value", [None, ""], ids=["unset", "empty"])
def test_a_lacking_key_is_named(row: EngineRow, value: str | None) -> None:
    """A preset that needs a key says which variable to set; one that does not goes without."""
    assert row.base_url
    environment = {} if value is None else {str(row.credential): value}
    if not row.required:
        assert not find_key(row, row.base_url, environment)
        return
    with pytest.raises(UsageError, match=f"{row.credential} is not set") as caught:
        find_key(row, row.base_url, environment)
    assert caught.value.hint == f"export {row.credential}=..."


@pytest.mark.parametrize(
    ("environment", "sent"),
    [
        ({}, None),
        ({"MAGPIE_API_KEY": KEY}, f"Bearer {KEY}"),
        ({"OPENAI_API_KEY": KEY}, None),
        ({"MAGPIE_API_KEY": f"{KEY}\n"}, f"Bearer {KEY}"),
        ({"MAGPIE_API_KEY": f" {KEY}\r\n"}, f"Bearer {KEY}"),
    ],
    ids=["none", "own", "not for here", "line break", "spaces"],
)
async def test_the_key_is_sent_as_a_bearer_token(
    server: ChatServer, environment: Mapping[str, str], sent: str | None
) -> None:
    """The key travels in one header, without the spaces and line breaks that files end in."""
    async with connected(server.url, environment=environment) as model:
        await model.complete(MESSAGES, Sampling())
    (asked,) = server.asked
    assert asked.headers.get("Authorization") == sent
    assert KEY not in json.dumps(asked.body)


@pytest.mark.parametrize("letter", ["\n", "\r", "\0", "\x1b"])
async def test_a_key_that_no_header_can_hold_is_a_usage_error(
    server: ChatServer, letter: str
) -> None:
    """A control character within a key is named before anything is sent, without the key."""
    with pytest.raises(UsageError, match="MAGPIE_API_KEY") as caught:
        async with connected(server.url, environment={"MAGPIE_API_KEY": f"canary{letter}canary"}):
            pass
    assert "canary" not in f"{caught.value} {caught.value.hint}"


async def test_a_wrong_key_is_the_engines_refusal(server: ChatServer) -> None:
    """401 ends the run before the first pair, and a hint says where the key comes from."""
    server.key = SERVERS_OWN
    with pytest.raises(EngineRefused) as caught:
        async with connected(server.url, environment={"MAGPIE_API_KEY": KEY}):
            pass
    assert caught.value.kind == "http_401"
    assert "magpie doctor" in (caught.value.hint or "")


def replies(raw: bytes, status: int = 401) -> Fault:
    """Answer with these bytes and this status."""

    async def fault(_: web.Request) -> web.StreamResponse:
        return web.Response(body=raw, status=status)

    return fault


def escaped(*letters: str) -> Fault:
    """An error that quotes the key, with these letters of it as JSON escapes."""
    reply = json.dumps({"error": {"message": KEY}})
    for letter in letters:
        reply = reply.replace(letter, f"\\u{ord(letter):04x}")
    return replies(reply.encode())


QUOTES: dict[str, Fault] = {
    "JSON": refuses(401, f"wrong key: {KEY}"),
    "plain text": replies(f"wrong key: {KEY}".encode()),
    "twice": refuses(401, f"{KEY} {KEY}"),
    "at the cut": refuses(401, "a" * 290 + KEY),
    "code": refuses(401, code=KEY),
    "name in an object": says({"error": {KEY: KEY}}, 401),
    "PHP's escapes": replies(json.dumps({"error": KEY}).replace("/", r"\/").encode()),
    "PHP's escapes, no sentence": replies(
        json.dumps({"error": {"given": KEY}}).replace("/", r"\/").encode()
    ),
    "Go's escapes": escaped("&", "<", ">"),
    "all escaped": escaped(*"canry"),
    "status 200": says({"error": {"message": KEY, "code": 401}}),
    "Location": says({}, 307, {"Location": f"/login?key={KEY}"}),
}


@pytest.mark.parametrize("fault", QUOTES.values(), ids=QUOTES.keys())
@pytest.mark.parametrize("place", ["listing", "chat"])
async def test_a_server_that_quotes_the_key_does_not_spread_it(
    server: ChatServer, fault: Fault, place: str
) -> None:
    """However a server writes the key that it was sent, no message and no hint holds it."""
    server.listing = fault if place == "listing" else None
    server.faults = iter([fault])
    with pytest.raises(EngineError) as caught:
        async with connected(server.url, environment={"MAGPIE_API_KEY": KEY}) as model:
            await model.complete(MESSAGES, Sampling())
    assert "canary" not in f"{caught.value} {caught.value.hint}"


async def test_a_server_that_speaks_no_http_does_not_spread_the_key() -> None:
    """A header line that quotes the key and cannot be read is not quoted in turn."""

    async def reflect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\nwrong key {KEY}\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(reflect, "127.0.0.1", 0) as raw:
        url = f"http://127.0.0.1:{raw.sockets[0].getsockname()[1]}/v1"
        with pytest.raises(MagpieError) as caught:
            async with connected(url, environment={"MAGPIE_API_KEY": KEY}):
                pass
    assert "canary" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("key", ["EMPTY", "ollama", "none", "e", "content"])
async def test_a_placeholder_for_a_key_changes_no_answer(server: ChatServer, key: str) -> None:
    """Where any word does for a key, as with vLLM and Ollama, answers may hold that word."""
    text = "The EMPTY cage: none of the content that ollama shows."
    async with connected(server.url, environment={"MAGPIE_API_KEY": key}) as model:
        server.faults = iter([says(answer(text))])
        assert (await model.complete(MESSAGES, Sampling())).text == text


def test_a_refused_key_is_in_no_file_and_on_no_screen(
    magpie: Magpie, server: ChatServer, tmp_path: Path
) -> None:
    """From end to end: exit code 1, a hint, and no byte of the key anywhere."""
    server.key = SERVERS_OWN
    (tmp_path / "pairs.jsonl").write_text(PAIR_LINE)
    done = magpie(
        *("generate", "pairs.jsonl", "-o", "out.jsonl", "--base-url", server.url),
        MAGPIE_API_KEY=KEY,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "answered 401" in done.stderr
    assert "magpie doctor" in done.stderr
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert "canary" not in done.stderr
    assert b"canary" not in written


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000/v1",
        "localhost",
        "//localhost:8000/v1",
        "ftp://localhost/v1",
        "file:///etc/hostname",
        "http://",
        "http:///v1",
        "http://[::1/v1",
        "http://localhost:port/v1",
        "http://localhost:99999/v1",
        "http://a b/v1",
        "http://<host>/v1",
        "http://[fe80::1%25eth0]/v1",
        "http://localhost/v1\udcff",
        "http://user:password@localhost:1/v1",
        "http://:password@localhost:1/v1",
    ],
)
@pytest.mark.parametrize("environment", [{}, {"MAGPIE_API_KEY": KEY}], ids=["no key", "key"])
async def test_an_address_that_is_none_is_a_usage_error(
    url: str, environment: Mapping[str, str]
) -> None:
    """What no server can have as its address is refused with an example of one that can be."""
    with pytest.raises(UsageError, match="--base-url") as caught:
        async with connected(url, environment=environment):
            pass
    assert "http://localhost:8000/v1" in (caught.value.hint or "")


@pytest.mark.parametrize("user", ["user", ""])
async def test_a_password_in_an_address_is_not_repeated(user: str) -> None:
    """An address with a password in it is refused without the password."""
    with pytest.raises(MagpieError) as caught:
        async with connected(f"http://{user}:canary@localhost:1/v1"):
            pass
    assert "canary" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    "address",
    [
        "http://user:canary@127.0.0.1:1",
        "user:canary@127.0.0.1:1",
        "http://user:canary@127.0.0.1:port",
        "http://user:canary@a b:1",
        "http://user:canary\udcff@127.0.0.1:1",
        "ftp://user:canary@127.0.0.1:1",
        f"http://user:canary@{'a' * 64}.invalid:1",
    ],
)
async def test_a_proxys_password_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """Where the proxy of the environment cannot be used, its password is not shown."""
    monkeypatch.setenv("http_proxy", address)
    with pytest.raises(MagpieError) as caught:
        async with connected("http://elsewhere.invalid/v1"):
            pass
    assert "canary" not in f"{caught.value} {caught.value.hint}"
    if not address.endswith("127.0.0.1:1") or "\udcff" in address or "ftp" in address:
        assert caught.value.message == "HTTP_PROXY is not the address of a proxy"


async def test_a_proxy_that_wants_a_password_is_named(server: ChatServer) -> None:
    """A 407 is the proxy's, whatever the address of the server."""
    server.listing = refuses(407)
    with pytest.raises(EngineRefused) as caught:
        async with connected(server.url):
            pass
    assert (caught.value.hint or "").startswith("the proxy wants a user and a password")


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:1", "socks5h://127.0.0.1:1"])
async def test_a_proxy_that_is_down_is_what_is_to_be_checked(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    """And not the address of the server, which nobody has asked."""
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(MagpieError, match="the proxy: Connection refused") as caught:
        async with connected("http://elsewhere.invalid/v1"):
            pass
    assert "HTTP_PROXY" in (caught.value.hint or "")
    assert "--base-url" not in (caught.value.hint or "")
