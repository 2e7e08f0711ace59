"""What recipes minimise, by name: options, and what a recipe has to name for each; the losses are in ``losses``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from harness.components import Objective
from harness.nets.published_maes import contradiction
from harness.nets.sizes import MAESize
from harness.training.objective_options import (
    AdversarialObjective,
    AToPObjective,
    BridgeObjective,
    ClassifyObjective,
    ClassifyPurifiedObjective,
    DenoiseMaskedObjective,
    DiffuseObjective,
    DIRObjective,
    MaskedDiffusionObjective,
    NoisyImageObjective,
    PublishedObjective,
    PurifyClassifyObjective,
    PurifyPixelsObjective,
    ReconstructObjective,
    RestoreObjective,
    SmoothClassifyObjective,
    TradesObjective,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.core.contracts import DataCard, Network

#: registered name -> where the class is
TABLE = {
    "adversarial": "harness.training.objectives:Adversarial",
    "atop": "harness.training.objectives:AToP",
    "bridge": "harness.training.objectives:Bridge",
    "classify": "harness.training.objectives:Classify",
    "classify-purified": "harness.training.objectives:ClassifyPurified",
    "denoise-masked": "harness.training.objectives:DenoiseMasked",
    "diffuse": "harness.training.objectives:Diffuse",
    "dir": "harness.training.objectives:DIR",
    "masked-diffusion": "harness.training.objectives:MaskedDiffusion",
    "noisy-image": "harness.training.objectives:NoisyImage",
    "published": "harness.training.objectives:Published",
    "purify-classify": "harness.training.objectives:PurifyClassify",
    "purify-pixels": "harness.training.objectives:PurifyPixels",
    "reconstruct": "harness.training.objectives:Reconstruct",
    "restore": "harness.training.objectives:Restore",
    "smooth-classify": "harness.training.objectives:SmoothClassify",
    "trades": "harness.training.objectives:Trades",
}

#: what an objective that meets an attack cannot do without
AGAINST = ("attack", "threat_model")

#: networks that published weights can be imported into
IMPORTED = ("mae", "resnet", "unet", "diffusers-unet")


class _Loss(Objective):
    """An objective whose loss stands in ``losses``, under its own name.

    Attributes:
        code: where that is.
    """

    code: ClassVar[str]

    def loss(self, net: nn.Module, batch: Any, beside: Any) -> Tensor:
        """Return the loss of a batch."""
        from harness.training.losses import LOSSES

        return LOSSES[self.options.use](net, batch, self.options, beside)


class Classify(_Loss):
    """Cross-entropy on clean images."""

    Options = ClassifyObjective
    code = "harness.training.losses:LOSSES[classify]"


class Reconstruct(_Loss):
    """Masked reconstruction: mean squared error on the pixels of masked patches (He et al. 2022, section 3)."""

    Options = ReconstructObjective
    code = "harness.training.losses:LOSSES[reconstruct]"


class DenoiseMasked(_Loss):
    """Denoising masked autoencoder (Wu et al. 2023): noise on the whole image, loss on all patches of the clean one."""

    Options = DenoiseMaskedObjective
    code = "harness.training.losses:LOSSES[denoise-masked]"


class Diffuse(_Loss):
    """Noise prediction at a uniformly drawn step of the DDPM schedule (Ho et al. 2020, equation 14)."""

    Options = DiffuseObjective
    code = "harness.training.losses:LOSSES[diffuse]"


class Adversarial(_Loss):
    """Cross-entropy on adversarial images, the attack's best iterate (Madry et al. 2018, equation 2.1)."""

    Options = AdversarialObjective
    code = "harness.training.losses:LOSSES[adversarial]"
    needs = AGAINST


class Trades(_Loss):
    """TRADES (Zhang et al. 2019, equation 5): cross-entropy on clean images, and beta times how far predictions move.

    The inner problem has no label, so no attack of the registry is asked: it is projected ascent on the divergence.
    """

    Options = TradesObjective
    code = "harness.training.losses:LOSSES[trades]"
    needs = ("threat_model",)


