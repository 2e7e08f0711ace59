"""What a worker does with a job: train, craft, evaluate. Everything comes in and goes out as plain values."""

from __future__ import annotations

import time
import traceback
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.core.errors import UserError
from harness.core.job import Craft, Evaluate, Job, Train
from harness.core.registry import find
from harness.core.result import Artifact, Cost, Done
from harness.core.threat import Knowledge
from harness.draws import Draws
from harness.nets.mae import MAE
from harness.run.environment import environment
from harness.run.evaluate import Batch, Judge
from harness.run.meter import Meter
from harness.run.metrics.attention import Probe
from harness.run.victim import DefendedVictim
from harness.suite.components import BESIDE_OPTIONS
from harness.training.loop import build_net, train
from harness.training.recipe import TrainingPlan

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.artifacts import Folder
    from harness.core.cell import Cell, Shard
    from harness.core.contracts import Attack, Classifier, Dataset, Defense
    from harness.core.spec import Spec

    Progress = Callable[[float], None]


def attempt(job: Job, folder: Folder, progress: Progress) -> tuple[Done | None, str]:
    """Do a job; return what it brought, or None and the reason why it failed. Never raises."""
    try:
        return do(job, folder, progress), ""
    except UserError as error:
        return None, str(error)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return None, f"{type(error).__name__}: {error} (at {Path(place.filename).name}:{place.lineno})"


def do(job: Job, folder: Folder, progress: Progress) -> Done:
    """Do a job and return what it made or measured.

    The number of threads is one whatever the machine has: it changes the order of additions (law 2).
    """
    torch.set_num_threads(1)
    start = time.perf_counter()
    match job:
        case Train():
            done = _train(job.recipe, folder, progress)
        case Craft():
            done = _craft(job, folder, progress)
        case Evaluate():
            done = _evaluate(job, folder, progress)
    return replace(done, environment=environment(), seconds=time.perf_counter() - start)


# ---------------------------------------------------------------------- building from specs


def build(spec: Spec) -> Any:
    """Make the component that a spec stands for; an option that named a recipe holds its label or digest.

    Raises:
        UserError: if the component is not installed, or not in the version that the spec names.
    """
    component = find(spec.kind, spec.use).load()
    if component.version != spec.version:
        raise UserError(
            f"expected {spec.kind} {spec.use!r} in version {spec.version}, got version {component.version}; "
            "plan again with the code that is installed"
        )
    params = {name: value for name, value in spec.params.items() if name not in BESIDE_OPTIONS}
    params |= {role: part.label or part.digest for role, part in spec.parts}
    return component(component.Options.model_validate(params))


def dataset(spec: Spec) -> Dataset:
    """Build a dataset from its spec."""
    built: Dataset = build(spec)
    return built


class Bench:
    """The networks of one job, loaded once, with a meter on each and the hashes of their weights."""

    def __init__(self, cell: Cell, folder: Folder) -> None:
        self.cell, self.folder, self.meter = cell, folder, Meter()
        self.data = dataset(cell.dataset)
        self.used: dict[str, Artifact] = {}
        self.classifier = self._classifier()
        self.meter.attach(self.classifier, purifier=False)

    def _net(self, recipe: Spec) -> nn.Module:
        tensors, _, artifact = self.folder.load("weights", recipe.digest, recipe.label)
        self.used[recipe.digest] = artifact
        plan = TrainingPlan.model_validate(recipe.params)
        net = build_net(plan.net, dataset(recipe.part("dataset")).card)
        net.load_state_dict(tensors)
        return net.eval().requires_grad_(False)

    def _nets(self, spec: Spec) -> dict[str, nn.Module]:
        return {role: self._net(part) for role, part in spec.parts if part.kind == "recipe"}

    def _classifier(self) -> nn.Module:
        source: Classifier = build(self.cell.classifier)
        return source.load(self._nets(self.cell.classifier), self.data.card).eval().requires_grad_(False)

    def defense(self) -> tuple[Defense, dict[str, nn.Module]]:
        """Build the defense with its networks, each under the meter."""
        built: Defense = build(self.cell.defense)
        nets = self._nets(self.cell.defense)
        for net in nets.values():
            self.meter.attach(net, purifier=True)
        return built, nets

    def probe(self) -> tuple[Probe | None, frozenset[str]]:
        """Build the probe, outside the meter: measuring is not part of anyone's cost."""
        spec = self.cell.probe
        if spec is None:
            return None, frozenset()
        names = frozenset(spec.params["names"])
        nets = self._nets(spec)
        if not nets:
            return None, names
        mae = nets["recipe"]
        if not isinstance(mae, MAE):
            raise UserError(f"expected a masked autoencoder as probe, got a {spec.part('recipe').use} network")
        return Probe(mae, spec.params["mask_ratio"], spec.params["masks"]), names

    def batch(self, shard: Shard) -> Batch:
        """Return a shard's examples: a slice of a seeded permutation of the test part, whose prefixes are subsets."""
        split = self.data.load("test")
        order = np.random.default_rng(self.cell.subset_seed).permutation(len(split.labels))
        rows = order[shard.start : shard.stop]
        return Batch(
            x=torch.from_numpy(split.images[rows]),
            y=torch.from_numpy(split.labels[rows]),
            ids=torch.from_numpy(split.ids[rows]),
            places=torch.arange(shard.start, shard.stop),
        )

    @property
    def weights(self) -> tuple[Artifact, ...]:
        """The weights that were used."""
        return tuple(self.used.values())


