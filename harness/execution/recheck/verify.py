"""Verify: a random part of what a database says, computed again with the code and the weights at hand.

Attacks are crafted again too, into a folder that is thrown away; networks are not trained again: their files must be
those that were used. Nothing is written to the database, but that results of another origin were found equal.
"""

from __future__ import annotations

import secrets
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness.artifacts import Folder
from harness.core.cell import Cell, Labels
from harness.core.code_hashes import called
from harness.core.code_hashes import unlike as changed_roles
from harness.core.declaration import Declaration, Member
from harness.core.errors import UserError
from harness.core.extras import lacking
from harness.core.local import entry_of
from harness.core.metric import AskedMetric
from harness.core.rectangle import Rectangle
from harness.core.spec import short
from harness.execution.driver.progress import watcher
from harness.execution.driver.scheduler import Limits, run
from harness.execution.driver.signals import Stop
from harness.execution.executors.devices import seats
from harness.execution.executors.local import LocalExecutor
from harness.execution.recheck.result_comparison import (
    Tolerance,
    beyond_tolerance,
    changes,
    first_difference,
    measured_again,
    passes,
)
from harness.store.database import connect
from harness.store.read.origins import confirm, find_origin
from harness.store.read.results import Recorded, attempted, outcomes, sample, seen
from harness.store.write.store import Store
from harness.suite.components import BESIDE_OPTIONS
from harness.suite.grid import member_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from rich.console import Console
    from sqlalchemy import Engine

    from harness.core.job import Craft, Evaluate, Job
    from harness.core.result import Done
    from harness.core.spec import Spec
    from harness.execution.executors.executor import Executor
    from harness.store.read.origins import Origin


class Agreement(StrEnum):
    """What became of a result."""

    EQUAL = "equal"
    WITHIN = "within"
    DIFFERENT = "different"
    FAILED = "failed"
    UNVERIFIABLE = "not verifiable"


@dataclass(frozen=True)
class VerifiedResult:
    """What became of a result, and a sentence on it; empty where there is nothing to say."""

    result: Recorded
    state: Agreement
    said: str = ""


class SameCode(NamedTuple):
    """Two hashes of a component's code that gave equal results, and how many results; a line of the shipped list."""

    named: str
    before: str
    now: str
    results: int

    def __str__(self) -> str:
        """Write the line."""
        return f"{self.before} {self.now}  # {self.named}: {self.results} results equal to the last bit"


@dataclass(frozen=True)
class Verified:
    """What a verification found.

    Attributes:
        findings: one for each result of the sample.
        total: how many results there are.
        tolerance: what was allowed where hardware or versions are others.
        elsewhere: in what the recorded environments are others, a sentence per fact.
        batches: adversarial batches that were crafted again and could be compared with the recorded file.
        equal_batches: those of them that have the same numbers to the last bit.
        adopted: cells of another origin that may rank by it.
        seed: by which the sample was drawn.
        same_code: what other code did before and the code at hand does to the last bit: role and component, the two
            hashes, and how many results show it.
    """

    findings: tuple[VerifiedResult, ...]
    total: int
    tolerance: Tolerance
    elsewhere: tuple[str, ...] = ()
    batches: int = 0
    equal_batches: int = 0
    same_code: tuple[SameCode, ...] = ()
    adopted: int | None = None
    seed: int = 0

    def count(self, *states: Agreement) -> int:
        """Return how many results are in some states."""
        return sum(one.state in states for one in self.findings)

    @property
    def checked(self) -> int:
        """How many results were computed again."""
        return self.count(Agreement.EQUAL, Agreement.WITHIN, Agreement.DIFFERENT)

    @property
    def sound(self) -> bool:
        """Whether something was checked, and nothing differed or failed."""
        return self.checked > 0 and not self.count(Agreement.DIFFERENT, Agreement.FAILED)


