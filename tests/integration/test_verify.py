"""What was recorded is found again; what was tampered with, or cannot be computed again, is found out."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from rich.console import Console
from sqlalchemy import select, update

from harness.artifacts import Folder
from harness.cli.render import verified_lines
from harness.core.code_hashes import read_groups
from harness.core.errors import UserError
from harness.core.spec import digest_of
from harness.execution.driver.progress import watcher
from harness.execution.driver.scheduler import Limits, run
from harness.execution.executors.inline import InlineExecutor
from harness.execution.recheck.result_comparison import Tolerance
from harness.execution.recheck.verify import Agreement, Verified, verify
from harness.store.read.origins import origins
from harness.store.read.provenance import provenance
from harness.store.read.results import sample
from harness.store.tables import OutcomeRow, ResultRow
from harness.store.tend.check import check
from harness.store.tend.merge import merge
from harness.store.write.aggregates import aggregate
from harness.store.write.store import Store
from harness.suite.load import load_suite
from harness.suite.plan import make_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from conftest import Bench
    from sqlalchemy import Connection, Row

SUITE = Path(__file__).parent / "suites" / "tiny.yaml"


def inline(folder: Folder, jobs: int) -> InlineExecutor:
    return InlineExecutor(folder)


@dataclass(frozen=True)
class Desk:
    """A database with its artifacts; a copy of both may be tampered with."""

    db: Path
    home: Folder

    def verify(self, fraction: float = 1.0, **options: Any) -> Verified:
        console = Console(file=io.StringIO())
        return verify(str(self.db), self.home, console, fraction=fraction, executor=inline, **options)

    def write(self, statement: str, *values: object) -> int:
        with sqlite3.connect(self.db) as connection:
            changed = connection.execute(statement, values).rowcount
        connection.close()
        return changed

    def stretch(self, one: dict[str, Any], factor: float, place: int | None = None) -> None:
        """Change the L2 distances of a result, of all places or of one."""
        ((numbers,),) = self.read("select numbers from measures where result = ? and names = 'linf,l2'", one["id"])
        ((start, stop),) = self.read("select start, stop from results where id = ?", one["id"])
        changed = np.frombuffer(numbers).reshape(2, stop - start, -1).copy()
        changed[1, slice(None) if place is None else place] *= factor
        told = "update measures set numbers = ? where result = ? and names = 'linf,l2'"
        assert self.write(told, changed.tobytes(), one["id"]) == 1

    def cut(self, result: int, other: int, place: int) -> None:
        """Give another result what metrics gave of the places from one on."""
        ((start, stop),) = self.read("select start, stop from results where id = ?", result)
        columns = [row[1] for row in self.read("pragma table_info(measures)")]
        for row in self.read("select * from measures where result = ?", result):
            told = dict(zip(columns, row, strict=True))
            grid = np.frombuffer(told["numbers"]).reshape(len(told["names"].split(",")), stop - start, -1)
            for key, part in ((other, grid[:, place - start :]), (result, grid[:, : place - start])):
                values = {**told, "result": key, "numbers": part.tobytes()}
                marks = ", ".join("?" for _ in columns)
                self.write(f"insert or replace into measures values ({marks})", *values.values())

    def read(self, query: str, *values: object) -> list[Any]:
        connection = sqlite3.connect(self.db)
        try:
            return connection.execute(query, values).fetchall()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Two defenses of the tiny suite, one of them random, three images at a time."""
    folder = tmp_path_factory.mktemp("recorded")
    desk = Desk(folder / "runs.db", Folder(folder / "home"))
    suite, store = load_suite(str(SUITE)), Store.open(str(desk.db), create=True)
    store.declare(suite.declaration())
    jobs = make_plan(suite, store, desk.home, only="defense=none|dmae").jobs
    tally = run(jobs, store, InlineExecutor(desk.home), watcher(Console(file=io.StringIO())), Limits(batch_size=3))
    assert tally.done == len(jobs)
    store.engine.dispose()
    return desk


@pytest.fixture
def desk(recorded: Desk, tmp_path: Path) -> Desk:
    """A copy that may be spoiled."""
    shutil.copy(recorded.db, tmp_path / "runs.db")
    shutil.copytree(recorded.home.root, tmp_path / "home")
    return Desk(tmp_path / "runs.db", Folder(tmp_path / "home"))


