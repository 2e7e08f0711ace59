"""Recipe: how a network is trained; its digest names the checkpoint.

A recipe may stand on other recipes, by role, and train against a registered attack. All of them are parts of its
identity, so that a change of any part is another recipe, and what it makes another checkpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.core.contracts import BESIDE, Network, Objective
from harness.core.recipe import trained
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.options import Eps, Number, Options, Recipe, Seed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.core.spec import Spec

#: raised whenever the loop, or a network or an objective that stands among the parameters, changes its numbers
VERSION = 1


#: roles of the recipes that a recipe may stand on
ROLES = ("init", "classifier", "purifier")


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


class NetEntry(BaseModel):
    """The network that a recipe trains, by registered name; its options stand beside it and are checked by it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    use: str = Field(description="registered name of a network")


class ObjectiveEntry(BaseModel):
    """What a recipe minimises, by registered name; its options stand beside it and are checked by it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    use: str = Field(description="registered name of an objective")


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


class Course(BaseModel):
    """How long and how a network is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    optimiser: OptimiserOptions = Field(default_factory=OptimiserOptions, description="AdamW and its schedule")
    steps: int = Field(ge=0, description="optimiser steps; 0 leaves the network untrained, a negative control")
    batch_size: int = Field(128, ge=1, description="images of a step")
    seed: Seed = Field(0, description="seed of the first weights, the batches, the masks, the noise, the attack")
    threat_model: ThreatEntry | None = Field(None, description="budget of the attack that is trained against")


class TrainingPlan(Course):
    """What is trained, and how.

    Attributes:
        net: what builds the network.
        objective: what is minimised.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    net: Network
    objective: Objective


class RecipeFile(Course):
    """A recipe as it is written in YAML."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", description="title; no part of the identity")
    dataset: DatasetEntry = Field(description="what to train on")
    net: NetEntry = Field(description="the network and its options")
    objective: ObjectiveEntry = Field(description="what is minimised, and its options")
    init: Recipe | None = Field(None, description="recipe of the same network, whose weights this one starts from")
    classifier: Recipe | None = Field(None, description="recipe of a classifier, frozen unless it is trained jointly")
    purifier: Recipe | None = Field(None, description="recipe of a purifier, frozen unless it is trained jointly")
    attack: AttackEntry | None = Field(None, description="the attack that is trained against")

    def misfit(self, objective: Objective) -> str | None:
        """Return what the recipe names too little or too much for its objective, as a sentence, or None."""
        use = self.objective.use
        lacking = [name for name in objective.needs if getattr(self, name) is None]
        if lacking:
            return f"expected {' and '.join(lacking)} with the objective {use!r}, got none"
        welcome = {*objective.needs, *objective.takes}
        idle = [name for name in BESIDE if name not in welcome and getattr(self, name) is not None]
        if idle:
            return f"expected no {' and no '.join(idle)} with the objective {use!r}, which has no use for it"
        if not objective.trains and (self.steps or self.init):
            return (
                f"expected steps: 0 and no init with the objective {use!r}, which trains nothing; "
                "to train on, name this recipe under `init` in another one"
            )
        return None

    @property
    def roles(self) -> dict[str, str]:
        """The recipes that this one stands on: as named in the file, by role."""
        return {role: named for role in ROLES if (named := getattr(self, role)) is not None}

    def spec(self, network: Spec, objective: Spec, parts: Mapping[str, Spec]) -> Spec:
        """Return the identity, given the network, the objective, and the components and recipes that the file names."""
        params = self.model_dump(mode="json", exclude={"name", "dataset", "net", "objective", "attack", *ROLES})
        if self.threat_model is None:
            del params["threat_model"]
        return trained(network, objective, VERSION, params, parts, label=self.name)
