"""Joint attacks: raise the classification loss and, at the same time, lower or raise a loss inside the purifier.

Against a purifier that optimises a loss of its own, an attacker may hide from it (``direction: hide``): where the
masked reconstruction loss is as low as on a clean image, or the attention is the clean image's (``inner: attention``,
for who knows of the attention-matrix variation), the purifier sees nothing to mend. Or it may lead it astray
(``disturb``), as DiffAttack does with the deviated reconstruction of a diffusion (``inner: deviation``; Kang, Song and
Li, NeurIPS 2023, equation 8 and section 3.4: the plain sum of both losses, weight 1). Attacks on score-based purifiers
that follow both gradients are those of Yoon, Hwang and Lee, "Adversarial Purification with Score-based Generative
Models", ICML 2021.

The step goes along the classification loss's gradient plus ``weight`` times the inner one's, minus it to hide. Under a
budget each pixel that follows the inner gradient is lost for the classification, so by default an image does so only
where every draw of the look misclassifies it already (as Bryniarski et al., "Evading Adversarial Example Detection
Defenses with Orthogonal Projected Gradient Descent", ICLR 2022, turn to the constraint that is not yet met).

By default each of the two is scaled to length 1 in every image first, so that the weight means the same for all
purifiers, images and points; ``scale: plain`` adds the losses as they are. The inner loss is asked of the very draws
that the classification loss is taken under, and exact whatever the attacker's gradient mode; what the iterates are
compared by, and proposed for, is the classification alone.

A purifier that moves by signs, as MAE-Pure does, takes steps that are as long on an image with little to mend as on any
other, and lowers the loss of clean images too, so there is not much to hide behind: in the suite ``digits-adaptive``
these attacks stand beside pgd in the same gradient mode, and 128 examples do not tell them apart. With ``when: always``
and a weight of 0.5 or more they were weaker.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from attacks.ascent import AscentOptions, ascend
from attacks.gradients import Look, look
from harness.components import Attack
from harness.core.threat import Knowledge
from harness.options import Number

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Setting, Victim
    from harness.core.threat import ThreatModel
    from harness.draws import Draws


class Joint(Attack):
    """PGD on the classification and, at the same time, on a loss inside the purifier, to hide from it or disturb it."""

    version: ClassVar[int] = 2
    by_example: ClassVar[bool] = True

    class Options(AscentOptions):
        """Those of an ascent, and what is done to the purifier."""

        inner: Literal["reconstruction", "attention", "deviation"] = Field(
            "reconstruction",
            description="what the purifier lowers; its attention's distance from that on the clean image; how far its "
            "way back strays from the way there",
        )
        direction: Literal["hide", "disturb"] = Field("hide", description="lower the inner loss, or raise it")
        when: Literal["fooled", "always"] = Field(
            "fooled",
            description="follow the inner gradient too in images that every draw of a look misclassifies, or always",
        )
        weight: Number = Field(0.25, ge=0, description="of the inner gradient beside the classification's")
        scale: Literal["normalised", "plain"] = Field(
            "normalised", description="each gradient has length 1 in every image before the weight, or its own"
        )
        masks: Literal["fresh", "per-restart"] = Field(
            "fresh", description="draw masks and noise of the defense anew in each step, or once for each restart"
        )

    options: Options

    def refuses(self, setting: Setting) -> str | None:
        """Refuse an attacker who does not know of the defense, and a defense without the loss."""
        name = self.options.inner
        if setting.threat.knowledge is Knowledge.OBLIVIOUS:
            return "joint asks for a loss inside the defense, of which an oblivious attacker does not know; use pgd"
        if name not in setting.inner:
            has = ", ".join(setting.inner) or "none"
            return f"joint asks for the inner loss {name!r}, and the defense has {has}; use another `inner`, or pgd"
        return None

    def propose(self, victim: Victim, x: Tensor, y: Tensor, threat: ThreatModel, draws: Draws) -> Tensor:
        """Return for each image the iterate that fools most draws, and among those the one of largest loss.

        Of all images the inner loss is noted, on the clean ones and on the proposed ones.
        """
        import torch

        def both(point: Tensor, draws: Draws, with_gradient: bool) -> Look:
            return self._look(victim, point, x, y, draws, with_gradient=with_gradient)

        options = self.options
        found = ascend(both, victim, x, y, threat, draws, options, redraw=options.masks == "fresh")
        with torch.no_grad():
            for where, images in (("clean", x), ("proposed", found)):
                victim.note(f"{options.inner}_{where}", victim.inner(options.inner, images, x, draws.at("note")))
        return found

    def _look(
        self, victim: Victim, point: Tensor, clean: Tensor, y: Tensor, draws: Draws, *, with_gradient: bool
    ) -> Look:
        """Return what was seen of an iterate, and where to go from it in the gradient's place."""
        import torch

        seen = look(victim, point, y, "ce", self.options.eot, draws, with_gradient=with_gradient)
        if not with_gradient:
            return seen
        inner = torch.zeros_like(point)
        for round_ in range(seen.draws):
            with torch.enable_grad():
                at = point.detach().requires_grad_(True)
                within = victim.inner(self.options.inner, at, clean, draws.at("eot", round_))
            inner += torch.autograd.grad(within.sum(), at)[0]
        return replace(seen, gradient=self._together(seen, inner / seen.draws))

    def _together(self, seen: Look, inner: Tensor) -> Tensor:
        """Return the way to go, from what was seen of the classification and the inner loss's mean gradient."""
        from harness.bounds import steepest
        from harness.core.threat import Norm

        if self.options.scale == "normalised":
            outer, inner = (steepest(gradient, Norm.L2) for gradient in (seen.gradient, inner))
        else:
            outer = seen.gradient * seen.scale.exp().to(inner.dtype).reshape(-1, 1, 1, 1)
        weight = self.options.weight if self.options.direction == "disturb" else -self.options.weight
        if self.options.when == "fooled":
            inner = inner * (seen.fooled == seen.draws).reshape(-1, 1, 1, 1)
        return outer + weight * inner
