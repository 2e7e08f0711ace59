"""A defense whose verdicts are known in closed form is judged as they say, by every rule, from suite to report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import binom

import harness
from reports.model.leaderboard import read_leaderboard

if TYPE_CHECKING:
    from collections.abc import Callable

N, CHANCE, REPEATS, VOTES = 500, 0.3, 5, 3

#: deviations that chance may bring
SIGMAS = 5.0

SUITE = f"""
name: drowned
datasets: [{{name: digits, use: digits}}]
classifiers: [{{name: cnn, use: recipe, params: {{recipe: toy-cnn.yaml}}}}]
defenses:
  - {{name: none, use: none}}
  - {{name: always, use: drowned, params: {{chance: 1}}}}
  - {{name: drowned, use: drowned, params: {{chance: {CHANCE}}}}}
  - {{name: voting, use: drowned, params: {{chance: {CHANCE}, votes: {VOTES}}}}}
attacks: [{{name: pgd, use: pgd, params: {{steps: 2}}}}]
threat_models:
  - {{name: oblivious, use: Linf, params: {{eps: 0.05, knowledge: oblivious}}}}
evaluation: {{n_examples: {N}, repeats: {REPEATS}, shard_size: 125}}
"""

CLEAN, ATTACKED = ("clean", "-"), ("pgd", "oblivious")

#: how often a verdict is right, from the chance that a single draw is: by rule of the suite
RULES = {
    "mean": lambda chance: chance,
    "any": lambda chance: chance**REPEATS,
    "majority": lambda chance: binom.sf(REPEATS // 2, REPEATS, chance),
}


@pytest.fixture(scope="module")
def drowned(conduct: Callable[[str], str]) -> str:
    return conduct(SUITE)


def verdicts(db: str, defense: str, attack: tuple[str, str], rule: str = "mean") -> np.ndarray:
    found: np.ndarray = harness.results(db, decision=rule).verdicts["drowned", "digits", "cnn", defense, *attack]
    assert len(found) == N
    return found


def chances(db: str, attack: tuple[str, str]) -> np.ndarray:
    """Return how probably a draw gets each image right: the undefended verdict, or that of the grey image."""
    left, grey = (verdicts(db, defense, attack) for defense in ("none", "always"))
    assert set(np.unique(left)) == set(np.unique(grey)) == {0.0, 1.0}
    return (1.0 - CHANCE) * left + CHANCE * grey


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("attack", [CLEAN, ATTACKED], ids=["clean", "attacked"])
def test_repeats_are_judged_by_the_rule(drowned: str, attack: tuple[str, str], rule: str) -> None:
    chance = chances(drowned, attack)
    found = verdicts(drowned, "drowned", attack, rule)
    telling = np.isclose(chance, 1.0 - CHANCE)  # right unless it is drowned
    for some in (telling, np.full(N, True)):
        wanted = RULES[rule](chance[some])
        spread = wanted * (1.0 - wanted) / (REPEATS if rule == "mean" else 1)
        within = SIGMAS * float(np.sqrt(spread.sum())) / some.sum()
        assert abs(float((found[some] - wanted).mean())) < within
        # no other rule would have passed
        others = [expected(1.0 - CHANCE) for name, expected in RULES.items() if name != rule]
        assert some.all() or all(abs(other - wanted[0]) > within for other in others)
    # certain ones are certain, whatever the rule
    assert found[chance == 1.0].all()
    assert not found[chance == 0.0].any()


@pytest.mark.parametrize(
    ("attack", "one"),
    # of clean images hardly any is right only if it is drowned
    [(CLEAN, 1.0 - CHANCE), (ATTACKED, 1.0 - CHANCE), (ATTACKED, CHANCE)],
    ids=["clean", "attacked", "attacked-and-wrong-unless-drowned"],
)
def test_shares_are_spread_as_independent_draws_are(drowned: str, attack: tuple[str, str], one: float) -> None:
    chance = chances(drowned, attack)
    mine = verdicts(drowned, "drowned", attack)[np.isclose(chance, one)]
    counts = np.bincount((mine * REPEATS).round().astype(int), minlength=REPEATS + 1)
    probable = binom.pmf(np.arange(REPEATS + 1), REPEATS, one)
    within = SIGMAS * np.sqrt(len(mine) * probable * (1.0 - probable))
    assert len(mine) > 20
    assert (np.abs(counts - len(mine) * probable) <= within).all()


@pytest.mark.parametrize("attack", [CLEAN, ATTACKED], ids=["clean", "attacked"])
def test_copies_vote_within_each_repeat(drowned: str, attack: tuple[str, str]) -> None:
    chance = chances(drowned, attack)
    # an image is either drowned or left in each copy, so that two classes at most stand for election
    wanted = binom.sf(VOTES // 2, VOTES, chance)
    within = SIGMAS * float(np.sqrt((wanted * (1.0 - wanted)).sum() / REPEATS)) / N
    found = float(verdicts(drowned, "voting", attack).mean())
    assert abs(found - float(wanted.mean())) < within
    assert abs(float(chance.mean()) - float(wanted.mean())) > within


@pytest.mark.parametrize("rule", RULES)
def test_the_report_shows_the_worst_case_of_the_same_verdicts(drowned: str, rule: str) -> None:
    clean, attacked = chances(drowned, CLEAN), chances(drowned, ATTACKED)
    (section,) = read_leaderboard(drowned, decision=rule).sections
    row = next(row for row in section.boards[0].rows if row.defense == "drowned")
    assert row.worst is not None
    together = np.minimum(*(verdicts(drowned, "drowned", attack, rule) for attack in (CLEAN, ATTACKED)))
    assert row.worst.smallest == pytest.approx(float(together.mean()), abs=1e-12)
    # the smallest verdicts are those of two independent draws; the figure is that of the lower probability
    lowest = _least(clean, attacked) if rule == "mean" else RULES[rule](clean) * RULES[rule](attacked)
    assert abs(row.worst.smallest - float(lowest.mean())) < _within(lowest)
    wanted = RULES[rule](np.minimum(clean, attacked))
    # beside the luck of the draws, what the estimate may be off by under a rule of ten repeats
    assert abs(row.worst.accuracy.share - float(wanted.mean())) < _within(wanted) + 0.01
    assert row.worst.accuracy.low <= float(wanted.mean()) <= row.worst.accuracy.high


def _within(wanted: np.ndarray) -> float:
    """Return how far a mean of verdicts may be off: the spread of a share is at most that of a verdict."""
    return SIGMAS * float(np.sqrt((wanted * (1.0 - wanted)).sum())) / N


def _least(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the expected smaller of two independent shares: the sum over k of P(both are k / REPEATS or more)."""
    levels = np.arange(REPEATS)[:, None]
    least: np.ndarray = (binom.sf(levels, REPEATS, one) * binom.sf(levels, REPEATS, other)).mean(0)
    return least
