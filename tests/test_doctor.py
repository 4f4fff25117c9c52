"""`magpie doctor`: what each engine is, and whether it is ready or what it lacks."""

import asyncio
import json
import socket
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from magpie_cli.doctor.engines import Checkup, examine_engines
from magpie_cli.doctor.engines import engines_text as text
from magpie_cli.engine import EngineRow
from magpie_cli.engines import ENGINES
from tests.chat_server import ChatServer
from tests.conftest import Magpie

CANARY = "sk-canary-5f0c6c0de1b2a394"
PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")
NOWHERE = "http://127.0.0.1:9"  # nothing listens there
CREDENTIALS = sorted(row.credential for row in ENGINES.values() if row.credential)


@pytest.fixture(autouse=True)
def no_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not on this machine fails at once, here and in each command that is run."""
    use_proxy(monkeypatch, NOWHERE)


@pytest.fixture
def listening(server: ChatServer) -> int:
    """A port of this machine at which a server listens."""
    port = urlsplit(server.url).port
    assert port
    return port


@pytest.fixture
def silent() -> int:
    """A port of this machine at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def use_proxy(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Let all that is not on this machine go through `address`, and nothing past it."""
    for name in PROXIES:
        monkeypatch.setenv(name, address)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def examined(row: EngineRow, **environment: str) -> Checkup:
    """What doctor says of one engine."""
    (checkup,) = asyncio.run(examine_engines({row.name: row}, environment))
    return checkup


def remote(*, required: bool, credential: str | None = "SOME_API_KEY") -> EngineRow:
    """An engine somewhere else."""
    return EngineRow(
        "some", "module", "a server", "https://some.invalid/v1", credential, required=required
    )


def local(port: int, host: str = "127.0.0.1", start: str | None = None) -> EngineRow:
    """An engine on this machine."""
    return EngineRow("here", "module", "a server", f"http://{host}:{port}/v1", start=start)


def test_an_engine_that_needs_nothing_is_ready() -> None:
    """A row without address and credential lacks nothing."""
    checkup = examined(EngineRow("plain", "module", "what it is"))
    assert checkup == Checkup("plain", "what it is", None, required=False, lacks=None)
    assert checkup.ready


@pytest.mark.parametrize(
    ("required", "environment", "ready"),
    [
        (True, {}, False),
        (True, {"SOME_API_KEY": ""}, False),
        (True, {"OTHER_API_KEY": CANARY}, False),
        (True, {"SOME_API_KEY": CANARY}, True),
        (True, {"MAGPIE_API_KEY": CANARY}, False),
        (False, {}, True),
        (False, {"SOME_API_KEY": CANARY}, True),
    ],
)
def test_a_credential_is_lacking_where_generate_would_miss_it(
    environment: Mapping[str, str], *, required: bool, ready: bool
) -> None:
    """An engine needs its own key: MAGPIE_API_KEY is for other addresses."""
    checkup = examined(remote(required=required), **environment)
    assert checkup.ready is ready
    assert checkup.credential == "SOME_API_KEY"


def test_a_lacking_credential_says_what_to_type() -> None:
    """The variable is named, in a line for the shell."""
    lacks = examined(remote(required=True)).lacks
    assert lacks == "SOME_API_KEY is not set: export SOME_API_KEY=..."


def test_a_way_without_the_credential_is_shown_beside_it() -> None:
    """Where an engine can do without its key, the line says how, until the key is there."""
    row = EngineRow(
        *("some", "module", "a network"), credential="TOKEN", required=True, otherwise="add --own"
    )
    lacking = examined(row)
    assert lacking.lacks == "TOKEN is not set: export TOKEN=..., or add --own"
    assert lacking.lacks in text([lacking])
    assert examined(row, TOKEN=CANARY).lacks is None


@pytest.mark.parametrize("environment", [{}, {"TOKEN": CANARY}], ids=["no key", "key"])
@pytest.mark.parametrize("absent", [None, "it has no wheel for Mars"])
def test_an_engine_needs_its_package(environment: Mapping[str, str], absent: str | None) -> None:
    """What is not installed is named, with the reason where there is one, key or no key."""
    row = EngineRow(
        *("some", "module", "a network"),
        credential="TOKEN",
        package="no_such_package",
        absent=absent,
    )
    checkup = examined(row, **environment)
    assert not checkup.ready
    why = absent or "pip install it"
    assert checkup.lacks == f"the package no_such_package is not installed: {why}"
    assert examined(replace(row, package="json")).ready


def test_a_lacking_package_comes_before_a_lacking_key() -> None:
    """Nobody is sent for a key that would not help."""
    lacks = examined(replace(remote(required=True), package="no_such_package")).lacks or ""
    assert "no_such_package" in lacks
    assert "export" not in lacks


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_that_listens_here_is_ready(listening: int, host: str) -> None:
    """Of an engine on this machine doctor tries whether it listens."""
    assert examined(local(listening, host)).ready


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("start", [None, "some serve"])
def test_a_server_that_is_not_there_says_how_to_start_it(
    silent: int, host: str, start: str | None
) -> None:
    """Where nothing listens, the address is named, and the command that would change it."""
    checkup = examined(local(silent, host, start))
    assert not checkup.ready
    expected = f"nothing listens at {host}:{silent}"
    assert checkup.lacks == (f"{expected}: {start}" if start else expected)


def test_a_server_elsewhere_is_not_asked_without_a_key() -> None:
    """Without a key, doctor sends nothing beyond this machine: a name of nobody is no trouble."""
    checkup = examined(remote(required=False))
    assert checkup.ready
    assert (checkup.models, checkup.trouble) == (None, None)


def test_every_engine_is_examined_in_the_order_of_the_table() -> None:
    """One checkup a row, with the row's own words."""
    checkups = asyncio.run(examine_engines(ENGINES, {}))
    assert [checkup.engine for checkup in checkups] == list(ENGINES)
    assert [checkup.what for checkup in checkups] == [row.what for row in ENGINES.values()]
    needs = {row.name for row in ENGINES.values() if row.required}
    assert needs <= {checkup.engine for checkup in checkups if not checkup.ready}


def test_the_text_shows_all_that_a_checkup_holds(silent: int) -> None:
    """A person sees name, state, what it is, the credential's name, and what lacks."""
    shown = text([examined(local(silent, start="some serve")), examined(remote(required=False))])
    first, second = shown.split("\nsome ")
    assert first.split("\n")[0].split() == ["here", "NOT", "READY"]
    assert f"nothing listens at 127.0.0.1:{silent}: some serve" in first
    assert "key:" not in first
    assert second.split("\n")[0].strip() == "ready"
    assert "key: SOME_API_KEY" in second


@pytest.mark.parametrize("option", [(), ("--json",)], ids=["text", "json"])
def test_it_says_of_each_key_whether_it_is_set(magpie: Magpie, option: tuple[str, ...]) -> None:
    """Of those an engine may do without, of the one for other servers and of the hub's, too."""
    optional = {"VLLM_API_KEY", "MAGPIE_API_KEY", "HF_TOKEN"}
    for keys in ({}, dict.fromkeys(optional, CANARY)):
        done = magpie("doctor", *option, **keys)
        if option:
            report = json.loads(done.stdout)
            there = {each["credential"]: each["credential_set"] for each in report["engines"]}
            there |= report["machine"]["keys"]
            assert {name for name in (*CREDENTIALS, *optional) if there[name]} == set(keys)
        else:
            state = "set" if keys else "not set"
            for line in (
                f"key: VLLM_API_KEY (if it asks for one), {state}\n",
                f"MAGPIE_API_KEY {state} (for --base-url), HF_TOKEN {state} (for downloads)\n",
                "key: OPENAI_API_KEY, not set\n",
            ):
                assert line in done.stdout
        assert CANARY not in done.stdout


@pytest.mark.parametrize("option", [(), ("--json",)], ids=["text", "json"])
def test_no_key_is_ever_shown(magpie: Magpie, option: tuple[str, ...]) -> None:
    """With every key set, the command shows their variables' names and never their values."""
    keys = {name: f"{CANARY}-{name}" for name in (*CREDENTIALS, "MAGPIE_API_KEY")}
    done = magpie("doctor", *option, **keys)
    assert (done.returncode, done.stderr) == (0, "")
    assert CANARY not in done.stdout
    assert all(name in done.stdout for name in CREDENTIALS)


def test_the_command_says_of_each_engine_whether_it_is_ready(magpie: Magpie) -> None:
    """Each engine has a line with its state, and each key that lacks a line that sets it."""
    done = magpie("doctor", OPENAI_API_KEY=CANARY)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.partition("\n\n")[2].splitlines()
    states = {line.split()[0]: line.split()[1:] for line in lines if not line.startswith(" ")}
    assert list(states) == list(ENGINES)
    assert states["echo"] == states["openai"] == ["ready"]
    assert states["dria-inference"] == states["openrouter"] == ["NOT", "READY"]
    assert "export DRIA_API_KEY=..." in done.stdout
    assert "its models could not be listed: https://api.openai.com/v1/models: " in done.stdout
    assert "export OPENAI_API_KEY=..." not in done.stdout


def test_the_command_speaks_json(magpie: Magpie) -> None:
    """`--json` gives the machine, and engines with the same keys, null where nothing lacks."""
    done = magpie("doctor", "--json", OPENAI_API_KEY=CANARY)
    assert (done.returncode, done.stderr) == (0, "")
    checkups = {checkup["engine"]: checkup for checkup in json.loads(done.stdout)["engines"]}
    assert list(checkups) == list(ENGINES)
    for checkup in checkups.values():
        assert {"engine", "what", "credential", "lacks"} <= set(checkup)
    assert checkups["openai"]["lacks"] is None
    assert checkups["openai"]["models"] is None
    assert "https://api.openai.com/v1/models" in checkups["openai"]["trouble"]
    assert checkups["openrouter"]["trouble"] is None
    assert checkups["openai"]["credential"] == "OPENAI_API_KEY"
    assert "OPENROUTER_API_KEY" in checkups["openrouter"]["lacks"]
