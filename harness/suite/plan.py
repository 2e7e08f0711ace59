"""Plan: the cells of a suite against the store - a verdict and a reason for each, and the jobs behind them."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from harness.core.cell import Cell, Labels, Shard
from harness.core.code_hashes import (
    called,
    changed_code,
    code_of,
    craft_code,
    metric_code,
    training_code,
    unlike,
    unreadable,
)
from harness.core.errors import UserError, nearest
from harness.core.job import Craft, Evaluate, Job, Measure, Train
from harness.core.spec import Spec, differences, short

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from harness.artifacts import Folder
    from harness.core.declaration import Member
    from harness.core.rectangle import Covered, Rectangle, TakenMetric, Version
    from harness.suite.suite import Suite


#: in place of the hash of weights that stand on weights that have changed since: they are trained again
OUTDATED = "outdated"


class Record(Protocol):
    """What a plan asks a database."""

    def covered(self, cells: Iterable[str]) -> Mapping[str, Sequence[Covered]]:
        """Return what is measured of each cell, as rectangles of places and repeats."""
        ...

    def earlier_members(self, suite: str) -> Mapping[Labels, str]:
        """Return the cells that a suite's names stood for when it was last run."""
        ...

    def spec_of(self, digest: str) -> dict[str, Any]:
        """Return what a cell's digest is made of."""
        ...

    def failures(self) -> Mapping[str, str]:
        """Return why jobs failed that have not succeeded since, by digest."""
        ...


class PlanVerdict(StrEnum):
    """What a plan says of a cell."""

    RUN = "run"
    DONE = "done"
    STALE = "stale"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Planned:
    """A member of a suite with its verdict, why, and what is left to evaluate.

    ``version`` is the set of weights and code of the results that it goes on from, by digest; None where it begins.
    """

    member: Member
    verdict: PlanVerdict
    reason: str
    evaluations: tuple[Evaluate, ...] = ()
    version: str | None = None


@dataclass(frozen=True)
class Plan:
    """Every cell with its verdict, and what there is to do.

    Attributes:
        jobs: in an order that respects what each needs.
        at_hand: jobs that those need and whose files are there.
        unreadable: components whose source cannot be read, so that a change of it goes unnoticed.
    """

    cells: tuple[Planned, ...]
    jobs: tuple[Job, ...]
    at_hand: tuple[Job, ...] = ()
    unreadable: tuple[str, ...] = ()

    @property
    def versions(self) -> dict[str, str]:
        """Return, by cell, the set of weights and code that its results go on from, where there is one."""
        return {one.member.cell.digest: one.version for one in self.cells if one.member.cell and one.version}

    def count(self, verdict: PlanVerdict) -> int:
        """Return how many cells have a verdict."""
        return sum(planned.verdict is verdict for planned in self.cells)

    def jobs_of(self, kind: str) -> list[Job]:
        """Return the jobs of a kind: train, craft or evaluate."""
        return [job for job in self.jobs if job.kind == kind]


def selection(text: str | None) -> Callable[[Labels], bool]:
    """Read ``--only``: conditions such as ``defense=mae-*,attack=pgd``, all of which must hold.

    A value is a shell pattern over the suite's names; ``|`` separates alternatives. An attack is named as people read
    it, by its title.

    Raises:
        UserError: if a condition is not ``key=pattern`` or the key is no axis.
    """
    keys = tuple(Labels("", "", "").as_dict())
    wanted: list[tuple[str, list[str]]] = []
    for condition in (text or "").split(","):
        if not condition.strip():
            continue
        key, equals, pattern = (part.strip() for part in condition.partition("="))
        if not equals or not pattern:
            raise UserError(f"expected --only as key=pattern[,key=pattern], got {condition.strip()!r}")
        if key not in keys:
            raise UserError(f"expected a key of {', '.join(keys)} in --only, got {key!r}; {nearest(key, keys)}")
        wanted.append((key, [one.strip() for one in pattern.split("|")]))

    def chosen(labels: Labels) -> bool:
        names = {**labels.as_dict(), "attack": labels.attack_title}
        return all(any(fnmatch.fnmatchcase(names[key], one) for one in some) for key, some in wanted)

    return chosen


