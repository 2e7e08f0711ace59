"""Files as RobustBench has them, read by RobustBench's own code."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from harness.core.spec import Spec
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.nets.robustbench import zoo
from reports.model.leaderboard import read_leaderboard
from reports.render.robustbench import model_info, safe
from reports.write import write_model_info

#: the fields of their cards, as the docstring of their leaderboard lists them, and those that some cards have
THEIRS = {
    *("link", "name", "authors", "additional_data", "number_forward_passes", "dataset", "venue", "architecture"),
    *("eps", "clean_acc", "reported", "autoattack_acc", "external", "unreliable", "footnote"),
}


def cards(url):
    return {path: json.loads(text) for path, text in model_info(read_leaderboard(url)).items()}


def test_a_ranked_row_and_the_reference_are_cards(toy):
    found = cards(toy.write())
    # dmae is unfinished
    assert list(found) == ["digits/Linf/mae-pure_cnn.json", "digits/Linf/none_cnn.json"]
    card = found["digits/Linf/mae-pure_cnn.json"]
    assert card == {
        "link": "",
        "name": "mae-pure",
        "authors": "",
        "additional_data": "",
        "number_forward_passes": 11,
        "dataset": "digits",
        "venue": "",
        "architecture": "cnn",
        "eps": "0.2",
        "clean_acc": "91.67",
        "reported": "",
        "external": "50.00",
        "unreliable": True,
        "footnote": "Measured by purebench. Examples: 4; repeats: 3; decision: mean; external is the worst case per "
        "example over clean input, pgd oblivious-0.2, pgd bpda-0.2. Not attacked in full: refused. "
        "Flags: few-repeats 3 of 5, random 25.0 %, optimises 10 backwards.",
    }
    assert found["digits/Linf/none_cnn.json"]["unreliable"] is False
    assert all(set(one) <= THEIRS for one in found.values())


def test_autoattack_counts_where_it_met_the_whole_defense(bench):
    one = bench()
    for defense, correct in (("none", "1"), ("dmae", "111")):
        one.add(defense, None, *[correct] * 4)
        for threat, share in (("oblivious-0.2", 1), ("bpda-0.2", 3)):
            cell = replace(one.cell(defense, threat), attack=Spec.of("attack", "autoattack", 1, {}))
            traits = {**one.members[-1].traits, "effort": {"steps": 100, "eot": 20, "queries": 5000}}
            one.members.append(replace(one.members[-1], cell=cell, labels=cell.labels, traits=traits))
            one.measure(cell, [correct] * (4 - share) + ["0" * len(correct)] * share)
    found = cards(one.write())
    assert found["digits/Linf/dmae_cnn.json"]["autoattack_acc"] == "25.00"
    assert found["digits/Linf/none_cnn.json"]["autoattack_acc"] == "25.00"


def test_only_boards_of_a_norm_of_pixels_have_cards(bench):
    one = bench()
    one.add("none", None, *["1"] * 4)
    cell = replace(one.cell("none", "full-0.2"), threat=ThreatModel(Norm.FLOW, 0.5, Knowledge.FULL))
    one.members.append(replace(one.members[-1], cell=cell, labels=cell.labels))
    one.measure(cell, ["1"] * 4)
    url = one.write()
    assert [board.title for section in read_leaderboard(url).sections for board in section.boards] == [
        "digits / cnn / flow 0.5"
    ]
    assert cards(url) == {}


def test_a_name_is_no_path_and_no_two_are_one(bench):
    one = bench()
    for defense in ("../../a b", "..\\..\\a:b", "A/é", "a_é"):
        one.add(defense, None, *["111"] * 4, use="dmae")
        one.add(defense, "bpda-0.2", *["111"] * 4, use="dmae")
    names = list(cards(one.write()))
    assert len({name.casefold() for name in names}) == 4
    for name in names:
        assert re.fullmatch(r"digits/Linf/[A-Za-z0-9_-][A-Za-z0-9_.-]*\.json", name)
    assert len(model_info(read_leaderboard(str(one.path)))) == 4


@pytest.mark.parametrize(
    ("name", "made"), [("..", "_."), ("", "_"), ("a/b", "a_b"), (".x", "_x"), ("x" * 300, "x" * 100)]
)
def test_safe_names(name, made):
    assert safe(name) == made


@pytest.mark.filterwarnings("ignore:Importing from timm:DeprecationWarning")
def test_files_are_written_under_model_info_and_robustbench_reads_them(toy, tmp_path):
    zoo()
    from robustbench.model_zoo.enums import ThreatModel
    from robustbench.utils import ACC_FIELDS, get_key

    url = toy.write()
    paths = write_model_info(url, tmp_path / "out")
    assert [str(path.relative_to(tmp_path / "out")) for path in paths] == [
        "model_info/digits/Linf/mae-pure_cnn.json",
        "model_info/digits/Linf/none_cnn.json",
    ]
    for path in paths:
        assert 0 <= get_key(json.loads(path.read_text()), ACC_FIELDS[ThreatModel.Linf]) <= 100
    first = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write_model_info(url, tmp_path / "out")] == first
