"""What goes wrong around a run ends in one sentence and the right code, and the same command continues."""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cloudpickle
import numpy as np
import pandas as pd
import pytest
import torch
from sqlalchemy import Engine, event, select

import harness
from harness.artifacts import Folder
from harness.cli import commands as cli
from harness.core import registry
from harness.core.job import Evaluate, Terms, Train
from harness.core.metric import Measurement
from harness.core.registry import find
from harness.core.result import Artifact, Cost, Done, Failed, Outcome
from harness.execution.driver.launch import Workers
from harness.execution.executors.devices import seats
from harness.execution.executors.inline import InlineExecutor
from harness.execution.executors.local import LocalExecutor
from harness.execution.worker import jobs as work
from harness.store.tables import AttemptRow, JobRow, SuiteRow
from harness.store.write.store import Store
from harness.suite.load import load_suite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Bench

    from harness.core.job import Job
    from harness.core.spec import Spec

SUITES = Path(__file__).parent / "suites"
TINY = str(SUITES / "tiny.yaml")

#: a classifier and nothing else, so that real work takes a second
PLAIN = f"""
name: plain
datasets: [{{name: digits, use: digits}}]
classifiers: [{{name: cnn, use: recipe, params: {{recipe: {SUITES / "tiny-cnn.yaml"}}}}}]
defenses: [{{name: none, use: none}}]
evaluation: {{n_examples: 8, shard_size: 8}}
"""


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The last thing that was said; a mistake is said in one line, without a traceback."""
        assert "Traceback" not in self.err
        return self.err.strip().splitlines()[-1]


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def plain(tmp_path: Path) -> str:
    (tmp_path / "plain.yaml").write_text(PLAIN)
    return str(tmp_path / "plain.yaml")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setenv("PUREBENCH_HOME", str(tmp_path / "home"))
    return Folder.default()


@pytest.fixture
def purebench(home: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """The command line in this process; jobs are done here too, one at a time."""
    monkeypatch.setattr(Workers, "open", lambda self, folder, jobs: InlineExecutor(folder))

    def command(*words: str | Path) -> Said:
        monkeypatch.setattr(sys, "argv", ["purebench", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)

    return command


def pretend(job: Job, folder: Folder, terms: Terms, progress: Callable[[float], None]) -> Done | Failed:
    """Bring what such a job brings, without doing anything."""
    if not isinstance(job, Evaluate):
        return Done()
    weights = tuple(Artifact(recipe.digest, "weights", "a" * 64, 1) for recipe in job.cell.recipes())
    seen = tuple(
        Outcome(place, place, repeat, label=1, prediction=1, correct=True)
        for place in range(job.shard.start, job.shard.stop)
        for repeat in range(job.first_repeat, job.stop_repeat)
    )
    return Done(
        artifacts=weights,
        outcomes=seen,
        measurements=tuple(tenths(metric, len(seen)) for metric in job.metrics),
        defense_cost=Cost(images=len(seen)),
        attack_cost=None if job.craft is None else Cost(images=len(seen)),
    )


def tenths(metric: Spec, outcomes: int) -> Measurement:
    """Return what a metric of plain numbers gives if all of them are 0.1."""
    names = tuple(column.name for column in find("metric", metric.use).load().columns)
    return Measurement(metric.digest, names, np.full((len(names), outcomes), 0.1, "<f8").tobytes())


@pytest.fixture
def pretending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "attempt", pretend)
    monkeypatch.setattr(Folder, "has_made", lambda self, job: True)


def examples(db: Path) -> pd.DataFrame:
    return harness.results(str(db)).examples.reset_index(drop=True)


def statuses(db: Path) -> set[str]:
    store = Store.open(str(db))
    with store.engine.connect() as connection:
        return set(connection.execute(select(JobRow.status)).scalars())


# ---------------------------------------------------------------------- no room


@contextmanager
def no_more_pages(db: Path) -> Iterator[None]:
    """Let an SQLite database grow by three pages and no more: it says that the disk is full."""
    with sqlite3.connect(db) as connection:
        (there,) = connection.execute("PRAGMA page_count").fetchone()
    connection.close()

    def limit(connection: sqlite3.Connection, record: object) -> None:
        connection.execute(f"PRAGMA max_page_count={there + 3}")

    event.listen(Engine, "connect", limit)
    try:
        yield
    finally:
        event.remove(Engine, "connect", limit)


@contextmanager
def no_larger_files(size: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes: writing fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("pretending")
@pytest.mark.parametrize(
    ("full", "complaint"),
    [
        (no_more_pages, "database or disk is full; make room and run the same command again: what was recorded stays"),
        (lambda db: no_larger_files(db.stat().st_size + 50_000), "disk I/O error; see whether the disk is full"),
    ],
    ids=["pages", "files"],
)
def test_a_full_disk_under_the_database_is_one_sentence_and_the_run_continues(
    purebench: Callable[..., Said],
    db: Path,
    full: Callable[[Path], AbstractContextManager[None]],
    complaint: str,
) -> None:
    assert purebench("run", TINY, "--db", db, "--only", "defense=none").code == 0
    settle(db)
    before = len(examples(db))
    with full(db):
        stopped = purebench("run", TINY, "--db", db)
    assert stopped.code == 2
    assert stopped.sentence.startswith(f"expected a purebench database at {db}, but it answered: {complaint}")
    assert len(examples(db)) >= before > 0
    assert purebench("run", TINY, "--db", db).code == 0
    assert statuses(db) == {"done"}
    whole = db.with_name("whole.db")
    assert purebench("run", TINY, "--db", whole).code == 0
    pd.testing.assert_frame_equal(examples(db), examples(whole))


def settle(db: Path) -> None:
    """Move what the write-ahead log holds into the file."""
    with sqlite3.connect(db) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def test_a_full_disk_under_the_artifacts_fails_the_job_with_the_remedy(home: Folder, plain: str) -> None:
    with no_larger_files(1000):
        failed = work.attempt(training(plain), home, Terms(), lambda share: None)
    assert isinstance(failed, Failed)
    assert failed.reason.startswith(f"expected to write weights into {home.root}, got ")
    assert failed.reason.endswith("File too large; set PUREBENCH_HOME to a folder with room")
    assert [path for path in home.root.rglob("*") if path.is_file()] == []


def training(suite: str) -> Train:
    """Return the one training of a suite."""
    (recipe,) = load_suite(suite).cells[0].recipes()
    return Train(recipe)


# ---------------------------------------------------------------------- what cannot be written


def test_a_home_that_cannot_be_written_is_told_before_any_work(
    purebench: Callable[..., Said], plain: str, db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*words: object) -> None:
        raise AssertionError("a job was begun")

    monkeypatch.setattr(work, "attempt", never)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PUREBENCH_HOME", str(tmp_path / "file" / "home"))
    said = purebench("run", plain, "--db", db)
    assert said.code == cli.MISTAKE
    assert said.sentence.startswith(f"expected to write networks and adversarial examples into {tmp_path / 'file'}")
    assert said.sentence.endswith("; set PUREBENCH_HOME to another")
    with Store.open(str(db)).engine.connect() as connection:
        assert connection.execute(select(SuiteRow.name)).all() == []


def test_a_database_that_cannot_be_written_is_one_sentence(purebench: Callable[..., Said], db: Path) -> None:
    def forbid(connection: sqlite3.Connection, record: object) -> None:
        connection.execute("PRAGMA query_only=ON")

    Store.open(str(db), create=True)
    event.listen(Engine, "connect", forbid)
    try:
        said = purebench("run", TINY, "--db", db)
    finally:
        event.remove(Engine, "connect", forbid)
    assert said.code == 2
    assert said.sentence.endswith("attempt to write a readonly database; choose a --db in a folder that can be written")


def test_a_folder_that_is_mounted_read_only_is_one_sentence(tiny_bench: type[Bench], tmp_path: Path) -> None:
    bench = tiny_bench.at(tmp_path / "shut")
    mount = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"']
    sealed = [*mount, str(bench.db.parent)]
    if shutil.which("unshare") is None or subprocess.run([*sealed, "true"], check=False).returncode:
        pytest.skip("mounting a folder read-only is not allowed here")
    for _ in ("absent", "there"):
        command = [*sealed, *bench.command("run", TINY, "--db", str(bench.db))]
        said = subprocess.run(command, env=bench.environment, capture_output=True, text=True, check=False)
        assert said.returncode == 2, said.stderr
        assert len(said.stderr.splitlines()) == 1
        assert "choose" in said.stderr
        Store.open(str(bench.db), create=True).engine.dispose()


# ---------------------------------------------------------------------- what is damaged


def damaged_pages(db: Path) -> None:
    """Overwrite everything but the first page."""
    data = db.read_bytes()
    db.write_bytes(data[:4096] + os.urandom(len(data) - 4096))


def damaged_results(db: Path) -> None:
    """Overwrite the page where the table of results begins, and nothing else."""
    with sqlite3.connect(db) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'results'").fetchone()
    connection.close()
    data = bytearray(db.read_bytes())
    data[(page - 1) * 4096 : page * 4096] = os.urandom(4096)
    db.write_bytes(data)


def truncated(db: Path) -> None:
    data = db.read_bytes()
    db.write_bytes(data[: len(data) // 8192 * 4096])


def overwritten(db: Path) -> None:
    db.write_bytes(b"something else" * 1000)


def damaged_schema(db: Path) -> None:
    with sqlite3.connect(db) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        nonsense = "name = CAST(x'fffe' AS TEXT), sql = 'no table'"
        connection.execute(f"UPDATE sqlite_master SET {nonsense} WHERE name = 'cells'")
    connection.close()


@pytest.mark.usefixtures("pretending")
@pytest.mark.parametrize(
    ("command", "damage"),
    [
        *itertools.product(["run", "status", "report"], [damaged_pages, damaged_schema, truncated, overwritten]),
        ("run", damaged_results),  # a status reads an index of them only
        ("report", damaged_results),
    ],
)
def test_a_damaged_database_is_one_sentence(
    purebench: Callable[..., Said], db: Path, tmp_path: Path, command: str, damage: Callable[[Path], None]
) -> None:
    assert purebench("run", TINY, "--db", db, "--only", "defense=none").code == 0
    settle(db)
    damage(db)
    words = {"run": [TINY], "status": [], "report": ["--out", tmp_path / "out"]}[command]
    said = purebench(command, *words, "--db", db)
    assert said.code == 2
    assert said.sentence.startswith(f"expected a purebench database at {db}, but it answered: ")
    assert said.sentence.endswith(
        (
            "restore a copy, or save what can be read with `sqlite3 FILE .recover`",
            "name a file that purebench made, or a new one",
        )
    )


def test_a_damaged_checkpoint_fails_its_job_by_name_and_is_made_again_once_it_is_deleted(
    purebench: Callable[..., Said], home: Folder, db: Path, plain: str
) -> None:
    assert purebench("run", plain, "--db", db).code == 0
    before = examples(db)
    (checkpoint,) = home.root.rglob("*.safetensors")
    data = bytearray(checkpoint.read_bytes())
    data[8:40] = bytes(byte ^ 0xFF for byte in data[8:40])
    checkpoint.write_bytes(data)
    again = db.with_name("again.db")
    said = purebench("run", plain, "--db", again)
    assert said.code == 1
    told = said.err.strip().splitlines()[-1]
    assert f"expected weights as safetensors at {checkpoint}, but the file is damaged" in told
    assert told.endswith("delete it and run again")
    checkpoint.unlink()
    assert purebench("run", plain, "--db", again).code == 0
    pd.testing.assert_frame_equal(examples(again), before)


def test_a_checkpoint_with_other_numbers_makes_what_was_measured_with_it_stale(
    purebench: Callable[..., Said], home: Folder, db: Path, plain: str
) -> None:
    assert purebench("run", plain, "--db", db).code == 0
    (checkpoint,) = home.root.rglob("*.safetensors")
    data = bytearray(checkpoint.read_bytes())
    data[-8] ^= 0xFF
    checkpoint.write_bytes(data)
    assert "the weights it was measured with have changed" in purebench("plan", plain, "--db", db).out


# ---------------------------------------------------------------------- what goes wrong in a job


def test_a_classifier_without_any_number_ends_its_jobs_with_a_sentence(
    purebench: Callable[..., Said], home: Folder, db: Path, plain: str
) -> None:
    train = training(plain)
    work.do(train, home, Terms(), lambda share: None)
    tensors, about, _ = home.load("weights", train.digest)
    home.save("weights", train.digest, {name: torch.full_like(one, torch.nan) for name, one in tensors.items()}, about)
    said = purebench("run", plain, "--db", db)
    assert said.code == 1
    assert "classifier cnn: expected fin" in said.out + said.err
    assert harness.results(str(db)).cells["status"].item() == "missing"


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[object], None]]:
    """Sets what real worker processes do with a job; it travels to them by value, since none could import a test."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])

    def do(work: Callable[..., Done | Failed]) -> None:
        monkeypatch.setattr(
            Workers, "open", lambda self, folder, jobs: LocalExecutor(folder, seats("cpu", 1), work=work)
        )

    yield do
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def hang(job: Job, folder: Folder, terms: Terms, progress: Callable[[float], None]) -> Done:
    time.sleep(600)
    return Done()


