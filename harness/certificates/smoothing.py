"""Certificates: how far an image can be moved, in L2, before the class may change, whatever the attack.

An attack gives an upper bound of robust accuracy, a certificate a lower one. Like the modules of attacks and defenses,
this one declares, and imports torch where it computes.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from harness.components import Certificate
from harness.options import Number, Pixels
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from harness.core.contracts import Classify, DataCard, Traits
    from harness.draws import Draws

#: registered name -> where the class is
TABLE = {"smoothing": "harness.certificates.smoothing:RandomisedSmoothing"}


class RandomisedSmoothing(Certificate):
    """Randomised smoothing: a vote under Gaussian noise, and the radius within which it cannot change.

    The smoothed classifier g gives the class that the base f most probably gives to an image with noise of deviation
    sigma on every pixel. If that class has a probability of pA > 1/2, then g gives it to every image closer in L2 than
    sigma Phi^-1(pA), Phi being the normal distribution function (Cohen et al. 2019, theorem 1, with pB <= 1 - pA).

    As in their algorithm "Certify": ``n0`` noisy copies choose the class; of ``n`` others those that agree are counted,
    which gives a lower bound of pA (Clopper and Pearson 1934) that is too high with a probability of ``alpha`` at most,
    for each image. Where the bound is not above 1/2 the certificate abstains. A copy whose logits are not finite votes
    for no class.

    The base f is the whole defended classifier: the defense purifies the noisy image, then the classifier sees it.
    Noise of the defense's own is noise beyond that of the certificate: a denoiser that adds noise itself (``dmae``)
    wants a sigma of 0 there, so that noise is added once, and is then denoised smoothing (Salman et al. 2020).

    A defense that is random by itself may be certified. The theorem holds for a random f, since all that it needs is
    the probability, over noise and f's own randomness together, that f gives a class to a noisy image; and the bound
    needs no more than independent draws of that, which is what copies with draws of their own are. So the radius is
    that of the vote over both. What would spoil it is randomness or state that copies share.

    The claim is about g, which nobody can compute, and about images without limits to their pixels: so it holds within
    [0, 1] too. Noisy images leave [0, 1] unless ``clip`` brings them back, which is then a part of f.
    """

    version: ClassVar[int] = 1
    source: ClassVar[str] = (
        "Cohen, Rosenfeld and Kolter, Certified Adversarial Robustness via Randomized Smoothing, ICML 2019, section 3.2"
    )
    glance: ClassVar[Mapping[str, Any]] = {"n0": 1, "n": 1}

    class Options(BaseOptions):
        """Units: pixels in [0, 1]."""

        sigma: Pixels = Field(gt=0, description="standard deviation of the noise; that which the base has learned")
        n0: int = Field(100, ge=1, description="noisy copies that choose the class")
        n: int = Field(10000, ge=1, description="noisy copies that bound its probability; they limit the radius too")
        alpha: Number = Field(0.001, gt=0, lt=0.5, description="probability that a radius is too large, per image")
        clip: bool = Field(False, description="clip noisy images to [0, 1], for bases that know no other")

    options: Options

    @property
    def looks(self) -> int:
        """All copies of an image."""
        return self.options.n0 + self.options.n

    def refuses(self, data: DataCard, traits: Traits) -> str | None:
        """Refuse a defense whose copies are not independent of each other."""
        if traits.batchwise:
            return (
                "what the defense does to an image depends on the others of its batch, so the noisy copies are not "
                "independent and nothing follows from counting them"
            )
        return None

    def certify(
        self, classify: Classify, x: Tensor, n_classes: int, draws: Draws, copies: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Return for each image the certified class, -1 where it abstains, and the radius, 0 likewise; each ``(B,)``.

        Args:
            classify: asks the base.
            x: pixels ``(B, C, H, W)`` in [0, 1].
            n_classes: number of labels.
            draws: each copy of each image has its own noise, and the base its own randomness.
            copies: how many copies of all images go through the base at once.
        """
        import torch

        options = self.options

        def count(number: int, here: Draws) -> Tensor:
            """Count the classes of so many noisy copies, ``(B, K)``."""
            found = torch.zeros(len(x), n_classes, dtype=torch.int64, device=x.device)
            for first in range(0, number, copies):
                some = here.copied(first, min(first + copies, number))
                classes = classify(self._noisy(x, some), some.at("base")).reshape(-1, len(x))
                found += torch.nn.functional.one_hot(classes + 1, n_classes + 1)[:, :, 1:].sum(0)  # -1 is no vote
            return found

        chosen = count(options.n0, draws.at("choose")).argmax(1)
        votes = count(options.n, draws.at("bound")).gather(1, chosen[:, None]).squeeze(1)
        radii = torch.tensor(
            radii_of(votes.tolist(), options.n, options.alpha, options.sigma), dtype=torch.float64, device=x.device
        )
        return torch.where(radii.isnan(), -1, chosen), radii.nan_to_num(0.0)

    def _noisy(self, x: Tensor, draws: Draws) -> Tensor:
        """Return as many copies of the images as there are draws for, each with its noise."""
        from harness.bounds import clip

        noise = draws.at("noise").normal(*x.shape[1:])
        noisy = x.repeat(len(noise) // len(x), 1, 1, 1) + (self.options.sigma * noise).to(x.dtype)
        return clip(noisy) if self.options.clip else noisy


def radii_of(votes: Sequence[int], n: int, alpha: float, sigma: float) -> list[float]:
    """Return the certified radii of classes that got ``votes`` of ``n`` each; not a number where it abstains.

    The lower end of a two-sided Clopper-Pearson interval of confidence 1 - 2 alpha is the one-sided bound of 1 - alpha.
    """
    import numpy as np
    from statsmodels.stats.proportion import proportion_confint

    lowest, _ = proportion_confint(np.asarray(votes), n, alpha=2 * alpha, method="beta")
    return [sigma * NormalDist().inv_cdf(share) if share > 0.5 else float("nan") for share in lowest.tolist()]
