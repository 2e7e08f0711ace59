"""A column is one declaration, and every format has it."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from rich.console import Console

from harness.core.metric import MetricColumn
from harness.core.registry import find
from harness.core.table import Column
from harness.metrics import TABLE as METRICS
from reports.model import columns
from reports.model.leaderboard import read_leaderboard
from reports.render.csv_file import csv_text
from reports.render.html import html
from reports.render.json_file import boards_json
from reports.render.latex import latex
from reports.render.markdown import markdown
from reports.render.terminal import leaderboard_tables

#: the columns of the metrics that ship
SHIPPED = [column for name in METRICS for column in find("metric", name).load().columns if not column.axes]


def shown(report):
    console = Console(width=200, file=io.StringIO())
    for part in leaderboard_tables(report, console):
        console.print(part)
    return console.file.getvalue()


def written(report):
    return {
        "page": html(report),
        "markdown": markdown(report),
        "csv": csv_text(report),
        "latex": latex(report),
        "terminal": shown(report),
        "json": json.dumps(boards_json(report)),
    }


def test_a_column_of_a_board_is_one_declaration_and_stands_in_every_format(toy, monkeypatch):
    lost = Column(
        "points_lost",
        "lost",
        "points",
        value=lambda row: row.clean.accuracy.share - row.worst.accuracy.share if row.worst else None,
        legend="What all attacks together take away.",
    )
    before, path = columns.BOARD, toy.write()
    monkeypatch.setattr(columns, "BOARD", (*before, lost))
    report = read_leaderboard(path)
    texts = written(report)
    (row,) = [row for row in report.sections[0].boards[0].rows if row.defense == "mae-pure"]
    value = row.clean.accuracy.share - row.worst.accuracy.share
    assert f"{100 * value:+.1f}" == "+41.7"
    for form in ("page", "markdown", "latex", "terminal"):
        assert "lost" in texts[form], form
        assert "+41.7" in texts[form], form
    assert "<dt>lost</dt><dd>What all attacks together take away.</dd>" in texts["page"]
    assert "- **lost**: What all attacks together take away." in texts["markdown"]
    (line,) = [
        line
        for line in csv.DictReader(io.StringIO(texts["csv"]))
        if (line["row"], line["defense"]) == ("worst case", "mae-pure")
    ]
    assert float(line["points_lost"]) == value
    assert json.loads(texts["json"])[0]["rows"][0]["points_lost"] == value


def test_a_measure_is_one_declaration_and_absent_where_it_was_not_measured(toy, monkeypatch):
    declared = MetricColumn("sharpness", "blur", "edges", legend="How sharp the edges are.")
    sharpness = columns.facts([declared])[0]
    report = read_leaderboard(toy.write())
    monkeypatch.setattr(report.results, "columns", (*report.results.columns, declared))
    (section,) = report.sections
    entry = section.entries[0]
    assert (sharpness.of(entry), columns.told(sharpness, entry)) == (None, "\N{EN DASH}")
    object.__setattr__(entry, "measures", {**entry.measures, "sharpness": 0.125})
    texts = written(report)
    for form in ("page", "markdown", "latex"):
        assert "blur" in texts[form], form
        assert len(re.findall(r"[ >]0\.125[ <]", texts[form])) == 1, form
    cells = [line for line in csv.DictReader(io.StringIO(texts["csv"])) if line["row"] == "cell"]
    assert [line["sharpness"] for line in cells] == ["0.125"] + [""] * (len(cells) - 1)


def test_without_any_measure_there_are_none_and_nothing_breaks(toy, monkeypatch):
    report = read_leaderboard(toy.write())
    monkeypatch.setattr(report.results, "columns", ())
    texts = written(report)
    for form in ("page", "markdown", "latex"):
        assert "AMV before" not in texts[form], form
        assert "**AMV**" not in texts[form], form


@pytest.mark.parametrize("column", [*columns.row_columns(), *columns.facts(SHIPPED)], ids=lambda column: column.key)
def test_keys_are_names_that_a_csv_file_can_have(column):
    assert column.key.isidentifier()
    assert column.title


def test_no_two_columns_share_a_key():
    keys = [column.key for column in columns.facts(SHIPPED)]
    assert len(set(keys)) == len(keys)


def test_every_topic_that_a_word_names_is_a_page():
    from harness.topics import topics

    assert {one.topic for one in columns.legend(SHIPPED)} - {""} <= set(topics())
