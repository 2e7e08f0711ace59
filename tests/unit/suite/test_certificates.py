"""Certificates in a suite: which cells they make, beside attacks and never with one."""

import pytest

from harness.core.cell import Shard
from harness.core.contracts import Traits
from harness.core.errors import UserError
from harness.core.job import Evaluate
from harness.core.registry import find
from harness.suite.plan import selection

VOTES = """
certificates:
  - {name: narrow, use: vote}
  - {name: wide, use: vote, params: {sigma: 0.5}}
"""


def paths(suite):
    return [str(member.labels).removeprefix("dots/small/") for member in suite.members]


def cells(suite):
    return {str(member.labels).removeprefix("dots/small/"): member.cell for member in suite.members}


@pytest.fixture
def text(suite_text):
    return suite_text + VOTES


# ---------------------------------------------------------------------- which cells there are


def test_certificates_are_crossed_with_defenses_and_not_with_attacks(read, text):
    assert paths(read(text)) == [
        f"{defense}/{met}"
        for defense in ("none", "blur")
        for met in ("clean/-", "narrow/-", "wide/-", "push/hidden", "push/known")
    ]


def test_a_suite_without_attacks_may_have_certificates(read, suite_text):
    start, end = suite_text.index("attacks"), suite_text.index("evaluation")
    found = paths(read(suite_text[:start] + suite_text[end:] + VOTES))
    assert found == [f"{defense}/{met}/-" for defense in ("none", "blur") for met in ("clean", "narrow", "wide")]


@pytest.mark.parametrize(
    ("block", "wanted"),
    [
        ("{defenses: [none], certificates: []}", ["none/clean/-", "none/push/hidden", "none/push/known"]),
        ("{defenses: [none], attacks: [], certificates: [wide]}", ["none/clean/-", "none/wide/-"]),
        ("{certificates: [], attacks: []}", ["none/clean/-", "blur/clean/-"]),
        (
            "{attacks: [], exclude: [{certificate: wide}, {defense: blur}]}",
            ["none/clean/-", "none/narrow/-"],
        ),
        # a condition on attacks is none on certificates
        (
            "{defenses: [none], certificates: [wide], exclude: [{attack: push, threat_model: known}]}",
            ["none/clean/-", "none/wide/-", "none/push/hidden"],
        ),
        (
            "{attacks: [], tie: [{defenses: [none, blur], certificates: [wide, narrow]}]}",
            ["none/clean/-", "none/wide/-", "blur/clean/-", "blur/narrow/-"],
        ),
        (
            "{threat_models: [known], tie: [{defenses: [blur], certificates: [wide]}]}",
            ["blur/clean/-", "blur/wide/-", "blur/push/known"],
        ),
        (
            "{defenses: [none], tie: [{attacks: [push], threat_models: [known]}], certificates: [narrow]}",
            ["none/clean/-", "none/narrow/-", "none/push/known"],
        ),
    ],
)
def test_a_block_says_which(read, text, block, wanted):
    assert paths(read(text + f"matrix: [{block}]\n")) == wanted


def test_a_certificate_that_is_not_listed_is_told(complaints, text):
    told = complaints(text + "matrix: [{certificates: [narow], exclude: [{certificate: wyde}]}]\n")
    assert [one.partition(": ")[2] for one in told] == [
        "matrix[0].certificates[0]: expected a name listed under certificates, got 'narow'; did you mean 'narrow'?",
        "matrix[0].exclude[0].certificate: expected a name listed under certificates, got 'wyde'; did you mean 'wide'?",
    ]


def test_its_options_are_checked(complaints, suite_text):
    (told,) = complaints(suite_text + "certificates: [{name: vote, params: {sigma: 0}}]\n")
    assert "certificates[0].params.sigma: expected a number greater than 0.0, got 0" in told


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("clean", "expected another name, got 'clean', which means input that is not attacked"),
        ("push", "expected another name, got 'push', which an attack has; a cell has one or the other, under its name"),
    ],
)
def test_a_name_means_one_thing(complaints, suite_text, name, sentence):
    (told,) = complaints(suite_text + f"certificates: [{{name: {name}, use: vote}}]\n")
    assert sentence in told


def test_only_finds_them_by_their_own_name_or_in_the_attacks_place(read, text):
    labels = [member.labels for member in read(text).members]
    for expression in ("certificate=wi*", "attack=wide"):
        chosen = selection(f"defense=none,{expression}")
        assert [str(one) for one in labels if chosen(one)] == ["dots/small/none/wide/-"]
    assert not any(selection("certificate=clean")(one) for one in labels)