def part_of(suite: Suite, only: str | None, limit: int | None) -> tuple[Callable[[Labels], bool], list[Shard]]:
    """Return which cells of a suite are asked for, and which slices of their examples; see ``make_plan``.

    Raises:
        UserError: if that is none.
    """
    chosen = selection(only)
    if only and not any(chosen(member.labels) for member in suite.members):
        raise UserError(f"expected --only to name a cell of {suite.name}, but {only!r} matches none")
    if limit is not None and limit < 1:
        raise UserError(f"expected --limit of at least 1 example, got {limit}")
    return chosen, [shard for shard in suite.shards if limit is None or shard.start < limit]


def make_plan(
    suite: Suite,
    store: Record | None,
    folder: Folder,
    *,
    only: str | None = None,
    limit: int | None = None,
    keep_old_code: bool = False,
) -> Plan:
    """Compare what a suite asks for with what is there; nothing is written.

    Args:
        suite: the checked suite.
        store: the database, or None where there is none yet.
        folder: where artifacts are.
        only: see ``selection``.
        limit: evaluate only the first so many examples, rounded up to whole shards.
        keep_old_code: take what other code made for what the code at hand would make: results, batches, networks.

    Raises:
        UserError: as ``part_of``.
    """
    chosen, slices = part_of(suite, only, limit)
    here = _State(store, folder, suite, keep_old_code)
    cells = tuple(here.judge(member, chosen(member.labels), slices, suite.repeats(member)) for member in suite.members)
    return Plan(cells, *_jobs(cells, here), tuple(sorted(here.unreadable)))


