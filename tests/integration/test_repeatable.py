"""A number survives repetition: other databases, other worker counts, kills at any point."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pandas as pd
import psutil
import pytest
from rich.console import Console

import harness
from harness.artifacts import Folder
from harness.execution.driver.progress import watcher
from harness.execution.driver.scheduler import run
from harness.execution.executors.inline import InlineExecutor
from harness.store.write.store import Store
from harness.suite.load import load_suite
from harness.suite.plan import make_plan

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Bench

MEASURED = ["accuracy", "low", "high", "linf", "l2", "amv_purified_last", "reconstruction_purified", "defense_forwards"]


def outcomes(bench: Bench) -> pd.DataFrame:
    """Everything that was seen of every example, in order; no times."""
    return harness.results(str(bench.db)).examples.reset_index(drop=True)


def table(bench: Bench) -> pd.DataFrame:
    cells = harness.results(str(bench.db)).cells
    return cells[["id", "status", "reason", *MEASURED]].reset_index(drop=True)


def test_the_undisturbed_run_measured_every_cell(tiny: Bench) -> None:
    cells = harness.results(str(tiny.db)).cells
    assert set(cells["status"]) == {"done", "skipped"}
    refused = cells[cells["status"] == "skipped"]
    assert list(refused["defense"]) == ["mae-pure"]
    assert "identity" in refused["reason"].iloc[0]
    assert (cells.loc[cells["status"] == "done", "n"] == 12).all()


def test_a_second_run_computes_nothing_and_says_so(tiny: Bench) -> None:
    before = outcomes(tiny)
    done = tiny.run("tiny")
    assert "nothing to compute" in done.stdout
    pd.testing.assert_frame_equal(outcomes(tiny), before, check_exact=True)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "4"])
def test_another_database_trained_and_run_by_others_is_equal_to_the_last_digit(
    tiny: Bench, tmp_path: Path, workers: str
) -> None:
    other = type(tiny).at(tmp_path)
    other.run("tiny", "--workers", workers)
    pd.testing.assert_frame_equal(outcomes(other), outcomes(tiny), check_exact=True)
    pd.testing.assert_frame_equal(table(other), table(tiny), check_exact=True)


@pytest.mark.slow
def test_the_order_of_the_jobs_changes_nothing(tiny: Bench, tmp_path: Path) -> None:
    suite, folder = load_suite(str(tiny.suites / "tiny.yaml")), Folder(tmp_path / "home")
    store = Store.open(str(tmp_path / "runs.db"), create=True)
    store.declare(suite.declaration())
    jobs = list(make_plan(suite, store, folder).jobs)
    random.Random(5).shuffle(jobs)
    with (tmp_path / "progress").open("w") as file:
        tally = run(jobs, store, InlineExecutor(folder), watcher(Console(file=file)))
    assert tally.done == len(jobs)
    found = harness.results(str(tmp_path / "runs.db")).examples
    pd.testing.assert_frame_equal(found, outcomes(tiny), check_exact=True)


@pytest.mark.parametrize("finished_jobs", [9, pytest.param(24, marks=pytest.mark.slow)])  # of 35
def test_a_killed_run_continues_to_the_same_table(tiny: Bench, tmp_path: Path, finished_jobs: int) -> None:
    bench = type(tiny).at(tmp_path)
    suite = tiny.command("run", str(tiny.suites / "tiny.yaml"), "--db", str(bench.db), "--workers", "2")
    with subprocess.Popen(
        suite, env=bench.environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as driver:
        assert driver.stderr is not None
        seen = 0
        for line in driver.stderr:
            seen += line.startswith("[")
            if seen == finished_jobs:
                os.kill(driver.pid, signal.SIGKILL)
                break
    assert driver.returncode == -signal.SIGKILL
    unfinished = harness.results(str(bench.db)).cells
    assert (unfinished["status"] == "missing").any(), "the kill came too late to test anything"

    bench.run("tiny", "--workers", "1")
    pd.testing.assert_frame_equal(outcomes(bench), outcomes(tiny), check_exact=True)
    pd.testing.assert_frame_equal(table(bench), table(tiny), check_exact=True)
    status = bench.purebench("status", "--db", str(bench.db)).stdout
    assert "running" not in status


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers of a driver as Linux forks them")
def test_a_killed_worker_costs_nothing_but_time(tiny: Bench, tmp_path: Path) -> None:
    bench = type(tiny).at(tmp_path)
    suite = tiny.command("run", str(tiny.suites / "tiny.yaml"), "--db", str(bench.db), "--workers", "2")
    with subprocess.Popen(
        suite, env=bench.environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as driver:
        assert driver.stderr is not None
        lines = []
        for line in driver.stderr:
            lines.append(line)
            # one that had no job is replaced without a word
            if len(lines) >= 3 and not any("trying again" in said for said in lines):
                for worker in _workers(driver.pid)[:1]:
                    os.kill(worker, signal.SIGKILL)
    assert driver.returncode == 0, "".join(lines)
    assert any("trying again" in line for line in lines)
    pd.testing.assert_frame_equal(outcomes(bench), outcomes(tiny), check_exact=True)


def _workers(driver: int) -> list[int]:
    with suppress(psutil.NoSuchProcess):
        # its children are the process that is forked and one of the library's
        started = {one.pid for one in psutil.Process(driver).children()}
        return [one.pid for one in psutil.Process(driver).children(recursive=True) if one.pid not in started]
    return []