def verify(
    url: str,
    folder: Folder,
    console: Console,
    *,
    fraction: float,
    seed: int | None = None,
    suite: str | None = None,
    origin: str | None = None,
    devices: str = "auto",
    workers: int | None = None,
    tolerance: Tolerance | None = None,
    allowed_calls: Collection[str] = (),
    executor: Callable[[Folder, int], Executor] | None = None,
) -> Verified:
    """Compute a part of the results again and compare: to the last bit where hardware and versions are the same.

    Results of another origin that hold are recorded as confirmed, unless one of the sample does not hold.

    Args:
        url: the database.
        folder: where the networks are, and perhaps the adversarial batches; only read.
        console: where progress is shown.
        fraction: of the results, above 0 and up to 1.
        seed: which ones; the same seed takes the same. None is 0, or for another origin drawn at random: who computed
            them must not know which will be looked at.
        suite: only this suite's.
        origin: only what came from there, as ``harness.store.read.origins.find_origin`` takes it, and was not
            measured here.
        devices: see ``harness.execution.executors.devices.seats``.
        workers: processes on the CPU.
        tolerance: what is allowed elsewhere.
        allowed_calls: functions, as ``module:name``, that recorded components may name and have called: a database
            may name any.
        executor: makes who does so many jobs in a folder; worker processes on the devices if None.

    Raises:
        UserError: for a mistake in the arguments.
    """
    store, allowed, sitting = Store.open(url), tolerance or Tolerance(), seats(devices, workers)

    def local(folder: Folder, jobs: int) -> Executor:
        return LocalExecutor(folder, sitting[:jobs])

    other = None if origin is None else find_origin(store, origin)
    if seed is None:
        seed = 0 if other is None else secrets.randbits(32)
    drawn = sample(store, fraction, seed, suite, other)
    desk = _Desk(store, folder, allowed_calls)
    tasks = [desk.task(result) for result in drawn.results]
    found = {
        task.result.id: VerifiedResult(task.result, Agreement.UNVERIFIABLE, task.hindrance)
        for task in tasks
        if not task.job
    }
    there = [task for task in tasks if task.job]
    with tempfile.TemporaryDirectory(prefix="purebench-verify-") as scratch:
        bench = _Bench(Path(scratch), store, folder, there, allowed, other)
        if there:
            bench.work(executor or local, console)
        found |= bench.found
    verified = Verified(
        tuple(found[result.id] for result in drawn.results),
        drawn.total,
        allowed,
        tuple(sorted(bench.elsewhere)),
        len(bench.batches),
        sum(bench.batches.values()),
        tuple(SameCode(*pair, number) for pair, number in sorted(bench.same_code.items()) if pair not in bench.unlike),
        seed=seed,
    )
    return verified if other is None else replace(verified, adopted=_adopt(store, verified))


def _adopt(store: Store, verified: Verified) -> int:
    """Record what held, and of the cells that may rank by it what their defenses are; return how many cells that is."""
    if not verified.sound:
        return 0
    held = [one.result for one in verified.findings if one.state in (Agreement.EQUAL, Agreement.WITHIN)]
    cells = {result.cell: Cell.from_dict(result.spec, result.labels) for result in held}
    store.tell([member_of(cell) for cell in cells.values()])
    return confirm(store, [result.id for result in held])


# ---------------------------------------------------------------------- what can be done again


@dataclass(frozen=True)
class _Task:
    """A result with the job that measures it again, or with the reason why there is none."""

    result: Recorded
    job: Evaluate | None = None
    hindrance: str = ""


