"""From the name of a suite, or a file, to a checked suite; or to all that is wrong with it, at once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from harness.core.cell import CLEAN
from harness.core.errors import Problem, UserError, nearest
from harness.core.metric import PROBE, clashes
from harness.core.recipe import network
from harness.core.threat import Norm
from harness.suite import shipped
from harness.suite.components import Resolver, read_file
from harness.suite.document import Document, Path, parse
from harness.suite.expand import is_family, members, spelled_out, tied
from harness.suite.grid import Grid, Shelf, unfit_probe
from harness.suite.matrix import MOST_POINTS, label_problems, points, size
from harness.suite.ranges import budget, lengths
from harness.suite.schema import AXES, THREAT_PARAMS, EvaluationRules, MatrixBlock, Metrics, SuiteFile, ThreatParams
from harness.suite.suite import Suite
from harness.suite.validation import check, salvage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from harness.core.cell import Labels
    from harness.core.declaration import Member
    from harness.core.metric import AskedMetric
    from harness.core.threat import ThreatModel


def load_suite(source: str) -> Suite:
    """Return the suite of a shipped name or a path; a shipped name goes first, so write ``./name`` for a file.

    Raises:
        UserError: with every problem of the file and of the recipes that it names, sorted by file and line.
    """
    known = shipped.suites()
    if source in known:
        file = known[source]
        return read_suite(read_file(file, source), str(file), FilePath(str(file)).parent)
    path = FilePath(source)
    if not path.is_file():
        raise UserError(f"expected the name of a shipped suite or a path, got {source!r}; {nearest(source, known)}")
    return read_suite(read_file(path, source), source, path.parent)


def read_suite(text: str, source: str, folder: FilePath) -> Suite:
    """Return the suite of a YAML text; ``source`` is the file as shown, paths of recipes start from ``folder``.

    Raises:
        UserError: as ``load_suite``.
    """
    document = parse(text, source)
    file, problems = check(SuiteFile, document.data, document)
    draft = _SuiteDraft(document, file, Resolver(folder))
    metrics = draft.metrics()
    members = draft.members(metrics)
    problems = [*document.problems, *problems, *draft.problems]
    if problems or file is None:
        raise UserError(sorted(dict.fromkeys(problems), key=_place))
    doubts = tuple(sorted(dict.fromkeys(draft.doubts), key=_place))
    code = tuple(draft.resolver.code.values())
    return Suite(file.name, file.title, text, source, file.evaluation, metrics, file.execution, members, doubts, code)


def _place(problem: Problem) -> tuple[str, int]:
    file, _, line = problem.where.rpartition(":")
    return file, int(line) if line.isdigit() else 0


class _SuiteDraft:
    """What can be made of a file that may have mistakes, so that one does not hide another.

    Where it has none by the schema, its parts are read from ``file``; else they are read one by one, as far as they go.
    """

    def __init__(self, document: Document, file: SuiteFile | None, resolver: Resolver) -> None:
        self.document = document
        self.file = file
        self.resolver = resolver
        self.data: dict[str, Any] = document.data if isinstance(document.data, dict) else {}
        self.own: list[Problem] = []
        self.grid_problems: list[Problem] = []
        #: names by plural axis, those of faulty entries too; an axis that is no list is absent
        self.names = {axis: self._names(axis) for axis in AXES if isinstance(self.data.get(axis), list)}
        #: names of threat models that stand for several
        self.families = {
            entry["name"]: [member["name"] for member in members(entry)]
            for _, entry in self._written("threat_models")
            if is_family(entry)
        }

    @property
    def problems(self) -> list[Problem]:
        """All that goes beyond the schema."""
        return [*self.own, *self.resolver.problems, *self.resolver.remarks.problems, *self.grid_problems]

    @property
    def doubts(self) -> list[Problem]:
        """What is odd and no mistake."""
        return self.resolver.remarks.doubts

    def members(self, metrics: Sequence[AskedMetric]) -> tuple[Member, ...]:
        """Check everything beyond the schema and return the members that can be made."""
        self._check_names()
        shelf = self._shelf()
        evaluation = self.file.evaluation if self.file else salvage(EvaluationRules, self.data.get("evaluation", {}))
        blocks = self._blocks()
        names = {axis: self.names.get(axis, []) for axis in AXES}
        grid = Grid(shelf, evaluation, metrics, self.document)
        asked = self._points(blocks, names)
        members = grid.members(asked, blocks)
        self.grid_problems = grid.problems
        self._in_range(shelf, asked)
        return members

    def metrics(self) -> tuple[AskedMetric, ...]:
        """Return the metrics that are asked for, each once."""
        metrics = self.file.metrics if self.file else salvage(Metrics, self.data.get("metrics", {}))
        if metrics is None:
            return ()
        probe = self._probe(metrics)
        asked: dict[str, AskedMetric] = {}
        needy = []
        for index, entry in enumerate(metrics.entries):
            path = ("metrics", "names", index)
            metric = self.resolver.metric(entry.use, entry.params, self.document, path, probe)
            if metric is not None:
                asked.setdefault(metric.spec.digest, metric)
                needy += [entry.use] if metric.probed and probe is None else []
        if needy:
            sentence = f"expected the key 'probe', which {' and '.join(sorted(set(needy)))} look through, got none"
            self.own.append(self.document.problem(("metrics",), sentence))
        for name in clashes(list(asked.values())):
            sentence = f"expected columns of metrics with names of their own, got {name!r} twice"
            self.own.append(self.document.problem(("metrics", "names"), sentence, "ask for one of the two"))
        return tuple(asked.values())

    def _points(self, blocks: Mapping[int, MatrixBlock], names: Mapping[str, list[str]]) -> dict[Labels, int]:
        """Return the points of a matrix; say so where they are too many to look at, or none is left."""
        number, at = size(blocks.values(), names), ("matrix",) if "matrix" in self.data else ()
        if number > MOST_POINTS:
            sentence = f"expected a matrix of at most {MOST_POINTS} cells, got one of {number}"
            self.own.append(self.document.problem(at, sentence, "cross less in a block, or divide the suite"))
            return {}
        found = points(blocks, names)
        if number and not found:
            sentence = "expected a cell that is left to measure, but the matrix excludes every one"
            self.own.append(self.document.problem(at, sentence))
        return found

    def _in_range(self, shelf: Shelf, asked: Iterable[Labels]) -> None:
        """Hold budgets, and the steps of attacks, against the images that they meet."""
        remarks = self.resolver.remarks
        paths = {entry["name"]: (*path, "params") for path, entry in self._entries("threat_models")}
        for labels in asked:
            threat, data = shelf.threat_models.get(labels.threat_model), shelf.datasets.get(labels.dataset)
            if threat is None or data is None:
                continue
            shape = data.built.card.shape
            sound = remarks.note(budget(threat.eps, threat.norm, shape), self.document, paths[labels.threat_model])
            attack = shelf.attacks.get(labels.attack)
            if attack is not None and sound:
                steps = lengths(attack.options, threat.norm, shape, threat.eps)
                remarks.note(steps, self.document, (*attack.path, "params"))

    def _names(self, axis: str) -> list[str]:
        return list(dict.fromkeys(entry["name"] for _, entry in self._entries(axis)))

    def _entries(self, axis: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yield the entries with their paths, members in place of their family."""
        for path, entry in self._written(axis):
            for member in members(entry) if axis == "threat_models" else [entry]:
                yield path, member

    def _written(self, axis: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        listed = self.data.get(axis)
        for index, entry in enumerate(listed if isinstance(listed, list) else []):
            if isinstance(entry, dict) and isinstance(entry.get("name"), str):
                yield (axis, index), entry

    def _check_names(self) -> None:
        for axis in AXES:
            named = [(path, entry["name"]) for path, entry in self._entries(axis)]
            if axis == "threat_models":
                named += [(path, entry["name"]) for path, entry in self._written(axis) if is_family(entry)]
            counts = Counter(name for _, name in named)
            first: dict[str, int] = {}
            for path, name in named:
                at = (*path, "name")
                if name in first:
                    sentence = f"expected names that occur once, got {name!r} {counts[name]} times"
                    self.own.append(self.document.problem(at, sentence, f"the first is on line {first[name]}"))
                first.setdefault(name, self.document.line(at))
                if axis in ("attacks", "certificates") and name == CLEAN:
                    sentence = f"expected another name, got {CLEAN!r}, which means input that is not attacked"
                    self.own.append(self.document.problem(at, sentence))
                if axis == "certificates" and name in self.names.get("attacks", []):
                    sentence = f"expected another name, got {name!r}, which an attack has"
                    self.own.append(self.document.problem(at, sentence, "a cell has one or the other, under its name"))
        if self.names.get("attacks") and not self.data.get("threat_models"):
            sentence = "expected threat models for the attacks, got none"
            self.own.append(self.document.problem(("attacks",), sentence, "list them under threat_models"))

    def _shelf(self) -> Shelf:
        shelf = Shelf()
        for axis, singular in AXES.items():
            for path, entry in self._entries(axis):
                name, params = entry["name"], entry.get("params", {})
                use = name if entry.get("use") is None else entry["use"]
                if not isinstance(use, str) or not isinstance(params, dict):
                    continue
                if axis == "threat_models":
                    threat = self._threat(use, params, path)
                    if threat is not None:
                        shelf.threat_models.setdefault(name, threat)
                    continue
                resolved = self.resolver.component(singular, use, params, self.document, path, name)
                if resolved is not None:
                    getattr(shelf, axis).setdefault(name, resolved)
                cheaper = entry.get("surrogate")
                if axis == "defenses" and isinstance(cheaper, dict):
                    other = self.resolver.component(
                        singular, use, {**params, **cheaper}, self.document, path, name, ("surrogate",)
                    )
                    if other is None:
                        shelf.faulty.add(name)
                    else:
                        shelf.surrogates.setdefault(name, other)
        return shelf

    def _threat(self, use: str, params: dict[str, Any], path: Path) -> ThreatModel | None:
        known = [norm.value for norm in Norm]
        if use not in known:
            at = (*path, "use") if (*path, "use") in self.document.lines else (*path, "name")
            sentence = f"expected a norm, one of {', '.join(known)}, under `use`, got {use!r}"
            remedy = nearest(use, known)
            self.own.append(self.document.problem(at, sentence, remedy if "?" in remedy else ""))
        told, problems = check(THREAT_PARAMS.get(use, ThreatParams), params, self.document, (*path, "params"))
        self.own += problems
        if told is None or use not in known:
            return None
        threat = told.threat(Norm(use))
        if threat.norm is Norm.LINF:  # whose range is the same for all images
            self.resolver.remarks.note(budget(threat.eps, threat.norm, (1, 1, 1)), self.document, (*path, "params"))
        return threat

    def _probe(self, metrics: Metrics) -> dict[str, Any] | None:
        """Return the probe's options with its recipe; None where there is none, or after noting what is wrong."""
        if metrics.probe is None:
            return None
        at = ("metrics", PROBE, "recipe")
        recipe = self.resolver.recipe(metrics.probe.recipe, self.document, at)
        reason = None if recipe is None else unfit_probe(network(recipe))
        if reason is not None:
            self.own.append(self.document.problem(at, reason))
        return {"recipe": recipe, "mask_ratio": metrics.probe.mask_ratio, "masks": metrics.probe.masks}

    def _blocks(self) -> dict[int, MatrixBlock]:
        """Check the names in every block; return the blocks without mistakes, by position."""
        listed = self.data.get("matrix", [{}])
        threats = {"threat_models": [*self.names["threat_models"], *self.families]} if self.families else {}
        self.own += label_problems(listed, {**self.names, **threats}, self.document)
        self.own += tied(listed, self.families, self.document)
        return {position: spelled_out(block, self.families) for position, block in self._sound(listed)}

    def _sound(self, listed: Any) -> Iterator[tuple[int, MatrixBlock]]:
        """Yield the blocks without mistakes, with their positions."""
        if self.file is not None:
            yield from enumerate(self.file.matrix)
            return
        for position, data in enumerate(listed if isinstance(listed, list) else []):
            block, _ = check(MatrixBlock, data, self.document)
            if block is not None:
                yield position, block
