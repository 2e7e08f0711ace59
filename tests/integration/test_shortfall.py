"""The lines that a report names, put into the suite and run, are what its rows lacked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import yaml

from reports.leaderboard import read_leaderboard

if TYPE_CHECKING:
    from collections.abc import Callable

SUITE = """
name: short
datasets: [{name: digits, use: digits}]
classifiers:
  - {name: cnn, use: recipe, params: {recipe: toy-cnn.yaml}}
  - {name: robust, use: recipe, params: {recipe: toy-cnn-at.yaml}}
defenses:
  - {name: none, use: none}
  - {name: noise, use: noise, params: {sigma: 0.1}}
  - {name: blur, use: blur}
attacks:
  - {name: pgd, use: pgd, params: {steps: 2}}
threat_models:
  - {name: linf-bpda, use: Linf, params: {eps: 0.1, knowledge: bpda}}
evaluation: {n_examples: 16, repeats: 5, shard_size: 16}
"""


def test_the_lines_of_a_report_make_its_rows_ranked(conduct: Callable[[str], str]) -> None:
    (before,) = read_leaderboard(conduct(SUITE)).sections
    assert len(before.boards) == 2
    whole = yaml.safe_load(SUITE)
    for board in before.boards:
        assert {row.defense for row in board.below} == {"noise", "blur"}
        for axis, lines in yaml.safe_load(board.additions.text).items():
            there = whole.setdefault(axis, [])
            there += [line for line in lines if line not in there]
    (after,) = read_leaderboard(conduct(json.dumps(whole))).sections
    assert [block.title for board in after.boards for block in board.blocks] == ["", "no defense: the reference"] * 2
    for old, new in zip(before.boards, after.boards, strict=True):
        left = {row.defense: row.worst.smallest for row in old.rows if row.worst}
        assert all(row.worst and row.worst.smallest <= left[row.defense] for row in new.rows)
