"""From a name and options, as a file gives them, to a component and the spec that is its identity; and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from harness.core import extras, local, registry, session
from harness.core import recipe as recipes
from harness.core.contracts import Network, Objective, Setting, Traits, refusal
from harness.core.errors import Problem, UserError, nearest
from harness.core.metric import PROBE, AskedMetric, MetricColumn
from harness.core.roles import Role
from harness.core.spec import Spec
from harness.data.sound import card_fault
from harness.suite import ranges, shipped
from harness.suite.document import Document, Path, parse
from harness.suite.validation import check
from harness.training.recipe import ROLES, RecipeFile, TrainingPlan

if TYPE_CHECKING:
    from harness.options import Options

#: identity keys beside the options: a plug-in's distribution, a dataset's content hash, whose classifier is judged,
#: whether an objective trains, and the hash of a file of the user's own
BESIDE_OPTIONS = ("origin", "content", "own_classifier", "trains", local.SOURCE)

#: what a recipe has one of -> what its component has to be
_OF_RECIPES: Mapping[str, Any] = {"network": Network, "objective": Objective}


@dataclass(frozen=True)
class Resolved:
    """An entry of a suite, checked.

    Attributes:
        spec: the identity.
        built: the component with its options.
        path: where the entry stands in the suite file.
        options: as they were given, checked.
    """

    spec: Spec
    built: Any
    path: Path
    options: Any = None


def build(spec: Spec) -> Any:
    """Make the component that a spec stands for; an option that named a recipe holds its label or digest.

    Raises:
        UserError: if the component is not installed, or not in the version that the spec names.
    """
    component = local.entry_of(spec).load()
    if component.version != spec.version:
        raise UserError(
            f"expected {spec.kind} {spec.use!r} in version {spec.version}, got version {component.version}; "
            "plan again with the code that is installed"
        )
    metric = (PROBE,) if spec.kind == "metric" else ()
    params = {name: value for name, value in spec.params.items() if name not in (*BESIDE_OPTIONS, *metric)}
    params |= {role: part.label or part.digest for role, part in spec.parts if role not in metric}
    return component(component.Options.model_validate(params))


def training_plan(recipe: Spec) -> TrainingPlan:
    """Return what a recipe trains, and how.

    Raises:
        UserError: if its network or its objective is not installed, or not in the version that the recipe names.
    """
    told = {name: value for name, value in recipe.params.items() if name not in recipes.KINDS}
    made = {"net": build(recipes.network(recipe)), "objective": build(recipes.objective(recipe))}
    return TrainingPlan.model_validate({**told, **made})


def read_file(file: FilePath | Any, name: str) -> str:
    """Return the text of a file.

    Raises:
        UserError: if it cannot be read as UTF-8.
    """
    try:
        text: str = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"expected a readable file at {name}, but {reason}") from None
    return text


class Resolver:
    """Resolves entries and recipes of one suite, and keeps every problem that it meets.

    Attributes:
        folder: what paths of recipes start from; those in a recipe start from the recipe's own.
        problems: in the order met; a recipe that is named twice is read, and complained about, once.
        remarks: on the numbers that were given; mistakes among them are problems too.
        code: files of the user's own that entries name, by path.
    """

    def __init__(self, folder: FilePath) -> None:
        self.folder = folder
        self.problems: list[Problem] = []
        self.remarks = ranges.Remarks()
        self.code: dict[str, local.Code] = {}
        self._recipes: dict[str, Spec | None] = {}
        self._reading: dict[str, str] = {}

    def component(
        self,
        kind: str,
        use: str,
        params: Any,
        document: Document,
        path: Path,
        label: str = "",
        at: Path = ("params",),
        folder: FilePath | None = None,
    ) -> Resolved | None:
        """Resolve an entry at ``path`` with its ``use`` and ``params``; None after noting what is wrong.

        ``at`` is where in the entry the params stand, empty if they stand beside ``use``; a path in ``use`` starts from
        ``folder``, that of the suite if None.
        """
        use_path = next((at for at in ((*path, "use"), (*path, "name")) if at in document.lines), path)
        try:
            entry = self._entry(kind, use, folder or self.folder)
            component = entry.load()
        except UserError as error:
            self._note(error, document, use_path)
            return None
        ours = entry.origin.split()[0] == "purebench"
        taken = _taken(kind, component.Options, ours)
        if taken:
            sentence = f"expected {kind} {use!r} to leave the option {sorted(taken)[0]!r} to purebench, but it has it"
            self.problems.append(document.problem(use_path, sentence, f"ask the makers of {entry.origin} to rename it"))
            return None
        if kind == "network" and component.Options.recipe_fields():
            name = component.Options.recipe_fields()[0]
            sentence = f"expected a network that needs no other, got {use!r} with the recipe {name!r} among its options"
            self.problems.append(document.problem(use_path, sentence, "name recipes in an objective"))
            return None
        if not at and "use" not in component.Options.model_fields:
            params = {name: value for name, value in params.items() if name != "use"}
        options, problems = check(component.Options, params, document, (*path, *at))
        self.problems += problems
        if options is None:
            return None
        lacking = list(extras.lacking(kind, entry.name, dict(options)))
        for option, lack in lacking:
            where = (*path, *at, option) if option else use_path
            self.problems.append(document.problem(where, lack.sentence, lack.remedy))
        if lacking:
            return None
        remarks = list(ranges.remarks(options))
        if kind not in ("attack", "objective"):  # whose lengths depend on the threat models that they meet
            remarks += ranges.lengths(options)
        if not self.remarks.note(remarks, document, (*path, *at)):
            return None
        beside: dict[str, Any]
        try:
            built = component(options)
            beside = {"content": _content(built)} if kind == "dataset" else {}
        except UserError as error:
            self._note(error, document, (*path, *at))
            return None
        if kind in _OF_RECIPES and not isinstance(built, _OF_RECIPES[kind]):
            sentence = f"expected a harness.{kind.title()} at {entry.target}, got something else"
            self.problems.append(document.problem(use_path, sentence, f"derive it from harness.{kind.title()}"))
            return None
        if isinstance(entry, local.LocalEntry):
            beside[local.SOURCE] = entry.code.hash
        elif isinstance(entry, session.SessionEntry):
            beside[local.SOURCE] = entry.source
        elif not ours:
            beside["origin"] = entry.origin
        if kind == "defense" and built.role not in tuple(Role):
            sentence = f"expected {use} to have the role {', '.join(Role)} or none, got {built.role!r}"
            self.problems.append(document.problem(use_path, sentence, f"write another in {entry.origin}"))
            return None
        if kind == "defense" and built.traits.own_classifier:
            beside["own_classifier"] = True
        if kind == "objective" and not built.trains and "use" not in component.Options.model_fields:
            beside["trains"] = False
        roles = [role for role in options.recipe_fields() if getattr(options, role) is not None]
        parts = {role: self.recipe(getattr(options, role), document, (*path, *at, role), folder) for role in roles}
        found = {role: part for role, part in parts.items() if part is not None}
        if len(found) < len(parts):
            return None
        identity = {**options.model_dump(mode="json", exclude=set(options.recipe_fields())), **beside}
        return Resolved(Spec.of(kind, entry.name, component.version, identity, found, label), built, path, options)

    def metric(
        self, use: str, params: Any, document: Document, path: Path, probe: Mapping[str, Any] | None
    ) -> AskedMetric | None:
        """Resolve a metric, with the probe where it looks through one; None after noting what is wrong."""
        resolved = self.component("metric", use, params, document, path, use)
        if resolved is None:
            return None
        spec, columns, probed = resolved.spec, resolved.built.columns, resolved.built.probed
        shown = isinstance(columns, tuple) and columns and all(isinstance(one, MetricColumn) for one in columns)
        if not shown or (len(columns) > 1 and any(one.axes for one in columns)):
            sentence = (
                f"expected {use} to have `columns`, a tuple of MetricColumn, one with axes alone; got {columns!r}"
            )
            self.problems.append(document.problem(path, sentence))
            return None
        if probed and PROBE in {*resolved.options.model_fields_set, *type(resolved.options).model_fields}:
            sentence = f"expected {use} to leave the option 'probe' to purebench, but it has it"
            self.problems.append(document.problem(path, sentence))
            return None
        if probed and probe is not None and probe["recipe"] is not None:
            seen = {PROBE: {name: value for name, value in probe.items() if name != "recipe"}}
            parts = {**dict(spec.parts), PROBE: probe["recipe"]}
            spec = Spec.of("metric", spec.use, spec.version, {**spec.params, **seen}, parts, use)
        return AskedMetric(spec, columns, probed)

    def _entry(self, kind: str, use: str, folder: FilePath) -> registry.RegistryEntry:
        """Return the entry of a registered name, of a class in a file, or of what this process has registered.

        Raises:
            UserError: if there is none.
        """
        told = local.written(use)
        if session.is_session(use):
            return session.find(kind, use)
        if told is None:
            return registry.find(kind, use)
        path, name = told
        file = folder / path
        key = str(file.resolve())
        if not file.is_file():
            raise UserError(f"expected the code of {kind} {name} in {file}, found no such file")
        if key not in self.code:
            self.code[key] = local.read(file, str(file))
            local.know([self.code[key]])
        return local.entry(kind, name, self.code[key])

    def recipe(self, text: str, document: Document, path: Path, folder: FilePath | None = None) -> Spec | None:
        """Resolve the recipe that the option at ``path`` names; None after noting what is wrong."""
        known = shipped.recipes()
        file = known.get(text)
        name = key = str(file) if file is not None else text
        if file is None:
            local = (folder or self.folder) / text
            if not text.endswith((".yaml", ".yml")):
                sentence = f"expected the name of a shipped recipe or a path ending in .yaml, got {text!r}"
                self.problems.append(document.problem(path, sentence, nearest(text, known)))
                return None
            if not local.is_file():
                sentence = f"expected a recipe file at {local}, found none"
                remedy = f"paths start from the folder of the {'recipe' if self._reading else 'suite'} file"
                self.problems.append(document.problem(path, sentence, remedy))
                return None
            file, name, key = local, str(local), str(local.resolve())
        if key in self._reading:
            circle = " -> ".join([*list(self._reading.values())[list(self._reading).index(key) :], name])
            sentence = f"expected recipes that do not stand on themselves, got {circle}"
            self.problems.append(document.problem(path, sentence, "name a recipe that can be trained before this one"))
            return None
        if key not in self._recipes:
            self._reading[key] = name
            self._recipes[key] = self._read_recipe(file, name)
            del self._reading[key]
        return self._recipes[key]

    def _read_recipe(self, file: FilePath | Any, name: str) -> Spec | None:
        try:
            document = parse(read_file(file, name), name)
        except UserError as error:
            self.problems += error.problems
            return None
        self.problems += document.problems
        recipe, problems = check(RecipeFile, document.data, document)
        self.problems += problems
        data = document.data if isinstance(document.data, dict) else {}
        beside = FilePath(str(file)).parent
        dataset = self._named("dataset", data.get("dataset"), document, beside)
        net, objective = (self._chosen(role, data.get(role), document, beside) for role in recipes.KINDS)
        if recipe is None:
            return None
        parts = {role: self.recipe(named, document, (role,), beside) for role, named in recipe.roles.items()}
        if dataset is None or net is None or objective is None:
            return None
        reasons: dict[Path, str | None] = {
            (): recipe.misfit(objective.built),
            ("net",): objective.built.refuses(net.built),
        }
        for at, reason in reasons.items():
            if reason is not None:
                self.problems.append(document.problem(at, reason.rstrip(".")))
                return None
        if not self._in_range(recipe, dataset, objective, document):
            return None
        if recipe.attack is not None:
            parts["attack"] = self._opponent(recipe, dataset, document, beside)
        found = {role: part for role, part in parts.items() if part is not None}
        roles: dict[Path, Spec] = {(role,): found[role] for role in recipe.roles if role in found}
        roles |= {("objective", role): part for role, part in objective.spec.parts}
        if len(found) < len(parts) or not self._fit(net.spec, dataset, roles, document):
            return None
        return recipe.spec(net.spec, objective.spec, {"dataset": dataset.spec, **found})

    def _named(self, kind: str, entry: Any, document: Document, folder: FilePath) -> Resolved | None:
        """Resolve what a recipe names with ``params``; None where the schema has something to say of it."""
        if not isinstance(entry, Mapping) or not isinstance(entry.get("use"), str):
            return None
        params = entry.get("params", {})
        if not isinstance(params, dict):
            return None
        return self.component(kind, entry["use"], params, document, (kind,), folder=folder)

    def _chosen(self, role: str, entry: Any, document: Document, folder: FilePath) -> Resolved | None:
        """Resolve a recipe's network or objective, whose options stand beside its name."""
        if not isinstance(entry, Mapping) or not isinstance(entry.get("use"), str):
            return None
        return self.component(recipes.KINDS[role], entry["use"], dict(entry), document, (role,), at=(), folder=folder)

    def _in_range(self, recipe: RecipeFile, dataset: Resolved, objective: Resolved, document: Document) -> bool:
        """Whether the sizes in a recipe, and the budget that it trains under, are within their ranges."""
        sound = self.remarks.note(ranges.remarks(recipe), document, ())
        if recipe.threat_model is None:
            return sound
        threat, shape = recipe.threat_model.threat, dataset.built.card.shape
        found = ranges.budget(threat.eps, threat.norm, shape, check=False)
        sound = self.remarks.note(found, document, ("threat_model", "params")) and sound
        steps = ranges.lengths(objective.options, threat.norm, shape, threat.eps)
        return self.remarks.note(steps, document, ("objective",)) and sound

    def _opponent(self, recipe: RecipeFile, dataset: Resolved, document: Document, folder: FilePath) -> Spec | None:
        """Return the attack that a recipe trains against, unless it refuses."""
        told, path = recipe.attack, ("attack",)
        if told is None or recipe.threat_model is None:
            return None
        attack = self.component("attack", told.use, told.params, document, path, folder=folder)
        if attack is None:
            return None
        card, threat = dataset.built.card, recipe.threat_model.threat
        steps = ranges.lengths(attack.options, threat.norm, card.shape, threat.eps)
        if not self.remarks.note(steps, document, (*path, "params")):
            return None
        through = recipe.threat_model.params.knowledge == "full"
        setting = Setting(card, threat, Traits(random=through, differentiable=True))
        reason = refusal(attack.built, setting)
        if reason is not None:
            sentence = f"expected an attack that can be trained against, got {told.use}: {reason.rstrip('.')}"
            self.problems.append(document.problem(path, sentence))
            return None
        return attack.spec

    def _fit(self, net: Spec, dataset: Resolved, found: Mapping[Path, Spec], document: Document) -> bool:
        """Whether the recipes that one stands on fit it: trained on the same data, weights to start from of its net."""
        before = len(self.problems)
        wanted = {"init": net}
        if net.use == "joint":
            halves = {role: net.params[role] for role in ("purifier", "classifier")}
            wanted |= {role: Spec.of("network", half["use"], 1, half) for role, half in halves.items()}
        for path, part in found.items():
            if part.part("dataset").digest != dataset.spec.digest:
                sentence = f"expected a recipe that trains on the same data, got {part.label!r} on other data"
                self.problems.append(document.problem(path, sentence))
                continue
            its, ours = recipes.network(part), wanted.get(str(path[0]))
            if ours is not None and its.digest != ours.digest:
                sentence = f"expected weights to start from of the same net, got {part.label!r} of another"
                differs = ", ".join(_differing(its, ours))
                self.problems.append(document.problem(path, sentence, f"they differ in {differs}"))
        return len(self.problems) == before

    def _note(self, error: UserError, document: Document, path: Path) -> None:
        for problem in error.problems:
            self.problems.append(document.problem(path, problem.sentence, problem.remedy))


def _taken(kind: str, options: type[Options], ours: bool) -> set[str]:
    """Return the options of a component that have names with another meaning."""
    names = set(options.model_fields) & {*BESIDE_OPTIONS, *(("use",) if kind in _OF_RECIPES and not ours else ())}
    return names | ({*options.recipe_fields()} & {*ROLES} if kind == "objective" else set())


def _content(dataset: Any) -> str:
    """Return the hash of a dataset's content.

    Raises:
        UserError: if its card does not say what a card says.
    """
    card = dataset.card
    fault = card_fault(card)
    if fault is not None:
        raise UserError(f"{type(dataset).__name__}: {fault}")
    sha256: str = card.sha256
    return sha256


def _differing(one: Spec, other: Spec) -> list[str]:
    a, b = ({"use": spec.use, "version": spec.version, **spec.params} for spec in (one, other))
    return sorted(key for key in {*a, *b} if a.get(key) != b.get(key))
