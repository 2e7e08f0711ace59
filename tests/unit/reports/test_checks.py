"""Each flag where it fires, where it is clear, and where nobody could look, on databases made for it."""

from __future__ import annotations

from dataclasses import asdict
from math import comb

import numpy as np
import pytest

from harness.core.contracts import Traits
from reports.flags.checks import FLAGS, OF_A_REFERENCE
from reports.flags.evidence import Contrast
from reports.model.leaderboard import read_leaderboard


def flags(trial, defense="pure", board=0):
    (section,) = read_leaderboard(trial.write()).sections
    row = next(row for row in section.boards[board].rows if row.defense == defense)
    return {flag.name: flag for flag in row.flags}


def looked(zero=0.0, first=0.0, noise=0.1):
    return {"zero_gradient": (zero, 640), "zero_gradient_first": (first, 32), "noise_share": (noise, 600)}


def traits(base, **changed):
    return {**base, **changed}


@pytest.fixture
def known(trial):
    """A row that one attack met, with clean input; traits that a defense may change."""
    made = trial()
    made.clean()
    return made


def test_a_row_without_attacks_tells_what_to_add(known):
    found = flags(known)
    assert list(found) == [flag.__name__.replace("_", "-") for flag in FLAGS]
    told = {name: flag.state for name, flag in found.items() if not flag.trait}
    assert set(told.values()) == {"untested"}
    assert found["zero-gradient"].sentence.endswith("add pgd with knowledge full, smooth or bpda")


# ---------------------------------------------------------------------- signs of a weak attack


def test_a_gradient_that_is_zero_at_first_fires(known):
    known.attack(right=20, notes=looked(zero=0.02, first=0.9))
    flag = flags(known)["zero-gradient"]
    assert (flag.state, flag.value, flag.text) == ("fired", 0.9, "zero-gradient 90.0 %")
    assert "90.0 % of the first looks and 2.0 % of all looks of pgd full" in flag.sentence


def test_a_gradient_that_vanishes_later_fires_too(known):
    known.attack(right=20, notes=looked(zero=0.3))
    assert flags(known)["zero-gradient"].value == 0.3


def test_a_few_gradients_that_are_zero_do_not(known):
    known.attack(right=20, notes=looked(zero=0.05, first=0.04))
    assert flags(known)["zero-gradient"].state == "clear"


def test_a_zero_gradient_of_the_classifier_alone_says_nothing_of_the_defense(known):
    known.attack(right=20)
    known.attack(right=20, threat="oblivious", notes=looked(first=1.0))
    known.attack(right=20, attack="pgd-b", source="other", notes=looked(first=1.0))
    assert flags(known)["zero-gradient"].state == "clear"


def test_gradients_that_nobody_looked_at_are_untested(known):
    known.attack(right=20, notes=None)
    flag = flags(known)["zero-gradient"]
    assert (flag.state, flag.cells) == ("untested", ())
    assert "measure them anew" in flag.sentence


GRADIENTS = [
    ("not-finite-gradient", "not_finite", 0.02, "2.0 % of the looks of pgd full"),
    ("not-finite-gradient", "inner_not_finite", 0.5, "50.0 % of the looks of pgd full"),
    ("loss-out-of-scale", "saturated", 0.3, "30.0 % of the looks of pgd full"),
    ("loss-out-of-scale", "flat", 1.0, "100.0 % of the looks of pgd full"),
    ("no-better-than-start", "no_better", 0.5, "pgd full found nothing better"),
]


@pytest.mark.parametrize(("name", "note", "share", "said"), GRADIENTS)
def test_gradients_that_cannot_be_followed_fire(known, name, note, share, said):
    known.attack(right=20, notes={**looked(), note: (share, 640)})
    flag = flags(known)[name]
    assert (flag.state, flag.value, [cell.attack for cell in flag.cells]) == ("fired", share, ["pgd"])
    assert said in flag.sentence


