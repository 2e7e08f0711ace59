"""What a worker does with a job: train, craft, evaluate. Everything comes in and goes out as plain values."""

from __future__ import annotations

import time
import traceback
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from harness.core import local
from harness.core.code_hashes import craft_code, judge_code, metric_code, training_code, with_craft
from harness.core.errors import UserError
from harness.core.job import Craft, Evaluate, Job, Measure, Terms, Train
from harness.core.metric import PROBE
from harness.core.printable import printable
from harness.core.recipe import network, objective
from harness.core.result import Artifact, Cost, Done, Failed, Outcome
from harness.core.spec import digest_of
from harness.core.threat import Knowledge
from harness.data.order import order
from harness.draws import Draws
from harness.execution.worker.cost import Meter
from harness.execution.worker.environment import environment
from harness.execution.worker.gradient_stats import Gauge
from harness.execution.worker.judge import Batch, Judge, admit
from harness.execution.worker.look import MORE, images, load, look_at
from harness.execution.worker.measure import LoadedMetric, MetricCollector
from harness.execution.worker.state import Watch, seed
from harness.execution.worker.trial import trial
from harness.execution.worker.victim import DefendedVictim, known_draws
from harness.metrics.probe import Probe
from harness.nets.joint import parts_of
from harness.suite.components import build, training_plan
from harness.training.loop import train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from harness.artifacts import Folder
    from harness.core.cell import Cell, Shard
    from harness.core.contracts import Attack, Certificate, Classifier, Dataset, Defense
    from harness.core.spec import Spec
    from harness.nets.mae import MAE

    Progress = Callable[[float], None]
    Take = Callable[[int, Callable[[], tuple[Tensor, Tensor]]], None]

#: characters of an error's message that are kept
LONGEST = 2000


def attempt(job: Job, folder: Folder, terms: Terms, progress: Progress) -> Done | Failed:
    """Do a job; return what it brought, or the reason why it failed. Raises what interrupts a person's own process."""
    watch = Watch()
    try:
        found: Done | Failed = do(job, folder, terms, progress, watch)
    except UserError as error:
        found = Failed(printable(_said(error)))
    except (
        Exception,
        SystemExit,
        GeneratorExit,
    ) as error:  # a library that wants to quit ends its own job, not the run
        found = failed(error)
    finally:
        left = watch.end()
    return replace(found, left=left)


def failed(error: BaseException) -> Failed:
    """Return the reason why a job failed: what kind of error came, what it says, and where."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" (at {Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return Failed(printable(f"{type(error).__name__}: {_said(error)}{place}"), out_of_memory=_out_of_memory(error))


def _said(error: BaseException) -> str:
    """Return an error's message, as far as it can be had; a plug-in may raise what cannot be printed."""
    try:
        said = str(error)
    except BaseException:
        return "(its message cannot be printed)"
    return said if len(said) <= LONGEST else f"{said[:LONGEST]} ... ({len(said)} characters)"


