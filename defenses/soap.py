"""SOAP: purify by lowering a self-supervised loss of the input, in balls of several radii, and keep the best.

Source: Shi, Holtz and Mishne, "Online Adversarial Purification based on Self-Supervised Learning", ICLR 2021,
section 3: signed steps on the input against the auxiliary loss, within each of several radii from 0 on; of the results,
the one of smallest auxiliary loss goes to the classifier.

Where it departs: the authors train classifier and auxiliary head jointly, on one body. Here the auxiliary network
stands apart, so that the classifier is the one that all defenses share:

- ``reconstruction``: the mean squared error of an autoencoder's output. The authors' narrows in its middle; a masked
  autoencoder or a denoising one does not, so ``mask_ratio`` may hide patches, whose error alone is then the loss.
- ``consistency``: the mean squared difference between a classifier's logits of the image and of its enlarged centre,
  mirrored where ``flip`` says so. The recipe may be the suite's own classifier; it was not trained for consistency.

Predicting rotations, the third task of the paper, wants a head of its own and is left out.

Its steps are signs, so ``full`` would follow the identity; ``smooth`` follows the descent of the radius that is kept.
Which one that is has no derivative, in either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from defenses.descent import SignedDescent, descend
from defenses.inner import expect
from harness.core.contracts import Traits
from harness.core.errors import UserError
from harness.options import Number, Pixels, Recipe
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Nets
    from harness.draws import Draws


class SOAP(SignedDescent):
    """Signed-gradient steps that lower an auxiliary loss, within the radius that lowers it most."""

    #: 2: its signs can be followed; cells of version 1 are recorded as those of a defense that nothing goes through
    version: ClassVar[int] = 2
    source: ClassVar[str] = "Shi et al., Online Adversarial Purification, ICLR 2021, section 3"
    name: ClassVar[str] = "soap"
    inner: ClassVar[tuple[str, ...]] = ("reconstruction",)

    class Options(BaseOptions):
        """Units: pixels in [0, 1].

        The defaults are those of the authors' code: 11 radii, 0 to 40/255 by 4/255, with 5 steps of 4/255 in each.
        """

        net: Recipe = Field(description="recipe of the auxiliary network: an autoencoder, or a classifier")
        auxiliary: Literal["reconstruction", "consistency"] = Field(
            "reconstruction", description="the self-supervised loss"
        )
        steps: int = Field(5, ge=1, description="iterations within each radius")
        step_size: Pixels = Field(4 / 255, gt=0, description="length of a step in every pixel")
        eps: Pixels = Field(40 / 255, gt=0, description="largest radius of the Linf ball around the input")
        radii: int = Field(10, ge=1, description="radii that are tried: eps / radii, 2 eps / radii, ..., and no change")
        mask_ratio: Number = Field(
            0.0, ge=0, lt=1, description="reconstruction: share of the patches that is removed; 0 is the error of all"
        )
        crop: Number = Field(0.75, gt=0, le=1, description="consistency: side of the centre that is enlarged")
        flip: bool = Field(False, description="consistency: mirror the centre; not where that changes the class")

    options: Options

    @property
    def traits(self) -> Traits:
        """Random where masks are drawn; a signed descent."""
        return Traits(random=self._masked, differentiable=False, optimises=True)

    @property
    def _masked(self) -> bool:
        return self.options.auxiliary == "reconstruction" and self.options.mask_ratio > 0

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return images within ``eps`` of ``x`` with the smallest auxiliary loss of those that were tried.

        No graph is behind them, unless signs are smoothed.
        """
        import torch

        options = self.options

        def loss(at: Tensor, still: Tensor, step: int) -> Tensor:
            return self.loss(at, nets, draws)

        best = x.detach().clone() if self.smoothing is None else x.clone()
        with torch.no_grad():
            least = self.loss(best, nets, draws)
        for radius in range(1, options.radii + 1):
            eps = options.eps * radius / options.radii
            found = descend(
                x, loss, steps=options.steps, step_size=options.step_size, eps=eps, smoothing=self.smoothing
            )
            with torch.no_grad():
                here = self.loss(found, nets, draws)
            better = here < least
            best = torch.where(better.reshape(-1, 1, 1, 1), found, best)
            least = torch.where(better, here, least)
        return best

    def loss(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return the auxiliary loss of each image, ``(B,)``; the masks are the same at every call.

        Raises:
            UserError: if the network is not one that the loss can be taken of.
        """
        return (
            self._reconstruction(x, nets, draws) if self.options.auxiliary == "reconstruction" else self._views(x, nets)
        )

    def inner_loss(self, name: str, x: Tensor, clean: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return the auxiliary loss, ``(B,)``, whichever it is."""
        expect(name, self.inner)
        return self.loss(x, nets, draws)

    def _reconstruction(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        import torch

        from harness.nets.mae import MAE

        net = nets["net"]
        if not isinstance(net, MAE):
            raise UserError(
                f"expected a masked autoencoder as auxiliary network, got {type(net).__name__}; "
                "name the recipe of one, or use auxiliary: consistency"
            )
        if self._masked:
            order = draws.at("mask").permutation(net.n_patches)
        else:
            order = torch.arange(net.n_patches, device=x.device).expand(len(x), -1)
        found = net(x, order, self.options.mask_ratio)
        return net.loss(found, x, "masked" if self._masked else "all")

    def _views(self, x: Tensor, nets: Nets) -> Tensor:
        from torch.nn import functional as F
        from torchvision.transforms.v2.functional import center_crop

        from harness.nets.mae import MAE

        net = nets["net"]
        if isinstance(net, MAE):
            raise UserError(
                "expected a classifier as auxiliary network, got a masked autoencoder; "
                "name the recipe of a classifier, or use auxiliary: reconstruction"
            )
        height, width = x.shape[2:]
        side = [max(1, round(self.options.crop * length)) for length in (height, width)]
        centre = center_crop(x.flip(3) if self.options.flip else x, side)
        enlarged = F.interpolate(centre, (height, width))
        difference: Tensor = net(x) - net(enlarged)
        return (difference**2).mean(1)