class _Desk:
    """Makes jobs of recorded results, from what is installed and at hand."""

    def __init__(self, store: Store, folder: Folder, calls: Collection[str] = ()) -> None:
        self.store, self.folder, self.calls = store, folder, calls
        self._hashes: dict[str, str | None] = {}
        self._contents: dict[str, str] = {}

    def task(self, result: Recorded) -> _Task:
        """Return what there is to do."""
        try:
            cell = Cell.from_dict(result.spec, result.labels)
            if cell.digest != result.cell:
                raise UserError("its cell is not what its digest says; see `purebench db check`")
            for spec in (*cell.components(), *(one.metric for one in result.measures)):
                self._installed(spec)
            for recipe in cell.networks():
                self._at_hand(recipe, result.weights)
            for one in result.measures:
                for recipe in one.metric.stands_on():
                    self._at_hand(recipe, one.weights)
            job = result.evaluation(cell)
            if job is None:
                raise UserError("it is a part of what its job measured, and of which shard that was is not recorded")
        except UserError as error:
            return _Task(result, hindrance=str(error))
        except Exception as error:  # what a stranger recorded of a component may be none of its options
            return _Task(result, hindrance=f"it cannot be made again from what is recorded ({type(error).__name__})")
        return _Task(result, job)

    def _installed(self, spec: Spec) -> None:
        """Hold a component against the recorded one.

        Raises:
            UserError: if it is not installed, or in another version, or lacks a package, or its data are others.
        """
        component = entry_of(spec).load()
        if component.version != spec.version:
            raise UserError(
                f"{spec.kind} {spec.use} is recorded in version {spec.version}, installed in {component.version}"
            )
        for _, problem in lacking(spec.kind, spec.use, spec.params):
            raise UserError(problem)
        target = component.runs(spec.params)
        if target is not None and target not in self.calls:
            raise UserError(f"it calls {target}: a database may name anything; allow it by --code {target}")
        if spec.kind == "dataset":
            if spec.digest not in self._contents:
                params = {name: value for name, value in spec.params.items() if name not in BESIDE_OPTIONS}
                self._contents[spec.digest] = component(component.Options.model_validate(params)).card.sha256
            recorded = str(spec.params.get("content", "none"))
            if self._contents[spec.digest] != recorded:
                there = short(self._contents[spec.digest])
                raise UserError(f"{spec.use} at hand has content {there}, recorded {short(recorded)}")

    def _at_hand(self, recipe: Spec, weights: Mapping[str, str]) -> None:
        """Hold a network's file against the recorded one.

        Raises:
            UserError: if it is missing, or another.
        """
        recorded = weights.get(recipe.digest)
        if recipe.digest not in self._hashes:
            self._hashes[recipe.digest] = self.folder.sha256("weights", recipe.digest)
        called = [label for label in seen(self.store, "weights", recipe.digest).values() if label]
        there, name = self._hashes[recipe.digest], f"weights of {(called or [short(recipe.digest)])[0]}"
        if there is None:
            raise UserError(f"{name} are not in {self.folder.root}, and trainings are not repeated")
        if recorded is None:
            raise UserError(f"{name} were not recorded with it")
        if there != recorded:
            raise UserError(f"{name} in {self.folder.root} are {short(there)}, recorded {short(recorded)}")


# ---------------------------------------------------------------------- doing it again


