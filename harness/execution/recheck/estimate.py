"""Estimate: what a plan will cost, from a small part of each kind of its work, done now.

Work is of the same kind where time cannot tell it apart: the same data, architectures, defense, attack and threat
model. It is timed as it is done, in a worker on its device, but in a folder that is thrown away; where a network has
still to be trained, one that was trained for a step or two stands in, since time does not depend on weights.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from harness.artifacts import Folder
from harness.core.cell import Shard
from harness.core.errors import UserError
from harness.core.job import Craft, Evaluate, Train
from harness.core.local import entry_of
from harness.core.spec import Spec, digest_of
from harness.execution.executors.devices import seats
from harness.execution.executors.local import LocalExecutor
from harness.suite.components import build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.console import Console

    from harness.core.cell import Cell
    from harness.core.job import Job
    from harness.core.result import Done
    from harness.suite.plan import Plan

#: nothing is timed that is expected to take longer than so many seconds; what is small tells less, so not too few
PATIENCE = 10.0

#: work that takes longer than so many seconds is timed once only: on one image or step, and without warming up
ENOUGH = 20.0

#: how many times as many images or steps are tried next
GROWTH = 4


@dataclass(frozen=True)
class Timing:
    """How long a kind of work took.

    Attributes:
        points: images or optimiser steps, rising, and the seconds of a job with so many.
        again: seconds of a further repeat with as many as in the last point.
    """

    points: tuple[tuple[int, float], ...]
    again: float = 0.0

    def seconds(self, number: int, repeats: float = 1) -> float:
        """Return how long a job takes with so many images or steps at a time, along the line of the last two points."""
        last, seconds = self.points[-1]
        if len(self.points) == 1:
            return (seconds + (repeats - 1) * self.again) * number / last
        before, less = self.points[-2]
        slope = max(0.0, (seconds - less) / (last - before))
        return max(0.0, seconds + slope * (number - last)) + (repeats - 1) * self.again * number / last


@dataclass(frozen=True)
class EstimateLine:
    """What a part of a plan costs.

    Attributes:
        name: of the defense, or of what defenses share.
        jobs: how many are left.
        seconds: of device time.
        evaluating: seconds per image and repeat; None where nothing is evaluated.
        crafting: seconds per image; None where nothing is crafted.
        rough: whether an attack is in it that leaves images alone once they are wrong: its time does depend on
            weights, so a stand-in may tell too much or too little.
    """

    name: str
    jobs: int
    seconds: float
    evaluating: float | None = None
    crafting: float | None = None
    rough: bool = False


@dataclass(frozen=True)
class PlanEstimate:
    """What a plan costs: a line per defense, and those of what they share.

    Attributes:
        lines: in the order of the plan.
        stand_ins: names of the networks that have still to be trained.
        workers: how many work at a time.
        longest: seconds of the longest job, which no number of workers makes shorter.
    """

    lines: tuple[EstimateLine, ...]
    stand_ins: tuple[str, ...]
    workers: int
    longest: float

    @property
    def seconds(self) -> float:
        """Device time of all."""
        return sum(line.seconds for line in self.lines)

    @property
    def wall(self) -> float:
        """Seconds from the start to the end, where workers are never idle."""
        return max(self.longest, self.seconds / self.workers)


def estimate(
    plan: Plan,
    folder: Folder,
    console: Console,
    *,
    devices: str = "auto",
    workers: int | None = None,
    batch_size: int | None = None,
) -> PlanEstimate:
    """Time each kind of work in a plan, and add up; nothing is written that outlasts the call.

    Args:
        plan: what is to be done.
        folder: where trained networks are; read only.
        console: where progress is shown.
        devices: see ``harness.execution.executors.devices.seats``; the first one is timed.
        workers: processes on the CPU.
        batch_size: images at a time; None: the whole shard.

    Raises:
        UserError: if a device is not there, or a job fails.
    """
    sitting = seats(devices, workers)
    with tempfile.TemporaryDirectory(prefix="purebench-estimate-") as scratch:
        executor = LocalExecutor(Folder(Path(scratch)), sitting[:1])
        try:
            clock = _Clock(executor, folder, batch_size)
            _show(console, plan.jobs, clock.time)
        finally:
            executor.close()
    prices = [(job, clock.price(job)) for job in plan.jobs]
    longest = max((seconds for _, seconds in prices), default=0.0)
    return PlanEstimate(tuple(_lines(prices)), tuple(clock.stand_ins.values()), len(sitting), longest)


def _show(console: Console, jobs: Iterable[Job], time: Callable[[Job], Timing]) -> None:
    """Time a job of each kind, and show which."""
    kinds: dict[str, Job] = {}
    for job in jobs:
        kinds.setdefault(kind(job), job)
    columns = (TextColumn("timing"), BarColumn(bar_width=30), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=len(kinds))
        for job in kinds.values():
            progress.update(bar, description=f"{job.kind} {job}".replace("[", "\\["))
            time(job)
            progress.advance(bar)


class _Clock:
    """Does a little of each kind of work and keeps how long it took."""

    def __init__(self, executor: LocalExecutor, folder: Folder, batch_size: int | None) -> None:
        self.executor, self.folder, self.batch_size = executor, folder, batch_size
        self.timings: dict[str, Timing] = {}
        self.stand_ins: dict[str, str] = {}

    def price(self, job: Job) -> float:
        """Return the seconds of a job whose kind was timed."""
        timing = self.timings[kind(job)]
        if isinstance(job, Train):
            return timing.seconds(job.recipe.params["steps"])
        repeats = _repeats(job) if isinstance(job, Evaluate) else 1
        size = min(self.batch_size or job.shard.size, job.shard.size)
        whole, rest = divmod(job.shard.size, size)
        return whole * timing.seconds(size, repeats) + (timing.seconds(rest, repeats) if rest else 0.0)

    def time(self, job: Job) -> Timing:
        """Time the kind of a job, unless that was done before."""
        if kind(job) not in self.timings:
            if isinstance(job, Train):
                most, needed = max(1, job.recipe.params["steps"]), job.recipe.stands_on()
            else:
                most = min(self.batch_size or job.shard.size, job.shard.size)
                needed = iter(job.networks) if isinstance(job, Evaluate) else job.cell.networks()
            for recipe in needed:
                self._furnish(recipe)
            self.timings[kind(job)] = self._measured(job, most)
        return self.timings[kind(job)]

    def _measured(self, job: Job, most: int) -> Timing:
        """Time jobs that grow until they take long enough, after one for warming up."""
        points: list[tuple[int, float]] = []
        number, warm, again = 1, False, 0.0
        while True:
            done = self._do(_sample(job, number), number)
            if done is None and not points:
                raise UserError(f"expected {job.kind} {job} to fit into the memory with 1 image at a time, it does not")
            if done is None:  # a run would take fewer at a time as well
                return Timing(tuple(points), again)
            if warm or done.seconds > ENOUGH:
                points.append((number, done.seconds))
                again = done.defense_cost.seconds if done.defense_cost else 0.0
                found = Timing(tuple(points), again)
                following = min(most, number * GROWTH)
                tired = found.seconds(following) > PATIENCE if len(points) > 1 else done.seconds > ENOUGH
                if number == most or tired:
                    return found
                number = following
            warm = True

    def _do(self, job: Job, batch_size: int) -> Done | None:
        """Do a job; return None if the memory did not suffice."""
        self.executor.submit(0, job, None if isinstance(job, Train) else batch_size)
        while True:
            for ended in self.executor.wait()[0]:
                if ended.done is None and not ended.out_of_memory:
                    raise UserError(f"expected to time {job.kind} {job}, but it failed: {ended.reason}")
                return ended.done

    def _furnish(self, recipe: Spec) -> None:
        """Lay a network into the scratch folder: the trained one, or what a step of training makes."""
        there = self.executor.folder
        if there.has("weights", recipe.digest):
            return
        source, digest = self.folder, recipe.digest
        if not source.has("weights", digest):
            self.stand_ins[digest] = str(Train(recipe))
            source, first = there, _steps(recipe, 1)
            digest = first.digest
            if not source.has("weights", digest):
                for other in recipe.stands_on():
                    self._furnish(other)
                self._do(Train(first), 1)
        there.place("weights", recipe.digest, source.path("weights", digest).read_bytes())


def kind(job: Job) -> str:
    """Name what the time of a job depends on, and its size does not."""
    if isinstance(job, Train):
        return digest_of(["train", _steps(job.recipe, 1).as_dict()])
    made_of = _glance(job.cell).as_dict() if isinstance(job, Evaluate) else job.cell.crafted_against() or {}
    own = ("certificate",) if isinstance(job, Evaluate) else ("attack", "threat", "surrogate")
    parts = ("dataset", "classifier", "defense", *own)
    metrics = sorted(metric.digest for metric in job.metrics) if isinstance(job, Evaluate) else []
    return digest_of([job.kind, {name: _architecture(made_of[name]) for name in parts if name in made_of}, metrics])


def _architecture(value: Any) -> Any:
    """Return a component's identity with its recipes reduced to the networks that they make."""
    if not isinstance(value, dict):
        return value
    if value.get("kind") == "recipe":
        return {"net": value["params"].get("net"), "parts": value["parts"]}
    return {name: _architecture(part) for name, part in value.items()}