class _State:
    """What is there already: coverage in the store, files in the artifact folder; and the code that is at hand."""

    def __init__(self, store: Record | None, folder: Folder, suite: Suite, keep: bool) -> None:
        self.store, self.folder, self.suite, self.keep = store, folder, suite, keep
        self.asked = [metric.spec for metric in suite.metrics]
        self._metric_code: dict[str, Mapping[str, str]] = {}
        self.unreadable: set[str] = set()
        digests = [cell.digest for cell in suite.cells]
        self.covered = store.covered(digests) if store else {}
        self.earlier = store.earlier_members(suite.name) if store else {}
        self.failures = store.failures() if store else {}
        self._hashes: dict[str, str | None] = {}

    def weights(self, recipe: str) -> str | None:
        """Return the hash of a checkpoint, OUTDATED, or None where it is not there."""
        if recipe not in self._hashes:
            self._hashes[recipe] = self.folder.sha256("weights", recipe)
            if self._hashes[recipe] is not None and not self._stands(recipe):
                self._hashes[recipe] = OUTDATED
        return self._hashes[recipe]

    def _stands(self, recipe: str) -> bool:
        """Whether what a checkpoint was trained beside is still the same, as far as that is there, and its code too.

        One of which it is not known by what code it was trained stands: its weights are known by content.
        """
        about = self.folder.about("weights", recipe) or {}
        if not all(self.weights(part) in (None, sha256) for part, sha256 in about.get("weights", {}).items()):
            return False
        if self.keep or "recipe" not in about or "code" not in about:
            return True
        return not unlike(about["code"], training_code(Spec.from_dict(about["recipe"])))

    def of_these_weights(self, version: Version) -> bool:
        """Whether results were measured with the weights that are there now."""
        return all(self.weights(recipe) in (None, sha256) for recipe, sha256 in version.weights)

    def crafted(self, job: Craft) -> bool:
        """Whether the adversarial batch is there, made by the code and against the weights that are there now.

        One of which it is not known what made it is of no use: nothing else would tell it from another.
        """
        about = self.folder.about("adversarial", job.digest)
        if about is None or any(self.weights(one) != sha256 for one, sha256 in about.get("weights", {}).items()):
            return False
        return self.keep or ("code" in about and not unlike(about["code"], craft_code(job.cell)))

    def judge(self, member: Member, chosen: bool, slices: list[Shard], repeats: int) -> Planned:
        """Return the verdict on one member."""
        cell = member.cell
        if cell is None:
            return Planned(member, PlanVerdict.SKIPPED, member.reason or "cannot be run")
        if not chosen:
            return Planned(member, PlanVerdict.SKIPPED, "left out by --only")
        metrics = self.suite.metrics_of(cell)
        found = self._going_on(cell)
        rows = [row for row in self.covered.get(cell.digest, []) if row.version == found.version]
        left = tuple(_missing(cell, rows, slices, repeats, metrics))
        if left and found.uncertain:
            found = _Found(None, "it was measured before its code was kept, and more of it might be of other code")
            rows, left = [], tuple(_missing(cell, [], slices, repeats, metrics))
        wanted = sum(shard.size for shard in slices) * repeats
        missing = sum(job.shard.size * (job.stop_repeat - job.first_repeat) for job in left)
        version = None if found.version is None else found.version.digest
        measures = tuple(self._unmeasured(cell, rows, slices, repeats, metrics))
        if not left and measures:
            names = sorted({metric.use for job in measures for metric in job.metrics})
            return Planned(member, PlanVerdict.RUN, f"to be measured: {', '.join(names)}", measures, version)
        left = (*left, *measures)
        if not left:
            kept = f", though {found.changed}" if found.changed else ""
            return Planned(member, PlanVerdict.DONE, f"{wanted} outcomes are there{kept}", version=version)
        if found.version is None and found.changed:
            return Planned(member, PlanVerdict.STALE, found.changed, left)
        if missing < wanted:
            return Planned(member, PlanVerdict.RUN, f"{wanted - missing} of {wanted} outcomes are there", left, version)
        before = self.earlier.get(member.labels)
        if before is not None and before != cell.digest and self.store is not None:
            changed = ", ".join(differences(self.store.spec_of(before), cell.as_dict()))
            return Planned(member, PlanVerdict.STALE, f"changed since cell {short(before)}: {changed}", left)
        failed = [self.failures[job.digest] for job in left if job.digest in self.failures]
        return Planned(member, PlanVerdict.RUN, f"failed before: {failed[0]}" if failed else "not measured yet", left)

    def _unmeasured(
        self, cell: Cell, rows: list[Covered], slices: list[Shard], repeats: int, metrics: tuple[Spec, ...]
    ) -> Iterable[Measure]:
        """Yield what is left to measure of results that are there: a job for each of the jobs that judged them."""
        stop = slices[-1].stop
        lacking: dict[Rectangle, dict[str, Spec]] = {}
        for row in rows:
            if row.start < stop and row.first_repeat < repeats:
                taken = {one.metric for one in row.metrics if self._stands_for(one)}
                lacks = {metric.digest: metric for metric in metrics if metric.digest not in taken}
                lacking.setdefault(row.job, {}).update(lacks)
        for job, lacks in lacking.items():
            if lacks:
                index = next(shard.index for shard in slices if shard.stop > job.start)
                shard = Shard(index, job.start, job.stop)
                yield Measure(
                    cell, shard, job.first_repeat, job.stop_repeat, tuple(lacks.values()), rows[0].version.digest
                )

    def _stands_for(self, taken: TakenMetric) -> bool:
        """Whether a metric was taken with the networks and the code that are at hand."""
        if any(self.weights(recipe) not in (None, sha256) for recipe, sha256 in taken.weights):
            return False
        if self.keep:
            return True
        if taken.metric not in self._metric_code:
            spec = next((metric for metric in self.asked if metric.digest == taken.metric), None)
            self._metric_code[taken.metric] = {} if spec is None else metric_code(spec)
        return not unlike(taken.code, self._metric_code[taken.metric])

    def _going_on(self, cell: Cell) -> _Found:
        """Return which of a cell's results it goes on from: those of the weights and the code that are at hand."""
        now = code_of(cell)
        self.unreadable |= set(called(cell, unreadable(now)))
        versions = {row.version: None for row in self.covered.get(cell.digest, [])}
        if not versions:
            return _Found()
        fitting = [one for one in versions if self.of_these_weights(one)]
        if not fitting:
            return _Found(None, "the weights it was measured with have changed")
        edited = {one: unlike(one.code or {}, now) for one in fitting}
        alike = [one for one in fitting if not edited[one]] if not self.keep else fitting
        if not alike:
            roles = edited[next((one for one in fitting if one.current), fitting[-1])]
            return _Found(None, changed_code(cell, roles))
        best = max(alike, key=lambda one: (not edited[one], one.code is not None, one.current))
        if self.keep:
            best = max(alike, key=lambda one: one.current)
        changed = changed_code(cell, edited[best]) if edited[best] else ""
        return _Found(best, changed, uncertain=best.code is None and not self.keep)


