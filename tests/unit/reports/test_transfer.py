"""The matrix of transfers: crafted on a line, judged on a column, direct attacks where the two meet."""

from __future__ import annotations

import re

import pytest

from reports.model.leaderboard import read_leaderboard
from reports.render.html import html
from reports.render.markdown import markdown
from reports.tables.transfer import matrices


@pytest.fixture
def found(trial):
    made = trial()
    for name, direct in (("a", 10), ("b", 20), ("c", 30)):
        made.clean(name)
        made.attack(name, right=direct)
    made.attack("a", right=12, source="b")
    made.attack("b", right=22, source="a")
    made.attack("b", right=None, source="c on cnn2")
    made.attack("b", right=5, source="a", attack="deep")
    return read_leaderboard(made.write())


def test_where_a_defense_meets_its_own_examples_the_direct_attack_stands(found):
    first, second = matrices(found.sections[0].boards[0])
    assert (first.title, second.title) == ("pgd full", "deep full")
    assert set(first.columns) == {"a", "b"}  # c has met nobody else's examples
    told = {
        (line.source, column): entry and (entry.accuracy.share * 32 if entry.accuracy else entry.state)
        for line in first.lines
        for column, entry in zip(first.columns, line.entries, strict=True)
    }
    assert told == {
        ("a", "a"): 10,
        ("b", "b"): 20,
        ("b", "a"): 12,
        ("a", "b"): 22,
        ("c on cnn2", "a"): None,
        ("c on cnn2", "b"): "missing",
    }
    assert [line.source for line in second.lines] == ["a"]


def test_the_matrix_stands_in_page_and_markdown(found):
    page, text = html(found), markdown(found)
    assert "<h4>Transfer of pgd full</h4>" in page
    table = page[page.index("<h4>Transfer of pgd full</h4>") :]
    assert len(re.findall(r'class="(?:edge )?strong', table)) == 2 + 1
    lines = [line for line in text.splitlines() if line.startswith(("| a |", "| b |", "| c on cnn2 |"))]
    assert any("31.2" in line and "68.8" in line for line in lines)
    assert any("37.5" in line and "62.5" in line for line in lines)


def test_a_board_without_transfers_has_no_matrix(trial):
    made = trial()
    made.clean()
    made.attack(right=20)
    found = read_leaderboard(made.write())
    assert matrices(found.sections[0].boards[0]) == []
    assert "Transfer of" not in html(found) + markdown(found)
