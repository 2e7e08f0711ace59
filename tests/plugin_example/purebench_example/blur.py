"""Local smoothing (Xu et al. 2018, "Feature Squeezing"), by a mean filter."""

from pydantic import Field

from harness.core.contracts import Traits
from harness.options import Options


class Blur:
    """Mean of every pixel's neighbourhood, mixed with the pixel."""

    version = 1

    class Options(Options):
        strength: float = Field(0.5, ge=0, le=1, description="share of the neighbourhood's mean")

    def __init__(self, options):
        self.options = options

    @property
    def traits(self):
        return Traits(random=False, differentiable=True)

    def refuses(self, setting):
        return None

    def purify(self, x, nets, draws):
        from torch.nn import functional as F

        mean = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        return (1 - self.options.strength) * x + self.options.strength * mean
