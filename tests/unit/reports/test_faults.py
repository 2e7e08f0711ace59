"""Faults of outcomes reach the row that they touch: as flags with a share, and as a reason not to rank."""

import pytest

from harness.core.result import Fault
from reports.flags.checks import FLAGS
from reports.model.leaderboard import read_leaderboard

PROPOSAL, LOGITS, PURIFIED, RANGE, BUDGET = Fault.PROPOSAL, Fault.LOGITS, Fault.PURIFIED, Fault.RANGE, Fault.BUDGET


def row_of(trial, defense="pure"):
    (section,) = read_leaderboard(trial.write()).sections
    return next(row for row in section.boards[0].rows if row.defense == defense)


def told(row):
    return {flag.name: (flag.state, flag.figure) for flag in row.flags}


@pytest.fixture
def known(trial):
    made = trial()
    made.clean()
    return made


def test_a_row_without_faults_says_so_and_is_ranked(known):
    known.attack(right=20)
    row = row_of(known)
    names = ("not-finite", "proposals-replaced", "proposals-repaired", "probabilities")
    assert {told(row)[name][0] for name in names} == {"clear"}
    assert (row.rank, row.evidence.fault) == (1, "")


@pytest.mark.parametrize("fault", [LOGITS, PURIFIED])
def test_what_is_not_finite_counts_as_wrong_and_is_not_ranked(known, fault):
    known.attack(right=32, broken={fault: [3, 4]})
    row = row_of(known)
    assert told(row)["not-finite"] == ("fired", "6.2 %")
    assert next(flag for flag in row.flags if flag.name == "not-finite").low
    assert row.worst.accuracy.share == 30 / 32
    assert (row.rank, row.unranked) == (None, "2 of 32 outcomes of pgd full had no class: something was not finite")


@pytest.mark.parametrize("where", ["clean", "elsewhere", "transferred"])
def test_in_whatever_cell_of_the_row_it_is(trial, where):
    made = trial(name="mine")
    made.clean(broken={LOGITS: [0]} if where == "clean" else None)
    made.attack(right=20)
    if where == "transferred":
        made.attack(right=20, source="other", broken={LOGITS: [0]})
    if where == "elsewhere":
        made.write()
        made.members.clear()
        made.name = "others"
        made.attack(right=20, params={"steps": 3}, broken={LOGITS: [0]})
        made.write()
    (section,) = read_leaderboard(made.write() if where != "elsewhere" else str(made.path), "mine").sections
    (row,) = section.boards[0].rows
    assert (row.rank, told(row)["not-finite"]) == (None, ("fired", "3.1 %"))


def test_one_repeat_of_many_is_a_small_share_and_no_rank(trial):
    made = trial(repeats=100, n_examples=32)
    made.clean()
    made.attack(right=32, broken={LOGITS: [7]})
    row = row_of(made)
    assert told(row)["not-finite"] == ("fired", "< 0.1 %")
    assert row.unranked.startswith("1 of 3200 outcomes")


def test_a_row_gains_nothing_by_what_is_not_finite(trial):
    made = trial()
    for defense in ("honest", "broken"):
        made.clean(defense)
    made.attack("honest", right=20)
    made.attack("broken", right=32, broken={LOGITS: range(12)})
    (section,) = read_leaderboard(made.write()).sections
    rows = {row.defense: row for row in section.boards[0].rows}
    assert rows["honest"].worst.accuracy.share == rows["broken"].worst.accuracy.share
    assert (rows["honest"].rank, rows["broken"].rank) == (1, None)
    assert section.boards[0].rows[0].defense == "honest"


def test_checks_are_told_and_take_no_rank(known):
    known.attack(right=20)
    known.attack(right=0, eps=1.0, broken={LOGITS: [5]})
    row = row_of(known)
    assert (row.rank, told(row)["not-finite"][0]) == (1, "fired")


# ---------------------------------------------------------------------- attacks that fail


def test_a_row_is_not_ranked_by_an_attack_that_proposed_nothing_finite(known):
    known.attack(right=32, broken={PROPOSAL: range(32)})
    row = row_of(known)
    assert told(row)["proposals-replaced"] == ("fired", "100.0 %")
    wanted = "32 of 32 examples met no adaptive attack: what it proposed was replaced"
    assert (row.rank, row.unranked) == (None, wanted)


