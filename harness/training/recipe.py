"""Recipe: how a network is trained; its digest names the checkpoint.

A recipe may stand on other recipes, by role, and train against a registered attack. All of them are parts of its
identity, so that a change of any part is another recipe, and what it makes another checkpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from harness.core.spec import Spec
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.nets.published_maes import contradiction
from harness.nets.sizes import MAESize, NetSize
from harness.nets.unsupported import refuse_file
from harness.options import Eps, Number, Options, Pixels, Recipe, Seed

if TYPE_CHECKING:
    from collections.abc import Mapping

#: raised whenever the loop, an objective or a network changes its numbers
VERSION = 1


class ClassifyObjective(Options):
    """Cross-entropy on clean images."""

    use: Literal["classify"]


class ReconstructObjective(Options):
    """Masked reconstruction: mean squared error on the pixels of masked patches (He et al. 2022, section 3)."""

    use: Literal["reconstruct"]
    mask_ratio: Number = Field(0.5, gt=0, lt=1, description="share of the patches that is removed")


class DenoiseMaskedObjective(Options):
    """Denoising masked autoencoder (Wu et al. 2023): noise on the whole image, loss on all patches of the clean one."""

    use: Literal["denoise-masked"]
    mask_ratio: Number = Field(0.25, ge=0, lt=1, description="share of the patches that is removed")
    sigma: Pixels = Field(0.25, gt=0, description="standard deviation of the noise, pixels in [0, 1]")


class DiffuseObjective(Options):
    """Noise prediction at a uniformly drawn step of the DDPM schedule (Ho et al. 2020, equation 14)."""

    use: Literal["diffuse"]
    max_step: int = Field(1000, ge=1, le=1000, description="noise levels are drawn below this step, of 1000")


class AdversarialObjective(Options):
    """Cross-entropy on adversarial images, the attack's best iterate (Madry et al. 2018, equation 2.1)."""

    use: Literal["adversarial"]


class TradesObjective(Options):
    """TRADES (Zhang et al. 2019, equation 5): cross-entropy on clean images, and beta times how far predictions move.

    The inner problem has no label, so no attack of the registry is asked: it is projected ascent on the divergence.
    """

    use: Literal["trades"]
    beta: Number = Field(6.0, gt=0, description="weight of the divergence between clean and adversarial predictions")
    steps: int = Field(10, ge=1, description="ascent steps on the divergence")
    step_size: Eps | None = Field(None, description="length of a step in the norm; default eps / 4")


class PurifyClassifyObjective(Options):
    """Fine-tunes a purifier through a frozen classifier (MAE-Pure's robust variant, after AToP, Lin et al. 2024)."""

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
    """MAEP (Chen and Lu 2025): the purified adversarial image near the clean one in L1, and masked reconstruction."""

    use: Literal["purify-pixels"]
    mask_ratio: Number = Field(0.5, gt=0, lt=1, description="share removed in the reconstruction term")
    purify_mask_ratio: Number = Field(0.0, ge=0, lt=1, description="share removed in purifying, as at inference")
    reconstruction_weight: Number = Field(1.0, ge=0, description="weight of the masked reconstruction loss")


class NoisyImageObjective(Options):
    """Noisy image modelling (You et al. 2023): nothing is masked, the clean image is predicted from a noisy one."""

    use: Literal["noisy-image"]
    sigma: Pixels | None = Field(None, gt=0, description="one standard deviation for all images; default: Gamma")
    gamma_shape: int = Field(25, ge=1, description="the deviation of an image is drawn from Gamma(shape, scale)")
    gamma_scale: Pixels = Field(3 / 255, gt=0, description="scale of that distribution, pixels in [0, 1]")


class ClassifyPurifiedObjective(Options):
    """Fine-tunes a classifier on the output of a frozen denoiser (You et al. 2023, fine-tuning)."""

    use: Literal["classify-purified"]
    sigma_max: Pixels = Field(30 / 255, ge=0, description="the noise of an image has a deviation below this, uniform")
    label_smoothing: Number = Field(0.1, ge=0, lt=1, description="share of the label spread over all classes")


class RestoreObjective(Options):
    """DIR's pre-training (Zhou et al. 2023): adversarial images in, natural ones out, squared error on all pixels."""

    use: Literal["restore"]


