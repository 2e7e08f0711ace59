"""The lines that a report names, put into the suite, are all that its rows lacked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from harness.suite.load import read_suite
from harness.suite.outlook import outlook
from reports.model.leaderboard import read_leaderboard

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.suite.suite import Suite

SUITE = """
name: short
datasets: [{name: digits, use: digits}]
classifiers:
  - {name: cnn, use: recipe, params: {recipe: toy-cnn.yaml}}
  - {name: same, use: recipe, params: {recipe: toy-cnn.yaml}}
defenses:
  - {name: none, use: none}
  - {name: noise, use: noise, params: {sigma: 0.1}}
  - {name: blur, use: blur}
attacks:
  - {name: pgd, use: pgd, params: {steps: 2}}
threat_models:
  - {name: linf-bpda, use: Linf, params: {eps: 0.1, knowledge: bpda}}
evaluation: {n_examples: 8, repeats: 2, shard_size: 8}
"""


def suite_of(text: str) -> Suite:
    return read_suite(text, "suite.yaml", Path(__file__).parent / "suites")


def test_a_suite_with_the_lines_of_its_report_meets_the_minimum(conduct: Callable[[str], str]) -> None:
    (section,) = read_leaderboard(conduct(SUITE)).sections
    assert len(section.boards) == 2
    whole = yaml.safe_load(SUITE)
    for board in section.boards:
        assert {row.defense for row in board.below} == {"noise", "blur"}
        for axis, lines in yaml.safe_load(board.additions.text).items():
            there = whole.setdefault(axis, [])
            there += [line for line in lines if line not in there]
    before, after = suite_of(SUITE), suite_of(json.dumps(whole))
    assert {name for row in outlook(before) for name in row.defenses} == {"noise", "blur"}
    assert outlook(after) == ()
    # what was measured is asked for as before, and nothing is refused
    assert {cell.digest for cell in before.cells} < {cell.digest for cell in after.cells}
    assert all(member.cell for member in after.members)
