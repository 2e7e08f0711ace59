"""MAE-Pure: purify by lowering the masked reconstruction loss of the input itself, by signed gradient steps.

Source: "MAE-Pure: Semantic-Preserving Adversarial Purification" (submission 21073 of NeurIPS 2025), algorithm 1 and
tables 13 and 14; its variant with a fine-tuned purifier follows AToP (Lin et al., ICLR 2024).

What the authors leave open is an option; ``defenses.masked_descent`` has those that MaskDiT-Pure shares. Its own:

- Whether pixels are normalised by patch: ``units``. As the network was trained, unless told; which of the checkpoints
  for ImageNet was taken is not said. The loss of that code (He et al. 2022) is of standardised pixels, so that each
  channel counts by one over its variance: ``standardised``, the default with ``paper: imagenet``. Where the deviation
  is one for all channels, or targets are normalised by patch, that has the signs of ``own``; with ImageNet's three,
  signs differ in a few pixels of a thousand.

The authors' network for 32 x 32 images is a ViT-Base with patches of 4 (12 blocks of 768, a decoder of 8 of 512) after
3,000 epochs, without public weights; for ImageNet it is a ViT-Large of He et al. The recipes that ship are hundreds
of times smaller, and no suite that ships has the paper's setting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from defenses.attention import orders, variation
from defenses.inner import expect, looks
from defenses.masked_descent import MaskedDescent
from harness.options import Number, Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Nets
    from harness.draws import Draws


class MAEPure(MaskedDescent):
    """Signed-gradient steps on the input that lower a masked autoencoder's reconstruction loss."""

    version: ClassVar[int] = 1
    source: ClassVar[str] = "MAE-Pure, NeurIPS 2025 submission 21073, algorithm 1"
    name: ClassVar[str] = "mae-pure"
    inner: ClassVar[tuple[str, ...]] = ("reconstruction", "attention")

    class Options(MaskedDescent.Options):
        """Units: pixels in [0, 1]. The defaults are the paper's for CIFAR-10 (``defenses.tables``), but for ``eps``.

        On 8 x 8 digits, whose smallest step is 1/16, such small steps do little: there the suites that ship take 15 of
        0.04 within 0.3.
        """

        method: ClassVar[str] = "mae-pure"

        mae: Recipe = Field(description="recipe of the masked autoencoder")
        steps: int = Field(150, ge=1, description="iterations")
        halve_step: bool = Field(True, description="halve the step after half of the iterations (table 13, *)")
        mask_ratio: Number = Field(0.25, gt=0, lt=1, description="share of the patches that is removed")
        units: Literal["own", "raw", "normalised", "standardised"] = Field(
            "own",
            description="of the error: pixels, each true patch's deviation, or whichever of both the net was trained "
            "on; standardised: as in the code of MAE's authors, with pixels over their channel's deviation",
        )

    options: Options

    def lowered(self, at: Tensor, still: Tensor, nets: Nets, draws: Draws, step: int) -> Tensor:
        """Return the masked reconstruction loss of a step, ``(B * masks,)``."""
        return self.loss(at, nets, self.masks_at(draws, step), still)

    def loss(self, x: Tensor, nets: Nets, draws: Draws, still: Tensor | None = None) -> Tensor:
        """Return the masked reconstruction loss ``(B * masks,)``, the masks of an image side by side.

        Its gradient in ``x`` takes the path that the options say. On the other one are the images ``still``: the same,
        and without a gradient unless told.
        """
        mae, options = nets["mae"], self.options
        order = orders(int(mae.n_patches), options.masks, draws)  # type: ignore[arg-type]
        seen, aim = self.paths(x, still)
        loss: Tensor = mae.loss(mae(seen, order, options.removed), aim, units=options.units)  # type: ignore[operator]
        return loss

    def inner_loss(self, name: str, x: Tensor, clean: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return a loss within the method, ``(B,)``, averaged over the masks of some of its steps.

        ``reconstruction``: the loss itself, with all its paths. ``attention``: how far the decoder's attention is from
        that on the clean images (``defenses.attention``), all layers counted.
        """
        import torch

        expect(name, self.inner)
        options, mae = self.options, nets["mae"]
        found = []
        for step in looks(options.steps) if options.mask_mode == "fresh" else [0]:
            here = self.masks_at(draws, step)
            if name == "attention":
                order = orders(int(mae.n_patches), options.masks, here)  # type: ignore[arg-type]
                found.append(variation(mae, x, clean, order, options.removed, "all"))
            else:
                found.append(self.loss(x, nets, here, x))
        return torch.cat([one.reshape(len(x), -1) for one in found], 1).mean(1)


class RMAEPure(MAEPure):
    """MAE-Pure with a purifier that was fine-tuned against attacks on the whole system: the recipe says how.

    The algorithm at inference is MAE-Pure's. So is what the paper leaves open of the training, which follows AToP: see
    the objective ``purify-classify``. It trains through one masked pass, since the descent has no gradient to train
    through: the network is tuned for another purification than the one it does here.
    """

    version: ClassVar[int] = 1
    source: ClassVar[str] = "RMAE-Pure, NeurIPS 2025 submission 21073; fine-tuned as in AToP, Lin et al., ICLR 2024"
    name: ClassVar[str] = "rmae-pure"

    class Options(MAEPure.Options):
        """As of mae-pure, with the defaults of the paper's fine-tuned network on CIFAR-10, but for ``eps``."""

        method: ClassVar[str] = "rmae-pure"

        steps: int = Field(90, ge=1, description="iterations")
