"""Each flag fires on the defense that was made for it, and none of an attack's on an honest one: suite to report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reports.model.leaderboard import read_leaderboard

if TYPE_CHECKING:
    from collections.abc import Callable

    from reports.flags.evidence import Flag

SUITE = """
name: flawed
datasets: [{name: digits, use: digits}]
classifiers: [{name: cnn, use: recipe, params: {recipe: toy-cnn.yaml}}]
defenses:
  - {name: none, use: none}
  - {name: rounded, use: rounded, params: {levels: 4}}
  - {name: rooted, use: rooted}
  - {name: scattered, use: scattered}
  - {name: saturated, use: saturated, params: {net: toy-cnn.yaml}}
  - {name: softened, use: softened, params: {net: toy-cnn.yaml}}
  - {name: torn, use: torn}
  - {name: grey, use: drowned, params: {chance: 1}}
  - {name: unsure, use: saturated, params: {net: toy-cnn.yaml, factor: 0.001}}
  - {name: noise, use: noise, params: {sigma: 0.3}}
  - {name: storm, use: noise, params: {sigma: 0.5}}
  - {name: cheaper, use: noise, params: {sigma: 0.1}, surrogate: {sigma: 0.05}}
  - {name: quiet, use: noise, params: {sigma: 0.01}}
  - {name: levelled, use: levelled}
  - {name: bright, use: bright}
  - {name: meddling, use: meddling}
  - {name: moody, use: moody}
  - {name: voting, use: drowned, params: {votes: 3}}
  - {name: peeking, use: peeking}
  - {name: mae-pure, use: mae-pure, params: {mae: tiny-mae.yaml, steps: 2, step_size: 0.04, eps: 0.2, masks: 2}}
attacks:
  - {name: pgd, use: pgd, params: {steps: 20, step_size: 0.02, random_start: false}}
  - {name: one-step, use: pgd, params: {steps: 1, step_size: 0.02, random_start: false}}
  - {name: eot, use: pgd, params: {steps: 5, eot: 2}}
  - {name: square, use: square, params: {n_queries: 200}}
  - {name: lost, use: lost}
  - {name: greedy, use: greedy}
  - {name: in-float32, use: autoattack, params: {version: custom, attacks: [apgd-ce]}}
threat_models:
  - {name: full, use: Linf, params: {eps: 0.2, knowledge: full}}
  - {name: any-image, use: Linf, params: {eps: 1.0, knowledge: full}}
  - {name: known, use: Linf, params: {eps: 0.2, knowledge: full, randomness: fixed}}
  - {name: bpda, use: Linf, params: {eps: 0.2, knowledge: bpda}}
  - {name: cheaper, use: Linf, params: {eps: 0.2, knowledge: surrogate}}
  - {name: oblivious, use: Linf, params: {eps: 0.2, knowledge: oblivious}}
matrix:
  - {defenses: [none], attacks: [pgd, one-step], threat_models: [full]}
  - {defenses: [rounded], attacks: [pgd, square], threat_models: [full]}
  - {defenses: [rounded], attacks: [pgd], threat_models: [any-image]}
  - {defenses: [saturated], attacks: [in-float32, square], threat_models: [full]}
  - {defenses: [unsure], attacks: [pgd], threat_models: [full]}
  - {defenses: [rooted], attacks: [pgd], threat_models: [full]}
  - {defenses: [scattered], attacks: [eot], threat_models: [full]}
  - {defenses: [rounded], attacks: [pgd], threat_models: [full], crafted_on: [{defense: none}]}
  - {defenses: [softened, torn], attacks: [one-step], threat_models: [full]}
  - {defenses: [grey, voting], attacks: [lost], threat_models: [full]}
  - {defenses: [grey, quiet], attacks: [greedy], threat_models: [full]}
  - {defenses: [noise, quiet], attacks: [eot], threat_models: [full, known]}
  - {defenses: [storm], attacks: [eot, pgd, one-step, square], threat_models: [full]}
  - {defenses: [cheaper], attacks: [pgd], threat_models: [cheaper]}
  - {defenses: [levelled], attacks: [pgd], threat_models: [bpda]}
  - {defenses: [voting], attacks: [pgd], threat_models: [full]}
  - {defenses: [mae-pure], attacks: [pgd], threat_models: [bpda]}
  - {defenses: [peeking, bright, meddling, moody], attacks: [pgd], threat_models: [oblivious]}
evaluation: {n_examples: 64, repeats: 4, shard_size: 64}
"""

HONEST = """
name: honest
datasets: [{name: digits, use: digits}]
classifiers:
  - {name: plain, use: recipe, params: {recipe: toy-cnn.yaml}}
  - {name: robust, use: recipe, params: {recipe: toy-cnn-at.yaml}}
defenses:
  - {name: none, use: none}
  - {name: quiet, use: noise, params: {sigma: 0.01}}
attacks:
  - {name: pgd, use: pgd, params: {steps: 10, eot: 2}}
  - {name: more, use: pgd, params: {steps: 40, restarts: 2, eot: 2}}
  - {name: square, use: square, params: {n_queries: 300}}
threat_models:
  - {name: full, use: Linf, params: {eps: 0.1, knowledge: full}}
  - {name: any-image, use: Linf, params: {eps: 1.0, knowledge: full}}
  - {name: known, use: Linf, params: {eps: 0.1, knowledge: full, randomness: fixed}}
matrix:
  - {classifiers: [robust], threat_models: [full]}
  - {classifiers: [robust], attacks: [pgd], threat_models: [any-image]}
  - {classifiers: [robust], defenses: [quiet], attacks: [pgd], threat_models: [known]}
  - {classifiers: [robust], attacks: [pgd], threat_models: [full], crafted_on: [{classifier: plain, defense: none}]}
  - {classifiers: [plain], defenses: [none], attacks: [pgd], threat_models: [full]}
