"""A list of budgets in one threat model stands for a threat model of each."""

from __future__ import annotations

import jsonschema
import pytest
import yaml

from harness.suite import schema

CURVE = """
  - name: curve
    use: Linf
    params: {eps: [2/255, 8 / 255, 0.5], knowledge: bpda}
evaluation:
"""


@pytest.fixture
def curve(suite_text):
    return suite_text.replace("\nevaluation:\n", CURVE)


def threats(suite):
    return list(dict.fromkeys(member.labels.threat_model for member in suite.members if member.cell.threat))


def test_each_budget_is_a_threat_model_named_as_it_is_written(read, curve):
    suite = read(curve)
    assert threats(suite) == ["hidden", "known", "curve-2/255", "curve-8/255", "curve-0.5"]
    found = {member.labels.threat_model: member.cell.threat for member in suite.members if member.cell.threat}
    assert found["curve-8/255"] == found["known"]  # so they share their cells
    assert [found[f"curve-{eps}"].eps for eps in ("2/255", "0.5")] == [2 / 255, 0.5]


def test_a_member_is_the_cell_that_it_would_be_alone(read, curve, suite_text):
    single = suite_text.replace("eps: 8/255, knowledge: bpda", "eps: 2/255, knowledge: bpda")
    alone = {m.cell.digest for m in read(single).members if m.labels.threat_model == "known"}
    assert alone == {m.cell.digest for m in read(curve).members if m.labels.threat_model == "curve-2/255"}


def test_the_norm_may_be_the_familys_own_name(read, suite_text):
    text = suite_text.replace("  - name: known\n    use: Linf\n", "  - name: L2\n").replace(
        "eps: 8/255, knowledge: bpda", "eps: [0.5, 1], knowledge: bpda"
    )
    found = {m.labels.threat_model: m.cell.threat for m in read(text).members if m.cell.threat}
    assert {name: (one.norm.value, one.eps) for name, one in found.items()} == {
        "hidden": ("Linf", 8 / 255),
        "L2-0.5": ("L2", 0.5),
        "L2-1": ("L2", 1.0),
    }


def test_the_name_of_a_family_means_all_of_them(read, curve):
    assert threats(read(curve, "matrix: [{threat_models: [curve, hidden]}]")) == [
        "curve-2/255",
        "curve-8/255",
        "curve-0.5",
        "hidden",
    ]
    assert threats(read(curve, "matrix: [{threat_models: [curve-0.5]}]")) == ["curve-0.5"]


@pytest.mark.parametrize("told", ["curve", "[curve]", "[known, curve]"])
def test_a_family_can_be_excluded(read, curve, told):
    more = f"matrix: [{{defenses: [none], exclude: [{{threat_model: {told}}}]}}]"
    assert threats(read(curve, more)) == (["hidden"] if "known" in told else ["hidden", "known"])


def test_a_family_can_be_included(read, curve):
    more = "matrix: [{attacks: [], include: [{defense: none, attack: push, threat_model: curve}]}]"
    assert threats(read(curve, more)) == ["curve-2/255", "curve-8/255", "curve-0.5"]


def test_a_member_can_be_tied_and_a_family_cannot(read, complaints, curve):
    tie = "matrix: [{{tie: [{{defenses: [none], threat_models: [{}]}}]}}]"
    assert threats(read(curve, tie.format("curve-0.5"))) == ["curve-0.5"]
    line = len(curve.splitlines()) + 1
    assert complaints(curve, tie.format("curve")) == [
        f"suite.yaml:{line}: matrix[0].tie[0].threat_models[0]: expected a single threat model in a tie, got 'curve', "
        "which stands for several; name one of curve-2/255, curve-8/255, curve-0.5"
    ]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("0.5]", "-0.5]", "threat_models[2].params.eps: expected a number greater than 0, got -0.5"),
        ("0.5]", "much]", "threat_models[2].params.eps: expected a number, got 'much'"),
        ("[2/255, 8 / 255, 0.5]", "[]", "threat_models[2].params.eps: expected a number, got []"),
        ("[2/255, 8 / 255, 0.5]", "[[1, 2]]", "threat_models[2].params.eps: expected a number, got [1, 2]"),
        ("0.5]", "0.5], kept: 1", "threat_models[2].params.kept: unknown key 'kept'; known: eps, knowledge"),
        ("0.5]", "2/255]", "threat_models[2].name: expected names that occur once, got 'curve-2/255' 2 times"),
        ("name: hidden", "name: curve", "threat_models[2].name: expected names that occur once, got 'curve' 2 times"),
        ("name: hidden", "name: curve-0.5", "expected names that occur once, got 'curve-0.5' 2 times"),
    ],
)
def test_a_mistake_in_a_family_is_told_once(complaints, curve, old, new, sentence):
    text = curve.replace(old, new)
    assert text != curve
    told = complaints(text)
    assert len(told) == 1
    assert sentence in told[0]


def test_a_name_that_is_neither_member_nor_family_is_told(complaints, curve):
    (told,) = complaints(curve, "matrix: [{threat_models: [curves]}]")
    assert "expected a name listed under threat_models, got 'curves'; did you mean 'curve'?" in told


def test_editors_know_lists_of_budgets(curve):
    suite = yaml.safe_load(curve)
    published = schema.json_schema()
    jsonschema.validate(suite, published)
    for wrong in ([], ["2/255", "much"], "much"):
        suite["threat_models"][2]["params"]["eps"] = wrong
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(suite, published)
