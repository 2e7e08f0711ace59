"""Which code did it: hashes of all code that a number depends on, by role, and which of them stand for the same."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import UserError
from harness.core.local import LocalEntry, entry_of
from harness.core.reading import spec_of
from harness.core.recipe import network, objective
from harness.core.registry import BASES, TABLES
from harness.core.session import SessionEntry
from harness.core.syntax import Family

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from harness.core.cell import Cell
    from harness.core.spec import Spec

#: of code that is no component: who judges, what an attack meets, how a network is trained (reached by name, as TABLES)
JUDGE = ("harness.execution.worker.judge:Judge", "harness.draws:Draws")
VICTIM = ("harness.execution.worker.victim:DefendedVictim", "harness.draws:Draws")
LOOP = "harness.training.loop:train"

#: what stands for a hash where there is no source to read: a change of it goes unnoticed
UNREADABLE = "unreadable"

#: before a hash over syntax trees; others, in older databases, are over files and cannot be compared
TREE = "tree:"

#: before the role of code that crafted examples which are judged by other code
CRAFTED = "crafted_"

#: file beside this one that lists hashes that were shown to give the same results
EQUAL = "equal_code.txt"


def code_of(cell: Cell) -> dict[str, str]:
    """Return the hashes of the code behind a cell, by role: what judges it, and what crafts its examples."""
    judged = judge_code(cell)
    return judged if cell.attack is None else with_craft(judged, craft_code(cell.origin()))


def judge_code(cell: Cell) -> dict[str, str]:
    """Return the hashes of the code that judges a cell, by role.

    ``dataset``, ``classifier``, ``defense``, ``certificate`` and, under ``judge``, the judge; networks of a part are
    under ``classifier.recipe`` and the like.
    """
    parts = {name: getattr(cell, name) for name in ("dataset", "classifier", "defense", "certificate")}
    return {"judge": _several(JUDGE), **_codes(parts)}


def metric_code(metric: Spec) -> dict[str, str]:
    """Return the hashes of the code behind a metric, by role: ``metric``, and ``metric.probe``, its probe's network."""
    return _codes({"metric": metric})


def craft_code(cell: Cell) -> dict[str, str]:
    """Return the hashes of the code behind adversarial examples of a cell, by role.

    Beside ``attack`` and ``victim``, what an attack meets, these are the parts that it sees. Of an attack that has a
    ``library``, the import package that does its work, the hash of that package is under ``attack_library``, its name
    and version under ``attack_library_version``.
    """
    seen: dict[str, Any] = {name: getattr(cell, name) for name in ("dataset", "classifier", "attack", "surrogate")}
    if cell.threat is not None and cell.threat.adaptive and cell.surrogate is None:
        seen["defense"] = cell.defense
    return {"victim": _several(VICTIM), **_codes(seen)}


def with_craft(judged: Mapping[str, str], crafted: Mapping[str, str]) -> dict[str, str]:
    """Return the code of an evaluation with that of the examples that it judges.

    What both have is told once; where they differ, as of transferred examples, that of the craft is under ``crafted_``.
    """
    apart = {f"{CRAFTED}{role}": code for role, code in crafted.items() if judged.get(role, code) != code}
    return {**crafted, **judged, **apart}


def of_craft(code: Mapping[str, str]) -> dict[str, str]:
    """Return the code that crafted the examples of an evaluation, from ``with_craft``, and what else that has."""
    apart = {role.removeprefix(CRAFTED): found for role, found in code.items() if role.startswith(CRAFTED)}
    return {**code, **apart}


def training_code(recipe: Spec) -> dict[str, str]:
    """Return the hashes of the code that trains the network of a recipe, by role.

    ``loop``, ``objective`` and ``net``, the dataset and the attack that is trained against, and the networks that the
    recipe stands on. What those were trained by is their own affair: their weights are known by content.
    """
    parts = {role: part for role, part in recipe.parts if part.kind != "recipe"}
    before = {f"{role}.net": net_code(part) for role, part in recipe.parts if part.kind == "recipe"}
    parts |= {"net": network(recipe), "objective": objective(recipe)}
    return {"loop": source_hash(LOOP), **before, **_codes(parts)}


