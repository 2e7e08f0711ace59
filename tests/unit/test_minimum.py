"""What a row has to have met before it is ranked: the rule alone, apart from any database."""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

import pytest

from attacks import TABLE
from harness.core import registry
from harness.core.contracts import effort_of
from harness.core.minimum import MINIMA, USUAL, Effort, Met, Minimum
from harness.suite.schema import EvaluationRules

LEAST = Minimum("least-1", steps=10, eot=4, queries=100)


def lacking(*attacks: tuple[str, Effort], norm: str = "Linf", random: bool = True, follows=("full",)) -> list[str]:
    """Return the kinds of what a row lacks that met some attacks, each with a knowledge and an effort."""
    met = [Met(f"{knowledge} {number}", knowledge, effort) for number, (knowledge, effort) in enumerate(attacks)]
    return [one.kind for one in LEAST.lacks(norm, random=random, follows=follows, attacks=met)]


ENOUGH = Effort(steps=10, eot=4)
SEARCH = ("bpda", Effort(queries=100))


@pytest.mark.parametrize(
    ("follows", "knowledge", "ranks"),
    [
        (("full",), "full", True),
        (("full",), "bpda", False),
        (("full",), "surrogate", False),
        (("full",), "oblivious", False),
        (("smooth",), "smooth", True),
        (("smooth",), "bpda", False),
        (("full", "smooth"), "smooth", True),
        (("full", "smooth"), "bpda", False),
        ((), "bpda", True),
        ((), "oblivious", False),
        (None, "full", True),
        (None, "smooth", True),
        (None, "bpda", False),
    ],
)
def test_the_strongest_knowledge_that_the_defense_allows_is_asked_for(follows, knowledge, ranks):
    assert lacking((knowledge, ENOUGH), SEARCH, follows=follows) == ([] if ranks else [lacking_kind(follows)])


def lacking_kind(follows):
    return "account" if follows is None else "gradient"


@pytest.mark.parametrize(
    ("effort", "random", "ranks"),
    [
        (Effort(steps=10, eot=4), True, True),
        (Effort(steps=9, eot=4), True, False),
        (Effort(steps=1000, eot=3), True, False),
        (Effort(steps=10, eot=1), False, True),
        (Effort(steps=9, eot=100), False, False),
        (Effort(steps=0, eot=4, queries=10_000), True, False),
    ],
)
def test_so_many_steps_and_where_the_defense_is_random_so_many_draws(effort, random, ranks):
    assert (lacking(("full", effort), SEARCH, random=random) == []) is ranks


def test_steps_and_draws_are_of_one_attack():
    assert lacking(("full", Effort(steps=100)), ("full", Effort(steps=1, eot=100)), SEARCH) == ["gradient"]


@pytest.mark.parametrize("knowledge", ["bpda", "full", "smooth"])
def test_an_attack_without_gradients_asks_the_defense_itself(knowledge):
    assert lacking(("full", ENOUGH), (knowledge, Effort(queries=100))) == []


@pytest.mark.parametrize(
    ("knowledge", "queries"), [("oblivious", 5000), ("surrogate", 5000), ("bpda", 99), ("bpda", 0)]
)
def test_one_that_asks_another_defense_or_too_little_does_not_count(knowledge, queries):
    assert lacking(("full", ENOUGH), (knowledge, Effort(queries=queries))) == ["search"]


def test_one_attack_may_be_both():
    assert lacking(("full", Effort(steps=100, queries=5000)), random=False) == []


def test_what_is_met_beyond_the_minimum_asks_for_nothing():
    met = [("full", ENOUGH), SEARCH]
    more = [("oblivious", Effort()), ("full", Effort(steps=1)), ("bpda", Effort(queries=1)), ("smooth", Effort())]
    assert lacking(*met) == lacking(*met, *more) == lacking(*more, *met) == []


def test_a_replay_meets_nothing():
    assert lacking(("full", Effort())) == ["gradient", "search"]
    assert lacking(("bpda", Effort()), norm="corruption") == ["any"]


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_within_a_ball_both_are_asked_for(norm):
    assert lacking(norm=norm) == ["gradient", "search"]


def test_where_no_search_is_known_or_no_gradient_none_is_asked_for():
    assert lacking(norm="flow") == ["gradient"]
    assert lacking(("full", ENOUGH), norm="flow") == []
    assert lacking(norm="corruption") == ["any"]
    assert lacking(("oblivious", Effort(queries=15)), norm="corruption") == ["any"]
    assert lacking(("bpda", Effort(queries=15)), norm="corruption") == []


