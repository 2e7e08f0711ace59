"""Defenses and attacks with a flaw that is known, to check by whether verdicts and reports show it.

They refuse nothing, unless they say so: whoever is refused would not meet the flaw. No suite can name them by
themselves: a test that wants them puts ``FLAWED`` and ``FAILING`` into the registry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from harness.bounds import clip
from harness.components import Attack, Purifier
from harness.core.contracts import Traits
from harness.options import Number, Recipe
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from harness.core.contracts import Nets, Setting, Victim
    from harness.core.threat import ThreatModel
    from harness.draws import Draws

#: what a drowned image consists of
GREY = 0.5


class Rounded(Purifier):
    """Rounds pixels to a few levels and claims a gradient, which is zero everywhere: masked, and no harder to fool."""

    class Options(BaseOptions):
        """How coarse."""

        levels: int = Field(4, ge=2, description="values that a pixel may have, evenly from 0 to 1")

    #: fixed; the claim of a gradient is a lie
    traits = Traits(random=False, differentiable=True)

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return the nearest levels; their derivative is zero, where a constant would have none."""
        steps = self.options.levels - 1
        found: Tensor = (x * steps).round() / steps
        return found


class Rooted(Purifier):
    """Takes a root and squares it, which changes nothing; but at 0 a root has no finite slope, and attacks get none."""

    #: fixed; its gradient is the identity, but for black pixels
    traits = Traits(random=False, differentiable=True)

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return the images as they are, but for rounding."""
        return x.sqrt().square().clamp_max(1.0)


class Scattered(Purifier):
    """Adds ripples too small to change a class and too steep to follow: gradients of two draws share no direction."""

    #: random in where the ripples are
    traits = Traits(random=True, differentiable=True)

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return images up to 0.01 away in every pixel, with a slope of up to a thousand."""
        phase = 2.0 * torch.pi * draws.at("phase").uniform(*x.shape[1:]).to(x.dtype)
        return clip(x + 0.01 * torch.sin(1e5 * x + phase))


class Loud(nn.Module):
    """A classifier whose logits are multiplied, so that its probabilities are 0 and 1 to the last digit."""

    def __init__(self, net: nn.Module, factor: float) -> None:
        super().__init__()
        self.net, self.factor = net, factor

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(B, K)``."""
        logits: Tensor = self.net(x)
        return self.factor * logits


class Saturated(Purifier):
    """Brings a classifier of its own whose cross-entropy has no gradient left where it is right; its margin has."""

    class Options(BaseOptions):
        """Which classifier, and how loud."""

        net: Recipe = Field(description="the classifier whose logits are multiplied")
        factor: Number = Field(1e4, gt=0, description="by what")

    #: fixed, with a classifier of its own
    traits = Traits(random=False, differentiable=True, own_classifier=True)

    def classifier(self, nets: Nets) -> nn.Module:
        """Return the loud classifier."""
        return Loud(nets["net"], self.options.factor)

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return the images as they are."""
        return x.clone()


class Softened(Purifier):
    """Brings a classifier of its own that hands over probabilities in place of logits."""

    class Options(BaseOptions):
        """Which classifier."""

        net: Recipe = Field(description="the classifier whose softmax is taken")

    #: fixed, with a classifier of its own
    traits = Traits(random=False, differentiable=True, own_classifier=True)

    def classifier(self, nets: Nets) -> nn.Module:
        """Return the classifier with a softmax behind it."""
        return nn.Sequential(nets["net"], nn.Softmax(1)).eval()

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return the images as they are."""
        return x.clone()


class Torn(Purifier):
    """Takes the root of what may be negative: images that are bright on the whole have pixels that are no numbers."""

    class Options(BaseOptions):
        """How bright."""

        level: Number = Field(0.3, ge=0, le=1, description="mean pixel above which there are such")

    #: fixed
    traits = Traits(random=False, differentiable=True)

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return the images as they are, or with a factor that is no number."""
        mean = x.mean((1, 2, 3), keepdim=True)
        return x * torch.where(mean > self.options.level, (self.options.level - mean).sqrt(), torch.ones_like(mean))