def want_memory(job: Job, folder: Folder, terms: Terms, progress: Callable[[float], None]) -> Done | Failed:
    """Have room for two images at a time."""
    if (terms.batch_size or 0) > 2:
        return Failed("no more memory", out_of_memory=True)
    return pretend(job, folder, terms, progress)


def test_a_worker_that_hangs_is_given_up_and_the_command_says_that_jobs_failed(
    purebench: Callable[..., Said], workers: Callable[[object], None], db: Path, tmp_path: Path
) -> None:
    workers(hang)
    (tmp_path / "plain.yaml").write_text(PLAIN + "execution: {timeouts: {train: 0.5}}\n")
    said = purebench("run", tmp_path / "plain.yaml", "--db", db)
    assert said.code == 1
    assert "train tiny-cnn: given up after 0.5 s, the time limit of train jobs" in said.err
    assert statuses(db) == {"timeout", "skipped"}
    assert "timeout: train tiny-cnn" in purebench("status", "--db", db).out


def test_want_of_memory_in_a_worker_halves_the_batch_until_it_fits(
    purebench: Callable[..., Said], workers: Callable[[object], None], db: Path, plain: str
) -> None:
    workers(want_memory)
    assert purebench("run", plain, "--db", db).code == 0
    with Store.open(str(db)).engine.connect() as connection:
        query = select(AttemptRow.batch_size).where(AttemptRow.batch_size.is_not(None)).order_by(AttemptRow.id)
        assert list(connection.execute(query).scalars()) == [8, 4, 2]


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("raise RuntimeError('the moon is full')", "importing it failed with RuntimeError: the moon is full"),
        ("raise SystemExit('usage: faulty FILE')", "importing it failed with SystemExit: usage: faulty FILE"),
        ("class Bad: version = 1", "it has no Options"),
        ("Bad = None", "it has no version and no Options"),
    ],
)
def test_a_plug_in_that_cannot_be_used_is_one_sentence_and_the_others_work(
    purebench: Callable[..., Said],
    db: Path,
    plain: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    complaint: str,
) -> None:
    described = tmp_path / "site" / "faulty-1.0.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text("[purebench.defenses]\nbad = faulty_defense:Bad\n")
    (tmp_path / "site" / "faulty_defense.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "faulty_defense", raising=False)
    registry.entries.cache_clear()
    try:
        assert complaint in " ".join(purebench("ls", "defenses").out.split())
        assert purebench("run", plain, "--db", db).code == 0
        (tmp_path / "asks.yaml").write_text(PLAIN.replace("use: none", "use: faulty/bad"))
        said = purebench("validate", tmp_path / "asks.yaml")
    finally:
        registry.entries.cache_clear()
    assert said.code == 2
    assert f"expected defense 'faulty/bad' at faulty_defense:Bad (from faulty 1.0), but {complaint}" in said.sentence
    assert said.sentence.endswith("repair or uninstall faulty")


# ---------------------------------------------------------------------- other runs, and signals


@pytest.mark.usefixtures("pretending")
def test_a_second_run_on_one_sqlite_file_is_refused(purebench: Callable[..., Said], db: Path) -> None:
    first = Store.open(str(db), create=True)
    with first.hold():
        said = purebench("run", TINY, "--db", db)
    assert said.code == 2
    assert said.sentence == (
        f"expected to be the only run that writes to {db}, but another one is under way; wait for it, or "
        "take a PostgreSQL database, where several runs may work on one suite"
    )
    assert purebench("run", TINY, "--db", db).code == 0


#: the command line, with workers that end two jobs at once and the others when they are told to, and bring nothing
SLOWLY = """
    import sys
    from harness.core.result import Cost, Done
    from harness.execution.driver import launch
    from harness.execution.executors.devices import seats
    from harness.execution.executors.local import LocalExecutor

    def slowly(job, folder, terms, progress):
        import time
        folder.root.mkdir(parents=True, exist_ok=True)
        while not (one_of_two(folder.root) or (folder.root / "finish").exists()):
            time.sleep(0.05)
        return Done() if job.kind != "evaluate" else measured(job)

    def one_of_two(root):
        for name in ("first", "second"):
            try:
                (root / name).touch(exist_ok=False)
            except FileExistsError:
                continue
            return True
        return False

    def measured(job):
        from harness.core.result import Artifact, Outcome
        places = range(job.shard.start, job.shard.stop)
        repeats = range(job.first_repeat, job.stop_repeat)
        seen = tuple(Outcome(place, place, repeat, 1, 1, True) for place in places for repeat in repeats)
        cost = Cost(images=len(seen))
        return Done(outcomes=seen, defense_cost=cost, attack_cost=job.craft and cost)

    launch.Workers.open = lambda self, folder, jobs: LocalExecutor(folder, seats("cpu", 2), slowly)
    from harness.artifacts import Folder
    Folder.has_made = lambda self, job: True
    from harness.cli.commands import main
    main()
"""


def interrupted(command: list[str], environment: dict[str, str], signals: list[int], db: Path, after: int = 2) -> Said:
    """Run a command and signal it as a terminal does, workers and all.

    The first signal comes once so many jobs have ended and another is under way, the second once the run has said
    that it is stopping. Where there is no second one, jobs that wait to be told are told to end.
    """
    left = list(signals)
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as driver:
        assert driver.stderr is not None
        told = []
        for line in driver.stderr:
            told.append(line)
            due = line.startswith(f"[{after}/") if len(left) == len(signals) else line.startswith("stopping")
            if left and due:
                while driver.poll() is None and "running" not in statuses(db):
                    time.sleep(0.02)
                with suppress(ProcessLookupError):
                    os.killpg(driver.pid, left.pop(0))
            elif line.startswith("stopping"):
                (Path(environment["PUREBENCH_HOME"]) / "finish").touch()
    return Said(driver.returncode, "", "".join(told))


@pytest.mark.parametrize(
    "signals",
    [
        pytest.param([signal.SIGINT], id="once", marks=pytest.mark.slow),
        pytest.param([signal.SIGINT, signal.SIGINT], id="twice"),
        pytest.param([signal.SIGTERM], id="terminated"),
    ],
)
def test_a_signal_ends_a_run_that_can_be_continued(tiny_bench: type[Bench], tmp_path: Path, signals: list[int]) -> None:
    bench = tiny_bench.at(tmp_path)
    command = [
        sys.executable,
        "-P",
        "-c",
        textwrap.dedent(SLOWLY),
        *bench.command("run", TINY, "--db", str(bench.db))[4:],
    ]
    said = interrupted(command, bench.environment, signals, bench.db)
    assert said.code == 130, said.err
    assert said.sentence == "interrupted; the same command continues where it stopped"
    found = statuses(bench.db)
    assert "running" not in found
    assert "done" in found
    assert ("interrupted" in found) == (len(signals) == 2 or signals == [signal.SIGTERM])
    assert ("stopping: finishing" in said.err) == (signals[0] == signal.SIGINT)


@pytest.mark.slow
def test_a_run_that_is_signalled_in_every_way_ends_as_an_undisturbed_one(tiny: Bench, tmp_path: Path) -> None:
    bench = type(tiny).at(tmp_path)
    command = bench.command("run", TINY, "--db", str(bench.db), "--workers", "2")
    for signals in ([signal.SIGINT], [signal.SIGINT, signal.SIGINT], [signal.SIGTERM]):
        said = interrupted(command, bench.environment, signals, bench.db)
        assert said.code == 130, said.err
    bench.run("tiny", "--workers", "2")
    pd.testing.assert_frame_equal(examples(bench.db), examples(tiny.db), check_exact=True)
