import sys

import pytest

from harness.core.cell import Labels
from harness.core.contracts import Traits

EXTRA = """
name: wide
datasets: [{name: dots}]
classifiers:
  - {name: a, use: trained, params: {recipe: cnn.yaml}}
  - {name: b, use: trained, params: {recipe: cnn.yaml}}
defenses:
  - {name: none}
  - {name: blur, params: {net: mae.yaml}}
attacks:
  - {name: p1, use: push, params: {steps: 1}}
  - {name: p2, use: push, params: {steps: 2}}
threat_models:
  - {name: t1, use: Linf, params: {eps: 0.1, knowledge: oblivious}}
  - {name: t2, use: L2, params: {eps: 0.2, knowledge: bpda}}
evaluation: {n_examples: 10}
"""


def paths(suite):
    return [str(member.labels).removeprefix("dots/") for member in suite.members]


# ---------------------------------------------------------------------- the grid


def test_everything_is_crossed_and_clean_comes_first(read):
    assert paths(read()) == [
        "small/none/clean/-",
        "small/none/push/hidden",
        "small/none/push/known",
        "small/blur/clean/-",
        "small/blur/push/hidden",
        "small/blur/push/known",
    ]


def test_a_clean_cell_has_neither_attack_nor_threat(read):
    clean = read().members[0].cell
    assert clean.attack is None
    assert clean.threat is None
    assert clean.labels == Labels("dots", "small", "none")


def test_the_default_crossing_is_complete(read):
    assert len(read(EXTRA).members) == 2 * 2 * (2 * 2 + 1)


def test_an_axis_may_be_narrowed(read):
    suite = read(EXTRA, "matrix:\n  - {classifiers: [b], attacks: [p2], defenses: [none]}\n")
    assert paths(suite) == ["b/none/clean/-", "b/none/p2/t1", "b/none/p2/t2"]


def test_tied_axes_are_walked_together(read):
    suite = read(
        EXTRA,
        "matrix:\n  - {classifiers: [a], defenses: [none], tie: [{attacks: [p1, p2], threat_models: [t1, t2]}]}\n",
    )
    assert paths(suite) == ["a/none/clean/-", "a/none/p1/t1", "a/none/p2/t2"]


def test_two_ties_are_crossed(read):
    ties = "[{classifiers: [a, b], defenses: [none, blur]}, {attacks: [p1, p2], threat_models: [t1, t2]}]"
    assert paths(read(EXTRA, f"matrix:\n  - tie: {ties}\n")) == [
        "a/none/clean/-",
        "a/none/p1/t1",
        "a/none/p2/t2",
        "b/blur/clean/-",
        "b/blur/p1/t1",
        "b/blur/p2/t2",
    ]


def test_a_cell_is_left_out_when_all_keys_of_one_condition_match(read):
    conditions = "[{classifier: b}, {defense: blur, attack: [p1, p2], threat_model: t2}, {defense: none, attack: p2}]"
    assert paths(read(EXTRA, f"matrix:\n  - exclude: {conditions}\n")) == [
        "a/none/clean/-",
        "a/none/p1/t1",
        "a/none/p1/t2",
        "a/blur/clean/-",
        "a/blur/p1/t1",
        "a/blur/p2/t1",
    ]


def test_points_are_added_and_the_one_dataset_need_not_be_named(read):
    block = "{classifiers: [a], defenses: [none], attacks: [p1], threat_models: [t1], include: %s}"
    include = "[{classifier: b, defense: blur, attack: p2, threat_model: t2}]"
    assert paths(read(EXTRA, f"matrix:\n  - {block % include}\n")) == [
        "a/none/clean/-",
        "a/none/p1/t1",
        "b/blur/clean/-",
        "b/blur/p2/t2",
    ]


def test_a_point_names_the_classifier_where_there_are_two(complaints):
    (told,) = complaints(EXTRA, "matrix:\n  - include: [{defense: blur, attack: p2, threat_model: t2}]\n")
    assert "expected the key 'classifier' where classifiers has 2 entries, got none; name one of a, b" in told


def test_blocks_are_united_and_repeated_cells_merged(read):
    first = "{classifiers: [a], defenses: [blur], attacks: [p2], threat_models: [t1]}"
    second = "{classifiers: [a], attacks: [p1, p2], threat_models: [t1]}"
    assert paths(read(EXTRA, f"matrix:\n  - {first}\n  - {second}\n")) == [
        "a/blur/clean/-",
        "a/blur/p2/t1",
        "a/none/clean/-",
        "a/none/p1/t1",
        "a/none/p2/t1",
        "a/blur/p1/t1",
    ]


def test_an_empty_list_of_attacks_asks_for_clean_input_only(read):
    assert paths(read(EXTRA, "matrix:\n  - {classifiers: [a], attacks: []}\n")) == ["a/none/clean/-", "a/blur/clean/-"]


def test_a_suite_may_have_no_attack(read, suite_text):
    start, end = suite_text.index("attacks"), suite_text.index("evaluation")
    assert paths(read(suite_text[:start] + suite_text[end:])) == ["small/none/clean/-", "small/blur/clean/-"]


