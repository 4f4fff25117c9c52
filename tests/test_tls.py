"""Servers that are asked over TLS, with a certificate of the test's own authority."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from magpie_cli.engine import EngineRefused, Sampling
from magpie_cli.errors import MagpieError, UsageError
from tests.chat_server import ChatServer
from tests.raw_server import raw_server
from tests.test_openai import MESSAGES, connected


@pytest.fixture
def authority() -> trustme.CA:
    """Whom nobody trusts yet."""
    return trustme.CA()


@pytest.fixture
def encrypted(authority: trustme.CA) -> Iterator[ChatServer]:
    """A server that proves itself by that authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with ChatServer(tls=context) as server:
        yield server


async def test_a_private_authority_is_named_by_the_environment(
    encrypted: ChatServer, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_CERT_FILE, as other programs read it; the key travels inside."""
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    key = {"MAGPIE_API_KEY": "a-key-of-mine"}
    async with connected(encrypted.url, environment=key) as model:
        assert (await model.complete(MESSAGES, Sampling())).text
    assert encrypted.asked[0].headers["Authorization"] == "Bearer a-key-of-mine"


async def test_an_unknown_authority_is_not_trusted(encrypted: ChatServer) -> None:
    """Nothing is sent to it, and the way to trust it is named."""
    with pytest.raises(EngineRefused, match="certificate") as caught:
        async with connected(encrypted.url):
            pass
    assert "SSL_CERT_FILE" in str(caught.value.hint)
    assert not encrypted.asked


async def test_a_server_that_closes_in_the_greeting_is_said_to() -> None:
    """Asyncio's error has no words of its own there."""
    async with raw_server(lambda peer: peer.reader.read(1)) as server:
        with pytest.raises(MagpieError, match="the connection was closed"):
            async with connected(server.url.replace("http", "https")):
                pass


@pytest.mark.parametrize("text", [None, "no certificate\n"], ids=["missing", "of another kind"])
async def test_a_file_of_authorities_that_is_none_is_named(
    encrypted: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    """OpenSSL would say nothing, and trust nobody."""
    path = tmp_path / "authority.pem"
    if text:
        path.write_text(text)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with pytest.raises(UsageError, match=r"SSL_CERT_FILE .*authority\.pem"):
        async with connected(encrypted.url):
            pass
    assert not encrypted.asked


async def test_a_server_that_speaks_no_tls_is_named(server: ChatServer) -> None:
    """The scheme of the address may be a slip."""
    with pytest.raises(MagpieError, match="no TLS is spoken there: http://"):
        async with connected(server.url.replace("http:", "https:")):
            pass