def _out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory left; on a CPU torch says so in words only."""
    words, said = ("out of memory", "can't allocate memory", "not enough memory"), _said(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in said for word in words)


def do(job: Job, folder: Folder, terms: Terms, progress: Progress, watch: Watch | None = None) -> Done:
    """Do a job and return what it made or measured; ``watch`` sees what it changes besides.

    The number of threads is one whatever the machine has: it changes the order of additions (law 2).
    """
    torch.set_num_threads(1)
    local.know(terms.code)
    device = device_of(terms.device)
    watch = watch or Watch()
    watch.begin()
    seed(job.digest)
    start = time.perf_counter()
    match job:
        case Train():
            done = _train(job.recipe, folder, device, progress)
        case Craft():
            done = _craft(job, folder, terms, progress, watch)
        case Measure():
            done = _measure(job, folder, terms, progress)
        case Evaluate():
            done = _evaluate(job, folder, terms, progress, watch)
    seconds = time.perf_counter() - start
    return replace(done, environment=environment(str(device), terms.precision), seconds=seconds)


def device_of(name: str) -> torch.device:
    """Return the device of a name; on a GPU, ask for algorithms that give the same sums every time.

    Raises:
        UserError: if there is no such device.
    """
    if name == "auto":
        name = "cuda:0" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        if not torch.cuda.is_available():
            raise UserError(
                "expected a GPU that torch can use, found none; see `purebench doctor`, or use --devices cpu"
            )
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.enable_mem_efficient_sdp(False)  # its backward pass adds up in any order
        torch.backends.cuda.enable_flash_sdp(False)
    return torch.device(name)


# ---------------------------------------------------------------------- building from specs


def dataset(spec: Spec) -> Dataset:
    """Build a dataset from its spec.

    Raises:
        UserError: if its content is not the one that was planned with, as on another machine with other files.
    """
    built: Dataset = build(spec)
    planned, found = spec.params["content"], built.card.sha256
    if planned != found:
        raise UserError(
            f"expected {spec.use} with content hash {planned[:12]}, as it was planned, got {found[:12]}; "
            "put the same files on every machine"
        )
    return built


def networks(spec: Spec, folder: Folder, used: dict[str, Artifact]) -> dict[str, nn.Module]:
    """Return the trained networks that a component or a recipe names, by role; ``used`` gets their description.

    They are in eval mode, and their weights ask for no gradients.
    """
    found = {}
    for role, recipe in spec.parts:
        if recipe.kind == "recipe":
            tensors, _, used[recipe.digest] = folder.load("weights", recipe.digest, recipe.label)
            net = build(network(recipe)).build(dataset(recipe.part("dataset")).card)
            net.load_state_dict(tensors)
            found[role] = net.eval().requires_grad_(False)
    return found


class Bench:
    """The data and networks of one job, loaded once and looked at, with a meter on each network and their hashes.

    Attributes:
        used: the networks that were judged or attacked, ``beside`` those that metrics look through.
        seen: what the look at the classifiers says of them, by name: in what share of how many images; mostly nothing.
    """

    def __init__(self, cell: Cell, folder: Folder, terms: Terms) -> None:
        self.cell, self.folder, self.at_a_time = cell, folder, terms.batch_size
        self.place = {"device": device_of(terms.device), "dtype": getattr(torch, terms.precision)}
        self.meter = Meter(self.place["device"])
        self.data = dataset(cell.dataset)
        self.split = load(self.data, "test")
        self.order = order(cell.subset_seed, len(self.split.labels))
        self.used: dict[str, Artifact] = {}
        self.beside: dict[str, Artifact] = {}
        self.seen: dict[str, tuple[float, int]] = {}
        self.classifier = self._classifier()
        self.meter.attach(self.classifier, purifier=False)

    def _nets(self, spec: Spec) -> dict[str, nn.Module]:
        return {role: net.to(**self.place) for role, net in networks(spec, self.folder, self.used).items()}

    def _classifier(self) -> nn.Module:
        source: Classifier = build(self.cell.classifier)
        name = f"classifier {self.cell.labels.classifier}"
        loaded: object = source.load(self._nets(self.cell.classifier), self.data.card)
        if not isinstance(loaded, nn.Module):
            raise UserError(f"{name}: expected a torch.nn.Module from its `load`, got {type(loaded).__name__}")
        net = loaded.eval().requires_grad_(False).to(**self.place)
        self._look(net, name)
        return net

    def _look(self, net: nn.Module, name: str) -> None:
        """Look at a classifier before anything is computed with it.

        Raises:
            UserError: if it does not keep its word.
        """
        rows = self.order[:MORE]
        x = torch.from_numpy(images(self.data, self.split, rows)).to(**self.place)
        y = torch.from_numpy(self.split.labels[rows]).to(self.place["device"])
        try:
            self.seen |= look_at(net, x, y, self.data.card.n_classes, self.at_a_time)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        except Exception as error:
            if _out_of_memory(error):
                raise
            said = f"on images {tuple(x.shape)} it failed with {type(error).__name__}: {error}"
            raise UserError(f"{name}: expected logits of the dataset's images, but {said}") from error

    def defense(self, *, attacker: bool = False) -> tuple[Defense, dict[str, nn.Module], nn.Module]:
        """Build the defense with its networks, each under the meter, and say which classifier stands behind it.

        That is the cell's, unless the defense brings its own, whose passes count as a classifier's. An ``attacker`` may
        run another version of the defense: a cheaper one, or one with smooth signs.
        """
        cell = self.cell
        spec = cell.surrogate if attacker and cell.surrogate is not None else cell.defense
        built: Defense = build(spec)
        if attacker and cell.threat is not None and cell.threat.smoothing is not None:
            built = built.smoothed(cell.threat.smoothing)
        nets = self._nets(spec)
        own = built.classifier(nets) if built.traits.own_classifier else None
        for part in {part for net in nets.values() for part in parts_of(net)} - {own}:
            self.meter.attach(part, purifier=True)
        if own is None:
            return built, nets, self.classifier
        self._look(own, f"the classifier of defense {cell.labels.defense}")
        self.meter.attach(own, purifier=False)
        return built, nets, own

    def metrics(self, specs: Sequence[Spec]) -> list[LoadedMetric]:
        """Build metrics with their networks, outside the meter: measuring is not part of anyone's cost."""
        probes: dict[str, Probe] = {}
        built = []
        for spec in specs:
            used: dict[str, Artifact] = {}
            probe = None
            if PROBE in spec.params:
                key = digest_of([spec.params[PROBE], spec.part(PROBE).digest])
                mae = networks(spec, self.folder, used)[PROBE].to(**self.place)
                if key not in probes:
                    probes[key] = Probe(cast("MAE", mae), **spec.params[PROBE])
                    self._try(probes[key], network(spec.part(PROBE)))
                probe = probes[key]
            self.beside |= used
            weights = {item.digest: item.sha256 for item in used.values()}
            built.append(LoadedMetric(spec, build(spec), probe, weights, metric_code(spec)))
        return built

    def _try(self, probe: Probe, net: Spec) -> None:
        """Look through a probe at an image before anything is measured through it.

        Raises:
            UserError: if it is no masked autoencoder of as many decoder layers and heads as its options say.
        """
        rows = self.order[:1]
        x = torch.from_numpy(images(self.data, self.split, rows)).to(**self.place)
        try:
            seen = probe.look(x, Draws(("probe",), torch.from_numpy(self.split.ids[rows]).to(self.place["device"])))
            maps = [tuple(one.shape[:2]) for one in seen.attention[0]]
            losses = tuple(seen.reconstruction.shape)
        except Exception as error:
            if _out_of_memory(error):
                raise
            raise UserError(
                f"expected a masked autoencoder as probe, such as harness.nets.mae.MAE, got a {net.use} network, which "
                f"failed with {type(error).__name__}: {error}"
            ) from error
        wanted = [(1, net.params["decoder_heads"])] * net.params["decoder_depth"]
        if maps != wanted or losses != (1,):
            raise UserError(
                f"expected attention (1, {net.params['decoder_heads']}, T, T) of each of {net.params['decoder_depth']} "
                f"decoder layers and a loss (1,) from the probe {net.use}, got {maps} and {losses}"
            )

    def batch(self, shard: Shard) -> Batch:
        """Return a shard's examples: a slice of the test part in its order."""
        rows = self.order[shard.start : shard.stop]
        device = self.place["device"]
        return Batch(
            x=torch.from_numpy(images(self.data, self.split, rows)).to(**self.place),
            y=torch.from_numpy(self.split.labels[rows]).to(device),
            ids=torch.from_numpy(self.split.ids[rows]).to(device),
            places=torch.arange(shard.start, shard.stop),
        )

    @property
    def weights(self) -> tuple[Artifact, ...]:
        """The weights that were used, those that metrics look through included."""
        return tuple({**self.used, **self.beside}.values())


