"""From a name and options, as a file gives them, to a component and the spec that is its identity; and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from harness.core import local, registry, session
from harness.core.contracts import Setting, Traits, refusal
from harness.core.errors import Problem, UserError, nearest
from harness.core.roles import Role
from harness.core.spec import Spec
from harness.data.sound import card_fault
from harness.suite import ranges, shipped
from harness.suite.document import Document, Path, parse
from harness.suite.validation import check
from harness.training.recipe import RecipeFile

#: identity keys beside the options: a plug-in's distribution, a dataset's content hash, whose classifier is judged, and
#: the hash of a file of the user's own
BESIDE_OPTIONS = ("origin", "content", "own_classifier", local.SOURCE)


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
    params = {name: value for name, value in spec.params.items() if name not in BESIDE_OPTIONS}
    params |= {role: part.label or part.digest for role, part in spec.parts}
    return component(component.Options.model_validate(params))


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

        ``at`` is where in the entry the params stand; a path in ``use`` starts from ``folder``, that of the suite if
        None.
        """
        use_path = (*path, "use") if (*path, "use") in document.lines else (*path, "name")
        try:
            entry = self._entry(kind, use, folder or self.folder)
            component = entry.load()
        except UserError as error:
            self._note(error, document, use_path)
            return None
        taken = set(component.Options.model_fields) & set(BESIDE_OPTIONS)
        if taken:
            sentence = f"expected {kind} {use!r} to leave the option {sorted(taken)[0]!r} to purebench, but it has it"
            self.problems.append(document.problem(use_path, sentence, f"ask the makers of {entry.origin} to rename it"))
            return None
        options, problems = check(component.Options, params, document, (*path, *at))
        self.problems += problems
        if options is None:
            return None
        remarks = list(ranges.remarks(options))
        if kind != "attack":  # whose lengths depend on the threat models that it meets
            remarks += ranges.lengths(options)
        if not self.remarks.note(remarks, document, (*path, *at)):
            return None
        beside: dict[str, Any]
        try:
            built = component(options)
            beside = {"content": _content(built)} if kind == "dataset" else {}
        except UserError as error:
            self._note(error, document, (*path, "params"))
            return None
        if isinstance(entry, local.LocalEntry):
            beside[local.SOURCE] = entry.code.hash
        elif isinstance(entry, session.SessionEntry):
            beside[local.SOURCE] = entry.source
        elif entry.origin.split()[0] != "purebench":
            beside["origin"] = entry.origin
        if kind == "defense" and built.role not in tuple(Role):
            sentence = f"expected {use} to have the role {', '.join(Role)} or none, got {built.role!r}"
            self.problems.append(document.problem(use_path, sentence, f"write another in {entry.origin}"))
            return None
        if kind == "defense" and built.traits.own_classifier:
            beside["own_classifier"] = True
        roles = [role for role in options.recipe_fields() if getattr(options, role) is not None]
        parts = {role: self.recipe(getattr(options, role), document, (*path, "params", role)) for role in roles}
        found = {role: part for role, part in parts.items() if part is not None}
        if len(found) < len(parts):
            return None
        identity = {**options.model_dump(mode="json", exclude=set(options.recipe_fields())), **beside}
        return Resolved(Spec.of(kind, entry.name, component.version, identity, found, label), built, path, options)

    def _entry(self, kind: str, use: str, folder: FilePath) -> registry.Entry:
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
        data = document.data.get("dataset") if isinstance(document.data, dict) else None
        if not isinstance(data, Mapping) or not isinstance(data.get("use"), str):
            return None
        params = data.get("params", {})
        if not isinstance(params, dict):
            return None
        beside = FilePath(str(file)).parent
        dataset = self.component("dataset", data["use"], params, document, ("dataset",), folder=beside)
        if recipe is None:
            return None
        parts = {role: self.recipe(named, document, (role,), beside) for role, named in recipe.roles.items()}
        if dataset is None or not self._in_range(recipe, dataset, document):
            return None
        if recipe.attack is not None:
            parts["attack"] = self._opponent(recipe, dataset, document, beside)
        found = {role: part for role, part in parts.items() if part is not None}
        if len(found) < len(parts) or not self._fit(recipe, dataset, found, document):
            return None
        return recipe.spec({"dataset": dataset.spec, **found})

    def _in_range(self, recipe: RecipeFile, dataset: Resolved, document: Document) -> bool:
        """Whether the sizes in a recipe, and the budget that it trains under, are within their ranges."""
        sound = self.remarks.note(ranges.remarks(recipe), document, ())
        if recipe.threat_model is None:
            return sound
        threat, shape = recipe.threat_model.threat, dataset.built.card.shape
        found = ranges.budget(threat.eps, threat.norm, shape, check=False)
        sound = self.remarks.note(found, document, ("threat_model", "params")) and sound
        steps = ranges.lengths(recipe.objective, threat.norm, shape, threat.eps)
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

    def _fit(self, recipe: RecipeFile, dataset: Resolved, found: Mapping[str, Spec], document: Document) -> bool:
        """Whether the recipes that one stands on fit it: trained on the same data, weights to start from of its net."""
        before = len(self.problems)
        nets = recipe.model_dump(mode="json")["net"]
        wanted = {"init": nets}
        if nets["use"] == "joint":
            wanted |= {"purifier": nets["purifier"], "classifier": nets["classifier"]}
        for role in recipe.roles:
            part = found[role]
            if part.part("dataset").digest != dataset.spec.digest:
                sentence = f"expected a recipe that trains on the same data, got {part.label!r} on other data"
                self.problems.append(document.problem((role,), sentence))
            elif role in wanted and part.params["net"] != wanted[role]:
                sentence = f"expected weights to start from of the same net, got {part.label!r} of another"
                differs = ", ".join(_differing(part.params["net"], wanted[role]))
                self.problems.append(document.problem((role,), sentence, f"they differ in {differs}"))
        return len(self.problems) == before

    def _note(self, error: UserError, document: Document, path: Path) -> None:
        for problem in error.problems:
            self.problems.append(document.problem(path, problem.sentence, problem.remedy))


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


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in {*one, *other} if one.get(key) != other.get(key))