@pytest.mark.parametrize(("name", "note"), sorted({(name, note) for name, note, _, _ in GRADIENTS}))
def test_gradients_that_can_be_followed_do_not_and_old_ones_are_untested(trial, name, note):
    for notes, state in (({**looked(), note: (0.005, 640)}, "clear"), (looked(), "untested")):
        made = trial(name=f"suite-{state}")
        made.clean(f"pure-{state}")
        made.attack(f"pure-{state}", right=20, notes=notes)
        made.write()
        (section,) = read_leaderboard(str(made.path), made.name).sections
        found = {flag.name: flag for flag in section.boards[0].rows[0].flags}
        assert found[name].state == state


def test_a_loss_out_of_scale_is_that_of_the_strongest_attack_and_other_faults_are_of_any(known):
    weak = {**looked(), "saturated": (0.9, 640), "no_better": (0.9, 32)}
    known.attack(right=20, attack="pgd-b", params={"steps": 1}, notes=weak)
    known.attack(right=10, notes={**looked(), "saturated": (0.0, 640), "no_better": (0.0, 32)})
    found = flags(known)
    assert (found["loss-out-of-scale"].state, found["no-better-than-start"].state) == ("clear", "fired")


@pytest.mark.parametrize(("cosine", "state"), [(0.01, "fired"), (-0.01, "fired"), (0.2, "clear")])
def test_a_direction_that_two_draws_do_not_share_fires(known, cosine, state):
    known.attack(right=20, notes={**looked(), "shared_direction": (cosine, 600)})
    flag = flags(known)["unshared-direction"]
    assert (flag.state, flag.value, flag.figure) == (state, cosine, f"{cosine:.2f}")


def test_a_defense_without_randomness_has_one_direction(trial):
    made = trial()
    made.clean(random=False)
    made.attack(right=20, random=False)
    assert flags(made)["unshared-direction"].state == "clear"


def test_a_black_box_that_breaks_more_fires(known):
    known.attack(right=30)
    known.attack(right=12, attack="square", notes={}, backwards=0)
    flag = flags(known)["black-box-beats-white-box"]
    assert (flag.state, flag.figure) == ("fired", "18 of 32")
    assert [cell.attack for cell in flag.cells] == ["square"]


def test_a_black_box_that_breaks_less_does_not(known):
    known.attack(right=12)
    known.attack(right=30, attack="square", notes={}, backwards=0)
    flag = flags(known)["black-box-beats-white-box"]
    assert (flag.state, flag.figure) == ("clear", "0 of 32")


def test_six_examples_more_may_be_chance_and_seven_are_not(trial):
    # half to the power of six is 0.0156, of seven 0.0078
    for more, state in ((6, "clear"), (7, "fired")):
        one = trial(name=f"suite-{more}")
        one.clean(f"pure-{more}")
        one.attack(f"pure-{more}", right=30)
        one.attack(f"pure-{more}", right=30 - more, attack="square", notes={}, backwards=0)
        one.write()
        (section,) = read_leaderboard(str(one.path), one.name).sections
        (row,) = section.boards[0].rows
        assert row.flags[1].state == state


def test_white_boxes_are_taken_together(known):
    # each breaks a half, and the black box no more than the two of them
    known.attack(right=" ".join(["1"] * 16 + ["0"] * 16))
    known.attack(right=" ".join(["0"] * 14 + ["1"] * 18), attack="pgd-b", params={"loss": "margin"})
    known.attack(right=0, attack="square", notes={}, backwards=0)
    flag = flags(known)["black-box-beats-white-box"]
    assert (flag.state, flag.figure) == ("clear", "2 of 32")


def test_an_oblivious_attack_that_breaks_more_fires_but_is_no_test_otherwise(trial):
    for name, right, state in (("strong", 10, "fired"), ("weak", 30, "untested")):
        one = trial(name=name)
        one.clean(name)
        one.attack(name, right=28)
        one.attack(name, right=right, threat="oblivious")
        one.write()
        (section,) = read_leaderboard(str(one.path), name).sections
        flag = section.boards[0].rows[0].flags[1]
        assert (flag.name, flag.state) == ("black-box-beats-white-box", state)
    assert "add square" in flag.sentence


def test_the_passes_of_a_defense_that_optimises_do_not_make_a_gradient(trial):
    made = trial()
    made.clean(own=10)
    made.attack(right=30, backwards=220)
    made.attack(right=12, attack="square", notes={}, backwards=4000)
    assert flags(made)["black-box-beats-white-box"].state == "fired"


