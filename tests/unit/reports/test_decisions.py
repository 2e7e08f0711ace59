"""Repeats under every rule, side by side, against sums done by hand."""

from __future__ import annotations

import pytest

from reports.model.leaderboard import read_leaderboard
from reports.render.html import html
from reports.render.markdown import markdown
from reports.tables.decisions import judged


@pytest.fixture
def board(trial):
    made = trial(repeats=3, n_examples=4)
    made.clean(right="111 111 111 011")
    made.attack(right="111 001 011 111", threat="bpda")
    made.attack(right="011 111 111 111")
    made.clean("none", right="1 1 1 1", random=False)
    made.attack("none", right="0 0 1 0", random=False)
    return read_leaderboard(made.write())


def test_worst_cases_are_taken_under_each_rule(board):
    (line,) = judged(board.sections[0].boards[0])  # none needs one repeat only
    assert (line.defense, line.repeats, line.title("any"), line.title("mean")) == ("pure", 3, "any of 3", "mean")
    # by example, the least of the three cells: 2/3 1/3 2/3 2/3; none without a wrong repeat; majority 1 0 1 1
    assert {rule: one.share for rule, one in line.worst.items()} == {
        "mean": pytest.approx(7 / 12),
        "any": 0.0,
        "majority": 0.75,
        "plurality": 0.75,
    }
    # three repeats are too few to take luck out
    assert line.smallest == pytest.approx({rule: line.worst[rule].share for rule in line.smallest})
    assert [round(12 * one.share) for one in line.clean.values()] == [11, 9, 12, 12]
    assert all(one.low < one.share < one.high or one.share in (0.0, 1.0) for one in line.worst.values())


def test_the_tables_show_all_three_beside_each_other(board):
    row = next(line for line in markdown(board).splitlines() if line.startswith("| pure | 3 |"))
    assert [cell.split()[0] for cell in row.split(" | ")[2:]] == [
        "91.7",
        "75.0",
        "100.0",
        "100.0",
        "58.3",
        "0.0",
        "75.0",
        "75.0",
        "58.3",
        "0.0",
        "75.0",
    ]
    assert "How repeats are judged" in html(board)


def test_a_board_without_repeats_has_no_such_table(trial):
    made = trial()
    made.clean()
    made.attack(right=20)
    found = read_leaderboard(made.write())
    assert judged(found.sections[0].boards[0]) == []
    assert "How repeats are judged" not in html(found) + markdown(found)
