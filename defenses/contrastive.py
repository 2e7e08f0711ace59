"""Contrastive guidance: along the way back, images are kept near what they were, and apart from one another.

Source: Bai et al., "Diffusion Models Demand Contrastive Guidance for Adversarial Purification to Advance", ICML 2024.
At every evaluation of the network, its prediction gets ``multiplier`` times the gradient, in the state, of a
contrastive loss between embeddings of a classifier's logits: those of the state, and of the state at the evaluation
before. A positive pair is an image with itself a step before, and the others of its batch are negatives, all alike
(``soft``, InfoNCE) or weighted by hardness (``hard``, Robinson et al. 2021: tau_plus, beta). The embedding is a small
gated network that Adam trains on the same loss, a step at a time.

The defaults are the authors' for CIFAR-10 at Linf 8/255: 100 steps of the stochastic equation from t* = 100, by
DiffPure's grid and clock (``defenses.reverse``), multiplier 500, batches of 64, a classifier that is handed the state
as it is, in [-1, 1] and noisy, though it was trained on pixels (``sees``).

``mates: batch``: the negatives are the images that share a batch, so a prediction depends on them, and an image is
judged as a member of its shard. Its mates are the shard's images as they are at the time: while an attack searches,
their own candidates (of some of them alone, where it has done with others); before the judge, what was proposed for
each. The loss is a mean over the batch: in half a batch an image would be pulled twice as hard. So the gradient counts
in proportion to the images there are, and an image in a small shard is pulled like one in a ``batch``, by fewer
negatives. A shard of 64 is the authors' setting to the letter; a larger one has more negatives. Of a shard that was
measured in part, the rest that is measured later has the rest alone for mates: let ``n_examples`` be whole shards.

``mates: alone`` changes the method: no image sees another, each has an embedding of its own, there is nothing to push
away, and the sum over negatives is the least that the hard estimator lets it be. The gradient is that of an image's own
loss and not a share of a batch's: on the digits three to four times as long, at the same multiplier.

Where it departs from the authors' code, by default:

- ``memory: fresh``: nothing is left from one call to the next. Their script begins the embedding anew after each call,
  and keeps the last state of the batch before, which then is the first to be compared with (``memory: kept``); that
  makes a defense that keeps state.
- ``path: attached``: an attacker's gradient goes through the guidance and the embedding's training. Theirs is cut off.
- ``pairs: own``: a positive pair is an image with itself; their code averages over the pairs of all images of a batch
  (``pairs: all``).
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field

from defenses.diffusion import ClassifierGuided
from defenses.guidance import twice_differentiable
from harness.core.contracts import Traits
from harness.options import Number

if TYPE_CHECKING:
    from torch import Tensor, nn

    from defenses.adam import Moments
    from defenses.deviation import Deviation
    from harness.core.contracts import Nets
    from harness.draws import Draws

#: gated blocks of the embedding
BLOCKS = 3


@dataclass
class Embedding:
    """What is learned on the way: weights of each group of images, and where the last evaluation was.

    Attributes:
        weights: nine matrices ``(G, out, in)``.
        moments: Adam's, of each.
        before: the state at the evaluation before, or None at the first.
        evaluations: how many there were.
    """

    weights: list[Tensor] = field(default_factory=list)
    moments: list[Moments] = field(default_factory=list)
    before: Tensor | None = None
    evaluations: int = 0


class Contrastive(ClassifierGuided):
    """Forward noise, then a way back whose predictions are guided by a contrastive loss of a classifier's logits."""

    version: ClassVar[int] = 2
    source: ClassVar[str] = "Bai et al., Diffusion Models Demand Contrastive Guidance, ICML 2024"
    name: ClassVar[str] = "contrastive"

    class Options(ClassifierGuided.Options):
        """Noise levels are those of the training schedule, of 1000."""

        multiplier: Number = Field(500.0, ge=0, description="of the gradient beside the predicted noise")
        mates: Literal["batch", "alone"] = Field("batch", description="negatives: the others of the batch, or none")
        batch: int = Field(64, ge=1, description="images of the batch that the multiplier is meant for, with mates")
        pairs: Literal["own", "all"] = Field("own", description="positives: an image with itself, or with all mates")
        sees: Literal["state", "pixels"] = Field(
            "state",
            description="what the guide is shown: the state in [-1, 1], as in the authors' code, or (x + 1) / 2",
        )
        memory: Literal["fresh", "kept"] = Field("fresh", description="each call begins anew, or after the last state")
        estimator: Literal["hard", "soft"] = Field("hard", description="negatives weighted by hardness, or all alike")
        tau_plus: Number = Field(0.1, ge=0, lt=1, description="share of false negatives that the hard one expects")
        beta: Number = Field(1.0, ge=0, description="how much more hard negatives count")
        temperature: Number = Field(1.0, gt=0, description="that cosines are divided by")
        lr: Number = Field(0.01, gt=0, description="of the embedding's Adam")
        start: int = Field(0, ge=0, description="evaluations before the guidance begins; it needs a state before")
        sampler: Literal["ddpm", "ddim", "sde", "ode"] = Field("sde", description="how to go back")

    options: Options

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._last: Tensor | None = None

    @property
    def traits(self) -> Traits:
        """Random through its noise; exact gradients unless some is cut off; batch-mates and state where asked for."""
        options = self.options
        return Traits(
            random=True,
            differentiable=options.path == "attached",
            optimises=True,
            batchwise=options.mates == "batch",
            stateful=options.memory == "kept",
        )

    def attached(self) -> Self:
        """Return the same defense, with a guidance that a gradient goes through, and no memory."""
        return type(self)(self.options.model_copy(update={"path": "attached", "memory": "fresh"}))

    def there_and_back(self, x: Tensor, nets: Nets, draws: Draws, deviation: Deviation | None = None) -> Tensor:
        """Return the images in [-1, 1], unclipped, after the guided way back."""
        from defenses.reverse import diffused, restore

        options = self.options
        image = 2.0 * x - 1.0
        noise = draws.at("forward").normal(*x.shape[1:]).to(x.dtype)
        state = diffused(image, noise, options.t_star, options.sampler, clock=options.clock)
        learned = Embedding(before=self._last if self._last is not None and self._last.shape == x.shape else None)

        def guide(at: Tensor, share: float, predicted: Tensor) -> Tensor:
            return predicted + options.multiplier * self._gradient(nets["guide"], at, learned, draws)

        found = restore(
            state,
            nets["unet"],
            draws,
            t_star=options.t_star,
            steps=options.steps,
            sampler=options.sampler,
            clock=options.clock,
            guide=guide,
            replay=False,
            seen=None if deviation is None else deviation.from_way(image, noise),
        )
        if options.memory == "kept" and learned.before is not None:
            self._last = learned.before.detach()
        return found

    def _gradient(self, classifier: nn.Module, at: Tensor, learned: Embedding, draws: Draws) -> Tensor:
        """Return the gradient of the loss in the state ``(B, C, H, W)``, and train the embedding by a step."""
        import torch

        from defenses.adam import Moments, adam

        options = self.options
        before, learned.before = learned.before, at if options.path == "attached" else at.detach()
        learned.evaluations += 1
        if before is None or learned.evaluations <= options.start:
            return torch.zeros_like(at)
        attached = options.path == "attached" and torch.is_grad_enabled() and at.requires_grad
        with torch.enable_grad(), twice_differentiable() if attached else nullcontext():
            here = at if attached else at.detach().requires_grad_(True)
            then = before if attached else before.detach()
            one, other = (
                classifier(state if options.sees == "state" else (state + 1.0) / 2.0) for state in (then, here)
            )
            together = options.mates == "batch"
            groups = 1 if together else len(at)
            if not learned.weights:
                learned.weights = _first_weights(one.shape[1], groups, one, draws)
                learned.moments = [Moments.none(weight) for weight in learned.weights]
            weights = [weight if attached and weight.requires_grad else weight.detach() for weight in learned.weights]
            weights = [weight if weight.requires_grad else weight.requires_grad_(True) for weight in weights]
            pair = [embed(logits.reshape(groups, -1, logits.shape[1]), weights) for logits in (one, other)]
            loss = contrast(pair[0], pair[1], options).sum()
            found, *down = torch.autograd.grad(loss, [here, *weights], create_graph=attached)
        stepped = [
            adam(weight, gradient, moments, options.lr)
            for weight, gradient, moments in zip(weights, down, learned.moments, strict=True)
        ]
        learned.weights = [weight if attached else weight.detach() for weight, _ in stepped]
        learned.moments = [moments for _, moments in stepped]
        return found * (len(at) / options.batch) if together else found


