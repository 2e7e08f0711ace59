"""The training loop: AdamW, warm-up and cosine decay, an optional average of the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from harness.core.errors import UserError
from harness.draws import Draws
from harness.nets.joint import Joint
from harness.training.context import Batch, Beside

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.core.contracts import Attack, DataCard, Split
    from harness.training.recipe import TrainingPlan

#: losses are kept as the mean over this share of the steps
CURVE_POINTS = 50


@dataclass(frozen=True)
class Trained:
    """A trained network.

    Attributes:
        net: in eval mode.
        curve: ``(step, mean loss since the point before)``.
    """

    net: nn.Module
    curve: tuple[tuple[int, float], ...]


def train(
    plan: TrainingPlan,
    data: DataCard,
    split: Split,
    progress: Callable[[float], Any],
    device: torch.device = torch.device("cpu"),  # noqa: B008  (a value)
    nets: Mapping[str, nn.Module] | None = None,
    attack: Attack | None = None,
) -> Trained:
    """Train a network; the same plan, data, nets, attack and number of threads give the same weights, bit for bit.

    Args:
        plan: what to train and how.
        data: what is known of the dataset.
        split: what to train on.
        progress: told the share that is done, 0 to 1.
        device: where the network is trained; random numbers come from the CPU or have addresses: the same everywhere.
        nets: what the recipe stands on, by role, in eval mode and without gradients.
        attack: what is trained against.

    Raises:
        UserError: if the weights to start from are those of another network or are not at hand, the network is none, or
            the loss is no number with a gradient.
    """
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)  # layers draw their first weights from the global generator
        net = _module(plan.net.build(data)).to(device)
    threat = plan.threat_model.threat if plan.threat_model else None
    beside = Beside({role: one.to(device) for role, one in (nets or {}).items()}, attack, threat, data.n_classes)
    _begin(net, beside.nets)
    plan.objective.begin(net, plan.net, data)
    rng = torch.Generator().manual_seed(plan.seed + 1)
    images, labels = torch.from_numpy(split.images).to(device), torch.from_numpy(split.labels).to(device)
    how = plan.optimiser

    optimiser = torch.optim.AdamW(net.parameters(), how.lr, betas=(0.9, how.beta2), weight_decay=how.weight_decay)
    schedule = _schedule(optimiser, plan)
    average = AveragedModel(net, multi_avg_fn=_averaging(how.ema)) if how.ema else None
    curve: list[tuple[int, float]] = []
    recent: list[float] = []
    net.train()
    for step, rows in enumerate(_batches(len(images), plan, rng), start=1):
        here = rows.to(device)
        draws = Draws(("train", plan.seed, step), here)
        loss = _number(plan.objective.loss(net, Batch(images[here], labels[here], rng, draws), beside))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), how.clip)
        optimiser.step()
        schedule.step()
        if average is not None:
            average.update_parameters(net)
        recent.append(loss.item())
        if step % max(1, plan.steps // CURVE_POINTS) == 0 or step == plan.steps:
            curve.append((step, sum(recent) / len(recent)))
            recent.clear()
            progress(step / plan.steps)
    progress(1.0)
    kept = net if average is None else average.module
    return Trained(kept.eval().requires_grad_(False), tuple(curve))


def _module(built: object) -> nn.Module:
    """Return a network as what can be trained.

    Raises:
        UserError: if it is no module.
    """
    if isinstance(built, nn.Module):
        return built
    raise UserError(f"expected a torch.nn.Module from the network's `build`, got an object {type(built).__name__}")


def _number(loss: object) -> Tensor:
    """Return a loss as what can be minimised.

    Raises:
        UserError: if it is no number with a gradient.
    """
    if isinstance(loss, Tensor) and loss.ndim == 0 and loss.requires_grad:
        return loss
    got = f"an object {type(loss).__name__}"
    if isinstance(loss, Tensor):
        got = f"a tensor {tuple(loss.shape)} with{'' if loss.requires_grad else 'out'} a gradient"
    raise UserError(f"expected one number with a gradient from the objective's `loss`, got {got}")


def _begin(net: nn.Module, nets: Mapping[str, nn.Module]) -> None:
    """Start from the weights that a recipe names: of the whole network, or of the parts of a joint one."""
    halves = {"purifier": net.purifier, "classifier": net.classifier} if isinstance(net, Joint) else {}
    for role, one in {"init": net, **halves}.items():
        if role in nets:
            try:
                one.load_state_dict(nets[role].state_dict())
            except RuntimeError as error:
                raise UserError(
                    f"expected the weights under `{role}` to be those of the network that is trained, got another's: "
                    f"{' '.join(str(error).split())[:200]}; name a recipe of the same net"
                ) from None


def _averaging(decay: float) -> Any:
    return get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]


def _batches(n: int, plan: TrainingPlan, rng: torch.Generator) -> Any:
    """Yield ``steps`` batches of row numbers, every image once before any comes again."""
    left = torch.empty(0, dtype=torch.int64)
    for _ in range(plan.steps):
        parts: list[Tensor] = []
        missing = plan.batch_size
        while missing:
            if not len(left):
                left = torch.randperm(n, generator=rng)
            parts.append(left[:missing])
            left = left[missing:]
            missing -= len(parts[-1])
        yield torch.cat(parts)


def _schedule(optimiser: torch.optim.Optimizer, plan: TrainingPlan) -> torch.optim.lr_scheduler.LRScheduler:
    warm = max(1, round(plan.steps * plan.optimiser.warmup))
    rise = LinearLR(optimiser, start_factor=1.0 / (warm + 1), total_iters=warm)
    fall = CosineAnnealingLR(optimiser, T_max=max(1, plan.steps - warm))
    return SequentialLR(optimiser, [rise, fall], milestones=[warm])