def test_another_adaptive_attack_makes_that_good(known):
    known.attack(right=32, broken={PROPOSAL: range(32)})
    known.attack(right=20, attack="pgd-b", params={"loss": "margin"})
    row = row_of(known)
    assert (row.rank, told(row)["proposals-replaced"]) == (1, ("fired", "100.0 %"))
    assert row.worst.accuracy.share == 20 / 32


def test_two_that_fail_on_other_examples_do_so_together(known):
    known.attack(right=32, broken={PROPOSAL: range(10)})
    known.attack(right=32, attack="pgd-b", params={"loss": "margin"}, broken={PROPOSAL: range(9, 20)})
    assert row_of(known).unranked.startswith("1 of 32 examples met no adaptive attack")
    known.attack(right=32, attack="pgd-c", params={"loss": "dlr"}, broken={PROPOSAL: [31]})
    assert row_of(known).rank == 1


def test_an_oblivious_attack_makes_nothing_good(known):
    known.attack(right=32, broken={PROPOSAL: [0]})
    known.attack(right=20, threat="oblivious")
    assert row_of(known).unranked.startswith("1 of 32 examples met no adaptive attack")


def test_a_file_that_lacks_examples_does_not_rank_a_row_by_itself(known):
    known.attack(right=32, attack="replay", notes={"absent": (0.25, 32)})
    row = row_of(known)
    assert told(row)["proposals-replaced"] == ("fired", "25.0 %")
    assert row.unranked == "32 of 32 examples met no adaptive attack: what it proposed was replaced"


def test_an_outsiders_file_neither_takes_a_rank_nor_gives_one(known):
    known.attack(right=20)
    known.attack(right=31, attack="replay", notes={"absent": (0.9, 32)})
    row = row_of(known)
    assert (row.rank, told(row)["proposals-replaced"]) == (1, ("fired", "90.0 %"))


@pytest.mark.parametrize("fault", [RANGE, BUDGET])
def test_what_was_brought_back_is_told_and_ranked(known, fault):
    known.attack(right=20, broken={fault: range(16)})
    row = row_of(known)
    assert (row.rank, told(row)["proposals-repaired"]) == (1, ("fired", "50.0 %"))


def test_a_measure_that_is_not_finite_says_nothing_of_the_verdict(known):
    known.attack(right=20, broken={"linf not finite": [0]})
    row = row_of(known)
    assert (row.rank, row.warning) == (1, "random")


# ---------------------------------------------------------------------- the classifier


@pytest.mark.parametrize(("right", "state"), [(0, "fired"), (3, "fired"), (7, "fired"), (9, "clear"), (32, "clear")])
def test_no_more_than_chance_fires(trial, right, state):
    # of 32 guesses among ten 8 or more are right with probability 0.0144, 9 or more with 0.0039
    made = trial()
    traits = {**vars_of(), "classes": 10}
    made.clean(right=right, traits=traits)
    made.attack(right=0, traits=traits)
    assert told(row_of(made))["at-chance"] == (state, f"{100 * right / 32:.1f} %")


def vars_of():
    return {"random": True, "differentiable": True, "optimises": False, "batchwise": False, "oracle": False, "votes": 1}


def test_whoever_does_not_know_how_many_classes_there_are_cannot_tell(known):
    known.attack(right=20)
    assert told(row_of(known))["at-chance"][0] == "untested"


def test_probabilities_fire(known):
    known.attack(right=20, notes={"probabilities": (1.0, 16)})
    assert told(row_of(known))["probabilities"] == ("fired", "")


def test_the_reference_is_looked_at_too(trial):
    made = trial()
    made.clean("none", random=False)
    made.attack("none", right=20, random=False, broken={LOGITS: [0]})
    row = row_of(made, "none")
    assert told(row)["not-finite"][0] == "fired"
    assert row.standing == "reference"
    assert len(row.flags) < len(FLAGS)


def test_an_attack_that_had_nothing_to_propose_for_half_of_them_meets_no_minimum(known):
    known.attack(right=20, broken={PROPOSAL: range(16)})
    known.attack(right=30, attack="brief", effort={"steps": 1, "eot": 1, "queries": 0})
    row = row_of(known)
    assert (bool(row.lacks), row.unranked) == (True, "attacked less than purifier-1 asks")
