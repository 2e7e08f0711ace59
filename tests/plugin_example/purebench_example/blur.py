"""Local smoothing (Xu et al. 2018, "Feature Squeezing"), by a mean filter."""

from pydantic import Field

from harness import Options, Purifier, Traits
from harness.core.roles import Role


class Blur(Purifier):
    """Mean of every pixel's neighbourhood, mixed with the pixel."""

    version = 1
    traits = Traits(random=False, differentiable=True)

    class Options(Options):
        strength: float = Field(0.5, ge=0, le=1, description="share of the neighbourhood's mean")

    def purify(self, x, nets, draws):
        from torch.nn import functional as F

        mean = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        return (1 - self.options.strength) * x + self.options.strength * mean


class Examined(Blur):
    """The same; studies of attention ask of it whether it restores what attacks disturbed."""

    role = Role.RECONSTRUCTION