def forge(desk: Desk) -> None:
    """Call every outcome of an attacked cell right, and make its aggregates anew."""
    store = Store.open(str(desk.db))
    with store.engine.begin() as connection:
        ((cell,),) = connection.exec_driver_sql(
            "select cell from members where attack = 'pgd' and defense = 'dmae' limit 1"
        )
        results = connection.execute(select(*ResultRow.__table__.columns).where(ResultRow.cell == cell)).all()
        for row in results:
            mine = OutcomeRow.result == row.id
            connection.execute(update(OutcomeRow).where(mine).values(prediction=OutcomeRow.label, correct=True))
        anew(connection, results)
    store.engine.dispose()


def anew(connection: Connection, results: Sequence[Row[Any]]) -> None:
    """Make the aggregates of results from their outcomes."""
    for row in results:
        seen = connection.execute(select(*OutcomeRow.__table__.columns).where(OutcomeRow.result == row.id)).all()
        told = aggregate(seen, row.start, row.stop, row.first_repeat, row.stop_repeat)
        connection.execute(update(ResultRow).where(ResultRow.id == row.id).values(**told._asdict()))


@pytest.fixture
def one(desk: Desk) -> dict[str, Any]:
    """An attacked result of the random defense, by what the database says of it; the seed that draws it alone."""
    seeds = ((seed, sample(Store.open(str(desk.db)), 0.01, seed).results[0]) for seed in range(200))
    return next(
        {"seed": seed, "id": result.id, "cell": result.cell, "labels": result.labels}
        for seed, result in seeds
        if result.labels.defense == "dmae" and result.labels.threat_model == "bpda" and result.rectangle.start == 0
    )


def drawn(desk: Desk, one: dict[str, Any], **options: Any) -> Any:
    found = desk.verify(0.01, seed=one["seed"], **options)
    (finding,) = found.findings
    assert finding.result.id == one["id"]
    return finding, found


def test_everything_is_found_again_to_the_last_bit_and_nothing_is_written(recorded: Desk) -> None:
    before = hashlib.sha256(recorded.db.read_bytes()).hexdigest()
    files = sorted(path for path in recorded.home.root.rglob("*") if path.is_file())
    found = recorded.verify()
    assert found.count(Agreement.EQUAL) == found.total == len(found.findings) == 20
    assert found.sound
    assert (found.batches, found.equal_batches) == (12, 12)
    assert found.elsewhere == ()
    assert hashlib.sha256(recorded.db.read_bytes()).hexdigest() == before
    assert sorted(path for path in recorded.home.root.rglob("*") if path.is_file()) == files
    assert recorded.read("select count(*) from attempts") == [(35,)]


def test_a_server_s_results_are_found_again(recorded: Desk, postgresql: Callable[[], str]) -> None:
    url = postgresql()
    merge([str(recorded.db)], url, own=True)
    found = verify(url, recorded.home, Console(file=io.StringIO()), fraction=0.3, executor=inline)
    assert found.count(Agreement.EQUAL) == len(found.findings) == 6
    assert found.sound


def strange(recorded: Desk, folder: Path) -> Desk:
    """A database of ours that has the recorded one merged as a stranger's; its networks are at hand."""
    merge([str(recorded.db)], str(folder / "ours.db"))
    return Desk(folder / "ours.db", recorded.home)


def test_what_a_stranger_computed_may_rank_once_each_cell_was_computed_again(recorded: Desk, tmp_path: Path) -> None:
    ours = strange(recorded, tmp_path)
    found = ours.verify(0.01, origin="runs.db")
    cells = {one.result.cell for one in found.findings}
    assert len(found.findings) == len(cells) == 10  # one of each cell
    assert found.sound
    assert found.adopted == 10
    assert any(
        line == f"10 cells of that origin may rank by it; --seed {found.seed} draws the same results"
        for line in verified_lines(found)
    )
    (origin,) = origins(Store.open(str(ours.db)))
    assert (origin.cells, origin.adopted) == (10, 10)
    facts = provenance(str(ours.db)).cells
    known = [cell for cell in facts.values() if cell.traits]
    assert len(known) == 10  # by what is installed here
    assert facts.keys() == provenance(str(recorded.db)).cells.keys()
    theirs = provenance(str(recorded.db)).cells
    assert {key: cell.traits for key, cell in facts.items() if cell.started and cell.traits != theirs[key].traits} == {}


