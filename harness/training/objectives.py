"""What recipes minimise, by name: options, and what a recipe has to name for each; the losses are in ``losses``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from harness.components import Objective
from harness.nets.published_maes import contradiction
from harness.nets.sizes import MAESize
from harness.nets.unsupported import refuse_file
from harness.options import Eps, Number, Options, Pixels

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


class ClassifyObjective(Options):
    """Options of ``classify``."""

    use: Literal["classify"]


class Classify(_Loss):
    """Cross-entropy on clean images."""

    Options = ClassifyObjective
    code = "harness.training.losses:LOSSES[classify]"


class ReconstructObjective(Options):
    """Options of ``reconstruct``."""

    use: Literal["reconstruct"]
    mask_ratio: Number = Field(0.5, gt=0, lt=1, description="share of the patches that is removed")


class Reconstruct(_Loss):
    """Masked reconstruction: mean squared error on the pixels of masked patches (He et al. 2022, section 3)."""

    Options = ReconstructObjective
    code = "harness.training.losses:LOSSES[reconstruct]"


class DenoiseMaskedObjective(Options):
    """Options of ``denoise-masked``."""

    use: Literal["denoise-masked"]
    mask_ratio: Number = Field(0.25, ge=0, lt=1, description="share of the patches that is removed")
    sigma: Pixels = Field(0.25, gt=0, description="standard deviation of the noise, pixels in [0, 1]")


class DenoiseMasked(_Loss):
    """Denoising masked autoencoder (Wu et al. 2023): noise on the whole image, loss on all patches of the clean one."""

    Options = DenoiseMaskedObjective
    code = "harness.training.losses:LOSSES[denoise-masked]"


class DiffuseObjective(Options):
    """Options of ``diffuse``."""

    use: Literal["diffuse"]
    max_step: int = Field(1000, ge=1, le=1000, description="noise levels are drawn below this step, of 1000")


class Diffuse(_Loss):
    """Noise prediction at a uniformly drawn step of the DDPM schedule (Ho et al. 2020, equation 14)."""

    Options = DiffuseObjective
    code = "harness.training.losses:LOSSES[diffuse]"


class AdversarialObjective(Options):
    """Options of ``adversarial``."""

    use: Literal["adversarial"]


class Adversarial(_Loss):
    """Cross-entropy on adversarial images, the attack's best iterate (Madry et al. 2018, equation 2.1)."""

    Options = AdversarialObjective
    code = "harness.training.losses:LOSSES[adversarial]"
    needs = AGAINST


class TradesObjective(Options):
    """Options of ``trades``."""

    use: Literal["trades"]
    beta: Number = Field(6.0, gt=0, description="weight of the divergence between clean and adversarial predictions")
    steps: int = Field(10, ge=1, description="ascent steps on the divergence")
    step_size: Eps | None = Field(None, description="length of a step in the norm; default eps / 4")


class Trades(_Loss):
    """TRADES (Zhang et al. 2019, equation 5): cross-entropy on clean images, and beta times how far predictions move.

    The inner problem has no label, so no attack of the registry is asked: it is projected ascent on the divergence.
    """

    Options = TradesObjective
    code = "harness.training.losses:LOSSES[trades]"
    needs = ("threat_model",)


class PurifyClassifyObjective(Options):
    """Options of ``purify-classify``."""

    use: Literal["purify-classify"]
    mask_ratio: Number = Field(0.5, gt=0, lt=1, description="share of the patches that is removed")
    visible: Literal["kept", "decoded"] = Field(
        "kept", description="visible patches: as they came in, or from the decoder, which then has to learn them"
    )
    sigma: Pixels = Field(
        0.1,
        ge=0,
        description="standard deviation of the noise before the attack; a diffusion transformer adds it itself, after",
    )
    reconstruction_weight: Number = Field(1.0, ge=0, description="weight of the masked reconstruction loss")


