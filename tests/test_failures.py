"""What failed is kept as long as it may matter, and no longer."""

import json
import subprocess
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from tests.chat_server import ChatServer, refuses
from tests.conftest import PAIR, Magpie, rows_of

BAD = '{"instructor_persona": "alone"}'


def write(path: Path, *lines: str) -> str:
    """An input of these lines, by its name."""
    path.write_text("".join(line + "\n" for line in lines))
    return path.name


def pair(name: str, **columns: Any) -> str:
    """A good line."""
    return json.dumps({**PAIR, "id": name, **columns})


def kinds(folder: Path) -> list[str]:
    """What is in the failures file, if it is there."""
    path = folder / "out.failures.jsonl"
    return [row["kind"] for row in rows_of(path)] if path.exists() else []


def test_failures_of_another_input_stay(tmp_path: Path, magpie: Magpie) -> None:
    """Several inputs may go into one output: one's clean end keeps the failures of the others."""
    first = write(tmp_path / "first.jsonl", pair("a"), BAD)
    second = write(tmp_path / "second.jsonl", pair("b"))
    command = ("--engine", "echo", "-o", "out.jsonl")
    assert magpie("generate", first, *command).returncode == 3
    assert magpie("generate", second, *command).returncode == 0
    assert kinds(tmp_path) == ["missing_persona"]
    assert magpie("generate", first, *command).returncode == 3
    assert kinds(tmp_path) == ["missing_persona"]
    assert {row["id"] for row in rows_of(tmp_path / "out.jsonl")} == {"a", "b"}


def test_a_mended_input_has_no_failures_left(tmp_path: Path, magpie: Magpie) -> None:
    """Mending the lines where they are, and the same command, leaves nothing to mend."""
    command = ("generate", "in.jsonl", "--engine", "echo", "-o", "out.jsonl")
    write(tmp_path / "in.jsonl", pair("a"), BAD)
    done = magpie(*command)
    assert done.returncode == 3
    assert (
        "-> out.failures.jsonl. Next: mend the lines it names, then run the same command again"
        in done.stderr
    )
    write(tmp_path / "in.jsonl", pair("a"), pair("b"))
    assert magpie(*command, "--retry-failed", "all").returncode == 0
    assert kinds(tmp_path) == []


def test_batches_get_past_pairs_that_fail(
    tmp_path: Path, magpie: Magpie, server: ChatServer
) -> None:
    """Under --limit a pair that failed is not tried again before the others had their turn."""
    source = write(tmp_path / "in.jsonl", *(pair(f"{n}") for n in range(4)))
    command = ("generate", source, "--base-url", server.url, "-o", "out.jsonl", "-j", "1")
    server.faults = chain([refuses(400), refuses(400)], repeat(None))
    codes = [magpie(*command, "--limit", "2").returncode for _ in range(2)]
    assert codes == [75, 3]
    assert [row["id"] for row in rows_of(tmp_path / "out.jsonl")] == ["2", "3"]
    assert kinds(tmp_path) == ["http_400", "http_400"]
    assert magpie(*command, "--retry-failed", "all").returncode == 0
    assert kinds(tmp_path) == []


def test_the_failures_of_an_output_stay_in_one_file(tmp_path: Path, magpie: Magpie) -> None:
    """Another --failures for the same output is refused, with the right one to type."""
    source = write(tmp_path / "in.jsonl", pair("a"), BAD)
    command = ("generate", source, "--engine", "echo", "-o", "out.jsonl")
    assert magpie(*command).returncode == 3
    done = magpie(*command, "--failures", "other.jsonl")
    assert done.returncode == 2
    assert "hint: --failures out.failures.jsonl" in done.stderr
    assert not (tmp_path / "other.jsonl").exists()


def test_a_stream_leaves_other_peoples_files_alone(tmp_path: Path, magpie: Magpie) -> None:
    """--failures with rows on stdout is added to failures only."""
    source = write(tmp_path / "in.jsonl", BAD)
    for text in ("notes without an end", "notes\n"):
        (tmp_path / "notes").write_text(text)
        done = magpie("generate", source, "--engine", "echo", "--failures", "notes")
        assert done.returncode in (1, 2)
        assert "Traceback" not in done.stderr
        assert (tmp_path / "notes").read_text() == text


