"""Drivers and workers are killed at random moments; what is measured in the end is what an undisturbed run measures.

``make chaos KILLS=200`` kills more often. A storm is drawn from a seed, which is printed; what a moment meets is not.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd
import psutil
import pytest
from sqlalchemy import func, select

import harness
from harness.store.tables import AttemptRow, JobRow, OutcomeRow
from harness.store.write.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from conftest import Bench

    Fresh = Callable[[int], tuple[Bench, str]]

SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)

#: seconds for a run, and for each strike, on a machine that has much else to do: a run that comes no further is no
#: storm's fault
PATIENCE, AGAIN = 2400.0, 200.0


def kills(least: int) -> int:
    return max(least, int(os.environ.get("CHAOS_KILLS", "0")))


@dataclass
class Storm:
    """Runs a command, kills it or its workers now and then, and starts it again until it ends well.

    Attributes:
        worker: how the command line of a worker is known.
        pause: seconds between two strikes, at most.
        crew: how many drivers are at work at a time.
    """

    worker: str
    pause: float
    crew: int = 1
    rng: random.Random = field(default_factory=lambda: random.Random(SEED))
    struck: list[str] = field(default_factory=list)

    def pass_over(self, command: Sequence[str], environment: dict[str, str], strikes: int, log: Path) -> None:
        """Run the command to its end, striking so often at most."""
        began = time.monotonic()
        with log.open("a") as told:

            def start() -> subprocess.Popen[bytes]:
                return subprocess.Popen(command, env=environment, stdout=told, stderr=told, start_new_session=True)

            drivers = [start() for _ in range(self.crew)]
            try:
                left = strikes
                while any(driver.poll() != 0 for driver in drivers):
                    assert time.monotonic() - began < PATIENCE + AGAIN * strikes, f"no end in sight:\n{log.read_text()}"
                    # a driver that was killed, or gave a job up after too many deaths, is started again
                    drivers = [start() if driver.poll() not in (None, 0) else driver for driver in drivers]
                    if left and (until := self.rng.uniform(0.0, self.pause)):
                        time.sleep(until)
                        left -= self._strike([driver for driver in drivers if driver.poll() is None])
                    else:
                        time.sleep(0.1)
            finally:
                for driver in drivers:
                    if driver.poll() is None:
                        driver.kill()
                    driver.wait()

    def _strike(self, drivers: Sequence[subprocess.Popen[bytes]]) -> int:
        """Kill a driver, or rather more often one of its workers; return how many kills that was."""
        if not drivers:
            return 0
        driver = self.rng.choice(drivers)
        with suppress(psutil.NoSuchProcess):
            below = psutil.Process(driver.pid).children(recursive=True)
            workers = [one for one in below if self.worker in " ".join(one.cmdline())]
            if workers and self.rng.random() < 0.6:
                self.rng.choice(workers).kill()
                self.struck.append("worker")
            else:
                driver.send_signal(signal.SIGKILL)
                driver.wait()
                self.struck.append("driver")
            return 1
        return 0


def assert_untouched(url: str, undisturbed: Bench) -> None:
    """Nothing lost, nothing twice, nothing left behind."""
    found, wanted = harness.results(url), harness.results(str(undisturbed.db))
    pd.testing.assert_frame_equal(found.examples, wanted.examples, check_exact=True)
    store = Store.open(url)
    with store.engine.connect() as connection:
        outcomes = connection.execute(select(func.count()).select_from(OutcomeRow)).scalar_one()
        assert outcomes == len(wanted.examples), "an outcome was kept twice"
        statuses = set(connection.execute(select(JobRow.status)).scalars())
        assert statuses == {"done"}
        assert "running" not in set(connection.execute(select(AttemptRow.status)).scalars())
    store.engine.dispose()


def weather(storm: Storm, least: int, undisturbed: Bench, fresh: Fresh, *words: str) -> None:
    """Let the storm pass over one database after the other until it has struck often enough."""
    wanted, round_ = kills(least), 0
    while len(storm.struck) < wanted:
        bench, url = fresh(round_)
        suite = str(undisturbed.suites / "tiny.yaml")
        command = bench.command("run", suite, "--db", url, *words)
        storm.pass_over(command, bench.environment, wanted - len(storm.struck), bench.db.with_suffix(".log"))
        assert_untouched(url, undisturbed)
        round_ += 1
    fallen = f"{storm.struck.count('driver')} drivers and {storm.struck.count('worker')} workers killed"
    sys.stdout.write(f"seed {SEED}: {fallen}, {round_} databases equal to the undisturbed one\n")


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_kills_of_drivers_and_workers_change_nothing(tiny: Bench, tmp_path: Path) -> None:
    def fresh(round_: int) -> tuple[Bench, str]:
        bench = type(tiny).at(tmp_path / str(round_))
        return bench, str(bench.db)

    weather(Storm("multiprocessing.forkserver", pause=3.0), 25, tiny, fresh, "--workers", "2")


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_kills_of_drivers_and_ray_workers_change_nothing(tiny: Bench, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray comes with purebench[ray]")

    def fresh(round_: int) -> tuple[Bench, str]:
        bench = type(tiny).at(tmp_path / str(round_))
        return bench, str(bench.db)

    weather(Storm("ray::", pause=8.0), 5, tiny, fresh, "--executor", "ray", "--devices", "cpu")


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_kills_among_two_drivers_of_one_database_change_nothing(
    tiny: Bench, tmp_path: Path, postgresql: Callable[[], str]
) -> None:
    def fresh(round_: int) -> tuple[Bench, str]:
        return type(tiny).at(tmp_path / str(round_)), postgresql()

    weather(Storm("multiprocessing.forkserver", pause=4.0, crew=2), 5, tiny, fresh, "--workers", "1")
