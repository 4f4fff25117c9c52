"""The house stands as drawn: floors, sizes, and the things that only one room may do."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import magpie_cli
from magpie_cli import engine, errors
from magpie_cli.errors import MagpieError

ROOT = Path(magpie_cli.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


def _calls(tree: ast.AST) -> list[str]:
    return [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_imports_point_down() -> None:
    """The floors and the independence of engines in pyproject.toml are kept."""
    lint = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert lint
    done = subprocess.run(
        [lint, "--no-cache"], cwd=ROOT.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small(path: Path) -> None:
    """No file passes 300 lines, no function 40 (a command's parameters are not counted)."""
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno
            assert node.end_lineno - node.body[0].lineno < 40, node.name


def test_only_pace_waits_or_tries_again() -> None:
    """No file sleeps but pace/__init__.py, what plays a slow server, and what asks or looks again.

    retry.py does for whole files what pace/ does for requests; the others wait for somebody else.
    """
    sleepers = {
        path.parent.name if path.name == "__init__.py" else path.name
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith("sleep")
        and ast.unparse(node) != "asyncio.sleep(0)"  # which only gives others their turn
    }
    players = {"echo.py", "node.py"}
    pollers = {"tasks.py", "part.py", "retry.py", "lock.py", "room.py"}
    assert sleepers == {"pace"} | players | pollers


def test_broad_except_stands_at_one_place() -> None:
    """`except Exception` stands once: where a thread hands its error to the event loop."""
    broad = [
        path.name
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
    ]
    assert broad == ["feed.py"]


def test_nothing_prints_but_the_commands() -> None:
    """Below the commands nothing prints."""
    printers = {
        path.parent.name
        for path in FILES
        for call in _calls(ast.parse(path.read_text()))
        if call in ("print", "typer.echo", "sys.stdout.write")
    }
    assert printers == {"cli"}


def _family(kind: type[MagpieError]) -> list[type[MagpieError]]:
    return [kind, *(child for sub in kind.__subclasses__() for child in _family(sub))]


@pytest.mark.parametrize("kind", _family(MagpieError), ids=lambda kind: kind.__name__)
def test_each_error_is_raised_and_drawn(kind: type[MagpieError]) -> None:
    """Every error class is raised somewhere (or has children) and stands in its module's tree."""
    source = "\n".join(path.read_text() for path in FILES)
    raised = re.search(rf"(raise|return) {kind.__name__}\(", source)
    assert raised or kind.__subclasses__()
    drawn = f"{errors.__doc__}{engine.__doc__}"
    assert kind.__name__ in drawn


def test_no_forbidden_rooms() -> None:
    """No file is called after nothing in particular."""
    vague = {"utils", "helpers", "common", "base", "manager", "core", "misc"}
    assert not {path.stem for path in FILES} & vague