def test_a_sentence_says_what_is_asked_and_what_there_is():
    met = [Met("pgd-5 full", "full", Effort(5, 1)), Met("pgd-9 full", "full", Effort(9, 2))]
    met += [Met("square bpda", "bpda", Effort(queries=50))]
    gradient, search = LEAST.lacks("Linf", random=True, follows=("full",), attacks=met)
    assert gradient.sentence == (
        "a gradient attack with knowledge full of 10 steps with 4 draws each or more (pgd-9 full has 9 steps with 2 "
        "draws each)"
    )
    assert search.sentence == (
        "an attack without gradients that asks the defense itself 100 times or more (square bpda asks 50 times)"
    )
    assert (gradient.effort, gradient.knowledge) == (Effort(10, 4), ("full",))
    assert search.effort == Effort(queries=100)
    (still,) = LEAST.lacks("flow", random=False, follows=("smooth",), attacks=[Met("one", "smooth", Effort(1, 9))])
    assert still.sentence == "a gradient attack with knowledge smooth of 10 steps or more (one has 1 step)"


def test_the_named_ones_are_those_that_a_suite_may_name_and_the_later_ask_for_more():
    assert tuple(MINIMA) == get_args(EvaluationRules.model_fields["minimum"].annotation)
    assert EvaluationRules.model_fields["minimum"].default == USUAL == next(iter(MINIMA))
    for less, more in pairwise(MINIMA.values()):
        assert (less.steps, less.eot, less.queries) < (more.steps, more.eot, more.queries)
    described = EvaluationRules.model_fields["minimum"].description or ""
    for one in MINIMA.values():
        assert f"{one.name}: {one.steps} steps with {one.eot} draws, {one.queries} queries" in described


# ---------------------------------------------------------------------- what attacks say of themselves


@pytest.mark.parametrize(
    ("params", "effort"),
    [
        ({}, Effort()),
        ({"steps": 20}, Effort(20)),
        ({"steps": 20, "eot": 4, "restarts": 3}, Effort(20, 4)),
        ({"n_queries": 200, "eot": 2}, Effort(0, 2, 200)),
        ({"steps": "many", "eot": None, "n_queries": True}, Effort()),
    ],
)
def test_effort_is_read_from_options_by_their_names(params, effort):
    assert Effort.of(params) == effort


def test_what_was_recorded_goes_before_what_options_say():
    assert Effort.recorded({"effort": {"steps": 3, "eot": 2, "queries": 1}}, {"steps": 20}) == Effort(3, 2, 1)
    assert Effort.recorded({"random": True}, {"steps": 20}) == Effort.recorded(None, {"steps": 20}) == Effort(20)


#: of each shipped attack as it is unless told, where it can be told anything: what it spends on an image
SPENT = {
    "apgd": Effort(100, 1),
    "autoattack": Effort(100, 1, 5000),
    "brendel-bethge": Effort(1000),
    "corruption": Effort(queries=15),
    "cw": Effort(1000),
    "ddn": Effort(100),
    "deepfool": Effort(50),
    "fab": Effort(100, 1),
    "fgsm": Effort(1, 1),
    "joint": Effort(20, 1),
    "pgd": Effort(20, 1),
    "replay": Effort(),
    "square": Effort(0, 1, 5000),
    "stadv": Effort(50, 1),
}


def built(use: str, **params: object):
    component = registry.find("attack", use).load()
    options = component.Options.model_validate(params)
    return component(options), options.model_dump(mode="json")


@pytest.mark.parametrize("use", TABLE)
def test_every_shipped_attack_says_what_it_spends(use):
    given = {"file": "x.npz", "sha256": "0" * 64} if use == "replay" else {}
    assert effort_of(*built(use, **given)) == SPENT[use]


@pytest.mark.parametrize(
    ("params", "effort"),
    [
        ({"version": "rand"}, Effort(100, 20)),
        ({"version": "plus"}, Effort(100, 1, 5000)),
        ({"version": "custom", "attacks": ["square"]}, Effort(0, 1, 5000)),
        ({"version": "custom", "attacks": ["apgd-ce"]}, Effort(100, 1)),
    ],
)
def test_autoattack_spends_what_its_members_do(params, effort):
    assert effort_of(*built("autoattack", **params)) == effort