# ---------------------------------------------------------------------- what a cell is


def test_a_certified_cell_is_evaluated_once_and_nothing_is_crafted(read, text):
    suite = read(text)
    member = next(one for one in suite.members if str(one.labels).endswith("blur/wide/-"))
    assert not member.random
    assert suite.repeats(member) == 1  # though the defense is random: the certificate draws as often as it needs
    assert (member.cell.attack, member.cell.threat) == (None, None)
    job = Evaluate(member.cell, Shard(0, 0, 8), 0, 1)
    assert job.craft is None
    assert job.needs


def test_its_options_are_a_part_of_the_identity_and_its_name_is_not(read, text):
    before = cells(read(text))["blur/wide/-"]
    assert before.certificate.params == {"sigma": 0.5}
    assert cells(read(text.replace("name: wide", "name: broad")))["blur/broad/-"].digest == before.digest
    other = cells(read(text.replace("sigma: 0.5", "sigma: 0.75")))["blur/wide/-"]
    assert other.digest != before.digest
    assert other.stream != before.stream


def test_a_new_version_of_it_changes_the_digest(read, text, monkeypatch):
    before = {name: cell.digest for name, cell in cells(read(text)).items()}
    monkeypatch.setattr(find("certificate", "vote").load(), "version", 2)
    after = {name: cell.digest for name, cell in cells(read(text)).items()}
    changed = {name for name, digest in before.items() if after[name] != digest}
    assert changed == {f"{defense}/{vote}/-" for defense in ("none", "blur") for vote in ("narrow", "wide")}


def test_cells_without_one_are_what_they_were(read, text, suite_text):
    with_them, without = cells(read(text)), cells(read())
    assert without.items() <= with_them.items()
    assert not any(cell.certificate for cell in without.values())


def test_metrics_of_images_are_no_part_of_it(read, text):
    probe = "metrics: {names: [amv, distances], probe: {recipe: mae.yaml}}\n"
    plain, probed = (read(text + more) for more in ("", probe))
    one, other = (cells(suite)["none/wide/-"] for suite in (plain, probed))
    assert one.digest == other.digest
    assert probed.metrics_of(other) == ()
    assert len(probed.metrics_of(cells(probed)["none/clean/-"])) == 2


def test_a_recipe_of_it_has_to_be_trained_on_the_same_data(read, text):
    text = text.replace("{sigma: 0.5}", "{sigma: 0.5, net: mae.yaml}")
    cell = cells(read(text))["none/wide/-"]
    assert cell.certificate.part("net").label == "small-mae"
    assert cell.certificate.part("net").digest in Evaluate(cell, Shard(0, 0, 8), 0, 1).needs
    with pytest.raises(UserError, match=r"certificates\[1\].params.net: recipe 'small-mae' was trained on"):
        read(text.replace("- name: dots", "- {name: dots, params: {n_test: 45}}"))


# ---------------------------------------------------------------------- what cannot be certified


@pytest.mark.parametrize(
    ("trait", "sentence"),
    [
        ("oracle", "blur is shown the clean image, which nobody has of an image that was tampered with"),
        ("stateful", "blur keeps state by its own account"),
        ("batchwise", "nothing follows from batch-mates"),
    ],
)
def test_a_defense_may_be_impossible_to_certify(read, text, monkeypatch, trait, sentence):
    blur = find("defense", "blur").load()
    monkeypatch.setattr(blur, "traits", Traits(True, False, **{trait: True}))
    suite = read(text + "matrix: [{attacks: [], certificates: [wide], impossible: skip}]\n")
    refused = next(one for one in suite.members if str(one.labels).endswith("blur/wide/-"))
    assert refused.cell is None
    assert refused.threat is None
    assert sentence in refused.reason
    with pytest.raises(UserError, match="expected a possible cell, got dots/small/blur/wide/-"):
        read(text + "matrix: [{attacks: [], certificates: [wide]}]\n")


def test_a_plugin_may_bring_one(read, suite_text, components):
    entry = components["certificate"]["vote"]
    components["certificate"]["voters/vote"] = type(entry)("certificate", "voters/vote", entry.target, "voters 1.0")
    found = cells(read(suite_text + "certificates: [{name: theirs, use: voters/vote}]\n"))["none/theirs/-"]
    assert found.certificate.params == {"sigma": 0.25, "origin": "voters 1.0"}
