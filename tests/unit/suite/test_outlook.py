"""Which rows a suite's own attacks will leave unranked: known before anything is computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.suite import shipped
from harness.suite.load import load_suite, read_suite
from harness.suite.outlook import outlook

SUITE = """
name: demo
datasets: [{name: digits, use: digits}]
classifiers: [{name: cnn, use: recipe, params: {recipe: digits-cnn}}]
defenses:
  - {name: none, use: none}
  - {name: noise, use: noise, params: {sigma: 0.1}}
  - {name: random-sign, use: random-sign, params: {eps: 0.1}}
  - {name: mae-pure, use: mae-pure, params: {mae: digits-mae, steps: 2}}
  - {name: oracle, use: amv-oracle, params: {mae: digits-mae, steps: 2}}
attacks:
  - {name: pgd, use: pgd, params: {steps: 10, eot: 4}}
  - {name: short, use: pgd, params: {steps: 9, eot: 4}}
  - {name: square, use: square, params: {n_queries: 100}}
threat_models:
  - {name: bpda, use: Linf, params: {eps: 0.1, knowledge: bpda}}
  - {name: full, use: Linf, params: {eps: 0.1, knowledge: full}}
  - {name: smooth, use: Linf, params: {eps: 0.1, knowledge: smooth}}
  - {name: known, use: Linf, params: {eps: 0.1, knowledge: full, randomness: fixed}}
  - {name: any-image, use: Linf, params: {eps: 1.0, knowledge: bpda}}
evaluation: {n_examples: 8}
matrix:
"""


@pytest.fixture
def components():
    """The registered components as they are, in place of the stand-ins of this folder."""


def told(*blocks: str, more: str = "") -> dict[str, list[str]]:
    lines = "".join(f"  - {{{block}, impossible: skip}}\n" for block in blocks)
    suite = read_suite(SUITE.replace("n_examples: 8", f"n_examples: 8{more}") + lines, "suite.yaml", Path())
    return {name: [lack.kind for lack in row.lacks] for row in outlook(suite) for name in row.defenses}


SQUARE = "attacks: [square], threat_models: [bpda]"
PGD = "attacks: [pgd], threat_models: [full, smooth, bpda]"


def test_a_suite_that_meets_the_minimum_has_nothing_to_say():
    assert told(SQUARE, PGD) == {}


def test_what_is_refused_was_not_met():
    # noise, of either kind, can be differentiated, and mae-pure moves by signs
    lacks = {name: ["gradient"] for name in ("noise", "random-sign", "mae-pure")}
    signs = {"mae-pure": lacks.pop("mae-pure")}
    assert told(SQUARE, "attacks: [pgd], threat_models: [bpda]") == {**lacks, **signs}
    assert told(SQUARE, "attacks: [pgd], threat_models: [full, bpda]") == signs
    assert told(SQUARE, "attacks: [pgd], threat_models: [smooth, bpda]") == lacks


def test_too_few_steps_and_no_search_are_told_before_hours_are_spent():
    both = ["gradient", "search"]
    found = told("attacks: [short], threat_models: [full, smooth, bpda]")
    assert found == {"noise": both, "random-sign": both, "mae-pure": both}


def test_a_stricter_minimum_is_held_against_the_suite_that_names_it():
    both = ["gradient", "search"]
    assert told(SQUARE, PGD, more=", minimum: field-1") == {"noise": both, "random-sign": both, "mae-pure": both}


def test_checks_and_transfers_meet_nothing_and_checks_make_no_row():
    assert told("attacks: [pgd], threat_models: [any-image, known]") == {}
    found = told(SQUARE, "defenses: [noise], attacks: [pgd], threat_models: [full], crafted_on: [{defense: none}]")
    assert found["noise"] == ["gradient"]


#: shipped suites whose every row stands below the minimum, and say so in their text
BELOW = {
    *("cifar10-diffusion", "cifar10-mae", "digits-diffusion-paper"),
    *("digits-attention", "digits-attention-25", "digits-attention-75"),
}


@pytest.mark.parametrize("name", sorted(shipped.suites()))
def test_every_shipped_suite_meets_the_minimum_or_says_that_it_does_not(name):
    suite = load_suite(name)
    found = outlook(suite)
    assert bool(found) is (name in BELOW), "\n".join(map(str, found))
    assert ("No row is ranked" in suite.text) is (name in BELOW)


def test_a_minimum_that_is_not_known_is_answered_with_those_that_are(complaints):
    said = complaints(SUITE.replace("n_examples: 8", "n_examples: 8, minimum: purifier-2") + "  - {}\n")
    assert any("purifier-1" in one and "field-1" in one and "purifier-2" in one for one in said)
