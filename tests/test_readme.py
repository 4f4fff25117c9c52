"""README keeps its word: its commands run, its tables are true, its engine works."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from magpie_cli.checks import CHECKS, REPAIRS
from magpie_cli.engine import DialogueRequest, EngineRow
from magpie_cli.engines import ENGINES, open_engine
from magpie_cli.pace import Pace
from magpie_cli.personas import PairReader
from magpie_cli.prompts import own_prompts
from magpie_cli.records import PersonaPair
from magpie_cli.settings import Settings
from tests.conftest import clean_environment

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def _block(marker: str) -> str:
    """The code block that follows `<!-- marker -->`."""
    found = re.search(rf"<!-- {re.escape(marker)} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert found, marker
    return found[1]


def _everyday() -> list[str]:
    """The commands of the blocks that need no server, in their order."""
    section = README.split("## Everyday use")[1].split("## Engines")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    commands = [line for line in lines if line and not line.startswith("#")]
    assert len(commands) >= 10
    return commands


def test_everyday_commands_run(tmp_path: Path) -> None:
    """Every command of "Everyday use" runs as it stands there, one after another."""
    if not shutil.which("jq"):
        pytest.skip("jq is not installed")
    shutil.copy(ROOT / "personas.example.jsonl", tmp_path)
    environment = clean_environment()
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    for command in _everyday():
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        expected = 75 if "--limit" in command else 0
        assert done.returncode == expected, f"{command}\n{done.stderr}"
    for name, rows in (("piped", 12), ("batch", 12), ("three", 36), ("cron", 12)):
        assert len((tmp_path / f"{name}.jsonl").read_bytes().splitlines()) == rows


def test_engine_table_is_the_real_one() -> None:
    """README's table names every engine and its key."""
    table = README.split("## Engines")[1].split("Any other")[0]
    rows = {
        cells[1].strip("` "): cells[3]
        for cells in (line.split("|") for line in table.splitlines())
        if len(cells) == 5 and cells[1].strip().startswith("`") and "--" not in cells[1]
    }
    assert rows.keys() == ENGINES.keys()
    for name, row in ENGINES.items():
        assert (row.credential or "") in rows[name]
        assert bool(row.credential) == ("`" in rows[name])


def test_table_of_findings_is_the_real_one() -> None:
    """README's table has every check and repair, its reason, and what is done about it."""
    table = README.split("| finding | | sampled again |")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    checks = [
        [f"`{name}`", check.reason, "yes" if check.is_hard else "no"]
        for name, check in CHECKS.items()
    ]
    repairs = [[f"`{name}`", repair.reason, "mended"] for name, repair in REPAIRS.items()]
    assert rows == checks + repairs


def test_file_table_is_the_real_one() -> None:
    """README's map of the package names every file and folder, and none that is not there."""
    table = README.split("| floor | files of `magpie_cli/` |")[1].split("MIT licence")[0]
    named = {name.rstrip("/") for name in re.findall(r"`([a-z_]+(?:\.py|/))`", table)}
    package = ROOT / "magpie_cli"
    real = {path.name for path in package.iterdir() if path.name[0] not in "_."}
    assert named == real - {"py.typed"}


async def test_engine_of_your_own_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine that README shows makes a dialogue, from its file and its row alone."""
    (tmp_path / "parrot.py").write_text(_block("engine: parrot.py"))
    monkeypatch.syspath_prepend(str(tmp_path))
    row = eval(_block("engine: row"), {"EngineRow": EngineRow})  # noqa: S307 - README's own line
    settings = Settings("-")
    pair = PersonaPair("x", "A curious scientist", "A careful librarian", None, {}, 1, "")
    async with open_engine("parrot", settings, own_prompts(), Pace(), {row.name: row}) as engine:
        dialogue = await engine.dialogue(DialogueRequest("x", pair, num_turns=2))
    assert len(dialogue.turns) == 2
    assert dialogue.turns[0].responder == f"You said: {dialogue.turns[0].instructor}"


def test_example_pairs_are_good_and_varied() -> None:
    """The example file has a dozen good pairs: two with num_turns, one with own columns."""
    with (ROOT / "personas.example.jsonl").open("rb") as stream:
        pairs = list(PairReader(stream, "personas.example.jsonl"))
    good = [pair for pair in pairs if isinstance(pair, PersonaPair)]
    assert len(good) == len(pairs) == 12
    assert sum(pair.num_turns is not None for pair in good) == 2
    assert sum(bool(pair.metadata) for pair in good) == 1
    personas = {text for p in good for text in (p.instructor_persona, p.responding_persona)}
    assert len(personas) == 24