# ---------------------------------------------------------------------- the three kinds of job


def _train(recipe: Spec, folder: Folder, device: torch.device, progress: Progress) -> Done:
    code = training_code(recipe)
    plan = training_plan(recipe)
    data = dataset(recipe.part("dataset"))
    used: dict[str, Artifact] = {}
    nets = networks(recipe, folder, used) | networks(objective(recipe), folder, used)
    opponent = dict(recipe.parts).get("attack")
    attack: Attack | None = None if opponent is None else build(opponent)
    split = load(data, "train")
    images(data, split)
    trained = train(plan, data.card, split, progress, device, nets, attack)
    about = {
        "recipe": recipe.as_dict(),
        "curve": trained.curve,
        "environment": environment(str(device)),
        "weights": {item.digest: item.sha256 for item in used.values()},
        "code": code,
    }
    artifact = folder.save("weights", recipe.digest, _state(trained.net), about, recipe.label)
    return Done(artifacts=(*used.values(), artifact))


def _state(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in net.state_dict().items()}


def _craft(job: Craft, folder: Folder, terms: Terms, progress: Progress, watch: Watch) -> Done:
    cell = job.cell
    if cell.attack is None or cell.threat is None:
        raise ValueError("expected a cell with an attack to craft for")
    code = craft_code(cell)
    bench = Bench(cell, folder, terms)
    attack: Attack = build(cell.attack)
    oblivious = cell.threat.knowledge is Knowledge.OBLIVIOUS
    defense, nets, classifier = (None, {}, bench.classifier) if oblivious else bench.defense(attacker=True)
    whole = bench.batch(job.shard)
    size = _at_a_time(whole, terms, defense)
    # an attack that looks at a batch as a whole gets the shard; its victim then works through it in parts
    parts = whole.split(size) if attack.by_example else [whole]
    proposed: list[Tensor] = []
    gauge, cost = Gauge(), Cost()
    known = cell.seed if cell.threat.fixed else None
    for done, part in enumerate(parts):

        def share(fraction: float, done: int = done) -> None:
            progress((done + fraction) / len(parts))

        knowledge, n_classes = cell.threat.knowledge, bench.data.card.n_classes
        victim = DefendedVictim(classifier, defense, nets, knowledge, n_classes, share, size, gauge, known)
        with bench.meter.measure(len(part), min(size, len(part))) as spent:
            found = attack.propose(victim, part.x, part.y, cell.threat, Draws(("craft", job.stream), part.ids))
        proposed.append(found.to("cpu", part.x.dtype))
        cost = cost + spent.cost
    weights = {item.digest: item.sha256 for item in bench.weights}
    about = {"cost": asdict(cost), "weights": weights, "notes": gauge.notes() | watch.notes(), "code": code}
    artifact = folder.save("adversarial", job.digest, {"proposed": torch.cat(proposed)}, about, str(job))
    return Done(artifacts=(*bench.weights, artifact), attack_cost=cost)


