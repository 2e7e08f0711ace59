"""The training loop: AdamW, warm-up and cosine decay, an optional average of the weights."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from harness.nets import TABLE
from harness.training.objectives import loss_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.core.contracts import DataCard, Split
    from harness.nets.sizes import NetSize
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


def build_net(size: NetSize, data: DataCard) -> nn.Module:
    """Return the untrained network of a size."""
    module, _, name = TABLE[size.use].partition(":")
    net: nn.Module = getattr(importlib.import_module(module), name)(size, data)
    return net


def train(
    plan: TrainingPlan,
    data: DataCard,
    split: Split,
    progress: Callable[[float], Any],
    device: torch.device = torch.device("cpu"),  # noqa: B008  (a value)
) -> Trained:
    """Train a network; the same plan, data and number of threads give the same weights, bit for bit.

    Args:
        plan: what to train and how.
        data: what is known of the dataset.
        split: what to train on.
        progress: told the share that is done, 0 to 1.
        device: where the network is trained; random numbers are drawn on the CPU, so they are the same everywhere.
    """
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)  # layers draw their first weights from the global generator
        net = build_net(plan.net, data).to(device)
    rng = torch.Generator().manual_seed(plan.seed + 1)
    images, labels = torch.from_numpy(split.images).to(device), torch.from_numpy(split.labels).to(device)
    loss_fn, how = loss_of(plan.objective), plan.optimiser

    optimiser = torch.optim.AdamW(net.parameters(), how.lr, betas=(0.9, how.beta2), weight_decay=how.weight_decay)
    schedule = _schedule(optimiser, plan)
    average = AveragedModel(net, multi_avg_fn=_averaging(how.ema)) if how.ema else None
    curve: list[tuple[int, float]] = []
    recent: list[float] = []
    net.train()
    for step, rows in enumerate(_batches(len(images), plan, rng), start=1):
        here = rows.to(device)
        loss = loss_fn(net, images[here], labels[here], rng)
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
    kept = net if average is None else average.module
    return Trained(kept.eval().requires_grad_(False), tuple(curve))


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
