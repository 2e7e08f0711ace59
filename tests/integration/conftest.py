"""One undisturbed run of each small suite, shared by the tests that look at it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

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
        return [sys.executable, "-P", "-m", "harness.cli", *words]

    def purebench(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*words), env=self.environment, capture_output=True, text=True, timeout=500, check=False
        )
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
def small(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The small suite, whose numbers mean something."""
    bench = Bench.at(tmp_path_factory.mktemp("small"))
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
