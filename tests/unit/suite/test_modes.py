"""Cells beyond the plain ones: cheaper versions, smooth signs, known randomness, examples crafted elsewhere."""

from dataclasses import replace

import pytest

from harness.core.cell import Cell, Shard
from harness.core.contracts import Traits
from harness.core.errors import UserError
from harness.core.job import Craft, Evaluate
from harness.core.registry import find
from harness.core.threat import Knowledge


class Soft:
    """Differentiable and random, with signs that can be smoothed."""

    traits = Traits(random=True, differentiable=True)

    def smoothed(self, smoothing):
        return self


def cells(suite):
    return {str(member.labels).removeprefix("dots/small/"): member.cell for member in suite.members}


@pytest.fixture
def soft(monkeypatch, components):
    blur = find("defense", "blur").load()
    monkeypatch.setattr(blur, "traits", Soft.traits)
    monkeypatch.setattr(blur, "smoothed", Soft.smoothed, raising=False)
    monkeypatch.setattr(blur, "refuses", lambda self, setting: None)
    monkeypatch.setattr(find("attack", "push").load(), "by_example", True, raising=False)


@pytest.fixture
def modes(read, soft, suite_text):
    def made(knowledge, entry="", **params):
        text = suite_text.replace("params: {net: mae.yaml}", "params: {net: mae.yaml}" + entry)
        more = "".join(f", {key}: {value}" for key, value in params.items())
        text = text.replace("knowledge: bpda", f"knowledge: {knowledge}{more}")
        text += "matrix: [{defenses: [blur], threat_models: [known]}]\n"
        return read(text)

    return made


def test_a_surrogate_has_the_other_options_and_is_a_part_of_the_identity(modes):
    one = cells(modes("surrogate", "\n    surrogate: {strength: 0.25}"))["blur/push/known"]
    other = cells(modes("surrogate", "\n    surrogate: {strength: 0.125}"))["blur/push/known"]
    assert one.surrogate.params["strength"] == 0.25
    assert one.defense.params["strength"] == 0.5
    assert one.defense == other.defense
    assert one.digest != other.digest
    craft = Craft(one, Shard(0, 0, 8))
    assert craft.digest != Craft(other, Shard(0, 0, 8)).digest
    assert one.surrogate.part("net").digest in craft.needs


def test_without_a_cheaper_version_there_is_nothing_to_attack(modes):
    with pytest.raises(UserError, match="blur has no `surrogate` in its entry"):
        modes("surrogate")


def test_who_has_no_smooth_version_is_told_what_there_is_instead(modes, monkeypatch):
    monkeypatch.delattr(find("defense", "blur").load(), "smoothed")
    with pytest.raises(UserError, match=r"blur has no smooth version: .* use knowledge: full"):
        modes("smooth")
    plain = next(one for one in modes("bpda").members if one.cell)
    assert plain.traits["knowledge"] == ["full"]


@pytest.mark.parametrize(("known", "advice"), [({}, "full"), ({"differentiable": False}, "smooth")])
def test_a_missing_surrogate_points_to_what_can_be_followed(modes, monkeypatch, known, advice):
    blur = find("defense", "blur").load()
    monkeypatch.setattr(blur, "traits", replace(Soft.traits, **known))
    with pytest.raises(UserError, match=rf"blur has no `surrogate` in its entry.* use knowledge: {advice}"):
        modes("surrogate")
    monkeypatch.delattr(blur, "smoothed")
    with pytest.raises(UserError, match=f"use knowledge: {advice if advice == 'full' else 'bpda'}"):
        modes("surrogate")


def test_what_is_refused_cannot_be_followed(modes, monkeypatch):
    blur = find("defense", "blur").load()
    why = {Knowledge.FULL: "no.", Knowledge.SMOOTH: None}
    monkeypatch.setattr(blur, "refuses", lambda self, setting: why.get(setting.threat.knowledge))
    told = [member.traits["knowledge"] for member in modes("bpda").members if member.cell]
    assert told
    assert all(one == ["smooth"] for one in told)


