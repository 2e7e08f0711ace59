"""Verdicts on numbers that were made up, one for each direction that they may point in."""

import pytest

from reports.attention.quantities import Part
from reports.attention.study import Study
from reports.attention.verdicts import verdicts
from reports.stats.bootstrap import Estimate


def about(value, half=0.02):
    return Estimate(value, value - half, value + half, 64)


def part(defense, role, attack="pgd", against="", **found):
    numbers = {name: about(value) if isinstance(value, float) else value for name, value in found.items()}
    return Part(defense, role, attack, "oblivious", 0.5, numbers, cell=f"{defense}-{attack}", against=against)


#: a gain of 40 points, of which 30 are images whose AMV fell; attention restored on the whole
NUMBERS = {
    "gain": 0.4,
    "rescued": 0.45,
    "nearer": 0.6,
    "rescued_nearer": 0.3,
    "loss_clean": 0.03,
    "loss_before": 0.06,
    "loss_after": 0.02,
    "amv_before": 0.8,
    "amv_after": 0.6,
    "restored": 0.25,
}


def study(*others, margins=(), relations=(), cells=(), **numbers):
    effects = (part("pure", "reconstruction", **{**NUMBERS, **numbers}), *others)
    return Study(effects, tuple(margins), tuple(relations), tuple(cells), (), (), (), (), probed=None)


def only(*others, **numbers):
    (verdict,) = verdicts(study(*others, **numbers))
    return verdict


def test_what_is_put_right_where_amv_fell_is_the_most():
    verdict = only()
    assert (verdict.defense, verdict.column) == ("pure", "pgd oblivious")
    assert verdict.answer == "at most 30.0 of the 40.0 points gained can be due to restored attention"
    assert verdict.most == pytest.approx(0.3)
    said = " ".join(verdict.reasons)
    assert "pure gains 40.0 [38.0, 42.0] points of accuracy over no defense." in said
    assert "It puts 45.0 % of the images right; 30.0 [28.0, 32.0] % are put right and had their AMV fall" in said
    assert "by chance alone it would be 27.0 %" in said  # 0.45 * 0.6
    assert (
        "AMV falls from 0.800 [0.780, 0.820] to 0.600 [0.580, 0.620], so 25.0 [23.0, 27.0] % of it is restored" in said
    )
    assert "The loss falls from 0.0600 to 0.0200, below the clean images' 0.0300." in said


def test_no_more_than_the_gain_is_due_to_anything():
    verdict = only(rescued_nearer=0.45)
    assert verdict.most == pytest.approx(0.4)  # some that were right were broken


def test_none_where_amv_fell_on_no_image():
    verdict = only(nearer=0.0, rescued_nearer=0.0, restored=-0.8, amv_after=1.44)
    assert verdict.answer == "none of the 40.0 points gained can be due to restored attention"
    assert verdict.most == 0
    said = " ".join(verdict.reasons)
    assert "AMV fell on none." in said
    assert "Attention moves further from the clean images': AMV rises from 0.800" in said


def test_attention_that_was_not_restored_on_the_whole_is_said_to_be():
    assert only(restored=-0.1).answer.endswith("restored attention, which on the whole was not restored")
    assert only(restored=0.01).answer.endswith("restored attention, of which there is no sign on the whole")
    assert "cannot be told: AMV goes from" in " ".join(only(restored=0.01).reasons)


@pytest.mark.parametrize(
    ("gain", "sentence"),
    [
        (0.01, "pure gains nothing that can be told from chance: 1.0 [-1.0, 3.0] points."),
        (-0.2, "pure loses accuracy: -20.0 [-22.0, -18.0] points."),
    ],
)
def test_without_a_gain_there_is_nothing_to_attribute(gain, sentence):
    verdict = only(part("lot", "control", gain=0.3), gain=gain)
    assert verdict.answer == "no gain that could be due to restored attention"
    assert verdict.most is None
    assert verdict.reasons[0] == sentence
    assert "lot" not in " ".join(verdict.reasons)


