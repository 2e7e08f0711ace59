"""The suite file: what may be written in it, and the JSON Schema that lets an editor complete it."""

from __future__ import annotations

import copy
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from harness.core import registry
from harness.core.errors import UserError
from harness.core.result import MOST_OUTCOMES
from harness.core.threat import Knowledge, Norm, Smoothing, ThreatModel
from harness.options import Eps, Number, Options, Seed
from harness.suite import shipped

#: plural axis, as entries are listed -> singular, as one point names them; in the order of a cell's labels
AXES = {
    "datasets": "dataset",
    "classifiers": "classifier",
    "defenses": "defense",
    "attacks": "attack",
    "threat_models": "threat_model",
    "certificates": "certificate",
}

#: axes that a cell with a certificate does not have
ATTACKING = ("attacks", "threat_models")

#: characters of a name, in tables and on the ways between files
LONGEST_NAME = 100

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/+-]*$", max_length=LONGEST_NAME)]


def _as_tuple(value: Any) -> Any:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


#: one name, or a list of names
Names = Annotated[
    tuple[str, ...],
    BeforeValidator(_as_tuple),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]


class _Schema(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class AxisEntry(_Schema):
    """Something on an axis of the grid."""

    name: Name = Field(description="how this suite and its reports call it; no part of any identity")
    use: str | None = Field(None, description="registered name; the entry's own name unless told")
    params: dict[str, Any] = Field(default_factory=dict, description="options of the component; its defaults otherwise")


class DefenseEntry(AxisEntry):
    """A defense, and what an attacker may run in its place."""

    surrogate: dict[str, Any] | None = Field(
        None, description="options that the attacker's cheaper version has instead, for knowledge: surrogate"
    )


class SmoothingParams(Options):
    """What stands for a sign in the backward pass."""

    by: Literal["tanh", "normalised"] = Field(
        "tanh", description="of the gradient over its mean size; or that quotient itself, for defenses of a few steps"
    )
    slope: Number = Field(0.3, gt=0, description="of the tanh: the larger, the nearer to the sign, and the noisier")


class ThreatParams(Options):
    """A budget and a knowledge of the defense."""

    eps: Eps = Field(description="radius of the ball around the clean image, pixels in [0, 1]; 8/255 is understood")
    knowledge: Knowledge = Field(
        description="oblivious: sees the classifier alone; bpda: takes the defense's Jacobian for the identity; "
        "surrogate: differentiates a cheaper version of the defense; full: differentiates through the defense; "
        "smooth: likewise, with a smooth function's derivative for each sign"
    )
    smoothing: SmoothingParams | None = Field(None, description="what stands for a sign; with knowledge: smooth alone")
    randomness: Literal["fresh", "fixed"] = Field(
        "fresh",
        description="fixed: the defense draws the same numbers in every look, and the attacker knows them; tells how "
        "much of a defense is its randomness, and never counts for the worst case",
    )

    @model_validator(mode="after")
    def _smoothing_where_smooth(self) -> ThreatParams:
        if self.smoothing is not None and self.knowledge is not Knowledge.SMOOTH:
            raise ValueError(f"expected a smoothing with knowledge: smooth alone, got one with {self.knowledge}")
        return self

    def threat(self, norm: Norm) -> ThreatModel:
        """Return the threat model in a norm."""
        smoothing = None if self.smoothing is None else Smoothing(self.smoothing.by, self.smoothing.slope)
        return ThreatModel(norm, float(self.eps), self.knowledge, smoothing, self.randomness == "fixed")


#: how strong a corruption is
Severity = Annotated[int, Field(ge=1, le=5)]


class FlowParams(ThreatParams):
    """How far pixels may be moved, and a knowledge of the defense."""

    eps: Eps = Field(description="largest move of a pixel along either axis, in pixels")


class CorruptionParams(ThreatParams):
    """A severity, and a knowledge of the defense."""

    eps: Severity = Field(description="severity, 1 to 5")


#: norm -> what a threat model of it is told by
THREAT_PARAMS: dict[str, type[ThreatParams]] = {
    Norm.LINF: ThreatParams,
    Norm.L2: ThreatParams,
    Norm.L1: ThreatParams,
    Norm.FLOW: FlowParams,
    Norm.CORRUPTION: CorruptionParams,
}


class ThreatFamily(ThreatParams):
    """The same with several budgets, for the JSON Schema: such an entry is read as one for each (``families``)."""

    eps: Eps | Annotated[tuple[Eps, ...], Field(min_length=1)] = Field(  # type: ignore[assignment]
        description="radius of the ball around the clean image, pixels in [0, 1]; 8/255 is understood; a list stands "
        "for a threat model of each, named <name>-<eps>, and its name in a matrix for all of them"
    )


class FlowFamily(FlowParams):
    """Likewise with several moves."""

    eps: Eps | Annotated[tuple[Eps, ...], Field(min_length=1)] = Field(  # type: ignore[assignment]
        description="largest move of a pixel along either axis, in pixels; or a list"
    )


class CorruptionFamily(CorruptionParams):
    """Likewise with several severities."""

    eps: Severity | Annotated[tuple[Severity, ...], Field(min_length=1)] = Field(  # type: ignore[assignment]
        description="severity, 1 to 5; or a list"
    )


#: norm -> the same for an entry that may have several budgets
THREAT_FAMILIES: dict[str, type[ThreatParams]] = {
    norm: {FlowParams: FlowFamily, CorruptionParams: CorruptionFamily}.get(params, ThreatFamily)
    for norm, params in THREAT_PARAMS.items()
}


class Tie(_Schema):
    """Axes that are walked together: the first of each, the second of each, and so on."""

    datasets: tuple[str, ...] | None = Field(None, description="names of datasets")
    classifiers: tuple[str, ...] | None = Field(None, description="names of classifiers")
    defenses: tuple[str, ...] | None = Field(None, description="names of defenses")
    attacks: tuple[str, ...] | None = Field(None, description="names of attacks")
    threat_models: tuple[str, ...] | None = Field(None, description="names of threat models")
    certificates: tuple[str, ...] | None = Field(None, description="names of certificates")

    @property
    def lists(self) -> dict[str, tuple[str, ...]]:
        """The tied axes, by plural name."""
        return {axis: names for axis in AXES if (names := getattr(self, axis)) is not None}

    @model_validator(mode="after")
    def _walkable(self) -> Tie:
        if len(self.lists) < 2:
            raise ValueError(f"expected two or more axes to tie, got {', '.join(self.lists) or 'none'}")
        if len({len(names) for names in self.lists.values()}) > 1:
            lengths = ", ".join(f"{axis} with {len(names)}" for axis, names in self.lists.items())
            raise ValueError(f"expected tied lists of equal length, got {lengths}")
        return self


class Condition(_Schema):
    """Matches a cell when every key that is given matches it."""

    dataset: Names | None = Field(None, description="name of a dataset, or several")
    classifier: Names | None = Field(None, description="name of a classifier, or several")
    defense: Names | None = Field(None, description="name of a defense, or several")
    attack: Names | None = Field(None, description="name of an attack, or several")
    threat_model: Names | None = Field(None, description="name of a threat model, or several")
    certificate: Names | None = Field(None, description="name of a certificate, or several")

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """The names by singular axis."""
        return {axis: names for axis in AXES.values() if (names := getattr(self, axis)) is not None}

    @model_validator(mode="after")
    def _says_something(self) -> Condition:
        if not self.names:
            raise ValueError(f"expected one or more of {', '.join(AXES.values())}, got an empty condition")
        return self


class MatrixPoint(_Schema):
    """One point of the grid."""

    dataset: str | None = Field(None, description="name of a dataset; may be left out where there is one")
    classifier: str | None = Field(None, description="name of a classifier; may be left out where there is one")
    defense: str = Field(description="name of a defense")
    attack: str = Field(description="name of an attack")
    threat_model: str = Field(description="name of a threat model")


class Source(_Schema):
    """What adversarial examples are crafted on, to be judged elsewhere (transfer)."""

    defense: str = Field(description="name of a defense")
    classifier: str | None = Field(None, description="name of a classifier; the judged one unless told")


class MatrixBlock(_Schema):
    """A crossing of the axes; an axis that is not listed takes all its entries."""

    datasets: tuple[str, ...] | None = Field(None, description="names of datasets to cross")
    classifiers: tuple[str, ...] | None = Field(None, description="names of classifiers to cross")
    defenses: tuple[str, ...] | None = Field(None, description="names of defenses to cross")
    attacks: tuple[str, ...] | None = Field(None, description="names of attacks to cross; an empty list: none")
    threat_models: tuple[str, ...] | None = Field(None, description="names of threat models to cross; likewise")
    certificates: tuple[str, ...] | None = Field(
        None, description="names of certificates to cross with datasets, classifiers and defenses; likewise"
    )
    tie: tuple[Tie, ...] = Field((), description="axes to walk together instead of crossing them")
    exclude: tuple[Condition, ...] = Field((), description="cells to leave out: those that match any condition")
    include: tuple[MatrixPoint, ...] = Field((), description="points to add to the crossing")
    crafted_on: tuple[Source, ...] = Field(
        (),
        description="judge examples that were crafted on each of these, in place of each cell's own (transfer); a cell "
        "that is itself the source stays as it is",
    )
    impossible: Literal["error", "skip"] = Field(
        "error", description="what becomes of a cell that a component refuses: an error, or a row with the reason"
    )

    @model_validator(mode="after")
    def _each_axis_once(self) -> MatrixBlock:
        told = [axis for axis in AXES if getattr(self, axis) is not None]
        told += [axis for tie in self.tie for axis in tie.lists]
        twice = [axis for axis in AXES if told.count(axis) > 1]
        if twice:
            raise ValueError(f"expected each axis either listed or tied, and once, got {', '.join(twice)} repeatedly")
        return self


#: how many: of examples and of repeats more than any dataset or board has
Count = Annotated[int, Field(ge=1, le=10_000_000)]


class EvaluationRules(_Schema):
    """How much is measured, and which random numbers are drawn."""

    n_examples: Count = Field(description="test images: the first so many of a seeded permutation")
    subset_seed: Seed = Field(0, description="seed of that permutation")
    repeats: Count = Field(1, description="fresh evaluations of a random defense, apart from the attack's EOT")
    decision: Literal["mean", "any", "majority"] = Field(
        "mean",
        description="how repeats are judged: mean: the share that is right; any: any wrong one breaks the example; "
        "majority: right if more than half are; applied when reading",
    )
    shard_size: Count = Field(64, description="examples that are scheduled, recorded and retried together")
    seed: Seed = Field(0, description="seed of every draw of attacks and defenses")
    minimum: Literal["purifier-1", "field-1"] = Field(
        "purifier-1",
        description="what a row has to have met to be ranked: a gradient attack with the strongest knowledge that its "
        "defense allows, and one without gradients; purifier-1: 10 steps with 4 draws, 100 queries; field-1: 200 steps "
        "with 20 draws, 5000 queries; applied when reading",
    )

    @model_validator(mode="after")
    def _can_be_counted(self) -> EvaluationRules:
        outcomes = self.n_examples * self.repeats
        if outcomes > MOST_OUTCOMES:
            raise ValueError(f"expected n_examples times repeats of at most {MOST_OUTCOMES}, got {outcomes}")
        return self


class ProbeOptions(_Schema):
    """The masked autoencoder that looks at clean, adversarial and purified images alike."""

    recipe: str = Field(min_length=1, description="name of a shipped recipe, or a path from the suite file")
    mask_ratio: Number = Field(0.5, gt=0, lt=1, description="share of the patches that is removed")
    masks: int = Field(4, ge=1, description="random masks per image, the same ones for all three images")


class MetricEntry(_Schema):
    """A metric with its options."""

    use: str = Field(description="registered name, or a class of a file: ./mine.py:Sharpness")
    params: dict[str, Any] = Field(default_factory=dict, description="options of the metric; its defaults otherwise")


class Metrics(_Schema):
    """What is measured besides correctness and cost; no part of a cell's identity, so metrics come and go."""

    names: tuple[str | MetricEntry, ...] = Field(
        ("distances",),
        description="distances: size of the perturbation; reconstruction: loss of the probe; "
        "amv: attention-matrix variation in the probe's decoder; amv-by-head: for every layer and head, in two norms; "
        "or others, by name or with options",
    )
    probe: ProbeOptions | None = Field(None, description="what reconstruction and amv look through")

    @property
    def entries(self) -> tuple[MetricEntry, ...]:
        """The metrics, each with its options."""
        return tuple(MetricEntry(use=one) if isinstance(one, str) else one for one in self.names)


class Timeouts(_Schema):
    """Seconds after which a job is given up."""

    train: Number = Field(21600, gt=0, description="of training a network")
    craft: Number = Field(21600, gt=0, description="of crafting the adversarial examples of a shard")
    evaluate: Number = Field(21600, gt=0, description="of evaluating a shard")


class Execution(_Schema):
    """What a job may take; changes no number and is no part of any identity."""

    batch_size: int | None = Field(
        None,
        ge=1,
        description="images at a time; the shard unless told, halved if need be. Of a larger one only certificates "
        "have a use, which look at copies of the images",
    )
    retries: int = Field(2, ge=0, description="how often a job is tried again after its worker died under it")
    timeouts: Timeouts = Field(default_factory=Timeouts, description="seconds after which a job is given up, by kind")


class SuiteFile(_Schema):
    """A benchmark: axes, how they are crossed, and what is measured."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9._-]*$",
        max_length=LONGEST_NAME,
        description="what the database files the results under",
    )
    title: str = Field("", description="heading of the report")
    datasets: tuple[AxisEntry, ...] = Field(min_length=1, description="where images come from")
    classifiers: tuple[AxisEntry, ...] = Field(min_length=1, description="what is defended")
    defenses: tuple[DefenseEntry, ...] = Field(min_length=1, description="what purifies images before the classifier")
    attacks: tuple[AxisEntry, ...] = Field((), description="what proposes adversarial images")
    threat_models: tuple[AxisEntry, ...] = Field(
        (), description="budgets and knowledge; `use`: Linf, L2, L1, flow or corruption"
    )
    certificates: tuple[AxisEntry, ...] = Field((), description="what says how far an image can be moved by any attack")
    matrix: tuple[MatrixBlock, ...] = Field(
        (MatrixBlock(),), min_length=1, description="blocks of cells, united; crosses everything unless told"
    )
    evaluation: EvaluationRules = Field(description="how much is measured, and the seeds")
    metrics: Metrics = Field(default_factory=Metrics, description="what is measured besides correctness and cost")
    execution: Execution = Field(default_factory=Execution, description="what a job may take; changes no number")


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a suite file, with the names and options of what is registered now.

    A component whose module cannot be imported is still a name; its options are then left open.
    """
    schema = SuiteFile.model_json_schema()
    definitions: dict[str, Any] = schema["$defs"]
    for axis, singular in AXES.items():
        threats = singular == "threat_model"
        names = [norm.value for norm in Norm] if threats else sorted(registry.entries(singular))
        branches = []
        for name in names:
            options = THREAT_FAMILIES[name] if threats else _options(singular, name)
            if options is not None:
                branches.append(_branch(name, _hoisted(options, f"{singular}.{name}", definitions)))
        kind = f"{singular} entry".title().replace("_", " ").replace(" ", "")
        entry = copy.deepcopy(definitions.get(kind, definitions["AxisEntry"]))
        entry["properties"]["use"] = {"enum": names, "description": entry["properties"]["use"]["description"]}
        definitions[kind] = {**entry, "title": kind, "allOf": branches}
        schema["properties"][axis]["items"] = {"$ref": f"#/$defs/{kind}"}
    del definitions["AxisEntry"]
    recipe = definitions["ProbeOptions"]["properties"]["recipe"]
    definitions["ProbeOptions"]["properties"]["recipe"] = {**_recipe(), "description": recipe["description"]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "purebench suite"}


def _options(kind: str, name: str) -> type[Options] | None:
    try:
        options: type[Options] = registry.find(kind, name).load().Options
    except UserError:
        return None
    return options


def _branch(name: str, params: dict[str, Any]) -> dict[str, Any]:
    """Say: where an entry uses ``name``, told or by its own name, its params are these."""
    told = {"properties": {"use": {"const": name}}, "required": ["use"]}
    untold = {"properties": {"name": {"const": name}}, "required": ["name"], "not": {"required": ["use"]}}
    then: dict[str, Any] = {"properties": {"params": params}}
    if params.get("required"):
        then["required"] = ["params"]
    return {"if": {"anyOf": [told, untold]}, "then": then}


def _hoisted(options: type[Options], prefix: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of options; what it refers to moves into ``definitions`` under names of its own."""
    prefix = prefix.replace("/", ".")
    schema = options.model_json_schema(ref_template=f"#/$defs/{prefix}.{{model}}")
    for name, definition in schema.pop("$defs", {}).items():
        definitions[f"{prefix}.{name}"] = definition
    for field in options.recipe_fields():
        schema["properties"][field] = {**schema["properties"][field], **_recipe()}
        schema["properties"][field].pop("type", None)
    return schema


def _recipe() -> dict[str, Any]:
    return {"anyOf": [{"enum": sorted(shipped.recipes())}, {"type": "string", "minLength": 1}]}
