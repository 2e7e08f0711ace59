"""AMV oracle: restore the attention itself, having been shown the clean image; for analysis, never a defense.

MAE-Pure lowers a reconstruction loss in place of the attention-matrix variation (AMV), which nobody can know without
the clean image (submission 21073 of NeurIPS 2025, section 3: the bound says that changed attention costs loss, not that
less loss restores attention). This one lowers the AMV by the same signed steps. What it reaches is what a purifier
would gain if the proxy were perfect; what MAE-Pure falls short of it is the proxy's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from defenses.attention import Layers, orders, variation
from defenses.descent import descend
from harness.components import Purifier
from harness.core.contracts import Setting, Traits
from harness.core.roles import Role
from harness.options import Number, Pixels, Recipe
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Nets
    from harness.draws import Draws


class AMVOracle(Purifier):
    """Signed-gradient steps that bring a masked autoencoder's attention back to the clean image's, which they see."""

    version: ClassVar[int] = 1
    source: ClassVar[str] = "analysis of MAE-Pure, NeurIPS 2025 submission 21073, section 3 and theorem 3.2"
    role: ClassVar[Role] = Role.ORACLE

    class Options(BaseOptions):
        """Units: pixels in [0, 1].

        The defaults are those of mae-pure for CIFAR-10, with the ratio of the paper's attack curves, 0.5. To stand
        beside a mae-pure, it wants the same steps, step and eps.
        """

        mae: Recipe = Field(description="recipe of the masked autoencoder")
        steps: int = Field(150, ge=1, description="iterations")
        step_size: Pixels = Field(1 / 255, gt=0, description="length of a step in every pixel")
        halve_step: bool = Field(True, description="halve the step after half of the iterations")
        eps: Pixels = Field(0.2, gt=0, description="radius of the Linf ball around the input that the result stays in")
        mask_ratio: Number = Field(0.5, ge=0, lt=1, description="share of the patches that is removed")
        masks: int = Field(1, ge=1, description="masks whose variations are averaged in a step")
        mask_mode: Literal["fresh", "fixed"] = Field("fresh", description="draw masks anew in each iteration, or once")
        layers: Layers = Field(
            "all", description="decoder layers: the one that the figures show, or the mean that the theorem bounds"
        )

    options: Options

    #: random through its masks, a signed descent, and shown the clean image
    traits = Traits(random=True, differentiable=False, optimises=True, oracle=True)

    def refuses(self, setting: Setting) -> str | None:
        """Refuse whoever knows of the defense: nobody can attack through a clean image that only the judge has."""
        if setting.threat.adaptive:
            return (
                "amv-oracle is shown the clean image, which no attacker's victim has, so it meets clean input and "
                "oblivious attacks only; use knowledge: oblivious"
            )
        return None

    def purify(self, x: Tensor, nets: Nets, draws: Draws, clean: Tensor | None = None) -> Tensor:
        """Return images within ``eps`` of ``x`` whose attention is nearer to that of ``clean``."""
        if clean is None:
            raise ValueError(f"expected the clean images beside {len(x)} attacked ones, got none; the judge has them")
        known, options = clean.detach(), self.options

        def loss(at: Tensor, still: Tensor, step: int) -> Tensor:
            return self.variation(at, known, nets, draws.at("mask", step if options.mask_mode == "fresh" else 0))

        return descend(
            x,
            loss,
            steps=options.steps,
            step_size=options.step_size,
            eps=options.eps,
            halve_step=options.halve_step,
        )

    def variation(self, x: Tensor, clean: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return the AMV ``(B * masks,)`` of images against the clean ones, through the same masks.

        The Frobenius norm of the difference of each head's attention matrix, averaged over heads and layers.
        """
        mae, options = nets["mae"], self.options
        order = orders(int(mae.n_patches), options.masks, draws)  # type: ignore[arg-type]
        return variation(mae, x, clean, order, options.mask_ratio, options.layers)