def test_a_stop_under_fresh_says_how_to_go_on(tmp_path: Path, magpie: Magpie) -> None:
    """With --fresh the same command would begin anew, so it is not what to type next."""
    source = write(tmp_path / "in.jsonl", pair("a"), pair("b"))
    command = ("generate", source, "--engine", "echo", "-o", "out.jsonl", "--limit", "1")
    done = magpie(*command, "--fresh")
    assert done.returncode == 75
    assert "Next: run the same command without --fresh again to go on" in done.stderr
    assert magpie(*command).returncode == 0


def test_status_knows_a_finished_run(tmp_path: Path, magpie: Magpie) -> None:
    """After a clean end nothing is left, even where the output holds rows of another input."""
    command = ("--engine", "echo", "-o", "out.jsonl")
    for name in ("first", "second"):
        source = write(tmp_path / f"{name}.jsonl", *(pair(f"{name}{n}") for n in range(3)))
        assert magpie("generate", source, *command).returncode == 0
    answer = json.loads(magpie("status", "out.jsonl", "--json").stdout)
    assert (answer["done"], answer["failed"], answer["left"]) == (6, 0, 0)


def test_fresh_says_where_the_old_rows_are(tmp_path: Path, magpie: Magpie) -> None:
    """The first line names what the old output is called now."""
    source = write(tmp_path / "in.jsonl", pair("a"))
    command = ("generate", source, "--engine", "echo", "-o", "out.jsonl", "--fresh")
    assert "(the old one" not in magpie(*command).stderr
    assert "(the old one is now out.jsonl.1)" in magpie(*command).stderr
    assert len(rows_of(tmp_path / "out.jsonl.1")) == 1


def test_a_rehearsal_says_what_is_wrong(tmp_path: Path, magpie: Magpie) -> None:
    """--dry-run shows the reasons of the first bad lines."""
    source = write(tmp_path / "in.jsonl", pair("a"), *[BAD] * 7)
    done = magpie("generate", source, "--engine", "echo", "--dry-run")
    assert done.returncode == 0
    assert done.stdout.count('"responding_persona" is missing') == 5


def test_a_rehearsal_refuses_what_the_run_would(tmp_path: Path, magpie: Magpie) -> None:
    """--dry-run compares settings as the run does, and changes nothing."""
    source = write(tmp_path / "in.jsonl", pair("a"))
    command = ("generate", source, "--engine", "echo", "-o", "out.jsonl")
    assert magpie(*command).returncode == 0
    done = magpie(*command, "--turns", "2", "--dry-run")
    assert done.returncode == 2
    assert "turns: 1 -> 2" in done.stderr


def test_an_empty_failures_file_is_not_left_behind(tmp_path: Path, magpie: Magpie) -> None:
    """Nothing failed, nothing lies about, even where the run did not get through."""
    source = write(tmp_path / "in.jsonl", pair("a"), pair("b"))
    done = magpie("generate", source, "--engine", "echo", "-o", "out.jsonl", "--limit", "1")
    assert done.returncode == 75
    assert not (tmp_path / "out.failures.jsonl").exists()


def test_csv_is_recognised(tmp_path: Path, magpie: Magpie) -> None:
    """A CSV file is named as such, and the line to type makes pairs of it."""
    header = "instructor_persona,responding_persona"
    write(tmp_path / "in.csv", header, '"a botanist, aged 8",a baker')
    done = magpie("generate", "in.csv", "--engine", "echo")
    assert done.returncode == 2
    assert "looks like CSV" in done.stderr
    command = done.stderr.split("hint: ")[1].split(" | ")[0]
    made = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    (row,) = [json.loads(line) for line in made.stdout.splitlines()]
    assert row == {"instructor_persona": "a botanist, aged 8", "responding_persona": "a baker"}


def test_echo_takes_no_address(tmp_path: Path, magpie: Magpie) -> None:
    """A flag that would do nothing is refused."""
    source = write(tmp_path / "in.jsonl", pair("a"))
    done = magpie("generate", source, "--engine", "echo", "--base-url", "http://localhost:1/v1")
    assert done.returncode == 2