class Drowned(Purifier):
    """Leaves an image as it is, or by lot makes it all grey: how often it is right is known in closed form.

    A drowned image is given the class of the grey one, whatever it was.
    """

    class Options(BaseOptions):
        """How often."""

        chance: Number = Field(0.3, ge=0, le=1, description="probability that an image is drowned, at each draw")
        votes: int = Field(1, ge=1, description="how often it is purified, to be classified by majority")

    @property
    def traits(self) -> Traits:
        """Random; an image that is not drowned has its own gradient."""
        return Traits(random=True, differentiable=True, votes=self.options.votes)

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return images, some of them grey."""
        drowned = draws.at("lot").uniform(1, 1, 1) < self.options.chance
        return torch.where(drowned, torch.full_like(x, GREY), x)


class Levelled(Purifier):
    """Brings every image to the mean brightness of its batch, so that what becomes of it depends on the others."""

    #: fixed; looks across its batch
    traits = Traits(random=False, differentiable=True, batchwise=True)

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return the images, each as bright as their mean."""
        return (x - x.mean((1, 2, 3), keepdim=True) + x.mean()).clamp(0.0, 1.0)


class Bright(Purifier):
    """Stretches the range of the pixels beyond that of images."""

    unclipped: ClassVar[bool] = True

    #: fixed
    traits = Traits(random=False, differentiable=True)

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return the images with 1.5 times their contrast."""
        return GREY + 1.5 * (x - GREY)


class Meddling(Purifier):
    """Returns what it is given, and leaves torch with another precision of products."""

    #: fixed
    traits = Traits(random=False, differentiable=True)

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return the images."""
        torch.set_float32_matmul_precision("medium")
        return x.clone()


class Moody(Purifier):
    """Darkens every second batch that it is given, and does not say that it remembers."""

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.times = 0

    #: fixed, by its own account
    traits = Traits(random=False, differentiable=True)

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return the images, or darker ones."""
        self.times += 1
        return x * (0.9 if self.times % 2 else 1.0)


class Peeking(Purifier):
    """Is shown the clean image and returns it."""

    #: an oracle
    traits = Traits(random=False, differentiable=False, oracle=True)

    def refuses(self, setting: Setting) -> str | None:
        """Refuse who knows of it: no attacker has such a victim."""
        return "it is shown the clean image" if setting.threat.adaptive else None

    def purify(self, x: Tensor, nets: Nets, draws: Draws, clean: Tensor | None = None) -> Tensor:
        """Return the clean images where they are shown."""
        return (x if clean is None else clean).clone()


class Lost(Attack):
    """Proposes nothing that is finite for the examples of odd number, and the clean image for the others."""

    by_example: ClassVar[bool] = True

    def propose(self, victim: Victim, x: Tensor, y: Tensor, threat: ThreatModel, draws: Draws) -> Tensor:
        """Return images, some of them no numbers."""
        odd = (draws.examples % 2 == 1).reshape(-1, 1, 1, 1)
        return torch.where(odd, torch.full_like(x, torch.nan), x)


class Greedy(Attack):
    """Goes twice as far as it may."""

    by_example: ClassVar[bool] = True

    def propose(self, victim: Victim, x: Tensor, y: Tensor, threat: ThreatModel, draws: Draws) -> Tensor:
        """Return images that are all brighter by twice the budget, as far as there is room."""
        return (x + 2.0 * threat.eps).clamp(0.0, 1.0)


def _named(*components: type) -> dict[str, str]:
    return {one.__name__.lower(): f"{__name__}:{one.__name__}" for one in components}


_WRONG_IN_THEMSELVES = (Rounded, Rooted, Scattered, Saturated, Softened, Torn, Drowned)
_OF_ANOTHER_KIND = (Levelled, Bright, Meddling, Moody, Peeking)

#: by registered name, what the registry loads: defenses, and attacks
FLAWED = _named(*_WRONG_IN_THEMSELVES, *_OF_ANOTHER_KIND)
FAILING = _named(Lost, Greedy)
