"""Budgets and steps are held against the norm and the images: beyond is refused, far is told."""

import pytest
from typer.testing import CliRunner

from harness.cli.commands import app

#: norm -> how far two of the 1 x 4 x 4 images can be apart
DIAMETERS = {"Linf": 1, "L2": 4, "L1": 16}

WITH_BUDGET = """
name: tuned
dataset: {{use: dots}}
net: {{use: cnn}}
objective: {objective}
threat_model: {{use: {norm}, params: {{eps: {eps}}}}}
{attack}
steps: 10
"""


def budgeted(text, norm, eps):
    return text.replace("use: Linf", f"use: {norm}").replace("eps: 8/255", f"eps: {eps}")


@pytest.mark.parametrize("norm", DIAMETERS)
@pytest.mark.parametrize("factor", [1.01, 8, 100])
def test_a_budget_beyond_the_diameter_is_a_mistake(complaints, suite_text, norm, factor):
    eps = DIAMETERS[norm] * factor
    told = complaints(budgeted(suite_text, norm, eps))
    assert [one.partition(", since ")[0] for one in told] == [
        f"suite.yaml:{line}: threat_models[{number}].params.eps: expected at most {DIAMETERS[norm]}"
        for number, line in enumerate((20, 23))
    ]
    assert all(f"got {eps:g}; " in one and "/255" in one for one in told)


def test_a_budget_in_grey_levels_names_the_fraction(complaints, suite_text):
    assert "8 of 255 grey levels is 8/255" in complaints(suite_text.replace("eps: 8/255", "eps: 8", 1))[0]


def test_each_budget_of_a_family_is_held(complaints, suite_text):
    (told,) = complaints(suite_text.replace("eps: 8/255", "eps: [2/255, 8]", 1))
    assert "expected at most 1, since pixels are in [0, 1], got 8" in told


@pytest.mark.parametrize("norm", DIAMETERS)
@pytest.mark.parametrize(("share", "odd"), [(0.1, False), (0.5, False), (0.6, True), (0.9, True), (1, False)])
def test_a_budget_beyond_half_of_the_diameter_is_told_unless_it_is_all_of_it(read, suite_text, norm, share, odd):
    doubts = [str(one) for one in read(budgeted(suite_text, norm, share * DIAMETERS[norm])).doubts]
    assert len(doubts) == (2 if odd else 0)
    for one in doubts:
        assert "a cell of such a budget is a check and counts for no worst case" in one


def test_a_move_is_held_against_the_side_of_the_images(complaints, read, suite_text, components, monkeypatch):
    monkeypatch.setattr(components["attack"]["push"].load(), "norms", ("flow",), raising=False)
    assert read(budgeted(suite_text, "flow", 3)).doubts == ()
    assert (
        "expected at most 3, since no move within an image (1, 4, 4) is longer, got 4"
        in complaints(budgeted(suite_text, "flow", 4))[0]
    )


@pytest.mark.parametrize("norm", DIAMETERS)
def test_a_step_is_held_against_the_norm_that_its_attack_meets(complaints, read, suite_text, norm):
    def step(size, eps):
        return budgeted(suite_text, norm, eps).replace("steps: 5", f"steps: 5, step_size: {size}")

    diameter = DIAMETERS[norm]
    told = complaints(step(2 * diameter, 0.1 * diameter))
    assert told[0].startswith(f"suite.yaml:16: attacks[0].params.step_size: expected at most {diameter}, since ")
    (doubt,) = read(step(0.3 * diameter, 0.1 * diameter)).doubts
    assert "expected steps of at most" in str(doubt)
    assert "as a rule, twice an eps of" in str(doubt)
    assert read(step(0.2 * diameter, 0.1 * diameter)).doubts == ()


def recipe(folder, **told):
    told = {"norm": "Linf", "eps": "8/255", "objective": "{use: adversarial}", "attack": ""} | told
    (folder / "cnn.yaml").write_text(WITH_BUDGET.format(**told), encoding="utf-8")


PUSH = "attack: {{use: push, params: {{step_size: {size}}}}}"


@pytest.mark.parametrize(
    ("told", "key", "sentence"),
    [
        ({"eps": 8, "attack": PUSH.format(size=0.01)}, "threat_model.params.eps", "since pixels are in [0, 1], got 8;"),
        ({"norm": "L2", "eps": 128, "attack": PUSH.format(size=1)}, "threat_model.params.eps", "in L2, got 128"),
        ({"attack": PUSH.format(size=2)}, "attack.params.step_size", "got 2; 2 of 255 grey levels is 2/255"),
        ({"objective": "{use: trades, step_size: 2}"}, "objective.step_size", "got 2; 2 of 255 grey levels is 2/255"),
    ],
)
def test_a_recipe_is_held_to_the_same_ranges(complaints, folder, told, key, sentence):
    recipe(folder, **told)
    (said,) = complaints()
    assert "cnn.yaml" in said
    assert f": {key}: expected at most" in said
    assert sentence in said


def test_what_is_odd_about_a_recipe_is_told(read, folder):
    recipe(folder, eps=0.6, attack=PUSH.format(size=0.01))
    (doubt,) = read().doubts
    assert "threat_model.params.eps: expected at most 0.5 as a rule" in str(doubt)
    assert "no worst case" not in str(doubt)


def test_a_slip_in_a_noise_of_a_recipe_is_refused(complaints, folder):
    (folder / "cnn.yaml").write_text(
        "name: a\ndataset: {use: dots}\nnet: {use: cnn}\nobjective: {use: smooth-classify, sigma: 64}\nsteps: 1\n",
        encoding="utf-8",
    )
    (said,) = complaints()
    assert "objective.sigma: expected at most 1, since pixels are in [0, 1], got 64; 64 of 255 grey levels" in said


@pytest.mark.parametrize("command", [["validate"], ["plan", "--db", "absent.db"], ["run", "--dry-run", "--db", "a.db"]])
def test_every_command_that_reads_a_suite_tells_what_is_odd(folder, suite_text, monkeypatch, command):
    monkeypatch.chdir(folder)
    (folder / "odd.yaml").write_text(budgeted(suite_text, "Linf", 0.6), encoding="utf-8")
    told = CliRunner().invoke(app, [*command, "odd.yaml"])
    assert told.exit_code == 0
    assert told.stderr.count("warning: odd.yaml:") == 2
    assert told.stderr.count("expected at most 0.5 as a rule, since pixels are in [0, 1], got 0.6; ") == 2
