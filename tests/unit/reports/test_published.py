"""Published figures stand on the boards that they belong to, beside our own and never among them."""

from __future__ import annotations

from harness.core.threat import Norm
from harness.store.tables import ReferenceRow
from harness.store.tend.published import Reference
from harness.store.write.store import Store
from reports.model.leaderboard import read_leaderboard
from reports.render.csv_file import csv_text
from reports.render.html import html
from reports.render.markdown import markdown

HOSTILE = "<script>alert('x')</script> | [co](javascript:x)"


def published(url, **changed):
    row = {
        **{"dataset": "digits", "norm": "Linf", "eps": 0.2, "method": "theirs", "architecture": "a net"},
        **{"attack": "AutoAttack", "clean": 0.912, "robust": 0.345, "source": "A paper", "note": ""},
        **{"link": "https://example.org/a?b=1&c=2"},
    } | changed
    with Store.open(url).session() as session:
        session.add(ReferenceRow(**row))
        session.commit()


def test_a_figure_stands_on_the_board_of_its_dataset_and_budget_unranked(toy):
    url = toy.write()
    ranks = [row.standing for row in read_leaderboard(url).sections[0].boards[0].rows]
    published(url)
    published(url, method="weaker", robust=0.1)
    published(url, method="other budget", eps=0.1)
    published(url, method="other norm", norm="L2")
    published(url, method="other data", dataset="cifar10")
    leaderboard = read_leaderboard(url)
    (board,) = leaderboard.sections[0].boards
    assert [one.method for one in board.published] == ["theirs", "weaker"]
    assert [row.standing for row in board.rows] == ranks
    page, text = html(leaderboard), markdown(leaderboard)
    assert '<a href="https://example.org/a?b=1&amp;c=2" rel="noreferrer">A paper</a>' in page
    assert "Published elsewhere, not ranked" in page
    assert "| theirs | a net | AutoAttack | 91.2 | 34.5 | [A paper](<https://example.org/a?b=1&c=2>) |  |" in text
    assert "theirs" not in csv_text(leaderboard)
    for method in ("other budget", "other norm", "other data"):
        assert method not in page + text


def test_a_board_without_figures_says_nothing_of_them(toy):
    leaderboard = read_leaderboard(toy.write())
    assert "Published elsewhere" not in html(leaderboard) + markdown(leaderboard)


def test_the_suites_name_for_a_dataset_will_do_and_so_will_the_registered_one(bench):
    one = bench()
    one.add("dmae", "bpda-0.2", "111", "111", "111", "111", dataset="my-digits")
    url = one.write()
    published(url)
    published(url, dataset="my-digits", method="mine", robust=0.9)
    (board,) = read_leaderboard(url).sections[0].boards
    assert [one.method for one in board.published] == ["mine", "theirs"]


def test_what_somebody_wrote_by_hand_is_escaped_and_leads_nowhere_but_to_the_web(toy):
    url = toy.write()
    published(url, method=HOSTILE, source=HOSTILE, note=HOSTILE, architecture=HOSTILE, link="javascript:alert(1)")
    published(url, link='https://x/" onmouseover="alert(1)', attack="b")
    leaderboard = read_leaderboard(url)
    page, text = html(leaderboard), markdown(leaderboard)
    assert "<script>alert" not in page + text
    assert "javascript:alert(1)" not in page + text
    assert "onmouseover" not in page + text
    assert r"\<script\>alert('x')\</script\> \| \[co\](javascript:x)" in text


def test_a_reference_compares_by_what_it_says():
    one = Reference(dataset="d", norm=Norm.L2, eps=0.5, method="m", attack="a", robust=0.1, source="s")
    assert one == Reference.model_construct(**one.model_dump())
