"""The command line as a newcomer meets it: help, environment twins, a light start."""

import inspect
import json
import subprocess
import sys
from dataclasses import fields
from typing import Annotated, get_args, get_origin, get_type_hints

import pytest

from magpie_cli import cli
from magpie_cli.settings import Settings
from tests.conftest import Magpie, clean_environment
from tests.golden import COMMANDS, FOLDER, help_of

NO_TURNS = ("0", "-1", "6-2", "0-3", "2-", "-3", "2-1001", "1001", "2-3-4", "two", "2 - 3", "")
HEAVY = ("aiohttp", "asyncio", "dria", "magpie_cli.engines", "orjson", "pydantic", "rich")


def _options() -> dict[str, object]:
    """The option of each parameter of `generate` and `judge` that is one."""
    found = {
        name: get_args(hint)[1]
        for command in (cli.judge, cli.generate)
        for name, hint in get_type_hints(command, include_extras=True).items()
        if get_origin(hint) is Annotated and name != "input"
    }
    assert len(found) > 20
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_as_recorded(name: str) -> None:
    """The help of each command is the one in tests/golden (`python -m tests.golden` renews it)."""
    assert help_of(COMMANDS[name]) == (FOLDER / f"{name}.txt").read_text()


def test_every_command_has_golden_help() -> None:
    """No command is without recorded help."""
    names = {info.callback.__name__ for info in cli.app.registered_commands if info.callback}
    for group in cli.app.registered_groups:
        assert group.typer_instance
        inner = [info.callback for info in group.typer_instance.registered_commands]
        names |= {f"{group.name}", *(f"{group.name}-{call.__name__}" for call in inner if call)}
    assert names | {"magpie"} == set(COMMANDS)


@pytest.mark.parametrize(("name", "option"), _options().items(), ids=_options())
def test_each_option_has_help_and_a_twin(name: str, option: object) -> None:
    """Every option says what it does and is read from MAGPIE_<FLAG> too."""
    assert vars(option)["help"]
    assert vars(option)["envvar"] == f"MAGPIE_{name.upper()}"


def test_flags_are_the_settings() -> None:
    """`generate` has one parameter for each field of Settings, with the same default."""
    parameters = inspect.signature(cli.generate).parameters
    assert list(parameters) == [field.name for field in fields(Settings)]
    for field in fields(Settings)[1:]:
        assert parameters[field.name].default == field.default


def test_a_flag_of_judge_is_the_same_as_of_generate() -> None:
    """`judge` takes flags of `generate`, with their defaults, and one of its own."""
    parameters = inspect.signature(cli.judge).parameters
    defaults = {field.name: field.default for field in fields(Settings)[1:]}
    given = {name: parameter.default for name, parameter in parameters.items()}
    assert given.pop("input") is inspect.Parameter.empty
    assert given.pop("prompt") is None
    assert given.items() <= defaults.items()


@pytest.mark.parametrize("arguments", [["--help"], ["generate", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    """Help and version load no engine, no HTTP client, no event loop and no Rich."""
    program = (
        "import sys, json; sys.argv = ['magpie', *json.loads(sys.argv[1])]\n"
        "from magpie_cli.cli import main\n"
        "try: main()\n"
        "except SystemExit: print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(arguments)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = json.loads(done.stderr)
    assert "magpie_cli.cli" in loaded
    # Typer itself asks pydantic about the types of a command's options.
    allowed = {"pydantic", "asyncio"} if "generate" in arguments else set()
    heavy = set(HEAVY) - allowed
    assert [name for name in loaded if name in heavy] == []


def test_version_is_the_package_version(magpie: Magpie) -> None:
    """`magpie --version` prints the installed version."""
    from importlib.metadata import version

    assert magpie("--version").stdout == f"magpie {version('magpie-cli')}\n"


def test_no_arguments_show_help(magpie: Magpie) -> None:
    """`magpie` alone shows the commands and counts as wrong usage."""
    done = magpie()
    assert done.returncode == 2
    assert "generate" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [("magpie gen", "generate"), ("magpie generate --engine ech", "echo")],
)
def test_shells_complete_commands_and_engines(magpie: Magpie, words: str, expected: str) -> None:
    """Completion knows the commands, and the engines after --engine."""
    done = magpie(
        _MAGPIE_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(words.count(" "))
    )
    assert expected in done.stdout.split()


@pytest.mark.parametrize(
    "arguments",
    [
        *(["generate", "p.jsonl", "--turns", turns] for turns in NO_TURNS),
        ["generate", "p.jsonl", "--end", "nobody"],
        ["generate", "p.jsonl", "--top-p", "1.5"],
        ["generate", "p.jsonl", "--progress", "loud"],
        ["generate", "p.jsonl", "--no-such-flag"],
        ["generate"],
        ["no-such-command"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2(magpie: Magpie, arguments: list[str]) -> None:
    """A flag that cannot be is named, without a traceback, and exits 2."""
    done = magpie(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "Error" in done.stderr