class DIRObjective(Options):
    """DIR's joint training of purifier and classifier (Zhou et al. 2023): cross-entropy, and a divergence term."""

    use: Literal["dir"]
    kl_weight: Number = Field(1.0, ge=0, description="weight of the divergence around what is purified")
    kl_steps: int = Field(5, ge=1, description="ascent steps on the divergence")
    kl_step_size: Eps | None = Field(None, description="length of a step in the norm; default eps / 4")


class SmoothClassifyObjective(Options):
    """A classifier to be smoothed: noisy cross-entropy with consistency (Jeong and Shin 2020; Wu et al. 2023)."""

    use: Literal["smooth-classify"]
    sigma: Pixels = Field(0.25, gt=0, description="standard deviation of the noise, pixels in [0, 1]")
    noises: int = Field(2, ge=1, description="noisy copies of an image; consistency takes two or more")
    consistency: Number = Field(2.0, ge=0, description="weight (lambda) of the divergence of copies from their average")
    entropy: Number = Field(0.5, ge=0, description="weight (eta) of the entropy of that average")


class MaskedDiffusionObjective(Options):
    """MaskDiT (Zheng et al. 2024): denoising of visible patches at random noise levels, reconstruction of the others.

    Noise levels are log-normal (Karras et al. 2022, table 1).
    """

    use: Literal["masked-diffusion"]
    mask_ratio: Number = Field(
        0.5, ge=0, lt=1, description="share of the patches that is removed; 0 for the authors' unmasked tuning"
    )
    reconstruction_weight: Number = Field(0.1, ge=0, description="weight of the reconstruction of removed patches")
    log_mean: Number = Field(-1.2, description="mean of ln sigma (P_mean), for pixels scaled to [-1, 1]")
    log_std: Number = Field(1.2, ge=0, description="standard deviation of ln sigma (P_std)")


class AToPObjective(Options):
    """Fine-tunes a generator behind random transforms through a frozen classifier (AToP, Lin et al. 2024)."""

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
    """Fine-tunes a noise-predicting U-Net as a bridge from noised adversarial to clean images (ADBM, Li et al. 2025).

    Steps are those of the schedule, of 1000.
    """

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
    """Trains nothing: the weights are published ones, from a file that you have.

    They are an autoencoder's, a ResNet's or a noise-predicting U-Net's. Files of other diffusion networks are refused
    by name.
    """

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


Objective = (
    ClassifyObjective
    | ReconstructObjective
    | DenoiseMaskedObjective
    | DiffuseObjective
    | AdversarialObjective
    | TradesObjective
    | PurifyClassifyObjective
    | PurifyPixelsObjective
    | NoisyImageObjective
    | ClassifyPurifiedObjective
    | RestoreObjective
    | DIRObjective
    | SmoothClassifyObjective
    | MaskedDiffusionObjective
    | AToPObjective
    | BridgeObjective
    | PublishedObjective
)

#: roles of the recipes that a recipe may stand on
ROLES = ("init", "classifier", "purifier")

_AGAINST = ("attack", "threat_model")

#: what an objective cannot do without, beside its dataset
NEEDS: Mapping[str, tuple[str, ...]] = {
    "adversarial": _AGAINST,
    "trades": ("threat_model",),
    "purify-classify": ("classifier", *_AGAINST),
    "purify-pixels": ("classifier", *_AGAINST),
    "classify-purified": ("purifier",),
    "restore": ("classifier", *_AGAINST),
    "dir": _AGAINST,
    "atop": ("classifier", *_AGAINST),
    "bridge": ("classifier", *_AGAINST),
}

#: what it may have besides; weights to start from (``init``) are welcome everywhere
TAKES: Mapping[str, tuple[str, ...]] = {"dir": ("purifier", "classifier")}


class OptimiserOptions(Options):
    """AdamW with linear warm-up and cosine decay to zero."""

    lr: Number = Field(1e-3, gt=0, description="peak learning rate")
    weight_decay: Number = Field(0.05, ge=0)
    beta2: Number = Field(0.95, gt=0, lt=1, description="second Adam moment; the first is 0.9")
    warmup: Number = Field(0.05, ge=0, lt=1, description="share of the steps that the rate rises over")
    clip: Number = Field(1.0, gt=0, description="largest norm of the gradient")
    ema: Number = Field(0.0, ge=0, lt=1, description="decay of the averaged weights that are kept; 0 keeps the last")