class _Keeper(Store):
    """The database of the work that is done again: it hands over every result, and is thrown away with the folder."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.done: dict[str, tuple[Done, int | None]] = {}

    def finish(self, attempt: int, job: Job, done: Done) -> bool:
        """Keep what a job brought, and how many images it took at a time."""
        well = super().finish(attempt, job, done)
        if well:
            self.done[job.digest] = done, attempted(self, job.digest).batch_size
        return well


def _with_metrics(tasks: Sequence[_Task]) -> dict[str, Evaluate]:
    """Return the jobs of tasks by their digest, each with the metrics of all results that it measures again."""
    jobs = {task.job.digest: task.job for task in tasks if task.job}
    metrics: dict[str, dict[str, Spec]] = {digest: {} for digest in jobs}
    for task in tasks:
        if task.job is not None:
            metrics[task.job.digest] |= {one.metric.digest: one.metric for one in task.result.measures}
    return {digest: replace(job, metrics=tuple(metrics[digest].values())) for digest, job in jobs.items()}


class _Bench:
    """The work that is done again, in a folder of its own, and what it shows."""

    def __init__(
        self,
        scratch: Path,
        store: Store,
        folder: Folder,
        tasks: Sequence[_Task],
        allowed: Tolerance,
        origin: Origin | None = None,
    ) -> None:
        self.store, self.recorded, self.tasks, self.allowed = store, folder, tasks, allowed
        self.folder, self.database = Folder(scratch / "home"), scratch / "again.db"
        self.found: dict[int, VerifiedResult] = {}
        self.elsewhere: set[str] = set()
        self.batches: dict[str, bool] = {}
        self.same_code: Counter[tuple[str, str, str]] = Counter()
        self.unlike: set[tuple[str, str, str]] = set()
        self.again = _with_metrics(tasks)
        evaluations = {job.digest: job for job in self.again.values()}
        self.crafts = {job.craft.digest: job.craft for job in evaluations.values() if job.craft}
        self.jobs: list[Job] = [*self.crafts.values(), *evaluations.values()]
        self.before = {craft: attempted(store, craft, origin) for craft in self.crafts}
        for task in tasks:
            if task.job is not None:
                self.before[self.again[task.job.digest].digest] = attempted(store, task.result.job, origin)

    def work(self, executor: Callable[[Folder, int], Executor], console: Console) -> None:
        """Do every job and compare."""
        self._furnish()
        keeper = _Keeper(connect(str(self.database), create=True))
        keeper.declare(self._declaration())
        # images at a time change the order of additions: as many as then
        sizes = {digest: how.batch_size for digest, how in self.before.items() if how.batch_size}
        try:
            with Stop() as stop:
                crew = executor(self.folder, len(self.jobs))
                summary = run(self.jobs, keeper, crew, watcher(console), Limits(sizes=sizes), stop)
        finally:
            keeper.engine.dispose()
        reasons = {job.digest: reason for job, reason in (*summary.failed, *summary.skipped)}
        for task in self.tasks:
            if task.job is not None:
                job = self.again[task.job.digest]
                self.found[task.result.id] = self._judge(task.result, job, keeper.done, reasons)

    def _furnish(self) -> None:
        """Lay links to the networks into the folder."""
        for job in self.again.values():
            for recipe in job.networks:
                link = self.folder.path("weights", recipe.digest)
                if not link.exists():
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(self.recorded.path("weights", recipe.digest).absolute())

    def _declaration(self) -> Declaration:
        cells = {task.job.cell.digest: task.job.cell for task in self.tasks if task.job}
        members = tuple(
            Member(Labels(str(number), "", ""), cell, random=False) for number, cell in enumerate(cells.values())
        )
        metrics = {one.digest: one for job in self.again.values() for one in job.metrics}
        asked = tuple(AskedMetric(metric, ()) for metric in metrics.values())
        return Declaration("verify", "", "", "mean", 1, 1, 1, members, asked)

    def _judge(
        self,
        result: Recorded,
        job: Evaluate,
        done: Mapping[str, tuple[Done, int | None]],
        reasons: Mapping[str, str],
    ) -> VerifiedResult:
        """Compare a result with what its job brought now."""
        if job.digest not in done:
            return VerifiedResult(result, Agreement.FAILED, reasons.get(job.digest, "it was not done"))
        again, _ = done[job.digest]
        told = outcomes(self.store, result)
        mine = sorted(
            (one for one in again.outcomes if result.rectangle.holds(one.place, one.repeat)),
            key=lambda one: (one.place, one.repeat),
        )
        alike = self._alike(job, done)
        unlike = first_difference(told, mine)
        if not unlike and result.rectangle.size == len(again.outcomes):
            unlike = passes(result, again)
        if job.craft and self._same_batch(job.craft) is False and alike and not unlike:
            unlike = "its adversarial batch is not the recorded one"
        whole = Rectangle(job.shard.start, job.shard.stop, job.first_repeat, job.stop_repeat)
        metrics = measured_again(result, again, whole)
        unlike = unlike or next(filter(None, (one.first_difference() for one in metrics)), "")
        changed = changed_roles(result.code, again.code)
        pairs = {
            (named, result.code[role], again.code[role])
            for role, named in zip(changed, called(job.cell, changed), strict=True)
        }
        for one in metrics:
            its = changed_roles(one.recorded.code, one.code)
            pairs |= {(one.named, one.recorded.code[role], one.code[role]) for role in its}
            changed = (*changed, *its)
        if not unlike:
            self.same_code.update(pairs)
            return VerifiedResult(result, Agreement.EQUAL)
        self.unlike |= pairs
        unlike += f" (the source of its {' and '.join(changed)} has changed)" if changed else ""
        if alike:
            return VerifiedResult(result, Agreement.DIFFERENT, unlike)
        beyond = beyond_tolerance(told, mine, self.allowed)
        beyond = beyond or next(filter(None, (one.beyond_tolerance(self.allowed) for one in metrics)), "")
        return VerifiedResult(result, Agreement.DIFFERENT if beyond else Agreement.WITHIN, beyond or unlike)

    def _alike(self, job: Evaluate, done: Mapping[str, tuple[Done, int | None]]) -> bool:
        """Whether an evaluation, and the craft behind it, were done as then: where, and how many images at a time."""
        alike = True
        for one in (job, job.craft):
            if one is not None:
                (again, size), before = done[one.digest], self.before[one.digest]
                found = list(changes(before, again, size))
                self.elsewhere.update(found)
                alike = alike and not found
        return alike

    def _same_batch(self, craft: Craft) -> bool | None:
        """Whether a batch has the numbers of the recorded file; None where that file is not at hand."""
        if craft.digest not in self.batches:
            there = self.recorded.sha256("adversarial", craft.digest)
            if there is None or there not in seen(self.store, "adversarial", craft.digest):
                return None
            numbers = [folder.numbers("adversarial", craft.digest) for folder in (self.recorded, self.folder)]
            self.batches[craft.digest] = numbers[0] == numbers[1]
        return self.batches[craft.digest]