def test_which_of_a_strangers_results_are_drawn_nobody_can_know(recorded: Desk, tmp_path: Path) -> None:
    store = Store.open(str(strange(recorded, tmp_path).db))
    (origin,) = origins(store)
    drawn = {frozenset(one.id for one in sample(store, 0.01, seed, origin=origin).results) for seed in range(20)}
    assert len(drawn) > 1
    assert verify.__kwdefaults__["seed"] is None


def test_a_forged_result_that_says_so_throughout_is_found_and_nothing_is_adopted(desk: Desk, tmp_path: Path) -> None:
    """Every outcome of one attacked cell is right, and all that the database says of it agrees."""
    forge(desk)
    ours = strange(desk, tmp_path)
    found = ours.verify(0.01, origin="runs.db")
    assert not found.sound
    assert found.adopted == 0
    (origin,) = origins(Store.open(str(ours.db)))
    assert origin.adopted == 0


def relabel(desk: Desk) -> None:
    """Take for the label whatever was predicted, and make all that follows from it anew."""
    store = Store.open(str(desk.db))
    with store.engine.begin() as connection:
        connection.execute(update(OutcomeRow).values(label=OutcomeRow.prediction, correct=True))
        anew(connection, connection.execute(select(*ResultRow.__table__.columns)).all())
    store.engine.dispose()


def test_labels_that_are_not_those_of_the_dataset_are_found_and_not_merged(desk: Desk, tmp_path: Path) -> None:
    relabel(desk)
    found = check(str(desk.db), desk.home).findings
    assert found
    assert all("has examples or labels that are not those of its dataset" in one for one in found[:3])
    with pytest.raises(UserError, match="not those of its dataset"):
        strange(desk, tmp_path)


def test_examples_that_others_were_taken_for_are_found(desk: Desk) -> None:
    assert desk.write("update outcomes set example = example + 1 where result = 1 and place = 2") > 0
    (found,) = check(str(desk.db), desk.home).findings
    assert "result" in found
    assert "has examples or labels" in found


def test_a_class_that_there_is_not_is_found(desk: Desk) -> None:
    assert desk.write("update outcomes set prediction = 10 where correct = 0") > 0
    found = check(str(desk.db), desk.home).findings
    assert found
    assert all("has class 10 of 10" in one for one in found[:3])


def test_the_same_seed_checks_the_same_part(recorded: Desk) -> None:
    store = Store.open(str(recorded.db))
    parts = [{one.id for one in sample(store, 0.4, seed).results} for seed in (1, 1, 2)]
    assert parts[0] == parts[1] != parts[2]
    assert len(parts[0]) == 8  # of 20
    assert parts[0] < {one.id for one in sample(store, 0.6, 1).results}
    store.engine.dispose()


def test_a_tampered_outcome_is_found(desk: Desk, one: dict[str, Any]) -> None:
    change = "update outcomes set prediction = (prediction + 1) % 10 where result = ? and place = 5 and repeat = 1"
    assert desk.write(change, one["id"]) == 1
    finding, found = drawn(desk, one)
    assert finding.state is Agreement.DIFFERENT
    assert finding.said.startswith("place 5, repeat 1: prediction ")
    assert not found.sound
    said = list(verified_lines(found))
    assert said[0] == "1 of 20 results were drawn, 1 computed again"
    assert said[-1].startswith(
        f"different: cell {one['cell'][:12]} digits/cnn/dmae/pgd/bpda, places 0 to 7, repeats 0 to"
    )


def test_one_bit_of_a_metric_is_found_here_and_let_pass_elsewhere(desk: Desk, one: dict[str, Any]) -> None:
    desk.stretch(one, 1 + 1e-15, place=2)
    finding, _ = drawn(desk, one)
    assert finding.state is Agreement.DIFFERENT
    assert finding.said.startswith("place 2, repeat 0: l2 ")

    elsewhere(desk)
    finding, found = drawn(desk, one)
    assert finding.state is Agreement.WITHIN
    assert found.sound
    assert "torch 1.0 -> " in " ".join(found.elsewhere)
    assert any("2% of a result's outcomes" in line for line in verified_lines(found))


