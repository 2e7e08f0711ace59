"""Controls: random changes of the input that know nothing of images; what a purifier has to be better than."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from harness.components import Purifier
from harness.core.contracts import Traits
from harness.core.roles import Role
from harness.core.threat import Norm
from harness.options import Options as BaseOptions
from harness.options import Pixels

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Nets
    from harness.draws import Draws


class RandomSign(Purifier):
    """Negative control: every pixel moves by eps, up or down by lot, and is clipped to [0, 1].

    The furthest corner of the ball that a signed descent of the same eps may walk in. A purifier that beats no lot owes
    its robustness to the size of its change, not to its direction.
    """

    version: ClassVar[int] = 1
    source: ClassVar[str] = "negative control of this benchmark"
    role: ClassVar[Role] = Role.CONTROL

    class Options(BaseOptions):
        """Units: pixels in [0, 1]."""

        eps: Pixels = Field(
            0.2, gt=0, description="size of the change in every pixel; that of the purifier it is compared with"
        )

    options: Options

    #: random; its Jacobian is the identity, but for clipping, and that is its true one
    traits = Traits(random=True, differentiable=True)

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return the images after one random step to a corner of the ball."""
        from harness.bounds import project

        up = draws.at("sign").uniform(*x.shape[1:]) < 0.5
        step = self.options.eps * (2.0 * up.to(x.dtype) - 1.0)
        return project(x + step, x, self.options.eps, Norm.LINF)


class Noise(Purifier):
    """Gaussian noise on every pixel, clipped to [0, 1]; nothing takes it away again.

    Cohen et al. have deviations of 0.12, 0.25, 0.5 and 1, do not clip, and train the classifier under the noise.
    """

    version: ClassVar[int] = 1
    source: ClassVar[str] = "the noise of Cohen et al., ICML 2019, without the vote"
    role: ClassVar[Role] = Role.CONTROL

    class Options(BaseOptions):
        """Units: pixels in [0, 1]."""

        sigma: Pixels = Field(0.1, gt=0, description="standard deviation of the noise before clipping")

    options: Options

    #: random; its Jacobian is the identity, but for clipping, and that is its true one
    traits = Traits(random=True, differentiable=True)

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return the noisy images."""
        from harness.bounds import clip

        return clip(x + self.options.sigma * draws.at("noise").normal(*x.shape[1:]).to(x.dtype))
