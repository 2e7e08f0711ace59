"""What honest results look like, on a smaller version of the quickstart.

Every processor trains networks of its own, and a share of 48 images is spread by up to 7 points. So these are orders,
and bounds that lie three such deviations from what is expected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import harness

if TYPE_CHECKING:
    from conftest import Bench


def accuracy(bench: Bench, defense: str, attack: str) -> float:
    cells = harness.results(str(bench.db)).cells.set_index(["defense", "attack"])
    return float(cells.loc[(defense, attack), "accuracy"])


def test_the_classifier_is_right_on_clean_images(small: Bench) -> None:
    assert accuracy(small, "none", "clean") >= 0.85  # of 0.98


def test_the_undefended_classifier_falls_to_pgd(small: Bench) -> None:
    assert accuracy(small, "none", "pgd-20") <= 0.30


def test_the_undefended_classifier_falls_to_autoattack(small: Bench) -> None:
    assert accuracy(small, "none", "autoattack") <= min(0.20, accuracy(small, "none", "pgd-20") + 0.05)


def test_mae_pure_holds_against_an_attack_that_does_not_know_of_it(small: Bench) -> None:
    assert accuracy(small, "mae-pure", "clean") >= 0.65  # of 0.86
    assert accuracy(small, "mae-pure", "pgd-20") >= accuracy(small, "none", "pgd-20") + 0.10  # of 0.30


def test_an_attack_that_knows_of_mae_pure_brings_it_down_again(small: Bench) -> None:
    assert accuracy(small, "mae-pure", "pgd-eot") < accuracy(small, "mae-pure", "pgd-20")


def test_every_perturbation_kept_its_budget(small: Bench) -> None:
    examples = harness.results(str(small.db)).examples
    assert examples["fault"].isna().all()
    assert examples["linf"].max() <= 0.2 + 1e-5
    assert (examples.loc[examples["attack"] == "clean", "linf"] == 0).all()


def test_attention_of_an_unchanged_image_has_not_varied(small: Bench) -> None:
    examples = harness.results(str(small.db)).examples
    clean = examples[examples["attack"] == "clean"]
    assert (clean["amv_adversarial_last"] == 0).all()
    undefended = clean[clean["defense"] == "none"]
    assert (undefended["amv_purified_mean"] == 0).all()
    attacked = examples[(examples["attack"] == "pgd-20") & (examples["defense"] == "none")]
    assert (attacked["amv_adversarial_last"] > 0).all()


def test_cost_counts_the_passes_that_were_made(small: Bench) -> None:
    cells = harness.results(str(small.db)).cells.set_index(["defense", "attack"])
    pure = cells.loc[("mae-pure", "clean")]
    # 15 steps of 2 masks, then one classification
    assert pure["defense_evaluations"] == 30
    assert pure["defense_forwards"] == 31
    assert pure["defense_backwards"] == 30
    plain = cells.loc[("none", "pgd-20")]
    assert (plain["defense_forwards"], plain["defense_backwards"], plain["defense_evaluations"]) == (1, 0, 0)
    assert (plain["attack_forwards"], plain["attack_backwards"]) == (21, 20)
    adaptive = cells.loc[("mae-pure", "pgd-eot")]
    # 7 looks of 2 draws, as many with smooth signs before each of 6 steps, 2 fresh draws for the last and the two best
    assert adaptive["attack_evaluations"] == (7 * 2 + 6 * 2 + 3 * 2) * 30
    assert pure["defense_peak_memory"] > 0
    assert adaptive["attack_peak_memory"] > 0
    assert (pure["defense_batch_size"], adaptive["attack_batch_size"]) == (24, 24)
    assert cells["attack_peak_memory"].isna()["none", "clean"]
