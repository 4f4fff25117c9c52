"""The Dria SDK stays in its quarantine, and says which models there are."""

import json
import subprocess
import sys
from pathlib import Path

import coincurve
import ecies
import pytest

from tests.conftest import clean_environment

PROGRAM = """
import json, logging, os, signal, sys, warnings
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
filters = warnings.filters[:]
from magpie_cli.cli import main
sys.argv = ["magpie", "generate", "pairs.jsonl", "-o", "out.jsonl", "--devnet", "--quiet"]
code = 0
try:
    main()
except SystemExit as end:
    code = end.code
print(json.dumps({
    "code": code,
    "loaded": sorted(sys.modules),
    "root": len(logging.getLogger().handlers),
    "level": logging.getLogger().level,
    "theirs": [type(each).__name__ for each in logging.getLogger("dria").handlers],
    "signals": [signal.getsignal(signal.SIGTERM) == before[1]],
    "filters": [str(each) for each in warnings.filters if each not in filters],
    "canary": os.environ.get("CANARY"),
    "home": os.listdir(os.environ["HOME"]),
}))
"""


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], str]:
    """What a process looks like after a run, and what it wrote to stderr.

    A `.env` stands where the SDK would find it, warnings are on, and nobody may write to HOME.
    """
    folder = tmp_path_factory.mktemp("run")
    home = folder / "home"
    home.mkdir(mode=0o555)
    (folder / ".env").write_text("CANARY=read\n")
    pair = {"instructor_persona": "A scientist", "responding_persona": "A librarian"}
    (folder / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", PROGRAM],
        cwd=folder,
        env=clean_environment() | {"HOME": str(home), "LOG_LEVEL": "DEBUG"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout), done.stderr


def test_nothing_of_it_reaches_a_stream(after: tuple[dict[str, object], str]) -> None:
    """The streams hold what this test printed alone: no log line, no bar, no warning."""
    found, said = after
    assert (found["code"], said) == (0, "")


def test_its_client_and_its_heavy_friends_are_not_loaded(
    after: tuple[dict[str, object], str],
) -> None:
    """Neither the singleton's module nor datasets, pandas, duckdb, tqdm or httpx is there."""
    loaded = after[0]["loaded"]
    assert isinstance(loaded, list)
    assert "dria.utils.crypto.ec" in loaded
    heavy = {"dria", "dria.client.client", "dria.datasets", "dria.db.database"}
    heavy |= {"datasets", "pandas", "duckdb", "tqdm", "httpx", "requests"}
    assert heavy & set(loaded) == set()


def test_logging_signals_warnings_and_environment_are_as_before(
    after: tuple[dict[str, object], str],
) -> None:
    """No handler of the SDK's listens, SIGTERM is nobody's, no `.env` was read, no `~/.dria`."""
    found = after[0]
    assert (found["root"], found["level"], found["theirs"]) == (0, 30, ["NullHandler"])
    assert found["signals"] == [True]
    assert "pydantic" not in str(found["filters"])
    assert found["canary"] is None
    assert found["home"] == []


def test_the_real_package_can_still_be_imported(tmp_path: Path) -> None:
    """After our slim import, `import dria` gives whoever wants it the whole package."""
    program = (
        "from magpie_cli.engines.dria.sdk import Sdk; Sdk(); from dria import Dria, DriaDataset"
    )
    subprocess.run(
        [sys.executable, "-c", program],
        env=clean_environment() | {"HOME": str(tmp_path)},
        capture_output=True,
        check=True,
    )


def test_the_workflow_is_the_sdks_own() -> None:
    """Its prompts are the package's files, and it ends after so many responses."""
    from magpie_cli.engines.dria.sdk import Sdk

    sdk = Sdk()
    workflow = sdk.workflow(7)
    folder = Path(sys.modules["dria.factory.workflows.magpie_instruct.task"].__file__ or "").parent
    prompts = [task["messages"][0]["content"] for task in workflow["tasks"][:2]]
    assert prompts == [(folder / f"{name}.md").read_text() for name in ("instruction", "response")]
    assert workflow["steps"][1]["condition"]["expected"] == "7"
    assert "gemma2:9b-instruct-fp16" in sdk.models
    assert not {"ollama", "large"} & set(sdk.models)
    assert sdk.address("sk-dria-v1-x") == "https://pro.rpc.dria.co"
    assert sdk.address("x") == "https://community.rpc.dria.co"


WITHOUT_FILES = """
import resource, sys
from magpie_cli.engines.dria.sdk import Sdk
sdk = Sdk()
resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
print(sdk._crypto.decrypt_message(sys.argv[1], bytes.fromhex(sys.argv[2])))
"""


def test_the_first_answer_opens_no_file() -> None:
    """Where all file descriptors are in use by then, it can be decrypted all the same."""
    key = coincurve.PrivateKey(b"\1" * 32)
    sealed = ecies.encrypt(key.public_key.format().hex(), b"words").hex()
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_FILES, key.to_hex(), sealed],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "words" in done.stdout, done.stderr