@dataclass(frozen=True)
class _Found:
    """Which results of a cell it goes on from, if any.

    Attributes:
        version: what they have in common.
        changed: why there are none, though the cell has some; or what has changed since, where they are kept.
        uncertain: whether it is not known by which code they are.
    """

    version: Version | None = None
    changed: str = ""
    uncertain: bool = False


def _missing(
    cell: Cell, rows: list[Covered], slices: list[Shard], repeats: int, metrics: tuple[Spec, ...]
) -> Iterable[Evaluate]:
    """Yield what is left of a cell: in each slice, runs of places that lack the same repeats.

    Places that have been measured are never measured again, so asking for more examples or repeats adds to a cell.
    """
    for shard in slices:
        have = [
            max((row.stop_repeat for row in rows if row.start <= place < row.stop), default=0)
            for place in range(shard.start, shard.stop)
        ]
        start = 0
        for stop in range(1, len(have) + 1):
            if stop < len(have) and have[stop] == have[start]:
                continue
            if have[start] < repeats:
                places = Shard(shard.index, shard.start + start, shard.start + stop)
                yield Evaluate(cell, places, have[start], repeats, metrics)
            start = stop


def _jobs(cells: tuple[Planned, ...], here: _State) -> tuple[tuple[Job, ...], tuple[Job, ...]]:
    """Return every job that has to be done, each once, and those behind them that need not be done.

    Trainings come first, then crafts, then evaluations; of the trainings, those at the head of a long chain.
    """
    networks: dict[str, Spec] = {}
    crafts: dict[str, Craft] = {}
    evaluations: dict[str, Evaluate] = {}
    for planned in cells:
        for job in planned.evaluations:
            evaluations.setdefault(job.digest, job)
            networks |= {recipe.digest: recipe for recipe in job.networks}
    trains, there = _trainings(networks.values(), here)
    at_hand: dict[str, Job] = {**there}
    for job in evaluations.values():
        craft = job.craft
        if craft is None or craft.digest in crafts:
            continue
        if any(need in trains for need in craft.needs) or not here.crafted(craft):
            crafts[craft.digest] = craft
        else:
            at_hand[craft.digest] = craft
    ahead: dict[str, int] = {}
    longest_first = sorted(trains.values(), key=lambda job: -_ahead(job, trains, ahead))
    # adaptive attacks take longest: begun first, they do not hold up the end
    adaptive_first = sorted(
        crafts.values(), key=lambda job: not (job.cell.threat is not None and job.cell.threat.adaptive)
    )
    return (*longest_first, *adaptive_first, *evaluations.values()), tuple(at_hand.values())


def _ahead(job: Train, trains: dict[str, Train], known: dict[str, int]) -> int:
    """Return the steps of a training and of the longest chain of those that stand on it, each counted once more."""
    if job.digest not in known:
        after = (_ahead(other, trains, known) for other in trains.values() if job.digest in other.needs)
        known[job.digest] = job.recipe.params["steps"] + 1 + max(after, default=0)
    return known[job.digest]


def _trainings(networks: Iterable[Spec], here: _State) -> tuple[dict[str, Train], dict[str, Train]]:
    """Return the trainings that are to be done for some networks, and those whose weights are there.

    What is there needs nothing before it; but what stands on weights that are made anew is made anew as well.
    """
    trains: dict[str, Train] = {}
    there: dict[str, Train] = {}
    todo = list(networks)
    while todo:
        while todo:
            recipe = todo.pop()
            if recipe.digest not in trains and here.weights(recipe.digest) in (None, OUTDATED):
                there.pop(recipe.digest, None)
                trains[recipe.digest] = Train(recipe)
                todo += recipe.stands_on()
            elif recipe.digest not in trains:
                there[recipe.digest] = Train(recipe)
        for digest, job in list(there.items()):
            if any(need in trains for need in job.needs):
                del there[digest]
                trains[digest] = job
                todo += job.recipe.stands_on()
    return trains, there