def elsewhere(desk: Desk) -> None:
    """Let everything have been measured with another torch, on another commit."""
    ((digest, facts),) = desk.read("select digest, facts from environments")
    other = {**json.loads(facts), "torch": "1.0", "commit": "0" * 40}
    desk.write("insert into environments values (?, ?)", digest_of(other), json.dumps(other))
    assert desk.write("update attempts set environment = ? where environment = ?", digest_of(other), digest) == 35


def test_more_than_the_tolerance_is_found_elsewhere_too(desk: Desk, one: dict[str, Any]) -> None:
    elsewhere(desk)
    desk.stretch(one, 1.2)
    finding, _ = drawn(desk, one)
    assert finding.state is Agreement.DIFFERENT
    assert finding.said.startswith("the mean of l2 is ")
    finding, _ = drawn(desk, one, tolerance=Tolerance(means=0.2))
    assert finding.state is Agreement.WITHIN
    assert desk.write("update outcomes set prediction = 9 - prediction where result = ? and place < 4", one["id"]) == 8
    finding, _ = drawn(desk, one, tolerance=Tolerance(means=0.2))
    assert finding.said.startswith("8 of 16 predictions differ, first place 0, repeat 0: ")


def test_another_commit_alone_excuses_nothing(desk: Desk, one: dict[str, Any]) -> None:
    ((digest, facts),) = desk.read("select digest, facts from environments")
    other = {**json.loads(facts), "commit": "0" * 40, "dirty": "unknown"}
    desk.write("insert into environments values (?, ?)", digest_of(other), json.dumps(other))
    desk.write("update attempts set environment = ? where environment = ?", digest_of(other), digest)
    desk.stretch(one, 1 + 1e-15)
    code = json.dumps({"defense": "tree:0"})
    assert desk.write("update results set code = ? where id = ?", code, one["id"]) == 1
    finding, found = drawn(desk, one)
    assert finding.state is Agreement.DIFFERENT
    assert finding.said.endswith("(the source of its defense has changed)")
    assert found.same_code == ()


def test_other_code_that_gives_the_same_results_is_told_as_a_line_of_the_shipped_list(
    desk: Desk, one: dict[str, Any]
) -> None:
    ((kept,),) = desk.read(f"select code from results where id = {one['id']}")
    code = {**json.loads(kept), "defense": "tree:0", "attack": "0" * 64}  # of older kinds nothing is known
    desk.write("update results set code = ? where id = ?", json.dumps(code), one["id"])
    finding, found = drawn(desk, one)
    assert finding.state is Agreement.EQUAL
    now = json.loads(kept)["defense"]
    line = list(verified_lines(found))[-1]
    assert line == f"tree:0 {now}  # defense dmae: 1 results equal to the last bit"
    assert read_groups(line)["tree:0"] == {"tree:0", now}


def test_a_count_of_passes_is_a_number_too(desk: Desk, one: dict[str, Any]) -> None:
    assert desk.write("update results set attack_backwards = attack_backwards + 1 where id = ?", one["id"]) == 1
    finding, _ = drawn(desk, one)
    assert finding.state is Agreement.DIFFERENT
    assert finding.said.startswith("attack_backwards ")


def test_missing_and_other_weights_are_reported_with_the_reason(desk: Desk, one: dict[str, Any]) -> None:
    (result,) = sample(Store.open(str(desk.db)), 0.01, one["seed"]).results
    recipe = result.spec["defense"]["parts"]["dmae"]
    tensors, about, before = desk.home.load("weights", digest_of(recipe))
    after = desk.home.save("weights", digest_of(recipe), {name: 1.001 * each for name, each in tensors.items()}, about)
    finding, found = drawn(desk, one)
    assert finding.state is Agreement.UNVERIFIABLE
    assert finding.said == (
        f"weights of tiny-dmae in {desk.home.root} are {after.sha256[:12]}, recorded {before.sha256[:12]}"
    )
    assert not found.sound  # nothing was checked
    desk.home.path("weights", digest_of(recipe)).unlink()
    finding, _ = drawn(desk, one)
    assert finding.said == f"weights of tiny-dmae are not in {desk.home.root}, and trainings are not repeated"
    # the other defense does without them, so that its results are checked all the same
    found = desk.verify(0.5, seed=one["seed"])
    assert found.count(Agreement.EQUAL) + found.count(Agreement.UNVERIFIABLE) == 10
    assert found.count(Agreement.EQUAL) > 0
    assert found.sound