def _steps(recipe: Spec, number: int) -> Spec:
    """Return a recipe with another number of steps."""
    params = {**recipe.params, "steps": number}
    return Spec.of(recipe.kind, recipe.use, recipe.version, params, dict(recipe.parts), recipe.label)


def _glance(cell: Cell) -> Cell:
    """Return a cell whose certificate, if it has one, looks at an image as seldom as can be."""
    spec = cell.certificate
    if spec is None:
        return cell
    params = {**spec.params, **entry_of(spec).load().glance}
    return replace(cell, certificate=Spec.of(spec.kind, spec.use, spec.version, params, dict(spec.parts), spec.label))


def _repeats(job: Evaluate) -> float:
    """Return how many times as long as its sample a job takes: by its repeats, and by the looks of a certificate."""
    repeats = job.stop_repeat - job.first_repeat
    if job.cell.certificate is None:
        return repeats
    looks = [build(cell.certificate).looks for cell in (job.cell, _glance(job.cell)) if cell.certificate]
    return repeats * float(looks[0] / looks[1])


def _sample(job: Job, number: int) -> Job:
    """Return a small job of the same kind; how long it takes to judge an image does not depend on who made it."""
    if isinstance(job, Train):
        return Train(_steps(job.recipe, number))
    if isinstance(job, Craft):
        return Craft(job.cell, Shard(0, 0, number))
    origin = replace(_glance(job.cell), source_classifier=None, source_defense=None)
    cell = replace(origin, attack=None, threat=None, surrogate=None)
    return Evaluate(cell, Shard(0, 0, number), 0, 1, job.metrics)


