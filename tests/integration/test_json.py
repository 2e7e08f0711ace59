"""What commands print as JSON, for other programmes, is what they print for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import harness

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Bench


def test_a_board_has_what_the_frames_have(tiny: Bench, tmp_path: Path) -> None:
    boards = json.loads(tiny.purebench("report", "--db", str(tiny.db), "--out", str(tmp_path), "--json").stdout)
    cells = harness.results(str(tiny.db)).cells.set_index("id")
    seen = 0
    for board in boards:
        for row in board["rows"]:
            for one in row["attacked"]:
                if one["accuracy"] is not None:
                    assert one["accuracy"]["share"] == pytest.approx(cells.loc[one["id"], "accuracy"])
                    seen += 1
            assert row["rank"] is None or row["group"] == "ranked"
    assert seen == len(cells[(cells["status"] == "done") & (cells["attack"] != "clean")])


def test_a_plan_has_its_cells_and_what_is_left(tiny: Bench) -> None:
    suite = str(tiny.suites / "tiny.yaml")
    done = json.loads(tiny.purebench("plan", suite, "--db", str(tiny.db), "--json").stdout)
    assert {one["verdict"] for one in done["cells"]} <= {"done", "skipped"}
    assert done["jobs"] == {"train": 0, "craft": 0, "evaluate": 0, "measure": 0}
    fresh = json.loads(tiny.purebench("plan", suite, "--db", "absent.db", "--json").stdout)
    assert [one["id"] for one in fresh["cells"]] == [one["id"] for one in done["cells"]]
    assert fresh["jobs"]["evaluate"] > 0


def test_a_status_counts_jobs(tiny: Bench) -> None:
    found = json.loads(tiny.purebench("status", "--db", str(tiny.db), "--json").stdout)
    assert [suite["name"] for suite in found["suites"]] == ["tiny"]
    assert {one["status"] for one in found["jobs"]} == {"done"}


def test_lists_have_every_component(tiny: Bench) -> None:
    found = json.loads(tiny.purebench("ls", "--json").stdout)
    assert {
        "suites",
        "recipes",
        "datasets",
        "classifiers",
        "defenses",
        "attacks",
        "certificates",
        "networks",
        "objectives",
        "metrics",
        "sections",
    } == found.keys()
    assert "mae-pure" in [one["name"] for one in found["defenses"]]
    assert json.loads(tiny.purebench("ls", "attacks", "--json").stdout) == {"attacks": found["attacks"]}
