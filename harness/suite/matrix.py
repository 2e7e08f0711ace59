"""From the blocks of a matrix to the points that they name, in order and each once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.core.cell import Labels
from harness.core.errors import Problem, nearest
from harness.suite.schema import ATTACKING, AXES, Condition, MatrixBlock

if TYPE_CHECKING:
    from harness.suite.document import Document, Path

#: plural axis -> names of its entries
Names = Mapping[str, Sequence[str]]

#: points that a suite may name, the excluded ones counted; twice as many take five seconds of a core to look at
MOST_POINTS = 5_000


def size(blocks: Iterable[MatrixBlock], names: Names) -> int:
    """Return how many points blocks name at most, before any is left out."""
    total = 0
    for block in blocks:
        axes = [axis for axis in AXES if axis != "certificates"]
        crossed = math.prod(len(rows) for rows in _dimensions(block, names, axes))
        total += crossed * max(1, len(block.crafted_on)) + len(block.include)
    return total


def points(blocks: Mapping[int, MatrixBlock], names: Names) -> dict[Labels, int]:
    """Unite blocks: the points in first-seen order, each with the position of the block that named it first.

    Before the first other point of a dataset, classifier and defense stand their clean one, and those of certificates.
    A block without attacks or threat models, and without certificates, names clean points only.
    """
    found: dict[Labels, int] = {}
    for position, block in blocks.items():
        certified: dict[Labels, list[Labels]] = {}
        for labels in _certified(block, names):
            certified.setdefault(_clean(labels), []).append(labels)
        for labels in itertools.chain(_crossed(block, names), _included(block, names), certified):
            for each in (_clean(labels), *certified.get(_clean(labels), ()), *_crafted(labels, block)):
                found.setdefault(each, position)
    return found


def _clean(labels: Labels) -> Labels:
    return Labels(labels.dataset, labels.classifier, labels.defense)


def _crafted(labels: Labels, block: MatrixBlock) -> Iterator[Labels]:
    """Yield a point, or one for each source of its examples."""
    if not block.crafted_on or labels.clean:
        yield labels
        return
    for source in block.crafted_on:
        classifier = source.classifier or labels.classifier
        if (source.defense, classifier) == (labels.defense, labels.classifier):
            yield labels
        else:
            yield replace(labels, source_defense=source.defense, source_classifier=classifier)


def source_of(labels: Labels) -> tuple[str, str]:
    """Return the names of the classifier and the defense that the examples of a point are crafted on."""
    return labels.source_classifier or labels.classifier, labels.source_defense or labels.defense


def _crossed(block: MatrixBlock, names: Names) -> Iterator[Labels]:
    axes = [axis for axis in AXES if axis != "certificates"]
    for rows in itertools.product(*_dimensions(block, names, axes)):
        at = {axis: name for row in rows for axis, name in row.items()}
        if "attack" not in at or "threat_model" not in at:
            at.pop("attack", None)
            at.pop("threat_model", None)
        labels = Labels(**at)
        if not any(_matches(condition, labels) for condition in block.exclude):
            yield labels


def _certified(block: MatrixBlock, names: Names) -> Iterator[Labels]:
    """Yield the crossing of datasets, classifiers and defenses with certificates, if there are any."""
    axes = [axis for axis in AXES if axis not in ATTACKING]
    for rows in itertools.product(*_dimensions(block, names, axes)):
        at = {axis: name for row in rows for axis, name in row.items()}
        if "certificate" in at:
            labels = Labels(**at)
            if not any(_matches(condition, labels) for condition in block.exclude):
                yield labels


def _dimensions(block: MatrixBlock, names: Names, axes: Sequence[str]) -> list[list[dict[str, str]]]:
    """Return what is crossed with what: single axes, and tied axes as one, at the place of the first of them."""
    tied = {axis: tie for tie in block.tie for axis in tie.lists}
    dimensions: list[list[dict[str, str]]] = []
    walked: list[int] = []
    for plural in axes:
        singular = AXES[plural]
        tie = tied.get(plural)
        if tie is None:
            listed = getattr(block, plural)
            chosen = names[plural] if listed is None else listed
            if not chosen and singular in ("attack", "threat_model", "certificate"):
                continue
            dimensions.append([{singular: name} for name in chosen])
        elif id(tie) not in walked:
            walked.append(id(tie))
            lists = {AXES[axis]: listed for axis, listed in tie.lists.items() if axis in axes}
            dimensions.append([dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)])
    return dimensions


def _matches(condition: Condition, labels: Labels) -> bool:
    return all(getattr(labels, axis) in chosen for axis, chosen in condition.names.items())


def _included(block: MatrixBlock, names: Names) -> Iterator[Labels]:
    for point in block.include:
        dataset = point.dataset or (names["datasets"][0] if len(names["datasets"]) == 1 else None)
        classifier = point.classifier or (names["classifiers"][0] if len(names["classifiers"]) == 1 else None)
        if dataset is not None and classifier is not None:
            yield Labels(dataset, classifier, point.defense, point.attack, point.threat_model)


def label_problems(blocks: Any, names: Names, document: Document) -> list[Problem]:
    """Return what is wrong with the names in the matrix as it is written, well-formed or not.

    An axis that is absent from ``names`` is not judged.
    """
    problems: list[Problem] = []
    for path, plural, name in _mentions(blocks):
        if plural not in names:
            continue
        known = names[plural]
        if name is None and len(known) > 1:
            sentence = f"expected the key {AXES[plural]!r} where {plural} has {len(known)} entries, got none"
            problems.append(document.problem(path, sentence, f"name one of {', '.join(known)}"))
        elif name is not None and name not in known:
            sentence = f"expected a name listed under {plural}, got {name!r}"
            problems.append(document.problem(path, sentence, nearest(name, known)))
    return problems


def _mentions(blocks: Any) -> Iterator[tuple[Path, str, str | None]]:
    """Yield every name in a matrix with its path and plural axis; None where an included point leaves it out."""
    for path, block in _mappings(blocks, ("matrix",)):
        listings = [(path, block), *_mappings(block.get("tie"), (*path, "tie"))]
        for (at, listing), plural in itertools.product(listings, AXES):
            yield from _texts(listing.get(plural), (*at, plural), plural)
        for (at, condition), (plural, singular) in itertools.product(
            _mappings(block.get("exclude"), (*path, "exclude")), AXES.items()
        ):
            chosen = condition.get(singular)
            yield from _texts(chosen, (*at, singular), plural)
            if isinstance(chosen, str):
                yield (*at, singular), plural, chosen
        for at, source in _mappings(block.get("crafted_on"), (*path, "crafted_on")):
            for plural, singular in AXES.items():
                if isinstance(source.get(singular), str):
                    yield (*at, singular), plural, source[singular]
        for at, point in _mappings(block.get("include"), (*path, "include")):
            for plural, singular in AXES.items():
                told = point.get(singular)
                if isinstance(told, str):
                    yield (*at, singular), plural, told
                elif told is None and plural in ("datasets", "classifiers"):
                    yield (*at, singular), plural, None


def _mappings(listed: Any, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for index, item in enumerate(listed if isinstance(listed, list) else []):
        if isinstance(item, dict):
            yield (*path, index), item


def _texts(listed: Any, path: Path, plural: str) -> Iterator[tuple[Path, str, str]]:
    for index, item in enumerate(listed if isinstance(listed, list) else []):
        if isinstance(item, str):
            yield (*path, index), plural, item