def test_a_surrogate_is_checked_like_any_options(modes):
    with pytest.raises(UserError) as caught:
        modes("surrogate", "\n    surrogate: {strength: 3}")
    told = [str(problem) for problem in caught.value.problems]
    assert told == ["suite.yaml:14: defenses[1].surrogate.strength: expected a number of at most 1.0, got 3"]


def test_a_smoothing_is_a_part_of_the_identity(modes):
    found = {
        text: cells(modes("smooth", smoothing=text))["blur/push/known"]
        for text in ("{by: tanh}", "{slope: 3}", "{by: normalised}")
    }
    assert {cell.threat.knowledge for cell in found.values()} == {Knowledge.SMOOTH}
    assert len({cell.digest for cell in found.values()}) == 3
    assert found["{slope: 3}"].threat.as_dict()["smoothing"] == {"by": "tanh", "slope": 3.0}


def test_a_smoothing_of_another_knowledge_is_refused(modes):
    with pytest.raises(UserError, match="expected a smoothing with knowledge: smooth alone"):
        modes("bpda", smoothing="{slope: 3}")


def test_known_randomness_is_another_cell_that_is_measured_once(modes):
    suite = modes("bpda", randomness="fixed")
    member = next(one for one in suite.members if one.labels.attack == "push")
    assert not member.random
    assert suite.repeats(member) == 1
    assert member.cell.threat.as_dict()["fixed"] is True
    assert member.cell.digest != cells(modes("bpda"))["blur/push/known"].digest


def test_the_identity_of_a_plain_cell_has_no_word_of_all_this(modes):
    plain = cells(modes("bpda"))["blur/push/known"].as_dict()
    assert not {"surrogate", "source_classifier", "source_defense", "certificate"} & plain.keys()
    assert plain["threat"].keys() == {"norm", "eps", "knowledge"}


def test_transferred_examples_are_crafted_once_and_judged_elsewhere(read, soft, suite_text):
    text = suite_text + (
        "matrix:\n  - threat_models: [known]\n"
        "  - {threat_models: [known], crafted_on: [{defense: none}, {defense: blur}]}\n"
    )
    found = cells(read(text))
    assert {name for name in found if " from " in name} == {
        "none/push from blur/known",
        "blur/push from none/known",
    }
    there, direct = found["none/push from blur/known"], found["blur/push/known"]
    assert there.transferred
    assert there.defense.use == "none"
    assert there.digest != found["none/push/known"].digest
    shard = Shard(0, 0, 8)
    assert Evaluate(there, shard, 0, 1).craft.digest == Evaluate(direct, shard, 0, 1).craft.digest
    assert Evaluate(there, shard, 0, 1).craft.cell.labels.defense == "blur"


def test_a_source_that_is_not_listed_is_told(read, soft, suite_text):
    text = suite_text + "matrix: [{threat_models: [known], crafted_on: [{defense: blurr}]}]\n"
    with pytest.raises(UserError, match="expected a name listed under defenses, got 'blurr'; did you mean 'blur'"):
        read(text)


def test_a_member_tells_what_a_report_wants_to_know_of_its_defense(modes):
    told = [member.traits for member in modes("full").members if member.cell]
    assert told
    assert all(one["knowledge"] == ["full", "smooth"] and one["random"] and one["votes"] == 1 for one in told)
    assert all(one["pixels"] == 4 * 4 for one in told)
    assert all(one["classes"] >= 2 for one in told)


def test_every_kind_of_cell_comes_back_from_its_identity(modes, read, soft, suite_text):
    suites = [
        modes("surrogate", "\n    surrogate: {strength: 0.25}"),
        modes("smooth", smoothing="{by: normalised}"),
        modes("bpda", randomness="fixed"),
        read(suite_text + "matrix: [{threat_models: [known], crafted_on: [{defense: none}, {defense: blur}]}]\n"),
    ]
    for suite in suites:
        for cell in suite.cells:
            assert Cell.from_dict(cell.as_dict()).digest == cell.digest
