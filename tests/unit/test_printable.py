"""What is written out of a stranger's string, and what stays as it is."""

from __future__ import annotations

import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.progress import Progress
from rich.table import Table

from harness.console import Screen
from harness.core.printable import inert, printable

#: categories of what steers: control and format characters, halves of surrogates, separators of lines
STEERS = ("Cc", "Cf", "Cs", "Zl", "Zp")

#: of these, what is part of how words and pictures are spelt, and signs that are seen
SPELT = "\n\t\u200c\u200d\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"


def steering(text):
    """Return what steers; beyond U+13430 are signs that lay out hieroglyphs, shorthand and music."""
    return [one for one in text if unicodedata.category(one) in STEERS and one not in SPELT and ord(one) < 0x13430]


@given(st.text(st.characters(max_codepoint=0x1342F)))
def test_nothing_that_steers_is_left(text):
    assert steering(printable(text)) == []
    assert printable(printable(text)) == printable(text)


@pytest.mark.parametrize("text", ["MAE-Pure", "Šumělník, 漢字, العربية, می‌خواهم", "👩‍🔬", "a\tb\nc", "±2 × 10⁻³ → ≥"])  # noqa: RUF001
def test_what_people_write_stays(text):
    assert printable(text) == text


def test_it_is_written_so_that_one_sees_what_it_was():
    assert printable("a\x1b[2Jb\x00\r\u202e\ud800") == r"a\x1b[2Jb\x00\r\u202e\ud800"


@pytest.mark.parametrize("text", ["=1+1", "+1 (0)", "-x", "@SUM(A1)", "\tx", "\rx", '=HYPERLINK("a")'])
def test_a_cell_that_a_spreadsheet_would_compute_is_text(text):
    assert inert(text) == printable(f"'{text}")


@pytest.mark.parametrize("value", [-0.5, 3, None, "", "-0.5", "+1e-3", "mae-pure", "1=", "-"])
def test_numbers_and_other_words_stay(value):
    assert inert(value) == value


def shown(thing, **options):
    file = io.StringIO()
    Screen(file=file, width=60, **options).print(thing, **({"markup": False} if isinstance(thing, str) else {}))
    return file.getvalue()


def test_a_terminal_obeys_no_string():
    table = Table("name\x1b]0;title\x07")
    table.add_row("\x1b[31mred\x1b[0m \u202ecod.exe")
    for thing in ("\x1b]8;;http://example.org\x1b\\link", table):
        assert steering(shown(thing)) == []
    assert r"\x1b[31mred" in shown(table)
    widths = {len(line) for line in shown(table).splitlines()}
    assert len(widths) == 1  # what was written out was counted


def test_colours_and_bars_are_still_the_terminals_own():
    file = io.StringIO()
    Screen(file=file, force_terminal=True, color_system="standard").print("loud", style="bold red")
    assert "\x1b[1;31mloud" in file.getvalue()
    file = io.StringIO()
    with Progress(console=Screen(file=file, force_terminal=True, width=60)) as bars:
        bars.add_task("train \x1b[2J", total=2)
    assert "\x1b[2J" not in file.getvalue()
    assert "\x1b[" in file.getvalue()
