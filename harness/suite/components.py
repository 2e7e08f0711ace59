"""From a name and options, as a file gives them, to a component and the spec that is its identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.core import registry
from harness.core.errors import Problem, UserError, nearest
from harness.core.spec import Spec
from harness.suite import shipped
from harness.suite.sentences import check
from harness.suite.source import Document, Path, parse
from harness.training.recipe import RecipeFile

if TYPE_CHECKING:
    from pathlib import Path as FilePath

#: identity keys beside the options: the distribution of a plug-in, the hash of a dataset's content
BESIDE_OPTIONS = ("origin", "content")


@dataclass(frozen=True)
class Resolved:
    """An entry of a suite, checked.

    Attributes:
        spec: the identity.
        built: the component with its options.
        path: where the entry stands in the suite file.
    """

    spec: Spec
    built: Any
    path: Path


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
        folder: what paths of recipes start from.
        problems: in the order met; a recipe that is named twice is read, and complained about, once.
    """

    def __init__(self, folder: FilePath) -> None:
        self.folder = folder
        self.problems: list[Problem] = []
        self._recipes: dict[str, Spec | None] = {}

    def component(
        self, kind: str, use: str, params: Any, document: Document, path: Path, label: str = ""
    ) -> Resolved | None:
        """Resolve an entry at ``path`` with its ``use`` and ``params``; None after noting what is wrong."""
        use_path = (*path, "use") if (*path, "use") in document.lines else (*path, "name")
        try:
            entry = registry.find(kind, use)
            component = entry.load()
        except UserError as error:
            self._note(error, document, use_path)
            return None
        taken = set(component.Options.model_fields) & set(BESIDE_OPTIONS)
        if taken:
            sentence = f"expected {kind} {use!r} to leave the option {sorted(taken)[0]!r} to purebench, but it has it"
            self.problems.append(document.problem(use_path, sentence, f"ask the makers of {entry.origin} to rename it"))
            return None
        options, problems = check(component.Options, params, document, (*path, "params"))
        self.problems += problems
        if options is None:
            return None
        try:
            built = component(options)
            beside = {"content": built.card.sha256} if kind == "dataset" else {}
        except UserError as error:
            self._note(error, document, (*path, "params"))
            return None
        if entry.origin.split()[0] != "purebench":
            beside["origin"] = entry.origin
        roles = options.recipe_fields()
        parts = {role: self.recipe(getattr(options, role), document, (*path, "params", role)) for role in roles}
        found = {role: part for role, part in parts.items() if part is not None}
        if len(found) < len(parts):
            return None
        identity = {**options.model_dump(mode="json", exclude=set(roles)), **beside}
        return Resolved(Spec.of(kind, use, component.version, identity, found, label), built, path)

    def recipe(self, text: str, document: Document, path: Path) -> Spec | None:
        """Resolve the recipe that the option at ``path`` names; None after noting what is wrong."""
        known = shipped.recipes()
        file = known.get(text)
        name = str(file) if file is not None else text
        if file is None:
            local = self.folder / text
            if not text.endswith((".yaml", ".yml")):
                sentence = f"expected the name of a shipped recipe or a path ending in .yaml, got {text!r}"
                self.problems.append(document.problem(path, sentence, nearest(text, known)))
                return None
            if not local.is_file():
                sentence = f"expected a recipe file at {local}, found none"
                self.problems.append(document.problem(path, sentence, "paths start from the folder of the suite file"))
                return None
            file, name = local, str(local)
        if name not in self._recipes:
            self._recipes[name] = self._read_recipe(file, name)
        return self._recipes[name]

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
        dataset = self.component("dataset", data["use"], params, document, ("dataset",))
        return recipe.spec(dataset.spec) if recipe is not None and dataset is not None else None

    def _note(self, error: UserError, document: Document, path: Path) -> None:
        for problem in error.problems:
            self.problems.append(document.problem(path, problem.sentence, problem.remedy))
