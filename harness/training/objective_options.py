"""Options of what recipes minimise, checked before torch is needed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from harness.nets.unsupported import refuse_file
from harness.options import Eps, Number, Options, Pixels


class ClassifyObjective(Options):
    """Options of ``classify``."""

    use: Literal["classify"]


class ReconstructObjective(Options):
    """Options of ``reconstruct``."""

    use: Literal["reconstruct"]
    mask_ratio: Number = Field(0.5, gt=0, lt=1, description="share of the patches that is removed")


class DenoiseMaskedObjective(Options):
    """Options of ``denoise-masked``."""

    use: Literal["denoise-masked"]
    mask_ratio: Number = Field(0.25, ge=0, lt=1, description="share of the patches that is removed")
    sigma: Pixels = Field(0.25, gt=0, description="standard deviation of the noise, pixels in [0, 1]")


class DiffuseObjective(Options):
    """Options of ``diffuse``."""

    use: Literal["diffuse"]
    max_step: int = Field(1000, ge=1, le=1000, description="noise levels are drawn below this step, of 1000")


class AdversarialObjective(Options):
    """Options of ``adversarial``."""

    use: Literal["adversarial"]


class TradesObjective(Options):
    """Options of ``trades``."""

    use: Literal["trades"]
    beta: Number = Field(6.0, gt=0, description="weight of the divergence between clean and adversarial predictions")
    steps: int = Field(10, ge=1, description="ascent steps on the divergence")
    step_size: Eps | None = Field(None, description="length of a step in the norm; default eps / 4")


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


class PurifyPixelsObjective(Options):
    """Options of ``purify-pixels``."""

    use: Literal["purify-pixels"]
    mask_ratio: Number = Field(0.5, gt=0, lt=1, description="share removed in the reconstruction term")
    purify_mask_ratio: Number = Field(0.0, ge=0, lt=1, description="share removed in purifying, as at inference")
    reconstruction_weight: Number = Field(1.0, ge=0, description="weight of the masked reconstruction loss")


class NoisyImageObjective(Options):
    """Options of ``noisy-image``."""

    use: Literal["noisy-image"]
    sigma: Pixels | None = Field(None, gt=0, description="one standard deviation for all images; default: Gamma")
    gamma_shape: int = Field(25, ge=1, description="the deviation of an image is drawn from Gamma(shape, scale)")
    gamma_scale: Pixels = Field(3 / 255, gt=0, description="scale of that distribution, pixels in [0, 1]")


class ClassifyPurifiedObjective(Options):
    """Options of ``classify-purified``."""

    use: Literal["classify-purified"]
    sigma_max: Pixels = Field(30 / 255, ge=0, description="the noise of an image has a deviation below this, uniform")
    label_smoothing: Number = Field(0.1, ge=0, lt=1, description="share of the label spread over all classes")


class RestoreObjective(Options):
    """Options of ``restore``."""

    use: Literal["restore"]


class DIRObjective(Options):
    """Options of ``dir``."""

    use: Literal["dir"]
    kl_weight: Number = Field(1.0, ge=0, description="weight of the divergence around what is purified")
    kl_steps: int = Field(5, ge=1, description="ascent steps on the divergence")
    kl_step_size: Eps | None = Field(None, description="length of a step in the norm; default eps / 4")


class SmoothClassifyObjective(Options):
    """Options of ``smooth-classify``."""

    use: Literal["smooth-classify"]
    sigma: Pixels = Field(0.25, gt=0, description="standard deviation of the noise, pixels in [0, 1]")
    noises: int = Field(2, ge=1, description="noisy copies of an image; consistency takes two or more")
    consistency: Number = Field(2.0, ge=0, description="weight (lambda) of the divergence of copies from their average")
    entropy: Number = Field(0.5, ge=0, description="weight (eta) of the entropy of that average")


class MaskedDiffusionObjective(Options):
    """Options of ``masked-diffusion``."""

    use: Literal["masked-diffusion"]
    mask_ratio: Number = Field(
        0.5, ge=0, lt=1, description="share of the patches that is removed; 0 for the authors' unmasked tuning"
    )
    reconstruction_weight: Number = Field(0.1, ge=0, description="weight of the reconstruction of removed patches")
    log_mean: Number = Field(-1.2, description="mean of ln sigma (P_mean), for pixels scaled to [-1, 1]")
    log_std: Number = Field(1.2, ge=0, description="standard deviation of ln sigma (P_std)")


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