class PurifyClassify(_Loss):
    """Fine-tunes a purifier through a frozen classifier (MAE-Pure's robust variant, after AToP, Lin et al. 2024)."""

    Options = PurifyClassifyObjective
    code = "harness.training.losses:LOSSES[purify-classify]"
    needs = ("classifier", *AGAINST)


class PurifyPixelsObjective(Options):
    """Options of ``purify-pixels``."""

    use: Literal["purify-pixels"]
    mask_ratio: Number = Field(0.5, gt=0, lt=1, description="share removed in the reconstruction term")
    purify_mask_ratio: Number = Field(0.0, ge=0, lt=1, description="share removed in purifying, as at inference")
    reconstruction_weight: Number = Field(1.0, ge=0, description="weight of the masked reconstruction loss")


class PurifyPixels(_Loss):
    """MAEP (Chen and Lu 2025): the purified adversarial image near the clean one in L1, and masked reconstruction."""

    Options = PurifyPixelsObjective
    code = "harness.training.losses:LOSSES[purify-pixels]"
    needs = ("classifier", *AGAINST)


class NoisyImageObjective(Options):
    """Options of ``noisy-image``."""

    use: Literal["noisy-image"]
    sigma: Pixels | None = Field(None, gt=0, description="one standard deviation for all images; default: Gamma")
    gamma_shape: int = Field(25, ge=1, description="the deviation of an image is drawn from Gamma(shape, scale)")
    gamma_scale: Pixels = Field(3 / 255, gt=0, description="scale of that distribution, pixels in [0, 1]")


class NoisyImage(_Loss):
    """Noisy image modelling (You et al. 2023): nothing is masked, the clean image is predicted from a noisy one."""

    Options = NoisyImageObjective
    code = "harness.training.losses:LOSSES[noisy-image]"


class ClassifyPurifiedObjective(Options):
    """Options of ``classify-purified``."""

    use: Literal["classify-purified"]
    sigma_max: Pixels = Field(30 / 255, ge=0, description="the noise of an image has a deviation below this, uniform")
    label_smoothing: Number = Field(0.1, ge=0, lt=1, description="share of the label spread over all classes")


class ClassifyPurified(_Loss):
    """Fine-tunes a classifier on the output of a frozen denoiser (You et al. 2023, fine-tuning)."""

    Options = ClassifyPurifiedObjective
    code = "harness.training.losses:LOSSES[classify-purified]"
    needs = ("purifier",)


class RestoreObjective(Options):
    """Options of ``restore``."""

    use: Literal["restore"]


class Restore(_Loss):
    """DIR's pre-training (Zhou et al. 2023): adversarial images in, natural ones out, squared error on all pixels."""

    Options = RestoreObjective
    code = "harness.training.losses:LOSSES[restore]"
    needs = ("classifier", *AGAINST)


class DIRObjective(Options):
    """Options of ``dir``."""

    use: Literal["dir"]
    kl_weight: Number = Field(1.0, ge=0, description="weight of the divergence around what is purified")
    kl_steps: int = Field(5, ge=1, description="ascent steps on the divergence")
    kl_step_size: Eps | None = Field(None, description="length of a step in the norm; default eps / 4")


class DIR(_Loss):
    """DIR's joint training of purifier and classifier (Zhou et al. 2023): cross-entropy, and a divergence term."""

    Options = DIRObjective
    code = "harness.training.losses:LOSSES[dir]"
    needs = AGAINST
    takes = ("purifier", "classifier")


class SmoothClassifyObjective(Options):
    """Options of ``smooth-classify``."""

    use: Literal["smooth-classify"]
    sigma: Pixels = Field(0.25, gt=0, description="standard deviation of the noise, pixels in [0, 1]")
    noises: int = Field(2, ge=1, description="noisy copies of an image; consistency takes two or more")
    consistency: Number = Field(2.0, ge=0, description="weight (lambda) of the divergence of copies from their average")
    entropy: Number = Field(0.5, ge=0, description="weight (eta) of the entropy of that average")


