"""Certificates from a suite to a report, by the command and by workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pytest

import harness
from harness.suite.load import load_suite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Bench

    from harness.suite.suite import Suite


@pytest.fixture(scope="module")
def certified(
    tiny_bench: type[Bench],
    tmp_path_factory: pytest.TempPathFactory,
    with_networks: Callable[[Suite, Path], None],
) -> Bench:
    bench = tiny_bench.at(tmp_path_factory.mktemp("certified"))
    with_networks(load_suite(str(bench.suites / "tiny-certified.yaml")), bench.home)
    bench.run("tiny-certified", "--workers", "2")
    return bench


def radii(bench: Bench) -> pd.DataFrame:
    found = harness.results(str(bench.db)).examples
    return found[found["attack"] == "vote"].reset_index(drop=True)


def test_every_example_has_a_radius_once_and_no_other_cell_has_any(certified: Bench) -> None:
    found = harness.results(str(certified.db))
    assert set(found.cells["status"]) == {"done"}
    mine = radii(certified)
    assert mine.groupby("defense").size().to_dict() == {"none": 12, "diffpure": 12}  # though one of them is random
    assert mine["radius"].notna().all()
    assert (mine["radius"] > 0).any()
    assert found.examples.loc[found.examples["attack"] != "vote", "radius"].isna().all()
    forwards = found.cells.set_index(["defense", "attack"])["defense_forwards"]
    assert forwards["diffpure", "vote"] == 28 * forwards["diffpure", "clean"]


def test_other_batches_and_workers_give_the_same_radii(certified: Bench, tmp_path: Path) -> None:
    other = type(certified)(tmp_path / "runs.db", certified.home)
    other.run("tiny-certified", "--workers", "1", "--batch-size", "40", "--only", "certificate=*")
    pd.testing.assert_frame_equal(radii(other), radii(certified), check_exact=True)


def test_a_second_run_computes_nothing_and_the_database_is_sound(certified: Bench) -> None:
    assert "nothing to compute" in certified.run("tiny-certified").stdout
    assert "sound" in certified.purebench("db", "check", str(certified.db)).stdout


def test_the_report_has_them(certified: Bench, tmp_path: Path) -> None:
    done = certified.purebench("report", "--db", str(certified.db), "--out", str(tmp_path / "out"))
    assert "digits / cnn / certified, L2" in done.stdout
    assert "certified, L2" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