class DatasetEntry(BaseModel):
    """The dataset that a recipe trains on, by registered name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    use: str = Field(description="registered name of a dataset")
    params: dict[str, Any] = Field(default_factory=dict, description="options of the dataset")


class AttackEntry(BaseModel):
    """The attack that a recipe trains against, by registered name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    use: str = Field(description="registered name of an attack")
    params: dict[str, Any] = Field(default_factory=dict, description="options of the attack")


class Budget(Options):
    """What the attack in training may change, and what it sees."""

    eps: Eps = Field(description="radius of the ball around the image, pixels in [0, 1]; 8/255 is understood")
    knowledge: Literal["oblivious", "full"] = Field(
        "oblivious", description="oblivious: sees the classifier alone; full: differentiates through the purifier too"
    )


class ThreatEntry(BaseModel):
    """The threat model that a recipe trains under, written as in a suite."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    use: Literal["Linf", "L2"] = Field(description="norm of the budget")
    params: Budget = Field(description="its radius, and what the attack sees")

    @property
    def threat(self) -> ThreatModel:
        """The threat model."""
        return ThreatModel(Norm(self.use), self.params.eps, Knowledge(self.params.knowledge))


class TrainingPlan(BaseModel):
    """What is trained, and how: the part of a recipe that its identity is made of, beside what it stands on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    net: Annotated[NetSize, Field(discriminator="use")] = Field(description="the network and its size")
    objective: Annotated[Objective, Field(discriminator="use")] = Field(description="what is minimised")
    optimiser: OptimiserOptions = Field(default_factory=OptimiserOptions, description="AdamW and its schedule")
    steps: int = Field(ge=0, description="optimiser steps; 0 leaves the network untrained, a negative control")
    batch_size: int = Field(128, ge=1, description="images of a step")
    seed: Seed = Field(0, description="seed of the first weights, the batches, the masks, the noise, the attack")
    threat_model: ThreatEntry | None = Field(None, description="budget of the attack that is trained against")


class RecipeFile(TrainingPlan):
    """A recipe as it is written in YAML."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", description="title; no part of the identity")
    dataset: DatasetEntry = Field(description="what to train on")
    init: Recipe | None = Field(None, description="recipe of the same network, whose weights this one starts from")
    classifier: Recipe | None = Field(None, description="recipe of a classifier, frozen unless it is trained jointly")
    purifier: Recipe | None = Field(None, description="recipe of a purifier, frozen unless it is trained jointly")
    attack: AttackEntry | None = Field(None, description="the attack that is trained against")

    @model_validator(mode="after")
    def _stands_on_what_it_needs(self) -> RecipeFile:
        use = self.objective.use
        needs = NEEDS.get(use, ())
        lacking = [name for name in needs if getattr(self, name) is None]
        if lacking:
            raise ValueError(f"expected {' and '.join(lacking)} with the objective {use!r}, got none")
        welcome = {"init", *needs, *TAKES.get(use, ())}
        idle = [name for name in (*ROLES, *_AGAINST) if name not in welcome and getattr(self, name) is not None]
        if idle:
            raise ValueError(f"expected no {' and no '.join(idle)} with the objective {use!r}, which has no use for it")
        if use == "published" and (self.steps or self.init):
            raise ValueError(
                "expected steps: 0 and no init with the objective 'published', which trains nothing; "
                "to train on, name this recipe under `init` in another one"
            )
        if isinstance(self.objective, PublishedObjective) and isinstance(self.net, MAESize):
            told = contradiction(self.net, self.objective.file)
            if told is not None:
                raise ValueError(told)
        return self

    @property
    def roles(self) -> dict[str, str]:
        """The recipes that this one stands on: as named in the file, by role."""
        return {role: named for role in ROLES if (named := getattr(self, role)) is not None}

    def spec(self, parts: Mapping[str, Spec]) -> Spec:
        """Return the identity, given the dataset, and the recipes and the attack that the file names."""
        params = self.model_dump(mode="json", exclude={"name", "dataset", "attack", *ROLES})
        if self.threat_model is None:
            del params["threat_model"]
        return Spec.of("recipe", self.net.use, VERSION, params, parts, label=self.name)