@pytest.mark.parametrize(
    ("control", "margin", "sentences"),
    [
        (0.1, 0.3, ("lot gains 10.0 [8.0, 12.0], 25 % of it", "Above lot remain 30.0 [28.0, 32.0] points.")),
        (
            0.4,
            0.01,
            ("lot gains 40.0", "Nothing that can be told from chance remains above lot: 1.0 [-1.0, 3.0] points."),
        ),
        (0.6, -0.2, ("lot gains 60.0", "lot gains more: what is above it is -20.0 [-22.0, -18.0] points.")),
    ],
)
def test_controls_have_what_they_gain_on_the_same_images(control, margin, sentences):
    others = (part("lot", "control", gain=control), part("bare", "control", gain=-0.1))
    margins = (
        part("pure", "reconstruction", against="lot", margin=margin),
        part("pure", "reconstruction", against="bare", margin=0.9),
    )
    said = " ".join(only(*others, margins=margins).reasons)
    assert all(sentence in said for sentence in sentences)
    assert "bare loses, -10.0 [-12.0, -8.0]" in said
    assert "Above bare" not in said


def test_controls_that_gain_nothing_have_nothing_above_them():
    margins = (part("pure", "reconstruction", against="lot", margin=0.4),)
    said = " ".join(only(part("lot", "control", gain=0.0), margins=margins).reasons)
    assert "lot gains nothing that can be told from chance, 0.0 [-2.0, 2.0]" in said
    assert "Above" not in said


def test_controls_under_another_attack_are_not_compared():
    assert "lot" not in " ".join(only(part("lot", "control", attack="square", gain=0.3)).reasons)


def test_purified_clean_images_say_what_is_purifications_own_doing():
    said = " ".join(only(part("pure", "reconstruction", attack="clean", amv_after=0.54)).reasons)
    assert "clean images that are purified have 0.540 [0.520, 0.560], 90 % of what is left." in said


@pytest.mark.parametrize(
    ("change", "rescue", "sentences"),
    [
        (0.5, 0.7, ("AMV fell further too (rho +0.50", "rather those whose AMV fell further (AUC 0.70 [0.68, 0.72])")),
        (
            0.0,
            0.51,
            ("does not tell how far AMV fell (rho +0.00", "does not tell which images are put right (AUC 0.51"),
        ),
        (-0.5, 0.3, ("AMV fell less (rho -0.50", "rather those whose AMV fell less (AUC 0.30")),
    ],
)
def test_image_by_image(change, rescue, sentences):
    said = " ".join(only(cells=[part("pure", "reconstruction", change=change, rescue_amv=rescue)]).reasons)
    assert all(sentence in said for sentence in sentences)


def test_the_oracle_says_what_restored_attention_is_worth():
    said = " ".join(only(part("seer", "oracle", gain=0.9, restored=0.6)).reasons)
    assert "seer, which is shown the clean images, restores 60.0 [58.0, 62.0] % of the attention and gains 90.0" in said


@pytest.mark.parametrize(
    ("change", "given", "answer", "explained"),
    [
        (0.5, 0.3, "a lower loss goes with restored attention", False),
        (0.5, 0.0, "a lower loss does not tell restored attention, as far as these images show", True),
        (0.0, 0.0, "a lower loss does not tell restored attention, as far as these images show", False),
        (0.5, -0.3, "a lower loss goes with attention that moves further away", True),
    ],
)
def test_over_all_attacks_the_size_of_the_perturbation_is_taken_into_account(change, given, answer, explained):
    pooled = part("pure", "reconstruction", attack="all", change=change, change_within=given)
    verdict, _ = verdicts(study(relations=[pooled]))
    assert (verdict.column, verdict.answer, verdict.most) == ("all attacks", answer, None)
    assert ("only as far as both follow that size" in verdict.reasons[0]) is explained


def test_what_is_not_known_gets_no_verdict():
    assert verdicts(study(restored=None)) == []
    unknown = part("pure", "reconstruction", attack="all", change=0.5, change_within=None)
    assert len(verdicts(study(relations=[unknown]))) == 1


def test_purifiers_that_lower_no_loss_get_none():
    (verdict,) = verdicts(study(part("diffpure", "purifier", **NUMBERS)))
    assert verdict.defense == "pure"