def _first_weights(width: int, groups: int, like: Tensor, draws: Draws) -> list[Tensor]:
    """Return nine matrices ``(G, out, in)``, the same for every group, uniform within 1 / sqrt(in)."""
    import torch

    rng = torch.Generator().manual_seed(draws.at("embedding").seed())
    shapes = [(2 * width, width), (2 * width, width), (width, 2 * width)] * BLOCKS
    drawn = [(2.0 * torch.rand(shape, generator=rng) - 1.0) / math.sqrt(shape[1]) for shape in shapes]
    return [weight.to(like.device, like.dtype).repeat(groups, 1, 1) for weight in drawn]


def embed(logits: Tensor, weights: list[Tensor]) -> Tensor:
    """Return embeddings ``(G, M, K)`` of logits ``(G, M, K)``: gated residual blocks, each group by its own weights."""
    from torch.nn import functional as F

    for block in range(BLOCKS):
        gate, value, out = (weight.transpose(1, 2) for weight in weights[3 * block : 3 * block + 3])
        logits = logits + (F.silu(logits @ gate) * (logits @ value)) @ out
    return logits


def contrast(one: Tensor, other: Tensor, options: Contrastive.Options) -> Tensor:
    """Return the mean contrastive loss of each group, ``(G,)``.

    With p the positive pair's exp(cosine / T) and n those of the N = 2 (M - 1) others, in both views, the loss is
    -log(p / (p + Ng)). Ng is the sum of n (``soft``), or at least N exp(-1 / T) and otherwise
    (sum of n^(1 + beta) / mean of n^beta - tau_plus N p) / (1 - tau_plus) (``hard``).
    Of an image alone, N counts as 2 and Ng is that least. Where all images of a batch are positives (``pairs: all``),
    p is in turn that of each image before with each image now, beside the negatives of either view of the former.

    Args:
        one: embeddings ``(G, M, K)`` of a group's images a step before.
        other: those of now.
        options: the estimator and its numbers.
    """
    import torch
    from torch.nn import functional as F

    views = F.normalize(torch.cat([one, other], 1), dim=2, eps=1e-8)
    size = one.shape[1]
    likeness = torch.exp(views @ views.transpose(1, 2) / options.temperature)  # (G, 2M, 2M)
    rows = torch.arange(2 * size, device=one.device)
    if options.pairs == "own":
        positive = likeness[:, rows, (rows + size) % (2 * size)][..., None]  # (G, 2M, 1)
    else:
        positive = likeness[:, :size, size:].repeat(1, 2, 1)  # (G, 2M, M)
    others = rows[:, None] % size != rows % size
    number = max(2 * size - 2, 2)
    least = number * math.exp(-1.0 / options.temperature)
    if size == 1:
        negative = torch.full_like(positive, least)
    elif options.estimator == "soft":
        negative = (likeness * others).sum(2, keepdim=True)
    else:
        hardness = likeness**options.beta * others
        weighted = (hardness * likeness).sum(2, keepdim=True) / (hardness.sum(2, keepdim=True) / number)
        negative = (weighted - options.tau_plus * number * positive) / (1.0 - options.tau_plus)
        negative = negative.clamp_min(least)
    return -torch.log(positive / (positive + negative)).flatten(1).mean(1)
