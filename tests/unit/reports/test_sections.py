"""Sections of a report: their order, those of others, what becomes of one that fails."""

from __future__ import annotations

import csv
import io
import json
import re
from types import SimpleNamespace

import pytest
from rich.console import Console
from typer.testing import CliRunner

import harness
from harness.core import registry, session
from harness.core.errors import UserError
from harness.core.table import Code, Column, Heading, Interval, Item, Link, Notes, Plot, Range, Share, State, Table
from reports import sections
from reports.model.leaderboard import read_leaderboard
from reports.render.csv_file import csv_text, section_files
from reports.render.html import html
from reports.render.json_file import boards_json
from reports.render.latex import latex
from reports.render.markdown import markdown
from reports.render.terminal import leaderboard_tables
from reports.sections.made import failures, made
from reports.sections.made import sections as built
from reports.write import write_report

HOSTILE = "<script>alert('x')</script> & \\input{x} | =1+1"

MINE = """
from harness import Section
from harness.core.table import Column, Heading, Item, Notes, Plot, Table


class Hardest(Section):
    title = "The hardest attacks"

    def of_suite(self, suite, report):
        yield "What each attack leaves of each defense."
        rows = [(entry.defense, entry.attack, entry.accuracy) for entry in suite.entries if entry.accuracy]
        yield Table("Left over", [Column("defense", "defense"), Column("attack", "attack"),
                                  Column("left", "left", "percent")], rows)
        yield Notes(["one", Item("two", "a lead")])
        yield Plot("Growth", "steps", "accuracy", {"a line": [(1, 0.5), (2, 0.25)]})

    def of_board(self, board, suite, report):
        return [f"{len(report.results.cells)} cells lie behind {board.title}."]
"""


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    return f"{tmp_path / 'mine.py'}:Hardest"


def asked(path, *names):
    """Return a report that was asked for sections."""
    from dataclasses import replace

    return replace(read_leaderboard(path), asked=built(names))


def shown(report):
    console = Console(width=200, file=io.StringIO())
    for part in leaderboard_tables(report, console):
        console.print(part)
    return console.file.getvalue()


def every(report):
    files = "\n".join(section_files(report).values())
    found = {"page": html(report), "markdown": markdown(report), "latex": latex(report), "csv": files}
    return {**found, "terminal": shown(report), "json": json.dumps(boards_json(report))}


def test_the_order_names_every_section_once():
    assert sorted(name for name, _ in sections.ORDER) == sorted(sections.TABLE)
    assert {form for _, forms in sections.ORDER for form in forms} <= set(sections.FORMATS)
    for name in sections.TABLE:
        assert issubclass(registry.find("section", name).load(), harness.Section)


def test_a_section_of_a_file_stands_in_every_format(toy, mine):
    texts = every(asked(toy.write(), mine))
    for form, text in texts.items():
        assert "left" in text, form
        assert "mae-pure" in text, form
        assert ("0.916" if form in ("csv", "json") else "91.7") in text, form
        assert "a line" in text, form
        if form != "csv":
            assert "12 cells lie behind" in text, form
            assert "a lead" in text, form
            assert "The hardest attacks" in text, form


def test_what_nobody_asked_for_stands_nowhere(toy, mine):
    report = read_leaderboard(toy.write())
    assert not any("hardest" in text for text in every(report).values())
    assert section_files(report) == {}
    assert all("section" not in one for one in boards_json(report))


def test_the_tables_of_a_section_are_files_of_their_own(toy, mine, tmp_path):
    paths = write_report(toy.write(), tmp_path / "out", asked=[mine])
    files = [path for path in paths if path.parent.name == "sections"]
    assert [path.name for path in files] == ["Hardest-1.csv", "Hardest-2.csv"]
    lines = list(csv.DictReader(io.StringIO(files[0].read_text())))
    assert list(lines[0]) == ["suite", "board", "table", "defense", "attack", "left", "left_low", "left_high", "left_n"]
    assert (lines[0]["suite"], lines[0]["table"]) == ("toy", "Left over")
    assert csv_text(read_leaderboard(str(toy.path))) == (tmp_path / "out" / "leaderboard.csv").read_text()


