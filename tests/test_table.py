"""Tables of named numbers, on a terminal and off it."""

import re

import pytest

from magpie_cli.display.table import Entry, Section, drawn, plain

SECTIONS = (
    Section("words\x1b[2J", (Entry("a\nb [/red]", "1\x1b[31m"),), "of [bold]all"),
    Section("shares", (Entry("x" * 200, "50%", 0.5), Entry("more than all", "150%", 1.5))),
)


def test_off_a_terminal_it_is_plain() -> None:
    """One entry a line, names cut, without a control character."""
    text = plain(SECTIONS)
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", text)
    assert "  a b [/red]  1" in text
    assert max(map(len, text.splitlines())) < 80
    assert len(text.splitlines()) == 7


@pytest.mark.parametrize("width", [20, 60, 200])
def test_on_a_terminal_it_has_bars(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Bars are as long as the shares, and nothing of the data steers the terminal or is markup."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    text = re.sub(r"\x1b\[[0-9;]*m", "", drawn(SECTIONS, width))
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= width
    bars = re.findall("\u2588+", text)
    if width >= 60:
        assert "a b [/red]" in text
        assert [len(bar) for bar in bars] == [6, 12]


def test_no_color_has_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR leaves bold and dim, which are no colours."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert not re.search(r"\x1b\[(?:[349][0-7]|38)", drawn(SECTIONS, 80).replace("\x1b[39;49m", ""))
