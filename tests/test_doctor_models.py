"""The models that `magpie doctor` lists, whom it asks for them, and what it says where none come.

That a key never shows is tested with servers that quote it.
"""

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict

import pytest
from aiohttp import web

from magpie_cli.doctor.engines import MODELS_SHOWN, Checkup
from magpie_cli.doctor.engines import engines_text as text
from magpie_cli.engine import EngineRow, Transient
from magpie_cli.engines.openai import list_models
from tests.chat_server import ChatServer, Fault, cuts, hangs, refuses, resets, says, sends
from tests.test_doctor import CANARY, examined, use_proxy

ELSEWHERE = "https://some.invalid/v1"


class Listing:
    """A listing of models that counts how often it is asked for."""

    def __init__(self) -> None:
        self.times = 0

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """One answer."""
        self.times += 1
        return await says({"data": [{"id": "tiny"}]})(request)


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """What the proxy to all beyond this machine is sent; it lets nothing through."""
    heard: list[bytes] = []

    class Refuse(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            heard.append(self.request.recv(65536))
            self.request.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Refuse) as proxy:
        threading.Thread(target=proxy.serve_forever, args=(0.01,), daemon=True).start()
        use_proxy(monkeypatch, f"http://127.0.0.1:{proxy.server_address[1]}")
        yield heard
        proxy.shutdown()


def at(
    url: str | None, *, credential: str | None = "SOME_API_KEY", required: bool = False
) -> EngineRow:
    """An engine whose server is at `url`."""
    return EngineRow("some", "module", "a server", url, credential, required=required)


def shown(checkup: Checkup) -> str:
    """All that either form of the command says of it."""
    return text([checkup]) + json.dumps(asdict(checkup))


@pytest.mark.parametrize("credential", [None, "SOME_API_KEY"])
def test_a_server_on_this_machine_lists_its_models(
    server: ChatServer, credential: str | None
) -> None:
    """What runs here is asked without any key, and its models are shown in its own order."""
    server.models = ["small:1b", "large:70b", "another"]
    checkup = examined(at(server.url, credential=credential))
    assert checkup.ready
    assert checkup.models == ("small:1b", "large:70b", "another")
    assert checkup.trouble is None
    assert "models: small:1b, large:70b, another" in text([checkup])


def test_the_key_of_the_row_is_sent(server: ChatServer) -> None:
    """A server that asks for a key gets the one of its own variable."""
    server.key = CANARY
    checkup = examined(at(server.url, required=True), SOME_API_KEY=CANARY, MAGPIE_API_KEY="no")
    assert checkup.ready
    assert checkup.models == ("tiny",)
    assert CANARY not in shown(checkup)


@pytest.mark.parametrize("environment", [{}, {"SOME_API_KEY": CANARY}], ids=["none", "wrong"])
def test_a_refused_key_is_a_lack(server: ChatServer, environment: dict[str, str]) -> None:
    """An engine that answers 401 is not ready, and no key of those it quotes is shown."""
    server.key = "another-key"
    checkup = examined(at(server.url), **environment)
    assert not checkup.ready
    assert (checkup.models, checkup.trouble) == (None, None)
    assert checkup.lacks
    assert checkup.lacks.startswith(f"{server.url}/models answered 401: Incorrect API key")
    why = "the key is wrong" if environment else "none was sent: export SOME_API_KEY=..."
    assert why in checkup.lacks
    assert checkup.lacks in text([checkup])
    assert CANARY not in shown(checkup)


@pytest.mark.parametrize(("status", "words"), [(402, "no credit"), (403, "lacks rights")])
def test_a_refused_account_is_a_lack(server: ChatServer, status: int, words: str) -> None:
    """An account without credit or rights makes no dialogue either, and what helps is said."""
    server.listing = refuses(status)
    checkup = examined(at(server.url), SOME_API_KEY=CANARY)
    assert not checkup.ready
    assert words in (checkup.lacks or "")


TROUBLES: dict[str, Fault] = {
    "429": refuses(429, "busy"),
    "500": refuses(500, "busy"),
    "503": refuses(503, "busy", Retry_After="60"),
    "error in reply": says({"error": {"message": "busy"}}),
    "HTML": sends(b"<html>starting</html>"),
    "list": says(["tiny"]),
    "reset": resets,
    "cut": cuts,
}


@pytest.mark.parametrize("listing", TROUBLES.values(), ids=TROUBLES.keys())
def test_a_listing_that_fails_is_no_lack(server: ChatServer, listing: Fault) -> None:
    """A server that cannot list its models just now is ready, and what went wrong is said."""
    server.listing = listing
    checkup = examined(at(server.url), SOME_API_KEY=CANARY)
    assert checkup.ready
    assert (checkup.models, checkup.lacks) == (None, None)
    assert checkup.trouble
    assert f"{server.url}/models" in checkup.trouble
    assert f"its models could not be listed: {checkup.trouble}" in text([checkup])
    assert f"{'':<15} models: " not in text([checkup])