def test_a_plot_is_drawn_on_the_page_and_a_table_elsewhere(toy, mine):
    report = asked(toy.write(), mine)
    drawn = html(report).count('<g class="eps hue-0">')
    assert drawn == html(read_leaderboard(str(toy.path))).count('<g class="eps hue-0">') + 1
    assert "| a line | 1.00 | 0.500 |" in markdown(report)


@pytest.mark.parametrize("name", ["costs", "decisions", "cells"])
def test_a_section_of_ours_that_is_asked_for_stands_in_formats_that_show_it_not_otherwise(toy, name):
    path = toy.write()
    plain, report = read_leaderboard(path), asked(path, name)
    assert html(report) == html(plain)
    assert markdown(report) == markdown(plain)
    title = {"costs": "What it costs", "decisions": "How repeats are judged", "cells": "Every cell of toy"}[name]
    assert title not in shown(plain)
    assert title in shown(report)
    assert title in latex(report)
    assert any(one.get("section") == name for one in boards_json(report))
    assert section_files(report)

    def of_suite(self, suite, report):
        yield "before"
        raise ZeroDivisionError("<b>nothing</b> left")


BROKEN = """
    def of_suite(self, suite, report):
        yield "before"
        raise ZeroDivisionError("<b>nothing</b> left")
"""


def test_a_section_that_raises_is_a_sentence_and_loses_nothing_else(toy, mine, tmp_path):
    (tmp_path / "broken.py").write_text("import harness\n\nclass Broken(harness.Section):\n" + BROKEN)
    name = f"{tmp_path / 'broken.py'}:Broken"
    report = asked(toy.write(), mine, name)
    said = "of toy is not here: it raised ZeroDivisionError: <b>nothing</b> left"
    assert [one.partition(" of toy")[2] for one in failures(report)] == [said.removeprefix("of toy")]
    page, text = html(report), markdown(report)
    assert "it raised ZeroDivisionError: &lt;b&gt;nothing&lt;/b&gt; left" in page
    assert "ZeroDivisionError: \\<b\\>nothing" in text
    assert "ZeroDivisionError" in latex(report)
    assert "before" not in re.sub(r"<style>.*?</style>", "", page, flags=re.S).split("is not here")[1][:200]
    for whole in (page, text):
        assert "Every cell of toy" in whole
        assert "The hardest attacks" in whole


def test_the_command_says_that_a_section_failed(toy, tmp_path):
    from harness.cli.commands import app

    (tmp_path / "broken.py").write_text("import harness\n\nclass Broken(harness.Section):\n" + BROKEN)
    words = [
        "report",
        "--db",
        toy.write(),
        "--out",
        str(tmp_path / "out"),
        "--section",
        f"{tmp_path / 'broken.py'}:Broken",
    ]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0
    assert "is not here: it raised ZeroDivisionError" in done.stderr
    failed = [one for one in json.loads(done.stdout) if "section" in one]
    assert "ZeroDivisionError" in failed[0]["failure"]


def parts_of(toy, *parts):
    """Return what a section that returns these parts makes of a suite, and why it does not."""
    session.register("section", "given", _Given, "given")
    _Given.parts = parts
    report = asked(toy.write(), "session:given")
    (suite,) = report.sections
    (found,) = [one for one in made(report, "json", suite) if one.name == "session:given"]
    return found


class _Given(harness.Section):
    parts = ()

    def of_suite(self, suite, report):
        return self.parts


VALUE = Column("a", "a", "measure")


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (3, "expected a section to be made of parts, each a text, Heading, Notes, Table or Plot, got int"),
        (Notes("word"), "expected texts or Items in Notes, got 'word'"),
        (Plot("empty", "x", "y", {}), "expected a point in the plot 'empty', got none"),
        (Plot("far", "x", "y", {"a": [(0, float("nan"))]}), "expected points of two finite numbers in the line 'a'"),
        (Table("t", [VALUE], [[object()]]), "expected None, a text, an int, a float, Interval"),
        (Table("t", [VALUE, VALUE], []), "expected columns of different keys in the table 't', got a, a"),
        (Table("t", [Column("a", "a", "furlongs")], []), "expected a form of text, count,"),
    ],
)
def test_what_is_no_part_is_a_sentence(toy, part, said):
    found = parts_of(toy, part)
    assert said in found.failure
    assert found.parts == ()