def net_code(recipe: Spec) -> str:
    """Return the hash of the code that a recipe's network is built and run by."""
    return dict(_component("net", network(recipe))).get("net", UNREADABLE)


def unlike(recorded: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Return the roles whose code is known in both and is not the same; one of an older kind of hash is not known."""
    both = sorted(recorded.keys() & now.keys())
    return tuple(
        role for role in both if _comparable(role, recorded[role], now[role]) and not same(recorded[role], now[role])
    )


def unreadable(code: Mapping[str, str]) -> tuple[str, ...]:
    """Return the roles whose source cannot be read."""
    return tuple(sorted(role for role, found in code.items() if found == UNREADABLE))


def called(cell: Cell, roles: Iterable[str]) -> list[str]:
    """Return roles as people know them: with the registered names of the components."""
    names = []
    for role in roles:
        source = cell.origin() if role.startswith(CRAFTED) else cell
        part = role.removeprefix(CRAFTED).partition(".")[0].removesuffix("_library")
        spec: Spec | None = getattr(source, part, None)
        of = "library of the " if role.endswith("_library") else "network of the " if "." in role else ""
        names.append(f"{of}{part} {spec.use}" if spec is not None and spec.kind in TABLES else f"{of}{part}")
    return names


def changed_code(cell: Cell, roles: Iterable[str]) -> str:
    """Say that the code of some roles has changed."""
    return f"its code has changed since: {', '.join(dict.fromkeys(called(cell, roles)))}"


def same(one: str, other: str) -> bool:
    """Whether two hashes are equal, or shown to stand for the same results."""
    return one == other or other in equal_groups().get(one, ())


@functools.cache
def equal_groups() -> Mapping[str, frozenset[str]]:
    """Return for each hash of the shipped list those that were shown to give the same results."""
    return read_groups(Path(__file__).with_name(EQUAL).read_text(encoding="utf-8"))


def read_groups(text: str) -> dict[str, frozenset[str]]:
    """Read a list of equal hashes: a group per line, and lines that share a hash are one; # begins a comment."""
    groups: dict[str, frozenset[str]] = {}
    for line in text.splitlines():
        joined = frozenset(line.partition("#")[0].split())
        joined = joined.union(*(groups[one] for one in joined if one in groups))
        groups |= dict.fromkeys(joined, joined)
    return groups


def _comparable(role: str, *hashes: str) -> bool:
    if role.endswith("_version"):  # it is told, and the hash of the library is what counts
        return False
    return role.endswith("_library") or all(one.startswith(TREE) for one in hashes)


def _codes(parts: Mapping[str, Spec | None]) -> dict[str, str]:
    found: dict[str, str] = {}
    for role, spec in parts.items():
        if spec is not None:
            found |= dict(_component(role, spec))
    return found


def _component(role: str, spec: Spec) -> Iterator[tuple[str, str]]:
    """Yield the hash of a component, of a library that does its work, and of its networks; nothing if not installed."""
    yield from ((f"{role}.{name}", net_code(part)) for name, part in spec.parts if part.kind == "recipe")
    if spec.kind not in TABLES:
        return
    try:
        entry = entry_of(spec)
        component = entry.load()
    except UserError:
        return
    if isinstance(entry, LocalEntry):
        yield role, TREE + entry.code.hash
    elif isinstance(entry, SessionEntry):
        yield role, TREE + entry.source
    else:
        yield role, source_hash(component.code or entry.target, entry.origin.split()[0])
    if component.library is not None and importlib.util.find_spec(component.library) is not None:
        yield f"{role}_library", package_hash(component.library)
        yield f"{role}_library_version", f"{component.library} {metadata.version(component.library)}"
    target = component.runs(spec.params)
    if target is not None:
        yield from _function(f"{role}_library", target)


def _function(role: str, target: str) -> Iterator[tuple[str, str]]:
    """Yield the hash of the package that a function comes from, and the version of what installed it."""
    top = target.partition(":")[0].partition(".")[0]
    installed = _distributions().get(top)
    if top in sys.stdlib_module_names:  # to look for a module within would import what stands around it
        yield role, UNREADABLE
        return
    if installed is None:
        yield role, source_hash(target, top)
        return
    try:
        yield role, package_hash(top)
    except ModuleNotFoundError:  # one file, or none that can be read
        yield role, source_hash(target, installed[0])
    yield f"{role}_version", f"{installed[0]} {metadata.version(installed[0])}"


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def _several(targets: Iterable[str]) -> str:
    """Return one hash for several targets of purebench's own."""
    found = [source_hash(target) for target in targets]
    if UNREADABLE in found:
        return UNREADABLE
    return found[0] if len(found) == 1 else TREE + hashlib.sha256(" ".join(found).encode()).hexdigest()


@functools.cache
def source_hash(target: str, distribution: str = "purebench") -> str:
    """Return the hash of the code at ``module:name`` with what it imports of its own package or folder.

    See ``harness.core.syntax``. What is found by import statements is followed, also those within functions; names that
    are made up at run time are not, nor are data files. A base class of components counts by its name alone: none of
    its defaults changes a number.

    Args:
        target: where it is.
        distribution: who provides it: all its packages are its own.

    Returns:
        ``tree:`` and the hash, or ``unreadable``.
    """
    try:
        family = _family(target.partition(":")[0].partition(".")[0], distribution)
        found = family.hash(target, tuple(BASES.values()))
    except LookupError:
        found = None
    return UNREADABLE if found is None else TREE + found


@functools.cache
def _family(top: str, distribution: str) -> Family:
    """Return the modules that belong to a top-level one.

    They are those of purebench, for one of it; else those that the same distribution has installed, or, where nothing
    is installed, those in the same folder.
    """
    ours = {table.partition(".")[0] for table in TABLES.values()}
    if top in ours:
        return Family(lambda module: module.partition(".")[0] in ours, whole=False)
    installed = {top, *_provided(distribution)} - ours
    spec = spec_of(top)
    folder = Path(spec.origin).parent if spec is not None and spec.origin else None
    if folder is not None and spec is not None and spec.submodule_search_locations is not None:
        folder = folder.parent
    if folder is None or any(folder.glob("*.dist-info")):
        return Family(lambda module: module.partition(".")[0] in installed, whole=True)

    def own(module: str) -> bool:
        name = module.partition(".")[0]
        return name in installed or (name not in ours and (_module_in(folder, name)))

    return Family(own, whole=True)


def _module_in(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()


def _provided(distribution: str) -> set[str]:
    """Return the top-level modules that a distribution has installed."""
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        return set()
    sources = (file for file in files if file.suffix == ".py" and not file.parts[0].startswith("."))
    return {file.parts[0].removesuffix(".py") for file in sources}


@functools.cache
def package_hash(package: str) -> str:
    """Return the sha256 over the Python files of an installed package: their names and contents, sorted by name.

    Raises:
        ModuleNotFoundError: if there is no such package.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"expected an installed package {package!r}, found none", name=package)
    root = Path(spec.submodule_search_locations[0])
    whole = hashlib.sha256()
    for file in sorted(root.rglob("*.py"), key=lambda file: file.relative_to(root).as_posix()):
        content = file.read_bytes()
        whole.update(f"{file.relative_to(root).as_posix()} {len(content)}\n".encode())
        whole.update(content)
    return whole.hexdigest()


def forget() -> None:
    """Read every source anew when it is asked for next, as after an edit within one process."""
    for cached in (source_hash, _family, package_hash, equal_groups):
        cached.cache_clear()
