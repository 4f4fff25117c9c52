"""Tables of named numbers: with small bars for a terminal, as plain lines for all else."""

from dataclasses import dataclass
from io import StringIO

from magpie_cli.display.text import safe

BAR = 12  # columns
NAME_MOST = 60


@dataclass(frozen=True, slots=True)
class Entry:
    """A name and what is said of it. `share` (0 to 1) is drawn as a bar, if it is not None."""

    name: str
    value: str
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """Entries under a title; `note` says how they were come by."""

    title: str
    entries: tuple[Entry, ...]
    note: str = ""


def plain(sections: tuple[Section, ...]) -> str:
    """Without an escape code, one entry a line."""
    lines: list[str] = []
    for section in sections:
        lines += ["", section.title] if lines else [section.title]
        lines += [f"  ({section.note})"] if section.note else []
        width = max((len(_short(entry.name)) for entry in section.entries), default=0)
        for entry in section.entries:
            lines.append(f"  {_short(entry.name):<{width}}  {entry.value}".rstrip())
    return safe("\n".join(lines))


def drawn(sections: tuple[Section, ...], width: int) -> str:
    """With Rich, for a terminal of `width` columns; NO_COLOR is respected."""
    from rich.bar import Bar
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=StringIO(), force_terminal=True, width=width)
    for section in sections:
        table = Table(
            title=Text(safe(section.title), style="bold"),
            caption=Text(safe(section.note), style="dim") if section.note else None,
            title_justify="left",
            caption_justify="left",
            show_header=False,
            box=None,
        )
        table.add_column(overflow="fold", min_width=20)
        table.add_column(justify="right", overflow="fold")
        table.add_column(width=BAR)
        for entry in section.entries:
            bar = "" if entry.share is None else Bar(1, 0, min(1, entry.share), width=BAR)
            table.add_row(Text(safe(_short(entry.name))), Text(safe(entry.value)), bar)
        console.print(table)
        console.print()
    assert isinstance(console.file, StringIO)  # noqa: S101 - as it was made above
    return console.file.getvalue().rstrip("\n")


def _short(name: str) -> str:
    line = " ".join(name.split())
    return line if len(line) <= NAME_MOST else line[: NAME_MOST - 1] + "\N{HORIZONTAL ELLIPSIS}"