def test_two_names_of_one_cell_are_two_members_and_one_cell(read):
    suite = read(EXTRA, "matrix:\n  - {defenses: [none], attacks: []}\n")
    assert len(suite.members) == 2
    assert len(suite.cells) == 1


# ---------------------------------------------------------------------- impossible cells


def test_an_impossible_cell_names_its_block(complaints, suite_text):
    text = suite_text.replace("knowledge: bpda", "knowledge: full")
    text += "matrix:\n  - {defenses: [none]}\n  - {defenses: [blur]}\n"
    assert complaints(text) == [
        f"suite.yaml:{len(text.splitlines())}: matrix[1]: expected a possible cell, got dots/small/blur/push/known: "
        "a blur has no gradient; exclude the cell or write `impossible: skip` in the block"
    ]


def test_an_impossible_cell_may_be_skipped_with_its_reason(read, suite_text):
    text = suite_text.replace("knowledge: bpda", "knowledge: full") + "matrix:\n  - {impossible: skip}\n"
    (skipped,) = [member for member in read(text).members if member.cell is None]
    assert str(skipped.labels) == "dots/small/blur/push/known"
    assert skipped.reason == "a blur has no gradient."


def test_a_defense_without_a_gradient_is_refused_in_full_even_if_it_does_not_say_so(
    complaints, suite_text, monkeypatch
):
    from harness.core import registry

    blur = registry.find("defense", "blur").load()
    monkeypatch.setattr(blur, "refuses", lambda self, setting: None)
    text = suite_text.replace("knowledge: bpda", "knowledge: full")
    assert any("blur is not differentiable by its own account" in told for told in complaints(text))


def test_a_defense_that_keeps_state_has_no_cells_not_even_on_clean_input(complaints, suite_text, monkeypatch):
    from harness.core import registry

    monkeypatch.setattr(registry.find("defense", "blur").load(), "traits", Traits(True, False, stateful=True))
    told = complaints(suite_text)
    assert [one.partition("got ")[2].partition(":")[0] for one in told] == [
        f"dots/small/blur/{where}" for where in ("clean/-", "push/hidden", "push/known")
    ]
    assert all("blur keeps state by its own account" in one for one in told)


def test_an_attack_may_refuse_too(complaints, suite_text):
    told = complaints(suite_text.replace("steps: 5", "steps: 1001"))
    assert len(told) == 4
    assert all("more steps than the budget allows" in one for one in told)


@pytest.mark.parametrize(("use", "eps"), [("flow", "0.5"), ("corruption", "3")])
def test_an_attack_is_not_asked_about_a_norm_that_it_does_not_serve(
    complaints, read, suite_text, monkeypatch, use, eps
):
    from harness.core import registry
    from harness.core.threat import Norm

    text = suite_text.replace("use: Linf", f"use: {use}").replace("eps: 8/255", f"eps: {eps}")
    told = complaints(text)
    assert len(told) == 4
    assert all(f"Push serves threat models of Linf, L2 and L1, and this one is of {use}" in one for one in told)
    monkeypatch.setattr(registry.find("attack", "push").load(), "norms", (Norm(use),), raising=False)
    threat = next(member.cell.threat for member in read(text).members if member.cell.attack)
    assert threat.as_dict() == {"norm": use, "eps": float(eps), "knowledge": "oblivious"}
    assert isinstance(threat.eps, float)


def test_an_excluded_cell_is_not_impossible(read, suite_text):
    text = suite_text.replace("knowledge: bpda", "knowledge: full")
    suite = read(text, "matrix:\n  - exclude: [{defense: blur, threat_model: known}]\n")
    assert all(member.cell for member in suite.members)


# ---------------------------------------------------------------------- how much


def test_a_fixed_defense_is_evaluated_once(read):
    suite = read()
    repeats = {member.labels.defense: suite.repeats(member) for member in suite.members}
    assert repeats == {"none": 1, "blur": 3}


def test_examples_are_cut_into_shards(read):
    assert [(shard.start, shard.stop) for shard in read().shards] == [(0, 16), (16, 32), (32, 40)]


def test_the_declaration_is_what_the_file_says(read, suite_text):
    suite = read()
    told = suite.declaration()
    assert (told.name, told.title, told.text, told.decision) == ("demo", "A demonstration", suite_text, "mean")
    assert (told.n_examples, told.repeats, told.shard_size) == (40, 3, 16)
    assert told.members == suite.members


# ---------------------------------------------------------------------- identity

#: the most specific cell of the suite: every part of the identity is in it
LAST = -1