class PurifyClassify(_Loss):
    """Fine-tunes a purifier through a frozen classifier (MAE-Pure's robust variant, after AToP, Lin et al. 2024)."""

    Options = PurifyClassifyObjective
    code = "harness.training.losses:LOSSES[purify-classify]"
    needs = ("classifier", *AGAINST)


class PurifyPixels(_Loss):
    """MAEP (Chen and Lu 2025): the purified adversarial image near the clean one in L1, and masked reconstruction."""

    Options = PurifyPixelsObjective
    code = "harness.training.losses:LOSSES[purify-pixels]"
    needs = ("classifier", *AGAINST)


class NoisyImage(_Loss):
    """Noisy image modelling (You et al. 2023): nothing is masked, the clean image is predicted from a noisy one."""

    Options = NoisyImageObjective
    code = "harness.training.losses:LOSSES[noisy-image]"


class ClassifyPurified(_Loss):
    """Fine-tunes a classifier on the output of a frozen denoiser (You et al. 2023, fine-tuning)."""

    Options = ClassifyPurifiedObjective
    code = "harness.training.losses:LOSSES[classify-purified]"
    needs = ("purifier",)


class Restore(_Loss):
    """DIR's pre-training (Zhou et al. 2023): adversarial images in, natural ones out, squared error on all pixels."""

    Options = RestoreObjective
    code = "harness.training.losses:LOSSES[restore]"
    needs = ("classifier", *AGAINST)


class DIR(_Loss):
    """DIR's joint training of purifier and classifier (Zhou et al. 2023): cross-entropy, and a divergence term."""

    Options = DIRObjective
    code = "harness.training.losses:LOSSES[dir]"
    needs = AGAINST
    takes = ("purifier", "classifier")


class SmoothClassify(_Loss):
    """A classifier to be smoothed: noisy cross-entropy with consistency (Jeong and Shin 2020; Wu et al. 2023)."""

    Options = SmoothClassifyObjective
    code = "harness.training.losses:LOSSES[smooth-classify]"


class MaskedDiffusion(_Loss):
    """MaskDiT (Zheng et al. 2024): denoising of visible patches at random noise levels, reconstruction of the others.

    Noise levels are log-normal (Karras et al. 2022, table 1).
    """

    Options = MaskedDiffusionObjective
    code = "harness.training.losses:LOSSES[masked-diffusion]"


class AToP(_Loss):
    """Fine-tunes a generator behind random transforms through a frozen classifier (AToP, Lin et al. 2024)."""

    Options = AToPObjective
    code = "harness.training.losses:LOSSES[atop]"
    needs = ("classifier", *AGAINST)


class Bridge(_Loss):
    """Fine-tunes a noise-predicting U-Net as a bridge from noised adversarial to clean images (ADBM, Li et al. 2025).

    Steps are those of the schedule, of 1000.
    """

    Options = BridgeObjective
    code = "harness.training.losses:LOSSES[bridge]"
    needs = ("classifier", *AGAINST)


class Published(Objective):
    """Trains nothing: the weights are published ones, from a file that you have.

    They are an autoencoder's, a ResNet's or a noise-predicting U-Net's. Files of other diffusion networks are refused
    by name.
    """

    Options = PublishedObjective
    code: ClassVar[str] = "harness.training.pretrained:import_into"
    trains = False

    def refuses(self, network: Network) -> str | None:
        """Refuse a network that no file holds, and one that is not as the file says."""
        size = network.options
        if getattr(size, "use", None) not in IMPORTED:
            return (
                "expected a masked autoencoder, a residual network or a U-Net to import weights into, got "
                f"{type(network).__name__}; use net: {', '.join(IMPORTED)}"
            )
        return contradiction(size, self.options.file) if isinstance(size, MAESize) else None

    def begin(self, net: nn.Module, network: Network, data: DataCard) -> None:
        """Put the weights of the file into the network."""
        from harness.training.pretrained import import_into

        import_into(net, network.options, data, self.options)