evaluation: {n_examples: 64, repeats: 2, shard_size: 64}
"""

#: signs of a weak attack that a classifier without a defense can show, and those of a random defense alone
WEAK = (
    "zero-gradient",
    "black-box-beats-white-box",
    "transfer-beats-direct",
    "unbounded-not-zero",
    "more-still-lowers",
    "not-finite-gradient",
    "loss-out-of-scale",
    "no-better-than-start",
)
OF_RANDOM = ("unshared-direction", "eot-too-small", "fixed-randomness")


def flags(db: str, classifier: str = "cnn") -> dict[str, dict[str, Flag]]:
    """Return the flags of each row."""
    (section,) = read_leaderboard(db).sections
    assert not section.unfinished
    board = next(board for board in section.boards if board.classifier == classifier)
    return {row.defense: {flag.name: flag for flag in row.flags} for row in board.rows}


@pytest.fixture(scope="module")
def flawed_db(conduct: Callable[[str], str]) -> str:
    return conduct(SUITE)


@pytest.fixture(scope="module")
def flawed(flawed_db: str) -> dict[str, dict[str, Flag]]:
    return flags(flawed_db)


@pytest.mark.parametrize(
    ("flag", "defense"),
    [
        ("zero-gradient", "rounded"),
        ("zero-gradient", "saturated"),
        ("black-box-beats-white-box", "rounded"),
        ("black-box-beats-white-box", "saturated"),
        ("transfer-beats-direct", "rounded"),
        ("unbounded-not-zero", "rounded"),
        ("more-still-lowers", "none"),
        ("not-finite-gradient", "rooted"),
        ("loss-out-of-scale", "unsure"),
        ("no-better-than-start", "rounded"),
        ("unshared-direction", "scattered"),
        ("eot-too-small", "storm"),
        ("fixed-randomness", "noise"),
        ("few-repeats", "storm"),
        ("oblivious-only", "peeking"),
        ("only-bpda", "levelled"),
        ("surrogate-gradient", "cheaper"),
        ("not-finite", "torn"),
        ("proposals-replaced", "voting"),
        ("proposals-repaired", "quiet"),
        ("at-chance", "grey"),
        ("probabilities", "softened"),
        ("random", "noise"),
        ("optimises", "mae-pure"),
        ("batch-mates", "levelled"),
        ("oracle", "peeking"),
        ("own-classifier", "saturated"),
        ("votes", "voting"),
        ("unclipped", "bright"),
        ("surroundings", "meddling"),
        ("untrue-traits", "moody"),
    ],
)
def test_a_flag_fires_on_the_defense_that_was_made_for_it(
    flawed: dict[str, dict[str, Flag]], flag: str, defense: str
) -> None:
    found = flawed[defense][flag]
    assert found.fired, found.sentence


def test_every_flag_has_a_defense_that_fires_it_and_one_that_does_not(flawed: dict[str, dict[str, Flag]]) -> None:
    states = {name: {found[name].state for found in flawed.values() if name in found} for name in flawed["rounded"]}
    # a transfer, and more of the same, met one row each
    assert {name for name, seen in states.items() if "fired" not in seen} == set()
    assert {name for name, seen in states.items() if "clear" not in seen} <= {
        *("black-box-beats-white-box", "transfer-beats-direct", "unbounded-not-zero", "more-still-lowers")
    }


def test_faults_that_nothing_makes_good_take_the_rank(flawed_db: str) -> None:
    (section,) = read_leaderboard(flawed_db).sections
    rows = {row.defense: row for row in section.boards[0].rows}
    assert rows["torn"].unranked.endswith("had no class: something was not finite")
    for defense in ("voting", "quiet", "grey", "softened"):
        assert rows[defense].evidence.fault == ""


def test_figures_are_those_of_the_flaw(flawed: dict[str, dict[str, Flag]]) -> None:
    rounded, saturated = flawed["rounded"], flawed["saturated"]
    # a step function has no gradient anywhere, a loud classifier none where it is right
    assert rounded["zero-gradient"].value == 1.0
    assert 0.5 < (saturated["zero-gradient"].value or 0.0) < 1.0
    # without a gradient nothing moves, so that what is right about clean images stays right without a bound
    assert rounded["no-better-than-start"].value == rounded["unbounded-not-zero"].value
    # of digits there are none without a black pixel
    assert flawed["rooted"]["not-finite-gradient"].value == 1.0
    assert flawed["voting"]["votes"].value == 3
    assert flawed["mae-pure"]["optimises"].value == 4


@pytest.fixture(scope="module")
def honest(conduct: Callable[[str], str]) -> str:
    return conduct(HONEST)


def test_no_sign_of_a_weak_attack_on_an_honest_classifier(honest: str) -> None:
    found = flags(honest, "robust")
    told = {(row, name): found[row][name] for row in ("none", "quiet") for name in WEAK}
    told |= {("quiet", name): found["quiet"][name] for name in OF_RANDOM}
    assert {key: flag.sentence for key, flag in told.items() if flag.state != "clear"} == {}


def test_the_honest_classifier_is_neither_broken_nor_spared(honest: str) -> None:
    (section,) = read_leaderboard(honest).sections
    left = {
        (board.classifier, row.defense): row.worst.accuracy.share
        for board in section.boards
        for row in board.rows
        if row.worst
    }
    assert left["plain", "none"] < 0.3 < left["robust", "none"] < 0.9
