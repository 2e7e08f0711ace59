"""There and back through a diffusion: what the purifiers that go back from a noise level share, guided or not."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from defenses.guidance import PATH, Path, refuse_detached
from defenses.inner import expect
from defenses.reverse import CLOCK, N_STEPS, Clock, Sampler, refuse_strides
from harness.components import Purifier
from harness.options import Options as BaseOptions
from harness.options import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from defenses.deviation import Deviation
    from harness.core.contracts import Nets, Setting
    from harness.draws import Draws


class Diffusion(Purifier):
    """A purifier whose images come back from a noise level; ``there_and_back`` says how."""

    inner: ClassVar[tuple[str, ...]] = ("deviation",)

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return the images after the way back; differentiable in ``x`` when gradients are on."""
        from harness.bounds import clip

        return clip((self.there_and_back(x, nets, draws) + 1.0) / 2.0).to(x.dtype)

    def inner_loss(self, name: str, x: Tensor, clean: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return how far the way back strays, ``(B,)``, guidance attached (``defenses.deviation``)."""
        from defenses.deviation import Deviation

        expect(name, self.inner)
        deviation = Deviation()
        self.attached().there_and_back(x, nets, draws, deviation)
        return deviation.mean()

    def attached(self) -> Self:
        """Return the same defense, through all of which a gradient goes, begun anew."""
        return self

    @abstractmethod
    def there_and_back(self, x: Tensor, nets: Nets, draws: Draws, deviation: Deviation | None = None) -> Tensor:
        """Return the images in [-1, 1], unclipped, after the way back.

        Args:
            x: pixels ``(B, C, H, W)`` in [0, 1].
            nets: the networks.
            draws: those of the images.
            deviation: is shown the states on the way.
        """


def walked(sampler: Sampler, deviation: Deviation | None) -> Sampler:
    """Return the sampler that goes a sampler's way and shows its states where they are wanted."""
    return "sde" if sampler == "torchsde" and deviation is not None else sampler


class Guided(Diffusion):
    """A way back that a guide has a say in, whose gradient may be cut off.

    Attributes:
        name: what it is called in a sentence.
    """

    name: ClassVar[str]

    def attached(self) -> Self:
        """Return the same defense, with a guidance that a gradient goes through, begun anew."""
        return type(self)(self.options.model_copy(update={"path": "attached"}))

    def refuses(self, setting: Setting) -> str | None:
        """Refuse the exact gradient where a part of it is cut off."""
        return refuse_detached(self.name, self.options.path, setting)


class ClassifierGuided(Guided):
    """A way back that a classifier guides."""

    class Options(BaseOptions):
        """Noise levels are those of the training schedule, of 1000; the defaults are for CIFAR-10 at Linf 8/255."""

        unet: Recipe = Field(description="recipe of the noise-predicting U-Net")
        guide: Recipe = Field(description="recipe of the classifier that guides")
        t_star: int = Field(100, ge=1, le=N_STEPS, description="noise level; 100 for CIFAR-10 at Linf 8/255")
        steps: int = Field(100, ge=1, description="reverse steps from t* to 0, equally far apart")
        sampler: Sampler = Field("sde", description="how to go back; the papers have the stochastic equation")
        clock: Clock = Field("floor", description=CLOCK)
        path: Path = Field("attached", description=PATH)

        @model_validator(mode="after")
        def _possible(self) -> Self:
            reason = refuse_strides(self.t_star, self.steps, self.sampler)
            if reason is not None:
                raise ValueError(reason)
            return self
