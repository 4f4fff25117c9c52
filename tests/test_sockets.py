"""As many requests at a time as there may be open files, and no more."""

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from magpie_cli.engines import ENGINES
from magpie_cli.engines.sockets import ceiling
from magpie_cli.settings import Settings
from tests.chat_server import ChatServer
from tests.conftest import rows_of

Pairs = Callable[..., Path]


@pytest.mark.parametrize(("kind", "most"), [("-n", 96), ("-Sn", 300)])
def test_a_run_keeps_within_its_files(
    kind: str, most: int, tmp_path: Path, pairs: Pairs, server: ChatServer
) -> None:
    """With 128 of them, 300 at a time would leave none for the output; a soft limit is raised."""
    server.delay = 0.1
    magpie = (sys.executable, "-m", "magpie_cli", "generate", pairs(900), "-o", "out.jsonl")
    limited = ("/bin/bash", "-c", f'ulimit {kind} 128; exec "$@"', "bash")
    done = subprocess.run(
        (*limited, *magpie, "-j", "300", "--base-url", server.url),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(rows_of(tmp_path / "out.jsonl")) == 900
    assert server.most_in_flight <= most
    said = "at most 96 requests at a time: ulimit -n allows 128 open files" in done.stderr
    assert said == (most == 96)


def test_several_servers_share_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each gets its part; where no socket is needed, all that was asked for."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    heard: list[str] = []
    urls = [f"http://localhost:{port}/v1" for port in (1, 2, 3)]
    settings = Settings("-", base_url=urls, concurrency=5000)
    assert ceiling(ENGINES["openai"], settings, heard.append) == 256
    assert ceiling(ENGINES["openai"], Settings("-", base_url=urls), heard.append) == 8
    assert ceiling(ENGINES["echo"], Settings("-", concurrency=5000), heard.append) == 5000
    assert heard == ["at most 768 requests at a time: ulimit -n allows 1024 open files"]