PROBE = "metrics: {names: [amv, distances], probe: {recipe: mae.yaml}}\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{net: mae.yaml}", "{net: mae.yaml, strength: 0.25}"),
        ("steps: 5", "steps: 6"),
        ("knowledge: bpda", "knowledge: oblivious"),
        ("eps: 8/255, knowledge: bpda", "eps: 4/255, knowledge: bpda"),
        ("use: Linf\n    params: {eps: 8/255, knowledge: bpda}", "use: L2\n    params: {eps: 8/255, knowledge: bpda}"),
        ("n_examples: 40", "n_examples: 40\n  seed: 1"),
        ("n_examples: 40", "n_examples: 40\n  subset_seed: 1"),
    ],
)
def test_what_changes_the_measurement_changes_the_digest(read, suite_text, old, new):
    text = suite_text + PROBE
    assert old in text
    assert read(text.replace(old, new)).cells[LAST].digest != read(text).cells[LAST].digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: known", "name: familiar"),
        ("name: blur", "name: smear\n    use: blur"),
        ("title: A demonstration", "title: Another"),
        ("name: demo", "name: other"),
        ("n_examples: 40", "n_examples: 41\n  decision: any"),
        ("repeats: 3", "repeats: 4"),
        ("shard_size: 16", "shard_size: 8"),
        ("{net: mae.yaml}", "{net: mae.yaml, strength: 1/2}"),
        ("[amv, distances]", "[distances, amv, amv]"),
        ("names: [amv, distances]", "names: [amv]"),
        ("probe: {recipe: mae.yaml}", "probe: {recipe: mae.yaml, masks: 5}"),
        (PROBE, ""),
    ],
)
def test_what_does_not_change_the_measurement_leaves_the_digest(read, suite_text, old, new):
    text = suite_text + PROBE
    assert old in text
    assert read(text.replace(old, new)).cells[LAST].digest == read(text).cells[LAST].digest


def metrics(suite):
    """Return the digests of a suite's metrics, by name."""
    return {metric.spec.use: metric.spec.digest for metric in suite.metrics}


@pytest.mark.parametrize("more", ["masks: 5", "mask_ratio: 0.25"])
def test_the_probe_is_a_part_of_the_metrics_that_look_through_it(read, suite_text, more):
    before = metrics(read(suite_text + PROBE))
    after = metrics(read(suite_text + PROBE.replace("recipe: mae.yaml", f"recipe: mae.yaml, {more}")))
    assert before.keys() == after.keys() == {"amv", "distances"}
    assert before["amv"] != after["amv"]
    assert before["distances"] == after["distances"]


def test_a_probe_that_no_metric_looks_through_takes_no_part(read):
    idle = read(more="metrics: {names: [distances], probe: {recipe: mae.yaml}}\n")
    assert metrics(idle) == metrics(read())


def test_distances_are_measured_unless_told_and_nothing_where_nothing_is_asked_for(read):
    assert read(more="metrics: {names: []}\n").metrics == ()
    assert [metric.spec.use for metric in read().metrics] == ["distances"]


def test_a_metric_is_asked_for_once_and_in_the_order_of_the_suite(read, suite_text):
    asked = read(suite_text + PROBE.replace("[amv, distances]", "[distances, amv, amv]")).metrics
    assert [metric.spec.use for metric in asked] == ["distances", "amv"]


@pytest.mark.parametrize("name", ["Dots", "Trained", "Blur", "Push"])
def test_a_new_version_of_a_component_changes_the_digest(read, monkeypatch, name):
    before = read().cells[LAST].digest
    monkeypatch.setattr(getattr(sys.modules["purebench_stand_ins"], name), "version", 2)
    assert read().cells[LAST].digest != before


def test_other_data_changes_the_digest(read, suite_text, folder, monkeypatch):
    before = read().cells[LAST].digest
    monkeypatch.setattr(sys.modules["purebench_stand_ins"].Dots, "sha256", "0d" * 32)
    assert read().cells[LAST].digest != before
    assert read().cells[LAST].dataset.params["content"] == "0d" * 32


@pytest.mark.parametrize("recipe", ["cnn.yaml", "mae.yaml"])
def test_another_recipe_changes_the_digest_and_its_name_does_not(read, folder, recipe):
    text = (folder / recipe).read_text(encoding="utf-8")
    before = read().cells[LAST].digest
    (folder / recipe).write_text(text.replace("name: small", "name: tiny"), encoding="utf-8")
    assert read().cells[LAST].digest == before
    (folder / recipe).write_text(text.replace("steps: 10", "steps: 11"), encoding="utf-8")
    assert read().cells[LAST].digest != before


def test_the_distribution_of_a_plug_in_is_part_of_the_identity(read, components):
    before = read().cells[LAST]
    entry = components["attack"]["push"]
    components["attack"]["push"] = type(entry)("attack", "push", entry.target, "pushers 1.0")
    after = read().cells[LAST]
    assert "origin" not in before.attack.params
    assert after.attack.params["origin"] == "pushers 1.0"
    assert after.digest != before.digest


def test_recipes_are_parts_and_no_options(read):
    cell = read().cells[LAST]
    assert cell.defense.params == {"mode": "soft", "sizes": [1, 2], "strength": 0.5}
    assert cell.defense.part("net").label == "small-mae"
    assert {spec.use for spec in cell.recipes()} == {"cnn", "mae"}