# ---------------------------------------------------------------------- the three kinds of job


def _train(recipe: Spec, folder: Folder, progress: Progress) -> Done:
    plan = TrainingPlan.model_validate(recipe.params)
    data = dataset(recipe.part("dataset"))
    trained = train(plan, data.card, data.load("train"), progress)
    about = {"recipe": recipe.as_dict(), "curve": trained.curve, "environment": environment()}
    artifact = folder.save("weights", recipe.digest, _state(trained.net), about, recipe.label)
    return Done(artifacts=(artifact,))


def _state(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}


def _craft(job: Craft, folder: Folder, progress: Progress) -> Done:
    cell = job.cell
    if cell.attack is None or cell.threat is None:
        raise ValueError("expected a cell with an attack to craft for")
    bench = Bench(cell, folder)
    attack: Attack = build(cell.attack)
    oblivious = cell.threat.knowledge is Knowledge.OBLIVIOUS
    defense, nets = (None, {}) if oblivious else bench.defense()
    victim = DefendedVictim(
        bench.classifier, defense, nets, cell.threat.knowledge, bench.data.card.n_classes, report=progress
    )
    batch = bench.batch(job.shard)
    draws = Draws(("craft", job.stream), batch.ids)
    with bench.meter.measure(job.shard.size) as spent:
        proposed = attack.propose(victim, batch.x, batch.y, cell.threat, draws)
    about = {"cost": asdict(spent.cost), "weights": {item.digest: item.sha256 for item in bench.weights}}
    artifact = folder.save("adversarial", job.digest, {"proposed": proposed.to(batch.x.dtype)}, about, str(job))
    return Done(artifacts=(*bench.weights, artifact), attack_cost=spent.cost)


def _evaluate(job: Evaluate, folder: Folder, progress: Progress) -> Done:
    bench = Bench(job.cell, folder)
    defense, nets = bench.defense()
    probe, metrics = bench.probe()
    batch = bench.batch(job.shard)
    proposed, attack_cost = None, None
    made: tuple[Artifact, ...] = ()
    if job.craft is not None:
        tensors, about, artifact = folder.load("adversarial", job.craft.digest, str(job.craft))
        proposed, attack_cost, made = tensors["proposed"], Cost(**about["cost"]), (artifact,)
    judge = Judge(bench.classifier, defense, nets, probe, metrics, bench.meter)
    repeats = range(job.first_repeat, job.stop_repeat)
    draws = Draws(("evaluate", job.cell.stream), batch.ids)
    masks = Draws(("masks", job.cell.seed), batch.ids)
    outcomes, cost = judge.outcomes(batch, proposed, job.cell.threat, repeats, draws, masks, progress)
    return Done(artifacts=(*bench.weights, *made), outcomes=tuple(outcomes), defense_cost=cost, attack_cost=attack_cost)
