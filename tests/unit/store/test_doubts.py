"""Cells that a mended fault could have touched are named, each with the fault; and no others."""

from __future__ import annotations

import importlib
import sqlite3
from dataclasses import replace

import pytest
from measured import measurements, metric, outcomes, row
from typer.testing import CliRunner

from harness.artifacts import Folder
from harness.cli.commands import app
from harness.core.cell import Cell, Labels, Shard
from harness.core.declaration import Declaration, Member
from harness.core.job import Evaluate, Measure
from harness.core.registry import TABLES
from harness.core.result import Cost, Done
from harness.core.spec import Spec, digest_of, short
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.store.tend.check import check
from harness.store.tend.doubts import FAULTS, LOST, LOST_GRADIENTS, OURS, SMALL_GRADIENTS, UNLIKE_CODE
from harness.store.write.store import Store

DATA = Spec.of("dataset", "digits", 1, {})
DISTANCES = metric("distances")


def trained(version=9, norm=None):
    """A recipe, which may be trained against a version of PGD under a budget of a norm."""
    budget = {} if norm is None else {"threat_model": {"use": norm, "params": {"eps": 0.5}}}
    parts = {"dataset": DATA} if norm is None else {"dataset": DATA, "attack": Spec.of("attack", "pgd", version, {})}
    return Spec.of("recipe", "cnn", 1, {"objective": {"use": "adversarial"}, **budget}, parts)


def cell(attack="pgd", version=9, norm=Norm.LINF, defense=("none", 9), net=None):
    """A cell of versions without a fault, but for what is told."""
    return Cell(
        dataset=DATA,
        classifier=Spec.of("classifier", "recipe", 1, {}, {"recipe": net or trained()}),
        defense=Spec.of("defense", defense[0], defense[1], {}),
        attack=Spec.of("attack", attack, version, {}),
        threat=ThreatModel(norm, 0.5, Knowledge.BPDA),
        seed=0,
        subset_seed=0,
    )


class Lab:
    def __init__(self, path):
        self.path, self.store, self.cells = path, Store.open(str(path), create=True), {}

    def measure(self, what, start=0, stop=4, linf=0.1, correct=True, code=None, notes=None):
        labels = Labels("digits", "cnn", what.defense.use, what.attack.use, what.threat.norm.value)
        self.cells[what.digest] = what
        members = [Member(labels, one, False) for one in self.cells.values()][-1:]
        self.store.declare(Declaration(f"toy-{len(self.cells)}", "", "", "mean", 8, 1, 4, tuple(members), (DISTANCES,)))
        rows = self.rows(start, stop, linf, correct)
        job = Evaluate(what, Shard(start // 4, start, stop), 0, 1, (DISTANCES.spec,))
        done = Done(
            (), outcomes(rows), Cost(stop - start), Cost(stop - start), measurements=measurements(rows, [DISTANCES])
        )
        assert self.store.finish(self.store.queue.claim(job), job, replace(done, code=code or {}, notes=notes))
        return what.digest

    def take(self, what, linf, start=0, stop=4):
        """Take the distances of what was measured again, by other code."""
        (covered,) = self.store.covered([what.digest])[what.digest]
        job = Measure(what, Shard(0, start, stop), 0, 1, (DISTANCES.spec,), covered.version.digest)
        given = [
            replace(one, code={"metric": "b" * 64}) for one in measurements(self.rows(start, stop, linf), [DISTANCES])
        ]
        assert self.store.finish(self.store.queue.claim(job), job, Done(measurements=tuple(given)))

    def rows(self, start, stop, linf, correct=True):
        return [row(n, n, 0, 1, 1 if correct else 2, correct, linf=linf, l2=linf) for n in range(start, stop)]

    def doubts(self, folder):
        found = check(str(self.path), folder)
        assert found.findings == ()
        return list(found.doubts)


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path / "runs.db")


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "home")


@pytest.mark.parametrize("norm", [Norm.L2, Norm.L1])
@pytest.mark.parametrize("attack", FAULTS[0].below)
def test_steps_that_vanished_are_in_doubt_in_the_norms_where_they_did(lab, folder, attack, norm):
    touched = lab.measure(cell(attack, version=1, norm=norm))
    lab.measure(cell(attack, version=1))
    lab.measure(cell(attack, version=FAULTS[0].below[attack], norm=norm))
    (said,) = lab.doubts(folder)
    assert short(touched) in said
    assert f"digits/cnn/none/{attack}/{norm.value}" in said
    assert f"{SMALL_GRADIENTS} ({attack} 1)" in said


