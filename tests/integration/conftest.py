"""One undisturbed run of each small suite, shared by the tests that look at it; networks that are trained once."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock
from rich.console import Console

from harness.artifacts import Folder
from harness.cli import commands as cli
from harness.core import registry
from harness.core.job import Terms, Train
from harness.execution.driver.progress import watcher
from harness.execution.driver.scheduler import Limits, run
from harness.execution.executors.inline import InlineExecutor
from harness.execution.worker import jobs as work
from harness.store.write.store import Store
from harness.suite.load import load_suite, read_suite
from harness.suite.plan import make_plan
from harness.testing.flawed import FAILING, FLAWED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.suite.suite import Suite

SUITES = Path(__file__).parent / "suites"


@dataclass(frozen=True)
class Bench:
    """A database and an artifact folder of their own, and the command to fill them."""

    db: Path
    home: Path
    suites = SUITES

    @classmethod
    def at(cls, folder: Path) -> Bench:
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder / "runs.db", folder / "home")

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PUREBENCH_HOME": str(self.home)}

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-P", "-m", "harness", *words]

    def purebench(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command, which leaves with a code."""
        return self._left(self.any(*words), code)

    def any(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in this process, which has imported already what others would have to."""
        out, err, left = io.StringIO(), io.StringIO(), None
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setenv("PUREBENCH_HOME", str(self.home))
            patch.setattr(sys, "argv", ["purebench", *words])
            try:
                cli.main()
            except SystemExit as end:
                left = end.code
        return subprocess.CompletedProcess(words, left or 0, out.getvalue(), err.getvalue())

    def process(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command in a process of its own, as where packages were installed or edited meanwhile."""
        command = self.command(*words)
        return self._left(subprocess.run(command, env=self.environment, capture_output=True, text=True), code)

    def _left(self, done: subprocess.CompletedProcess[str], code: int) -> subprocess.CompletedProcess[str]:
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def run(self, suite: str, *words: str) -> subprocess.CompletedProcess[str]:
        return self.purebench("run", str(SUITES / f"{suite}.yaml"), "--db", str(self.db), *words)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The tiny suite, run undisturbed by two workers."""
    bench = Bench.at(tmp_path_factory.mktemp("tiny"))
    bench.run("tiny", "--workers", "2")
    return bench


@pytest.fixture(scope="session")
def with_networks(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Suite, Path], None]:
    """Put the networks of a suite into an artifact folder; each is trained once, whichever process asks first.

    For tests that are about something else than training.
    """
    base = tmp_path_factory.getbasetemp()
    # the processes of pytest-xdist have folders of their own beside each other
    networks = Folder((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "networks")
    networks.root.mkdir(exist_ok=True)

    def put(suite: Suite, home: Path) -> None:
        recipes = {recipe.digest: recipe for cell in suite.cells for recipe in cell.recipes()}
        for digest, recipe in recipes.items():
            with FileLock(networks.root / f"{digest}.lock"):
                if not networks.has("weights", digest):
                    work.do(Train(recipe), networks, Terms(), lambda share: None)
            Folder(home).place("weights", digest, networks.path("weights", digest).read_bytes())

    return put


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory, with_networks: Callable[[Suite, Path], None]) -> Bench:
    """The small suite, whose numbers mean something."""
    bench = Bench.at(tmp_path_factory.mktemp("small"))
    with_networks(load_suite(str(SUITES / "small.yaml")), bench.home)
    bench.run("small", "--workers", "2")
    return bench


@pytest.fixture(scope="session")
def tiny_bench() -> type[Bench]:
    """The class, for tests that want benches of their own."""
    return Bench


@pytest.fixture(scope="session")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A suite whose network stands on others, run with one worker more than there is to begin with."""
    bench = Bench.at(tmp_path_factory.mktemp("standing"))
    bench.run("standing", "--workers", "3")
    return bench


@pytest.fixture(scope="session")
def conduct(
    tmp_path_factory: pytest.TempPathFactory, with_networks: Callable[[Suite, Path], None]
) -> Callable[[str], str]:
    """Run a suite in this process, with flawed defenses and attacks in the registry; returns the database.

    Its recipes are those in ``suites``.
    """

    def run_it(text: str) -> str:
        folder = tmp_path_factory.mktemp("conducted")
        home, db = Folder(folder / "home"), str(folder / "runs.db")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(registry, "entries", with_flawed)
            suite, store = read_suite(text, "suite.yaml", SUITES), Store.open(db, create=True)
            with_networks(suite, home.root)
            store.declare(suite.declaration())
            jobs = make_plan(suite, store, home).jobs
            done = run(jobs, store, InlineExecutor(home), watcher(Console(file=io.StringIO())), Limits())
            store.engine.dispose()
        assert done.done == len(jobs), done
        return db

    known = registry.entries

    def with_flawed(kind: str) -> Mapping[str, registry.RegistryEntry]:
        flawed = {"defense": FLAWED, "attack": FAILING}.get(kind, {})
        own = {name: registry.RegistryEntry(kind, name, target, "purebench 0") for name, target in flawed.items()}
        return {**known(kind), **own}

    return run_it