@dataclass(frozen=True)
class _Examples:
    """What an evaluation judges.

    Attributes:
        whole: the examples of its shard.
        proposed: what the attack came up with; None on clean input.
        about: what is known of that batch.
        made: its file.
    """

    whole: Batch
    proposed: Tensor | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    made: tuple[Artifact, ...] = ()

    def parts(self, size: int) -> Iterator[tuple[Batch, Tensor | None]]:
        """Cut them into batches of ``size``."""
        batches = self.whole.split(size)
        if self.proposed is None:
            yield from ((batch, None) for batch in batches)
        else:
            yield from zip(batches, torch.split(self.proposed, [len(batch) for batch in batches]), strict=True)


def _examples(job: Evaluate, bench: Bench, folder: Folder) -> _Examples:
    whole = bench.batch(job.shard)
    if job.craft is None:
        return _Examples(whole)
    tensors, about, artifact = folder.load("adversarial", job.craft.digest, str(job.craft))
    return _Examples(whole, tensors["proposed"].to(**bench.place), about, (artifact,))


def _draws(job: Evaluate, part: Batch) -> Draws:
    """Return the stream of an evaluation."""
    fixed = job.cell.threat is not None and job.cell.threat.fixed
    return known_draws(job.cell.seed, part.ids) if fixed else Draws(("evaluate", job.cell.stream), part.ids)


def _masks(job: Evaluate, part: Batch) -> Draws:
    """Return the stream of the probe's masks; one for all cells of a seed, which are looked at through the same."""
    return Draws(("masks", job.cell.seed), part.ids)