def test_networks_that_were_trained_by_vanishing_steps_are_in_doubt_under_every_budget(lab, folder):
    touched = lab.measure(cell(net=trained(1, "L2")))
    lab.measure(cell(net=trained(1, "Linf")))
    lab.measure(cell(net=trained(2, "L2")))
    (said,) = lab.doubts(folder)
    assert short(touched) in said
    assert said.endswith(f"{SMALL_GRADIENTS} (its network is trained by adversarial in L2)")


@pytest.mark.parametrize("fault", [one for one in FAULTS if one.kind == "defense"])
def test_a_defense_of_a_version_with_a_fault_is_in_doubt(lab, folder, fault):
    for use, below in fault.below.items():
        touched = lab.measure(cell(defense=(use, below - 1)))
        lab.measure(cell(defense=(use, below)))
        (said,) = lab.doubts(folder)
        assert short(touched) in said
        assert said.endswith(f"{fault.said} ({use} {below - 1})")


def test_an_attack_without_a_gradient_is_in_doubt(lab, folder):
    kept = lab.measure(cell(version=LOST["pgd"] - 1), linf=0.0)
    lab.measure(cell(version=LOST["pgd"]), linf=0.0)  # it goes on since, and says so itself
    lab.measure(cell(version=1, defense=("blur", 9)), linf=0.0, correct=False)
    lab.measure(cell("square", version=1), linf=0.0)  # it has no gradient to lose
    lost = lab.measure(cell("apgd", version=1), notes={"zero_gradient": (0.0, 8), "noise_share_lost": (3.0, 3)})
    lab.measure(cell("apgd", version=LOST["apgd"]), notes={"noise_share_lost": (3.0, 3)})
    lab.measure(cell("deepfool", version=1), notes={"distance_lost": (3.0, 3)})
    one, other = sorted(lab.doubts(folder), key=lambda said: short(kept) not in said)
    assert LOST_GRADIENTS in one
    assert one.endswith("(4 outcomes are of clean images)")
    assert short(lost) in other
    assert other.endswith("(noise share was not finite)")


def test_images_that_were_not_moved_count_once_and_as_their_distance_was_taken_last(lab, folder):
    what, other = cell(version=LOST["pgd"] - 1), cell("apgd", version=LOST["apgd"] - 1)
    for one in (what, other):
        lab.measure(one, linf=0.0)
    lab.take(what, linf=0.0)
    lab.take(other, linf=0.5)
    (said,) = lab.doubts(folder)
    assert short(what.digest) in said
    assert said.endswith("(4 outcomes are of clean images)")


def test_results_of_unlike_code_that_count_together_are_in_doubt(lab, folder):
    """As in databases where an edited plug-in counted as done."""
    touched, alike = (cell(defense=(name, 9)) for name in ("blur", "jpeg"))
    for what, codes in ((touched, ("a" * 64, "b" * 64)), (alike, ("a" * 64, "a" * 64))):
        for number, code in enumerate(codes):
            lab.measure(what, 4 * number, 4 * number + 4, code={"defense": code})
    lab.measure(cell())  # by code that nobody kept
    with sqlite3.connect(lab.path) as connection:
        for statement in ("UPDATE results SET weights = ?", "UPDATE cells SET current = ?"):
            connection.execute(statement, (digest_of({}),))
    (said,) = lab.doubts(folder)
    assert short(touched.digest) in said
    assert said.endswith(f"{UNLIKE_CODE} (of its defense)")


def test_whoever_kept_old_code_is_told_of_what_it_did(lab, folder):
    what = cell()
    lab.measure(what, code={"attack": "tree:1"})
    (covered,) = lab.store.covered([what.digest])[what.digest]
    lab.store.kept = {what.digest: covered.version.digest}
    lab.measure(what, 4, 8, code={"attack": "tree:2"})
    (said,) = lab.doubts(folder)
    assert said.endswith(f"{UNLIKE_CODE} (of its attack)")


def test_a_database_in_doubt_is_sound(lab):
    lab.measure(cell(version=1, norm=Norm.L2))
    done = CliRunner().invoke(app, ["db", "check", str(lab.path)])
    assert done.exit_code == 0
    assert done.stdout.count("in doubt: cell") == 1
    assert "sound: 1 suites, 1 cells" in done.stdout


def test_the_table_names_what_is_registered():
    for fault in FAULTS:
        known = importlib.import_module(TABLES[fault.kind]).TABLE
        assert fault.below.keys() <= known.keys()
    assert {*LOST, *OURS} <= importlib.import_module(TABLES["attack"]).TABLE.keys()