def test_rows_have_a_cell_for_each_column():
    with pytest.raises(ValueError, match="expected 1 cells in each row of the table 't', got 2"):
        Table("t", [VALUE], [[1, 2]])


def test_nothing_that_a_section_says_is_markup(toy):
    columns = [Column("=1+1", HOSTILE, unit=HOSTILE, group=HOSTILE), Column("b", "b", "measure"), Column("c", "c")]
    rows = [
        [HOSTILE, Share(0.5, 0.25, 0.75, 4), Code(HOSTILE)],
        [HOSTILE, Interval(1.0, 0.5, 2.0), Link(HOSTILE, "javascript:alert(1)")],
        [None, Range(1.0, 2.0), Link("safe", 'https://x/" onmouseover="alert(1)')],
        [None, State(HOSTILE, True, HOSTILE), Link("there", "https://example.org/")],
        [None, float("nan"), None],
        [None, float("inf"), None],
    ]
    plot = Plot(HOSTILE, HOSTILE, HOSTILE, {HOSTILE: [(0.0, 1.0)]})
    found = parts_of(
        toy, HOSTILE, Heading(HOSTILE), Notes([Item(HOSTILE, HOSTILE)]), Table(HOSTILE, columns, rows), plot
    )
    assert found.failure == ""
    report = asked(str(toy.path), "session:given")
    texts = every(report)
    assert texts["page"].count("<script>") == 1  # the page's own
    assert "javascript:alert" not in texts["page"] + texts["markdown"]
    assert "onmouseover" not in texts["page"] + texts["markdown"]
    assert '<a href="https://example.org/" rel="noreferrer">there</a>' in texts["page"]
    assert "<script>" not in texts["markdown"]
    assert "\\input" not in texts["latex"]
    assert "NaN" not in texts["json"]
    found = [cell for row in csv.reader(io.StringIO(texts["csv"])) for cell in row]
    assert "'=1+1" in found
    assert not [cell for cell in found if cell.startswith("=")]


def test_a_registered_section_is_found_by_its_name_and_built_once_for_all_formats(toy, tmp_path):
    calls = []

    @harness.register("section", "counting")
    class Counting(harness.Section):
        def of_suite(self, suite, report):
            calls.append(suite.suite.name)
            return ["counted"]

    path = harness.report(toy.write(), tmp_path / "out", sections=["session:counting"])
    assert "counted" in path.read_text()
    assert "counted" in (tmp_path / "out" / "leaderboard.md").read_text()
    assert calls == ["toy"]


def test_installed_sections_have_the_name_of_their_distribution(toy, monkeypatch):
    point = SimpleNamespace(
        name="given",
        value=f"{__name__}:_Given",
        dist=SimpleNamespace(metadata={"Name": "my-lab"}, version="1.0"),
    )
    monkeypatch.setattr(
        registry.metadata, "entry_points", lambda group: [point] if group == "purebench.sections" else []
    )
    registry.entries.cache_clear()
    try:
        assert registry.find("section", "my-lab/given").origin == "my-lab 1.0"
        assert "my-lab/given" not in dict(sections.ORDER)
        assert "my-lab" not in html(read_leaderboard(toy.write()))
    finally:
        registry.entries.cache_clear()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cost", "expected a registered section, got 'cost'; did you mean 'costs'?"),
        ("session:none-such", "expected a section registered in this process, got 'none-such'"),
        ("./none-such.py:Mine", "expected Python code in ./none-such.py"),
    ],
)
def test_what_is_no_section_is_a_sentence_before_anything_is_read(tmp_path, name, said, monkeypatch):
    monkeypatch.setattr("reports.write.read_leaderboard", lambda *_, **__: pytest.fail("the database was read"))
    with pytest.raises(UserError) as told:
        write_report("none.db", tmp_path / "out", asked=[name])
    assert said in str(told.value)


def test_a_class_that_is_no_section_is_a_sentence(tmp_path):
    (tmp_path / "mine.py").write_text("import harness\n\nclass Mine(harness.Purifier):\n    pass\n")
    with pytest.raises(UserError, match=r"to be a harness\.Section, but it has no of_board or"):
        built([f"{tmp_path / 'mine.py'}:Mine"])