class SmoothClassify(_Loss):
    """A classifier to be smoothed: noisy cross-entropy with consistency (Jeong and Shin 2020; Wu et al. 2023)."""

    Options = SmoothClassifyObjective
    code = "harness.training.losses:LOSSES[smooth-classify]"


class MaskedDiffusionObjective(Options):
    """Options of ``masked-diffusion``."""

    use: Literal["masked-diffusion"]
    mask_ratio: Number = Field(
        0.5, ge=0, lt=1, description="share of the patches that is removed; 0 for the authors' unmasked tuning"
    )
    reconstruction_weight: Number = Field(0.1, ge=0, description="weight of the reconstruction of removed patches")
    log_mean: Number = Field(-1.2, description="mean of ln sigma (P_mean), for pixels scaled to [-1, 1]")
    log_std: Number = Field(1.2, ge=0, description="standard deviation of ln sigma (P_std)")


class MaskedDiffusion(_Loss):
    """MaskDiT (Zheng et al. 2024): denoising of visible patches at random noise levels, reconstruction of the others.

    Noise levels are log-normal (Karras et al. 2022, table 1).
    """

    Options = MaskedDiffusionObjective
    code = "harness.training.losses:LOSSES[masked-diffusion]"


class AToPObjective(Options):
    """Options of ``atop``."""

    use: Literal["atop"]
    transform: Literal["RT1", "RT2", "RT3"] = Field(
        "RT2", description="a mask; noise and a mask; or noise, and masks that cover the image, a pass for each"
    )
    mask_ratio: Number = Field(
        0.25, gt=0, lt=1, description="share of the patches that a mask removes; RT3: at most, so as to cover all"
    )
    sigma: Pixels = Field(0.25, ge=0, description="standard deviation of the noise, pixels in [0, 1]; RT1 has none")
    patch: int | None = Field(
        None, ge=1, description="side of the squares that masks are made of, in pixels; default: the net's patches"
    )
    target: Literal["attacked", "clean"] = Field(
        "attacked",
        description="what the generator's own loss wants back: the image that it was given, or the clean one",
    )
    classification_weight: Number = Field(0.05, ge=0, description="weight (lambda) of the cross-entropy")


class AToP(_Loss):
    """Fine-tunes a generator behind random transforms through a frozen classifier (AToP, Lin et al. 2024)."""

    Options = AToPObjective
    code = "harness.training.losses:LOSSES[atop]"
    needs = ("classifier", *AGAINST)


class BridgeObjective(Options):
    """Options of ``bridge``."""

    use: Literal["bridge"]
    min_step: int = Field(100, ge=1, le=1000, description="bridges begin at this noise level at least")
    max_step: int = Field(200, ge=1, le=1000, description="and at this one at most, each at one drawn between the two")
    sampler: Literal["ddpm", "ddim"] = Field(
        "ddpm", description="whose steps stay on the bridge: ancestral ones, as in the paper, or deterministic ones"
    )

    @model_validator(mode="after")
    def _in_order(self) -> BridgeObjective:
        if self.min_step > self.max_step:
            raise ValueError(f"expected a max_step of at least min_step, {self.min_step}, got {self.max_step}")
        return self


class Bridge(_Loss):
    """Fine-tunes a noise-predicting U-Net as a bridge from noised adversarial to clean images (ADBM, Li et al. 2025).

    Steps are those of the schedule, of 1000.
    """

    Options = BridgeObjective
    code = "harness.training.losses:LOSSES[bridge]"
    needs = ("classifier", *AGAINST)


class PublishedObjective(Options):
    """Options of ``published``."""

    use: Literal["published"]
    file: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", description="name of the file, without a folder")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="hash of the file")

    @field_validator("file")
    @classmethod
    def _can_be_read(cls, file: str) -> str:
        reason = refuse_file(file)
        if reason is not None:
            raise ValueError(reason)
        return file


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