def _evaluate(job: Evaluate, folder: Folder, terms: Terms, progress: Progress, watch: Watch) -> Done:
    code = judge_code(job.cell)
    bench = Bench(job.cell, folder, terms)
    defense, nets, classifier = bench.defense()
    examples = _examples(job, bench, folder)
    attack_cost, notes, whole = None, None, examples.whole
    if job.craft is not None:
        attack_cost, noted = Cost(**examples.about["cost"]), examples.about.get("notes")
        notes = None if noted is None else {name: tuple(pair) for name, pair in noted.items()}
        code = with_craft(code, examples.about.get("code", {}))
    first = job.craft is None and job.cell.certificate is None and job.shard.start == job.first_repeat == 0
    size = _at_a_time(whole, terms, defense)
    # no more images than there is memory for
    tried = trial(partial(build, job.cell.defense), nets, whole.x[:size], whole.ids[:size]) if first else {}
    judge = Judge(classifier, defense, nets, bench.meter)
    certificate: Certificate | None = None if job.cell.certificate is None else build(job.cell.certificate)
    repeats = range(job.first_repeat, job.stop_repeat)
    collector = MetricCollector(bench.metrics(job.metrics), job.shard.start, job.shard.size, repeats)
    outcomes: list[Outcome] = []
    cost = Cost()
    number = len(whole.split(size))
    for done, (part, proposal) in enumerate(examples.parts(size)):
        draws = _draws(job, part)

        def share(fraction: float, done: int = done) -> None:
            progress((done + fraction) / number)

        if certificate is None:
            admitted = admit(proposal, part.x, job.cell.threat)
            take = collector.of_examples(part, admitted.images, _masks(job, part))

            def see(repeat: int, purified: Tensor, logits: Tensor, take: Take = take) -> None:
                take(repeat, lambda: (purified, logits))

            rows, spent = judge.outcomes(part, admitted, job.cell.threat, repeats, draws, see, share)
        else:
            # what a batch has room for beyond the shard is filled with copies
            several = max(1, size // len(whole))
            n_classes = bench.data.card.n_classes
            rows, spent = judge.certified(part, certificate, n_classes, repeats, draws, share, several)
        outcomes += rows
        cost = cost + spent
    seen = bench.seen | tried | watch.notes()
    return Done(
        artifacts=(*bench.weights, *examples.made),
        outcomes=tuple(outcomes),
        measurements=collector.measurements(),
        defense_cost=cost,
        attack_cost=attack_cost,
        code=code,
        notes=(notes or {}) | seen if seen else notes,
    )


def _measure(job: Measure, folder: Folder, terms: Terms, progress: Progress) -> Done:
    """Take metrics of what was judged before; what a metric does not ask for is not computed."""
    bench = Bench(job.cell, folder, terms)
    defense, nets, classifier = bench.defense()
    examples = _examples(job, bench, folder)
    size = _at_a_time(examples.whole, terms, defense)
    judge = Judge(classifier, defense, nets, bench.meter)
    repeats = range(job.first_repeat, job.stop_repeat)
    collector = MetricCollector(bench.metrics(job.metrics), job.shard.start, job.shard.size, repeats)
    number = len(examples.whole.split(size)) * len(repeats)
    for done, (part, proposal) in enumerate(examples.parts(size)):
        admitted = admit(proposal, part.x, job.cell.threat)
        take = collector.of_examples(part, admitted.images, _masks(job, part))
        for repeat in repeats:
            take(repeat, partial(judge.defended, part, admitted, job.cell.threat, repeat, _draws(job, part)))
            progress((done * len(repeats) + repeats.index(repeat) + 1) / number)
    return Done(artifacts=(*bench.weights, *examples.made), measurements=collector.measurements())


def _at_a_time(whole: Batch, terms: Terms, defense: Defense | None) -> int:
    """Return how many images go through the networks at a time: all, where a defense looks across its batch."""
    together = defense is not None and defense.traits.batchwise
    return len(whole) if together else terms.batch_size or len(whole)