def _lines(prices: Iterable[tuple[Job, float]]) -> Iterable[EstimateLine]:
    """Yield a line per defense, after those of what defenses share."""
    groups: dict[str, list[tuple[Job, float]]] = {}
    for job, seconds in prices:
        if isinstance(job, Train):
            name = "training"
        elif isinstance(job, Craft) and not (job.cell.threat and job.cell.threat.adaptive):
            name = "crafting for all"
        else:
            name = job.cell.labels.defense
        groups.setdefault(name, []).append((job, seconds))
    for name, mine in groups.items():
        crafts = [(job, seconds) for job, seconds in mine if isinstance(job, Craft)]
        evaluations = [(job, seconds) for job, seconds in mine if isinstance(job, Evaluate)]
        judged = sum(job.shard.size * (job.stop_repeat - job.first_repeat) for job, _ in evaluations)
        attacked = sum(job.shard.size for job, _ in crafts)
        yield EstimateLine(
            name,
            len(mine),
            sum(seconds for _, seconds in mine),
            sum(seconds for _, seconds in evaluations) / judged if judged else None,
            sum(seconds for _, seconds in crafts) / attacked if attacked else None,
            any(not _by_example(job.cell.attack) for job, _ in crafts),
        )


def _by_example(attack: Spec | None) -> bool:
    """Whether an attack treats all images alike; one that looks at a batch as a whole may leave some alone."""
    return attack is None or entry_of(attack).load().by_example
