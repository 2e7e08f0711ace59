"""COUP: the reverse process from the input itself, guided by how sure a classifier is.

Source: Zhang et al., "Classifier Guidance Enhances Diffusion-based Adversarial Purification by Preserving Predictive
Information", ECAI 2024. The reverse equation starts at the input, which gets no noise, and its score gets ``weight``
(1 in all of the authors' scripts) times the gradient of log max_y p(y | x), the classifier's being the attacked one.

Where it departs from the authors' code: the gradient of the guidance is part of the graph (``path: attached``); theirs
is taken at a detached copy, which hides it from an attack through the purifier. The noise of each step has an address.
The guide is a recipe of its own, so that a row says whose confidence it preserves; any network that a recipe can have,
trained or published, will do. The authors have 100 steps from t* = 100 at Linf 8/255 and from 75 at L2 0.5, by
DiffPure's grid and clock (``defenses.reverse``), and no others.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from defenses.diffusion import ClassifierGuided, walked
from defenses.guidance import gradient
from harness.core.contracts import Traits
from harness.options import Number

if TYPE_CHECKING:
    from torch import Tensor, nn

    from defenses.deviation import Deviation
    from harness.core.contracts import Nets
    from harness.draws import Draws


class COUP(ClassifierGuided):
    """The reverse process from the input, without forward noise, guided by a classifier's confidence."""

    version: ClassVar[int] = 2
    source: ClassVar[str] = "Zhang et al., Classifier Guidance Enhances Diffusion-based Purification, ECAI 2024"
    name: ClassVar[str] = "coup"

    class Options(ClassifierGuided.Options):
        """Noise levels are those of the training schedule, of 1000."""

        weight: Number = Field(1.0, ge=0, description="of the guidance beside the score")
        forward_noise: bool = Field(False, description="noise the input first, as DiffPure does")

    options: Options

    @property
    def traits(self) -> Traits:
        """Random through its steps or its forward noise; exact gradients unless the guidance is cut off."""
        noisy = self.options.forward_noise or self.options.sampler not in ("ddim", "ode")
        return Traits(random=noisy, differentiable=self.options.path == "attached", optimises=self.options.weight > 0)

    def there_and_back(self, x: Tensor, nets: Nets, draws: Draws, deviation: Deviation | None = None) -> Tensor:
        """Return the images in [-1, 1], unclipped, after the way back; from the input itself where it gets no noise."""
        from defenses.reverse import diffused, restore

        options, sampler = self.options, walked(self.options.sampler, deviation)
        image = state = 2.0 * x - 1.0
        noise = None
        if options.forward_noise:
            noise = draws.at("forward").normal(*x.shape[1:]).to(x.dtype)
            state = diffused(image, noise, options.t_star, sampler, clock=options.clock)

        def guide(at: Tensor, share: float, predicted: Tensor) -> Tensor:
            towards = gradient(lambda here: confidence(nets["guide"], here), at, options.path)
            return predicted - math.sqrt(1.0 - share) * options.weight * towards

        return restore(
            state,
            nets["unet"],
            draws,
            t_star=options.t_star,
            steps=options.steps,
            sampler=sampler,
            clock=options.clock,
            guide=guide if options.weight else None,
            seen=None if deviation is None else deviation.from_way(image, noise),
        )


def confidence(classifier: nn.Module, state: Tensor) -> Tensor:
    """Return log max_y p(y | x) of states in [-1, 1], ``(B,)``; the classifier takes pixels, unclipped here."""
    logits: Tensor = classifier((state + 1.0) / 2.0)
    return logits.log_softmax(1).amax(1)