def test_a_transfer_that_breaks_more_than_the_direct_attack_fires(known):
    known.attack(right=28)
    known.attack(right=12, source="other")
    flag = flags(known)["transfer-beats-direct"]
    assert (flag.state, flag.figure) == ("fired", "87.5 \N{RIGHTWARDS ARROW} 37.5")
    assert [cell.attack for cell in flag.cells] == ["pgd from other", "pgd"]


def test_a_transfer_that_breaks_less_does_not(known):
    known.attack(right=12)
    known.attack(right=28, source="other")
    assert flags(known)["transfer-beats-direct"].state == "clear"


def test_a_transfer_of_another_attack_is_untested(known):
    known.attack(right=28)
    known.attack(right=12, source="other", params={"steps": 50})
    flag = flags(known)["transfer-beats-direct"]
    assert flag.state == "untested"
    assert "met the row directly too" in flag.sentence


@pytest.mark.parametrize(("left", "state"), [(0, "clear"), (1, "clear"), (2, "fired"), (20, "fired")])
def test_what_an_unbounded_attack_leaves(known, left, state):
    known.attack(right=28)
    known.attack(right=left, eps=1.0)
    flag = flags(known)["unbounded-not-zero"]
    assert (flag.state, flag.value) == (state, left / 32)


def test_an_unbounded_attack_that_does_not_know_of_the_defense_is_no_check(known):
    known.attack(right=28)
    known.attack(right=20, eps=1.0, threat="oblivious")
    assert flags(known)["unbounded-not-zero"].state == "untested"


def test_more_steps_that_leave_less_fire(known):
    known.attack(right=30, params={"steps": 20, "restarts": 1})
    known.attack(right=20, attack="pgd-more", params={"steps": 100, "restarts": 1})
    flag = flags(known)["more-still-lowers"]
    assert (flag.state, flag.figure) == ("fired", "93.8 \N{RIGHTWARDS ARROW} 62.5")
    assert "(steps 100, restarts 1)" in flag.sentence


def test_only_the_last_step_up_tells_whether_an_attack_has_converged(known):
    known.attack(right=30, params={"steps": 10})
    known.attack(right=15, attack="pgd-b", params={"steps": 50})
    known.attack(right=14, attack="pgd-c", params={"steps": 100})
    flag = flags(known)["more-still-lowers"]
    assert (flag.state, [cell.attack for cell in flag.cells]) == ("clear", ["pgd-c", "pgd-b"])


def test_more_of_one_and_less_of_another_is_not_more(known):
    known.attack(right=30, params={"steps": 10, "eot": 20})
    known.attack(right=10, attack="pgd-b", params={"steps": 50, "eot": 1})
    known.attack(right=10, attack="pgd-c", params={"steps": 90, "eot": 20, "loss": "margin"})
    known.attack(right=10, attack="pgd-d", threat="bpda", params={"steps": 90, "eot": 20})
    assert flags(known)["more-still-lowers"].state == "untested"


@pytest.mark.parametrize(("noise", "state"), [(0.5, "clear"), (0.62, "fired")])
def test_noise_of_the_gradient_that_the_strongest_attack_averaged(known, noise, state):
    known.attack(right=28, notes=looked(noise=1.5), params={"steps": 20, "eot": 2})
    known.attack(right=20, attack="pgd-b", notes=looked(noise=noise), params={"steps": 20, "eot": 16})
    flag = flags(known)["eot-too-small"]
    assert (flag.state, flag.figure) == (state, f"{noise:.2f} at 16 draws")


def test_gradients_that_were_not_averaged_are_untested(known):
    known.attack(right=28, notes={"zero_gradient": (0.0, 640)})
    assert flags(known)["eot-too-small"].state == "untested"


def test_a_defense_without_randomness_has_no_noise(trial, base):
    made = trial()
    still = traits(base, random=False)
    made.clean(random=False, traits=still)
    made.attack(right=28, random=False, traits=still)
    found = flags(made)
    assert {found[name].state for name in ("eot-too-small", "fixed-randomness", "few-repeats", "random")} == {"clear"}