QUOTES: dict[str, Fault] = {
    "401": refuses(401, f"wrong key: {CANARY}"),
    "401 without a sentence": says({"error": {"given": CANARY}}, 401),
    "500": refuses(500, f"no such key in the cache: {CANARY}"),
    "status 200": says({"error": {"message": CANARY}}),
    "Location": says({}, 307, {"Location": f"/login?key={CANARY}"}),
}


@pytest.mark.parametrize("listing", QUOTES.values(), ids=QUOTES.keys())
def test_a_key_that_a_server_quotes_is_not_shown(server: ChatServer, listing: Fault) -> None:
    """Whether it is a lack or trouble, the words of a server pass without the key."""
    server.listing = listing
    checkup = examined(at(server.url), SOME_API_KEY=f" {CANARY}\n")
    assert checkup.lacks or checkup.trouble
    assert CANARY not in shown(checkup)
    assert "***" in shown(checkup)


@pytest.mark.parametrize(
    "environment",
    [{}, {"SOME_API_KEY": ""}, {"SOME_API_KEY": " \n"}, {"MAGPIE_API_KEY": CANARY}],
    ids=["none", "empty", "blank", "another"],
)
@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("credential", ["SOME_API_KEY", None])
def test_nobody_elsewhere_hears_of_us_without_a_key(
    proxied: list[bytes],
    environment: dict[str, str],
    credential: str | None,
    *,
    required: bool,
) -> None:
    """Beyond this machine, only a server whose own key is set is asked."""
    checkup = examined(at(ELSEWHERE, credential=credential, required=required), **environment)
    assert proxied == []
    assert (checkup.models, checkup.trouble) == (None, None)


def test_whose_key_is_set_is_asked(proxied: list[bytes]) -> None:
    """With its key set a server elsewhere is asked, encrypted; not to reach it is no lack."""
    checkup = examined(at(ELSEWHERE, required=True), SOME_API_KEY=CANARY)
    (heard,) = proxied
    assert heard.startswith(b"CONNECT some.invalid:443 ")
    assert checkup.ready
    assert (checkup.trouble or "").startswith(f"{ELSEWHERE}/models: ")
    assert CANARY not in shown(checkup)


def test_a_proxy_never_sees_the_key(proxied: list[bytes]) -> None:
    """The key goes through the proxy encrypted, and not to it in plain sight."""
    examined(at(ELSEWHERE, required=True), SOME_API_KEY=CANARY)
    (heard,) = proxied
    assert CANARY.encode() not in heard


def test_an_engine_without_an_address_is_not_asked(proxied: list[bytes]) -> None:
    """Where the table names no server, a key that is set is sent nowhere."""
    checkup = examined(at(None, required=True), SOME_API_KEY=CANARY)
    assert checkup.ready
    assert (checkup.models, checkup.trouble, proxied) == (None, None, [])


@pytest.mark.parametrize(
    ("url", "key", "words"),
    [
        ("http://some.invalid/v1", CANARY, "is not encrypted"),
        (ELSEWHERE, f"{CANARY}\n{CANARY}", "cannot be sent"),
    ],
    ids=["http", "line break"],
)
def test_a_key_that_may_not_be_sent_is_a_lack(
    proxied: list[bytes], url: str, key: str, words: str
) -> None:
    """A key that would travel in plain sight or break its header goes nowhere."""
    checkup = examined(at(url, required=True), SOME_API_KEY=key)
    assert proxied == []
    assert not checkup.ready
    assert words in (checkup.lacks or "")
    assert CANARY not in shown(checkup)


@pytest.mark.parametrize(
    "lacking",
    [
        lambda url: EngineRow("some", "module", "a server", url, package="no_such_package"),
        lambda url: at(url, required=True),
    ],
    ids=["package", "key"],
)
def test_an_engine_that_lacks_something_is_not_asked(
    server: ChatServer, lacking: Callable[[str], EngineRow]
) -> None:
    """What could not be used is not asked for its models."""
    listing = server.listing = Listing()
    checkup = examined(lacking(server.url))
    assert not checkup.ready
    assert listing.times == 0
    assert (checkup.models, checkup.trouble) == (None, None)
    assert examined(at(server.url)).ready
    assert listing.times == 1


@pytest.mark.parametrize(
    ("number", "end"),
    [(0, "none"), (1, "m0"), (12, "m10, m11"), (13, "m11 and 1 more"), (340, "m11 and 328 more")],
)
def test_a_long_list_is_cut_for_people(server: ChatServer, number: int, end: str) -> None:
    """A person sees twelve models and how many there are more; a program sees all."""
    server.models = [f"m{index}" for index in range(number)]
    checkup = examined(at(server.url))
    assert checkup.models == tuple(server.models)
    (line,) = [line for line in text([checkup]).splitlines() if "models: " in line]
    assert line.endswith(end)
    assert line.count("m") - line.count("models") - line.count("more") == min(number, MODELS_SHOWN)


async def test_a_listing_is_not_waited_for_long(server: ChatServer) -> None:
    """A server that never answers is given up after the seconds that there are for it."""
    server.listing = hangs
    with pytest.raises(Transient) as caught:
        await list_models(at(server.url), {}, seconds=0.2)
    assert caught.value.kind == "timeout"
    assert f"{server.url}/models" in caught.value.message
