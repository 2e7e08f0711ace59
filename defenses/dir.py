"""DIR: discard half of the patches, restore the image from the rest, do so with the other half, and average.

Source: Zhou et al., "Eliminating Adversarial Noise via Information Discard and Robust Representation Restoration", ICML
2023. Its classifier is trained jointly with the purifier, so the figures of the paper are those of the pair, which is
``classifier: joint``. By default the suite's stands behind the purifier, so that rows compare. Halves are drawn anew in
every pass, at test time too: an attack that averages no gradients meets noise of theirs.

What the training leaves out or mends of the authors' code is told with the objectives ``restore`` and ``dir``. Theirs
has patches of 2 x 2 and eight blocks of 192, pre-trained for 1,000 epochs; the recipes that ship are smaller and
shorter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from harness.components import Purifier
from harness.core.contracts import Traits
from harness.options import Options as BaseOptions
from harness.options import Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.core.contracts import Nets
    from harness.draws import Draws


class DIR(Purifier):
    """One pass of an autoencoder over two complementary random halves, whose features are averaged."""

    version: ClassVar[int] = 1
    source: ClassVar[str] = "Zhou et al., Information Discard and Robust Representation Restoration, ICML 2023"

    class Options(BaseOptions):
        """Which network."""

        dir: Recipe = Field(description="recipe of DIR's purifier, alone or trained jointly with a classifier")
        classifier: Literal["cell", "joint"] = Field(
            "cell", description="what stands behind it: the suite's, or, as in the paper, the one trained with it"
        )

    options: Options

    @property
    def traits(self) -> Traits:
        """Random through the halves; one differentiable pass."""
        return Traits(random=True, differentiable=True, own_classifier=self.options.classifier == "joint")

    def classifier(self, nets: Nets) -> nn.Module | None:
        """Return the classifier that was trained with the purifier, if the options ask for it."""
        from harness.core.errors import UserError
        from harness.nets.joint import Joint

        net = nets["dir"]
        if self.options.classifier == "cell":
            return None
        if not isinstance(net, Joint):
            raise UserError("expected a recipe of a joint network for classifier: joint, got a purifier alone")
        return net.classifier

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return the restored images; differentiable in ``x`` when gradients are on."""
        from harness.bounds import clip
        from harness.nets.joint import Joint

        net = nets["dir"]
        purifier = net.purifier if isinstance(net, Joint) else net
        order = draws.at("halves").permutation(int(purifier.n_patches))  # type: ignore[arg-type]
        restored: Tensor = purifier(x, order)
        return clip(restored).to(x.dtype)