@pytest.mark.parametrize(("left", "state"), [(26, "clear"), (10, "fired")])
def test_what_is_left_where_the_random_numbers_are_known(known, left, state):
    known.attack(right=28)
    known.attack(right=left, fixed=True)
    flag = flags(known)["fixed-randomness"]
    assert (flag.state, flag.value) == (state, left / 32)
    assert f"{100 * left / 32:.1f} % are left where the attacker knows" in flag.sentence


def test_known_randomness_under_another_attack_is_untested(known):
    known.attack(right=28)
    known.attack(right=10, fixed=True, params={"steps": 50})
    assert flags(known)["fixed-randomness"].state == "untested"


def lucky(trial, repeats, **options):
    """The flag of a row that two attacks met, each of which leaves half of the repeats of each of 40 examples."""
    made = trial(n_examples=40, repeats=repeats, **options)
    made.clean(right=" ".join(["1" * repeats] * 40))
    half = "10" * repeats
    made.attack(right=" ".join([half[:repeats]] * 40))
    made.attack(right=" ".join([half[1 : repeats + 1]] * 40), attack="pgd-b", params={"steps": 5})
    return flags(made)["few-repeats"]


@pytest.mark.parametrize("decision", ["mean", "any", "majority"])
def test_too_few_repeats_fire_under_every_rule(trial, decision):
    flag = lucky(trial, 4, decision=decision)
    assert (flag.state, flag.value, flag.figure, flag.low) == ("fired", 4.0, "4 of 5", True)
    assert "judged by 4 repeats of an example" in flag.sentence
    assert "raise `repeats` to 10" in flag.sentence


def test_enough_repeats_say_how_much_luck_was_taken_out(trial):
    flag = lucky(trial, 6)
    assert flag.state == "clear"
    # each example's share is 3/6 under both: no attack has more luck than the other
    assert flag.figure.startswith("50.0 to ")
    assert flag.value == pytest.approx(0.0, abs=0.05)
    assert "smallest share of 6 repeats is taken, of 3 cells" in flag.sentence


def test_an_attack_on_some_examples_alone_lowers_those(trial):
    """Another suite's attack met the first two examples, of which it leaves nothing: of all four 1/2 are left."""
    other = trial(n_examples=2, repeats=4, name="other")
    other.attack(right="0000 0000", attack="pgd-c", params={"steps": 9})
    other.write()
    made = trial(n_examples=4, repeats=4)
    made.clean(right="1111 1111 1111 1111")
    made.attack(right="1111 1111 1111 1111")
    sections = read_leaderboard(made.write()).sections
    (row,) = next(one for one in sections if one.suite.name == "toy").boards[0].rows
    assert row.worst.accuracy.share == 0.5


def test_an_example_judged_once_tells_nothing_of_luck(known):
    known.attack(right=20)
    assert flags(known)["few-repeats"].state == "untested"


# ---------------------------------------------------------------------- what attackers knew


def test_attacks_that_know_of_nothing_fire(known):
    known.attack(right=28, threat="oblivious")
    assert flags(known)["oblivious-only"].state == "fired"


def test_bpda_fires_where_more_could_be_had(trial, base):
    for name, more, state in (("open", ["full"], "fired"), ("signs", ["smooth"], "fired"), ("closed", [], "clear")):
        one = trial(name=name)
        told = traits(base, knowledge=more)
        one.clean(name, traits=told)
        one.attack(name, right=20, threat="bpda", traits=told)
        one.write()
        (section,) = read_leaderboard(str(one.path), name).sections
        flag = {flag.name: flag for flag in section.boards[0].rows[0].flags}["only-bpda"]
        assert flag.state == state
        assert all(f"knowledge: {word}" in flag.sentence for word in more)


def test_what_could_be_had_is_untested_where_nobody_recorded_it(trial):
    made = trial()
    made.clean(traits=None)
    made.attack(right=20, threat="bpda", traits=None)
    found = flags(made)
    assert found["only-bpda"].state == "untested"
    assert found["batch-mates"].state == found["votes"].state == "untested"
    assert found["random"].state == "fired"  # the cell says so itself


