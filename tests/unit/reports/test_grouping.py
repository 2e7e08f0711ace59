"""What a row's worst case is over: every attack in the database, checks and certificates aside."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from harness.core.cell import Labels
from harness.core.declaration import Member
from harness.core.errors import UserError
from harness.core.spec import Spec
from harness.core.threat import Knowledge, Norm, ThreatModel
from reports.model.leaderboard import read_leaderboard
from reports.render.html import html
from reports.render.latex import latex
from reports.render.markdown import markdown
from reports.render.terminal import leaderboard_tables


def section_of(trial, suite="toy", **options):
    (section,) = read_leaderboard(str(trial.path), suite, **options).sections
    return section


def only_row(section, board=0):
    (row,) = section.boards[board].rows
    return row


@pytest.fixture
def toy(trial):
    made = trial()
    made.clean()
    made.attack(right=" ".join(["1"] * 20 + ["0"] * 12), threat="bpda")
    made.write()
    return made


def test_an_attack_of_another_suite_lowers_the_row_and_says_where_it_comes_from(toy, trial):
    before = only_row(section_of(toy))
    assert (before.worst.accuracy.share, before.sources) == (20 / 32, "")
    other = trial(name="other")
    cell = other.attack(right=" ".join(["0"] * 5 + ["1"] * 27), attack="deep")
    other.write()
    after = only_row(section_of(toy))
    assert after.worst.accuracy.share == 15 / 32
    assert after.worst.cells == (*before.worst.cells, cell.digest[:12])
    assert after.sources == "also counts deep full of other (84.4)"
    assert (after.attacked, after.rank) == (before.attacked, 1)


def test_every_report_says_where_an_attack_comes_from(toy, trial):
    other = trial(name="other")
    cell = other.attack(right=16, attack="deep")
    other.write()
    found = read_leaderboard(str(toy.path), "toy")
    said = "also counts deep full of other (50.0)"
    for text in (markdown(found), latex(found), html(found)):
        assert text.count(said) == 1
    assert f"pure {said}" in str(leaderboard_tables(found, Console(width=160))[0].caption)
    assert f'<a href="#c-{cell.digest[:12]}"><code>' in html(found)
    assert f'<tr id="c-{cell.digest[:12]}"' in html(found)


def test_an_attack_that_was_taken_out_of_the_suite_still_counts(toy, trial):
    edited = trial()
    edited.clean(right=None)  # measured already
    edited.attack(right=None, attack="new", threat="bpda")
    edited.write()
    row = only_row(section_of(toy))
    assert [entry.title for entry in row.elsewhere] == ["pgd bpda of an earlier toy"]
    assert row.worst.accuracy.share == 20 / 32
    assert row.unranked == "1 of 2 cells unfinished"


def test_another_suites_adaptive_attack_makes_a_row_ranked(trial):
    one = trial()
    one.clean()
    one.attack(right=30, threat="oblivious")
    one.write()
    assert only_row(section_of(one)).unranked == "attacked less than purifier-1 asks"
    other = trial(name="other")
    other.attack(right=10)
    other.write()
    row = only_row(section_of(one))
    assert (row.rank, row.worst.accuracy.share) == (1, 10 / 32)


@pytest.mark.parametrize("what", ["budget", "norm", "defense", "subset"])
def test_what_is_of_another_row_or_budget_does_not_count(toy, trial, what):
    other = trial(name="other")
    if what == "budget":
        other.attack(right=0, eps=0.3)
    elif what == "norm":
        other.attack(right=0, norm=Norm.L2)
    elif what == "defense":
        other.attack("pure2", right=0)
    else:
        cell, found = (other.attack(right=0), other.measured.pop()[1])
        moved = replace(cell, subset_seed=7)
        other.members[0] = replace(other.members[0], cell=moved)
        other.measured.append((moved, found))
    other.write()
    row = only_row(section_of(toy))
    assert (row.elsewhere, row.worst.accuracy.share) == ((), 20 / 32)


def test_part_of_another_suites_attack_counts_for_the_examples_that_it_met(toy, trial):
    other = trial(name="other", n_examples=8)
    other.attack(right=3, attack="deep")
    other.write()
    row = only_row(section_of(toy))
    # the last twelve are wrong already, and five of the first eight fall to the other attack
    assert row.worst.accuracy.share == (20 - 5) / 32
    assert row.elsewhere[0].state == "partial, 8 of 32"


def test_what_was_measured_with_other_weights_does_not_count_and_is_told(trial):
    recipe = Spec.of("recipe", "mae", 1, {"depth": 2})
    one = trial()
    one.clean(recipe=recipe)
    one.attack(right=20, recipe=recipe)
    one.write()
    other = trial(name="other", weights="b" * 64)
    other.attack(right=0, attack="deep", recipe=recipe)
    other.write()
    row = only_row(section_of(one))
    assert (row.worst.accuracy.share, row.elsewhere) == (20 / 32, ())
    assert row.sources == "does not count deep full of other, measured with other weights"
    same = trial(name="same")
    same.attack(right=0, attack="deeper", recipe=recipe)
    same.write()
    assert only_row(section_of(one)).worst.accuracy.share == 0.0


def test_checks_have_no_board_and_no_part_in_the_worst_case(trial):
    made = trial()
    made.clean()
    made.attack(right=20)
    made.attack(right=4, fixed=True)
    made.attack(right=0, eps=0.5)
    made.attack(right=0, eps=1.0, attack="pgd-b")
    made.write()
    section = section_of(made)
    assert [board.title for board in section.boards] == ["digits / cnn / Linf 0.2"]
    row = only_row(section)
    assert row.worst.accuracy.share == 20 / 32
    assert [entry.threat_model for entry in row.checks] == ["full-fixed", "full-0.5", "full-1"]
    assert len(section.boards[0].columns) == 1
    # nothing is lost: each cell has its line among all of them
    assert len(section.entries) == len(section.boards[0].entries) == 5


@pytest.mark.parametrize(("norm", "eps", "bounded"), [("L2", 3.9, True), ("L2", 4.0, False), ("Linf", 0.49, True)])
def test_a_budget_has_no_bound_where_every_image_can_be_made_grey(trial, norm, eps, bounded):
    made = trial()
    made.clean()
    made.attack(right=20)
    made.attack(right=0, norm=Norm(norm), eps=eps)  # 64 pixels, each by a half: a length of 4
    made.write()
    assert len(section_of(made).boards) == 1 + bounded


def test_a_suite_of_checks_alone_has_a_board_of_clean_input(trial):
    made = trial()
    made.clean()
    made.attack(right=0, eps=1.0)
    made.write()
    section = section_of(made)
    assert [board.budget for board in section.boards] == ["clean input only"]
    assert (only_row(section).worst, len(only_row(section).checks)) == (None, 1)


@pytest.mark.parametrize(
    ("attacks", "why"),
    [
        ([{"eps": 1.0}], "a budget without a bound (Linf 1)"),
        ([{"eps": 8.0}, {"eps": 0.5}], "a budget without a bound (Linf 0.5, Linf 8)"),
        ([{"eps": 8.0, "norm": Norm.L2}], "a budget without a bound (L2 8)"),
        ([{"fixed": True}], "known randomness"),
        ([{"eps": 1.0}, {"fixed": True}], "a budget without a bound (Linf 1) or known randomness"),
    ],
)
def test_a_board_whose_attacks_are_all_checks_says_so_in_every_report(trial, attacks, why):
    made = trial()
    made.clean()
    for attack in attacks:
        made.attack(right=0, **attack)
    made.write()
    found = read_leaderboard(str(made.path))
    (board,) = found.sections[0].boards
    said = f"clean input only: all attacks are checks, of {why}, and count for no worst case"
    assert board.resolution.startswith(said)
    console = Console(width=400)
    with console.capture() as shown:
        for table in leaderboard_tables(found, console):
            console.print(table)
    for text in (markdown(found), latex(found), html(found), shown.get()):
        assert said[1:] in " ".join(text.split())


def test_a_board_of_clean_input_alone_says_nothing_of_checks(trial):
    made = trial()
    made.clean()
    made.write()
    (board,) = read_leaderboard(str(made.path)).sections[0].boards
    assert (board.budget, board.resolution) == ("clean input only", "")


def test_transferred_attacks_count_and_have_no_column(trial):
    made = trial()
    made.clean()
    made.attack(right=20)
    made.attack(right=" ".join(["0"] * 3 + ["1"] * 29), source="other")
    made.write()
    section = section_of(made)
    row = only_row(section)
    assert row.worst.accuracy.share == 17 / 32
    assert [str(column) for column in section.boards[0].columns] == ["pgd full"]


def test_a_transferred_attack_is_not_an_adaptive_one(trial):
    made = trial()
    made.clean()
    made.attack(right=20, source="other")
    made.write()
    assert only_row(section_of(made)).unranked == "attacked less than purifier-1 asks"


def test_an_unfinished_transfer_makes_an_upper_bound_and_an_unfinished_check_does_not(trial):
    made = trial()
    made.clean()
    made.attack(right=20)
    made.attack(right=None, fixed=True)
    made.write()
    row = only_row(section_of(made))
    assert (row.rank, row.bound) == (1, "")
    made.attack(right=None, source="other")
    made.write()
    row = only_row(section_of(made))
    assert (row.rank, row.unranked) == (None, "1 of 3 cells unfinished")
    assert row.bound


def test_a_certificate_stands_on_no_board(trial):
    made = trial()
    made.clean()
    made.attack(right=20)
    made.certify()
    made.write()
    section = section_of(made)
    assert len(section.entries) == 3
    assert (len(section.boards), section.homeless) == (1, ())
    assert [entry.attack for entry in section.boards[0].entries] == ["clean", "pgd"]
    assert "smoothing" in html(read_leaderboard(str(made.path)))


def test_an_attack_that_knows_no_more_than_a_finished_one_is_not_missed(trial):
    made = trial()
    closed = made.follows()
    made.clean(traits=closed)
    made.attack(right=20, threat="bpda", traits=closed)
    smooth = ThreatModel(Norm.LINF, 0.2, Knowledge.SMOOTH)
    made.members.append(Member(Labels("digits", "cnn", "pure", "pgd", "smooth"), None, False, "no signs", smooth))
    made.write()
    assert only_row(section_of(made)).caveat == "not attacked in smooth: refused"
    made.attack(right=20, threat="full")
    made.write()
    assert only_row(section_of(made)).caveat == ""


def test_a_decision_that_is_asked_for_takes_the_place_of_the_suites_own(trial):
    made = trial(repeats=3)
    made.clean()
    made.attack(right=" ".join(["111"] * 8 + ["011"] * 8 + ["001"] * 16))
    made.write()
    shares = {
        rule: only_row(section_of(made, decision=rule)).worst.accuracy.share for rule in ("mean", "any", "majority")
    }
    assert shares == {"mean": pytest.approx((8 + 16 / 3 + 16 / 3) / 32), "any": 8 / 32, "majority": 16 / 32}
    section = section_of(made, decision="any")
    assert (section.suite.decision, section.rule) == ("any", "any, in place of the suite's own mean")
    assert section_of(made).rule == "mean"
    assert section_of(made, decision="mean").rule == "mean"
    with pytest.raises(UserError, match="did you mean 'majority'"):
        read_leaderboard(str(made.path), "toy", "majorty")