def test_a_component_of_another_version_cannot_be_verified(
    desk: Desk, one: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from attacks.pgd import PGD

    monkeypatch.setattr(PGD, "version", PGD.version + 1)
    finding, _ = drawn(desk, one)
    assert finding.state is Agreement.UNVERIFIABLE
    assert finding.said == f"attack pgd is recorded in version {PGD.version - 1}, installed in {PGD.version}"


def test_a_job_that_fails_is_no_success(desk: Desk, one: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from attacks.pgd import PGD

    def broken(*arguments: object) -> None:
        raise RuntimeError("out of ideas")

    monkeypatch.setattr(PGD, "propose", broken)
    finding, found = drawn(desk, one)
    assert finding.state is Agreement.FAILED
    assert "out of ideas" in finding.said
    assert not found.sound


def test_a_batch_that_is_not_the_recorded_one_is_found(desk: Desk, one: dict[str, Any]) -> None:
    ((name,),) = desk.read("select digest from artifacts where label = 'pgd bpda on dmae+cnn #0'")
    tensors, about, _ = desk.home.load("adversarial", name)
    moved = desk.home.save("adversarial", name, {"proposed": tensors["proposed"] * 0.99}, about)
    finding, found = drawn(desk, one)
    assert (finding.state, found.batches) == (Agreement.EQUAL, 0)  # no file that was recorded: nothing to compare with
    assert desk.write("update artifacts set sha256 = ? where digest = ?", moved.sha256, name) == 1
    finding, found = drawn(desk, one)
    assert (finding.state, finding.said) == (Agreement.DIFFERENT, "its adversarial batch is not the recorded one")
    assert (found.batches, found.equal_batches) == (1, 0)


def test_a_part_of_what_a_job_measured_is_found_again(desk: Desk, one: dict[str, Any]) -> None:
    columns = [row[1] for row in desk.read("pragma table_info(results)")]
    ((number,),) = desk.read("select max(id) + 1 from results")
    chosen = ", ".join({"id": str(number), "start": "3"}.get(name, f'"{name}"') for name in columns)
    desk.write(f"insert into results select {chosen} from results where id = ?", one["id"])
    desk.cut(one["id"], number, 3)
    desk.write("update results set stop = 3 where id = ?", one["id"])
    assert desk.write("update outcomes set result = ? where result = ? and place >= 3", number, one["id"]) == 10
    found = desk.verify()
    assert found.total == 21
    assert found.count(Agreement.EQUAL) == 21
    # the job's digest is all that tells which shard it was
    desk.write("update results set start = 4 where id = ?", number)
    desk.write("delete from outcomes where result = ? and place = 3", number)
    desk.write("pragma foreign_keys = off")
    other = "select digest from jobs where kind = 'train' limit 1"  # another job than that of any result
    desk.write(f"update attempts set job = ({other}) where id in (select attempt from results)")
    assert desk.verify(0.2).count(Agreement.UNVERIFIABLE) == 5


def test_arguments_are_checked(recorded: Desk) -> None:
    for fraction in (0.0, 1.5, -1.0):
        with pytest.raises(UserError, match="expected --fraction above 0 and up to 1"):
            recorded.verify(fraction)
    with pytest.raises(UserError, match="did you mean 'tiny'"):
        recorded.verify(0.1, suite="tini")
    with pytest.raises(UserError, match="expected --flips between 0 and 1"):
        Tolerance(flips=2.0)


def test_the_command_says_what_it_found_and_leaves_with_a_code(
    desk: Desk, one: dict[str, Any], tiny_bench: type[Bench]
) -> None:
    bench = tiny_bench(desk.db, desk.home.root)
    words = ("verify", "--db", str(desk.db), "--fraction", "0.01", "--seed", str(one["seed"]), "--workers", "1")
    done = bench.purebench(*words)
    assert "1 of 20 results were drawn, 1 computed again\n1 equal to the last bit\n" in done.stdout
    assert "[2/2] evaluate digits/cnn/dmae/pgd/bpda #0" in done.stderr
    assert desk.write("update outcomes set prediction = 9 - prediction where result = ? and place = 0", one["id"]) == 2
    done = bench.purebench(*words, code=1)
    assert "1 different\n" in done.stdout
    assert bench.purebench(*words[:3], "--fraction", "2", code=2).stderr.startswith("expected --fraction")
