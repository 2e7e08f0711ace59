"""Recipe: how a network is trained; its digest names the checkpoint."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.core.spec import Spec
from harness.nets.sizes import NetSize
from harness.options import Number, Options

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
    sigma: Number = Field(0.25, gt=0, description="standard deviation of the noise, pixels in [0, 1]")


class DiffuseObjective(Options):
    """Noise prediction at a uniformly drawn step of the DDPM schedule (Ho et al. 2020, equation 14)."""

    use: Literal["diffuse"]
    max_step: int = Field(1000, ge=1, le=1000, description="noise levels are drawn below this step, of 1000")


Objective = ClassifyObjective | ReconstructObjective | DenoiseMaskedObjective | DiffuseObjective


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


class TrainingPlan(BaseModel):
    """What is trained, and how: the part of a recipe that its identity is made of, beside the dataset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    net: Annotated[NetSize, Field(discriminator="use")] = Field(description="the network and its size")
    objective: Annotated[Objective, Field(discriminator="use")] = Field(description="what is minimised")
    optimiser: OptimiserOptions = Field(default_factory=OptimiserOptions, description="AdamW and its schedule")
    steps: int = Field(ge=1, description="optimiser steps")
    batch_size: int = Field(128, ge=1, description="images of a step")
    seed: int = Field(0, ge=0, description="seed of the first weights, the batches, the masks and the noise")


class RecipeFile(TrainingPlan):
    """A recipe as it is written in YAML."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", description="title; no part of the identity")
    dataset: DatasetEntry = Field(description="what to train on")

    def spec(self, dataset: Spec) -> Spec:
        """Return the identity, given that of the dataset."""
        params = self.model_dump(mode="json", exclude={"name", "dataset"})
        return Spec.of("recipe", self.net.use, VERSION, params, {"dataset": dataset}, label=self.name)