def test_a_surrogate_fires_until_something_better_is_followed(known):
    known.attack(right=20, threat="bpda")
    known.attack(right=15, threat="surrogate")
    found = flags(known)
    assert (found["surrogate-gradient"].state, found["surrogate-gradient"].figure) == ("fired", "46.9 %")
    assert found["only-bpda"].state == "clear"
    known.attack(right=20, threat="full")
    assert flags(known)["surrogate-gradient"].state == "clear"


def test_a_black_box_follows_nothing_whatever_it_knows(known):
    known.attack(right=20, threat="bpda")
    known.attack(right=20, attack="square", threat="full", notes={}, backwards=0)
    assert flags(known)["only-bpda"].state == "fired"


# ---------------------------------------------------------------------- what the defense is


@pytest.fixture
def base():
    return {**asdict(Traits(random=True, differentiable=True)), "knowledge": ["full"], "pixels": 64}


@pytest.mark.parametrize(
    ("trait", "value", "name"),
    [
        ("optimises", True, "optimises"),
        ("batchwise", True, "batch-mates"),
        ("oracle", True, "oracle"),
        ("votes", 5, "votes"),
        ("unclipped", True, "unclipped"),
    ],
)
def test_traits_fire_by_the_defenses_own_account(trial, base, trait, value, name):
    told = traits(base, **{trait: value})
    made = trial()
    made.clean(traits=told)
    made.attack(right=20, traits=told)
    made.clean("plain")
    made.attack("plain", right=20)
    (section,) = read_leaderboard(made.write()).sections
    rows = {row.defense: {flag.name: flag for flag in row.flags} for row in section.boards[0].rows}
    assert (rows["pure"][name].state, rows["plain"][name].state) == ("fired", "clear")
    assert rows["pure"][name].trait


def test_an_optimiser_is_seen_by_its_passes_where_its_traits_were_not_recorded(trial):
    made = trial()
    made.clean(own=30, traits=None)
    made.attack(right=20, traits=None)
    assert flags(made)["optimises"].text == "optimises 30 backwards"


def test_a_random_defense_tells_how_many_clean_verdicts_change(trial):
    made = trial(repeats=3)
    made.clean(right=" ".join(["111"] * 24 + ["101"] * 4 + ["000"] * 4))
    made.attack(right=20)
    flag = flags(made)["random"]
    assert (flag.state, flag.value, flag.figure) == ("fired", 4 / 32, "12.5 %")


def test_a_classifier_without_a_defense_has_no_flags_of_a_defense(trial):
    made = trial()
    made.clean("none", random=False)
    made.attack("none", right=10, threat="oblivious", random=False, notes=looked(first=0.5))
    made.attack("none", right=0, threat="oblivious", eps=1.0, random=False)
    found = flags(made, "none")
    assert list(found) == [flag.__name__.replace("_", "-") for flag in OF_A_REFERENCE]
    assert len(found) < len(FLAGS)
    assert (found["zero-gradient"].state, found["unbounded-not-zero"].state) == ("fired", "clear")


# ---------------------------------------------------------------------- the comparison


def test_the_sign_test_is_that_of_the_binomial_distribution():
    first = np.array([0.0] * 9 + [1.0] * 3 + [0.5] * 20)
    second = np.array([1.0] * 9 + [0.0] * 3 + [0.5] * 20)
    contrast = Contrast.of(first, second)
    assert (contrast.lower, contrast.higher, contrast.n) == (9, 3, 32)
    assert contrast.chance == pytest.approx(sum(comb(12, k) for k in range(9, 13)) / 2**12)
    assert not contrast.significant


def test_examples_that_one_attack_has_not_met_are_not_compared():
    first, second = np.array([0.0] * 8 + [np.nan] * 8), np.array([1.0] * 12 + [np.nan] * 4)
    contrast = Contrast.of(first, second)
    assert (contrast.first, contrast.second, contrast.n) == (0.0, 1.0, 8)
    assert contrast.chance == pytest.approx(0.5**8)
    assert Contrast.of(second, first).chance == 1.0
    nothing = Contrast.of(first, np.full(16, np.nan))
    assert (nothing.n, nothing.chance) == (0, 1.0)
