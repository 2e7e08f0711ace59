"""A database of ten million outcomes: how fast it is filled and read, how large it is.

`BENCH_CELLS=1000 make bench` takes a tenth of it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

CELLS, EXAMPLES = int(os.environ.get("BENCH_CELLS", "10000")), 1_000
GENERATOR = Path(__file__).parent / "generator.py"

#: seconds that a person waits without wondering, by what was asked
LIMITS = {"status": 1.0, "leaderboard": 2.0}

OPEN = ("from harness.store.write.store import Store", "Store.open(db)")
STATUS = ("from harness.store.read.status import status", "status(db)")
CELLS_FRAME = ("import harness.store.read.frames", "harness.results(db).cells")
LEADERBOARD = ("from reports.model.leaderboard import read_leaderboard", "read_leaderboard(db)")


@pytest.fixture(scope="module")
def database(tmp_path_factory, figure):
    folder = tmp_path_factory.mktemp("large")
    path = folder / "runs.db"
    words = [sys.executable, str(GENERATOR), str(path), "--cells", str(CELLS), "--examples", str(EXAMPLES)]
    clock = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    millions = clock["outcomes"] / 1e6
    figure("outcomes", f"{millions:g} million")
    figure("insertion, Store.finish", f"{clock['outcomes'] / clock['finish']:,.0f} outcomes/s")
    shards = CELLS * EXAMPLES / 250
    figure("claim of a job", f"{clock['claim'] / shards * 1e3:.2f} ms")
    figure("declaration of the suite", f"{clock['declare']:.2f} s")
    figure("size on disk", f"{path.stat().st_size / 2**20 / millions:.0f} MiB per million outcomes")
    yield path
    shutil.rmtree(folder)


def best(of: tuple[str, str], database: Path, times: int = 3) -> tuple[float, float]:
    """Return the seconds of a call in a fresh process, without its start and imports and with them: the best of some.

    The file has been read before: what is measured is our own work, not the disk.
    """
    imports, call = of
    code = f"import sys, time\n{imports}\ndb = sys.argv[1]\nstart = time.perf_counter()\n{call}\n"
    code += "print(time.perf_counter() - start)"
    found = []
    for _ in range(times):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code, str(database)], check=True, capture_output=True, text=True)
        found.append((float(done.stdout), time.perf_counter() - start))
    inner, outer = zip(*found, strict=True)
    return min(inner), min(outer)


def shown(seconds: tuple[float, float]) -> str:
    return f"{seconds[0]:.3f} s ({seconds[1]:.2f} s with imports)"


def test_opening_is_quick(database, figure):
    figure("open", shown(best(OPEN, database)))


def test_the_standing_is_quick(database, figure):
    found = best(STATUS, database)
    figure("standing", shown(found), f"{LIMITS['status']:g} s")
    assert found[0] <= LIMITS["status"]


def test_the_command_status_is_quick(database, figure):
    words = [sys.executable, "-m", "harness", "status", "--db", str(database)]
    found = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(words, check=True, capture_output=True)
        found.append(time.perf_counter() - start)
    figure("purebench status, the whole command", f"{min(found):.2f} s")


def test_the_leaderboard_is_quick(database, figure):
    cells, board = best(CELLS_FRAME, database), best(LEADERBOARD, database)
    figure("results(url).cells", shown(cells), f"{LIMITS['leaderboard']:g} s")
    figure("read_leaderboard(url)", shown(board), f"{LIMITS['leaderboard']:g} s")
    assert max(cells[0], board[0]) <= LIMITS["leaderboard"]
