"""Keys and tokens: where they may come from, and that no byte of them is repeated (I11)."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from magpie_cli.credentials import VARIABLES, Redactor, load_credentials, read_token
from magpie_cli.engines import ENGINES, OWN_KEY
from magpie_cli.errors import UsageError
from magpie_cli.models.hub import TOKEN_VARIABLE
from tests.chat_server import ChatServer, answer, refuses, says
from tests.conftest import Magpie, rows_of

Pairs = Callable[..., Path]
CANARY = "sk-canary-5f0c6c0de1b2a394"
ESCAPED = 'sk-"canary"\\5f0c6c0de1b2'


def written(folder: Path) -> bytes:
    """Every byte that lies in a folder, and every name."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return b"\n".join([*(str(path).encode() for path in paths), *map(Path.read_bytes, paths)])


def test_every_credential_of_an_engine_is_known() -> None:
    """What an engine, any other address or a hub is given as a key is taken out everywhere."""
    theirs = {row.credential for row in ENGINES.values() if row.credential}
    assert theirs | {OWN_KEY, TOKEN_VARIABLE} == set(VARIABLES)


@pytest.mark.parametrize("key", [CANARY, ESCAPED])
def test_no_byte_of_the_key_is_kept_or_shown(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, server: ChatServer, key: str
) -> None:
    """I11: a server that repeats the key in its words, its errors and its name is not believed."""
    pairs(3)
    server.models = [f"model-{key}"]
    named = {**answer(f"your key is {key}"), "model": f"m-{key}"}
    server.faults = iter([says(named), refuses(400, key), refuses(500, f"{key}\n{key}")])
    command = ("generate", "pairs.jsonl", "--base-url", server.url, "-o", "out.jsonl")
    for flags in ((), ("--log-format", "json"), ("--fresh", "-t", "2", "--retry-failed", "all")):
        done = magpie(*command, *flags, MAGPIE_API_KEY=key)
        kept = written(tmp_path) + done.stdout.encode() + done.stderr.encode()
        assert key.encode() not in kept
        assert json.dumps(key)[1:-1].encode() not in kept
    assert b"***" in kept


def test_rows_on_stdout_are_without_the_key(
    magpie: Magpie, pairs: Pairs, server: ChatServer
) -> None:
    """I11 holds for a pipe as well."""
    pairs(1)
    server.faults = iter([says(answer(f"it is {CANARY}!"))])
    done = magpie("generate", "pairs.jsonl", "--base-url", server.url, MAGPIE_API_KEY=CANARY)
    assert json.loads(done.stdout)["dialogue"][0] == {"instructor": "it is ***!"}


def test_an_error_before_the_run_shows_no_key(magpie: Magpie) -> None:
    """I11: also where the key was typed in the wrong place."""
    done = magpie("generate", f"{CANARY}.jsonl", "--engine", "echo", MAGPIE_API_KEY=CANARY)
    assert (done.returncode, CANARY in done.stderr, "***.jsonl" in done.stderr) == (2, False, True)


def test_a_placeholder_is_no_secret() -> None:
    """Short keys and words without a digit are left alone: a persona may use them."""
    redact = Redactor(["EMPTY", "development", "", CANARY])
    assert redact.text(f"EMPTY development {CANARY}") == "EMPTY development ***"
    assert redact.line(json.dumps([CANARY]).encode()) == b'["***"]'


@pytest.mark.parametrize("text", [CANARY, f"  {CANARY}\n"])
def test_a_token_file_holds_the_key(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, server: ChatServer, text: str
) -> None:
    """--token-file beats the environment, and is the key of the engine that was chosen."""
    pairs(1)
    server.key = CANARY
    (tmp_path / "token").write_text(text)
    command = ("generate", "pairs.jsonl", "--base-url", server.url)
    done = magpie(*command, "--token-file", "token", MAGPIE_API_KEY="wrong-12345")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text", ["", "\n", "one\ntwo", "naïve", "a\0b"])
def test_a_file_that_holds_no_token_is_named(tmp_path: Path, text: str) -> None:
    """An empty file, or one with more than one line, is a usage error."""
    (tmp_path / "token").write_text(text)
    with pytest.raises(UsageError, match="token"):
        read_token(tmp_path / "token")


def test_an_engine_without_a_key_takes_no_token_file(magpie: Magpie, pairs: Pairs) -> None:
    """A token for nobody is a slip, not ignored."""
    pairs(1)
    done = magpie("generate", "pairs.jsonl", "--engine", "echo", "--token-file", "token")
    assert (done.returncode, "takes no key" in done.stderr) == (2, True)


def test_systemd_hands_over_credentials(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, server: ChatServer
) -> None:
    """A file with a variable's name in $CREDENTIALS_DIRECTORY is that variable."""
    pairs(1)
    server.key = CANARY
    (tmp_path / "MAGPIE_API_KEY").write_text(f"{CANARY}\n")
    command = ("generate", "pairs.jsonl", "--base-url", server.url)
    done = magpie(*command, CREDENTIALS_DIRECTORY=str(tmp_path))
    assert done.returncode == 0, done.stderr
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path), "MAGPIE_API_KEY": "mine"}
    load_credentials(environment)
    assert environment["MAGPIE_API_KEY"] == "mine"


async def test_the_key_is_no_argument_and_reaches_no_file(
    tmp_path: Path, magpie: Magpie, pairs: Pairs, server: ChatServer
) -> None:
    """Events beside the output tell of retries, and hold no key."""
    pairs(1)

    async def breaks(request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": request.headers["Authorization"]}, status=503)

    server.faults = iter([breaks])
    command = ("generate", "pairs.jsonl", "--base-url", server.url, "-o", "out.jsonl")
    assert magpie(*command, MAGPIE_API_KEY=CANARY).returncode == 0
    events = rows_of(tmp_path / "out.jsonl.magpie" / "events.jsonl")
    assert [event["event"] for event in events] == ["start", "retry", "end"]
    assert "Bearer ***" in events[1]["message"]
