"""What a Python session can do: evaluate a classifier with a purifier, run suites, read what came of it.

The same judge, the same draws and the same database as at the command line. The public names are those of ``harness``.
"""

from __future__ import annotations

import atexit
import copy
import functools
import inspect
import io
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from harness.components import Classifier, Dataset, Purifier
from harness.console import PIPE, Screen, err
from harness.core import session
from harness.core.contracts import Traits
from harness.core.errors import UserError
from harness.core.registry import TABLES
from harness.core.spec import digest_of, short

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

    from harness.core.contracts import DataCard, Nets
    from harness.core.errors import Problem
    from harness.draws import Draws
    from harness.execution.driver.launch import Workers
    from harness.store.read.frames import Results
    from harness.suite.plan import Plan
    from harness.suite.suite import Suite
    from reports.model.leaderboard import Leaderboard
    from reports.model.row import Row

    Source = str | Path | Mapping[str, Any] | Suite

#: sets of attacks by name; each is what the minimum of that name asks of a row
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "purifier-1": {
        "attacks": [
            {"name": "pgd-20-eot-4", "use": "pgd", "params": {"steps": 20, "eot": 4}},
            {"name": "square-200", "use": "square", "params": {"n_queries": 200}},
        ],
        "matrix": [
            {"attacks": ["pgd-20-eot-4"], "threat_models": ["full", "smooth", "bpda"], "impossible": "skip"},
            {"attacks": ["square-200"], "threat_models": ["bpda"], "impossible": "skip"},
        ],
    },
}

#: what attackers know, in a suite that is made here
_KNOWLEDGE = ("oblivious", "bpda", "full", "smooth")

#: images that are purified to see what a function does
_TRIED = 4


# ---------------------------------------------------------------------- what comes of it


class Text(str):
    """A text in Markdown, which a notebook shows as such."""

    def _repr_markdown_(self) -> str:
        return str(self)


@dataclass(frozen=True)
class Evaluation:
    """The figures of a suite.

    Attributes:
        db: path or URL of the database that has them.
        suite: its name there.
    """

    db: str
    suite: str

    @cached_property
    def leaderboard(self) -> Leaderboard:
        """All that a report shows."""
        from reports.model.leaderboard import read_leaderboard

        return read_leaderboard(self.db, self.suite)

    @property
    def _rows(self) -> list[tuple[str, Row]]:
        boards = [board for section in self.leaderboard.sections for board in section.boards]
        return [(board.title, row) for board in boards for row in board.rows]

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per defense and board: place, clean, worst-case and attacked accuracy in [0, 1], flags that fired."""
        import pandas as pd

        found = pd.DataFrame([_cells(title, row) for title, row in self._rows])
        return found.drop(columns=[name for name in found.columns if found[name].isna().all()])

    @cached_property
    def results(self) -> Results:
        """The frames: ``cells``, ``examples``, ``costs``; see ``harness.results``."""
        from harness.store.read.frames import results

        return results(self.db, self.suite)

    @property
    def flags(self) -> dict[str, dict[str, str]]:
        """By defense the flags that fired, with what each saw."""
        return {row.defense: {flag.name: flag.sentence for flag in row.flagged()} for _, row in self._rows}

    def report(self, out: str | Path, sections: Sequence[str] = ()) -> Path:
        """Write the page and the tables into a folder; return the page.

        Raises:
            UserError: if the folder cannot be written, or there is no such section.
        """
        return report(self.db, out, self.suite, sections)

    def compare(self, other: Evaluation) -> Text:
        """Say in what this and another differ: in settings, then in numbers, with paired tests.

        Raises:
            UserError: if they have no cells in common by the names of their parts.
        """
        from reports.compare.comparison import compare
        from reports.render.comparison import markdown

        return Text(markdown(compare(*(f"{one.db}:{one.suite}" for one in (self, other)))))

    def __repr__(self) -> str:
        """Draw the board as the command line does."""
        from reports.render.terminal import leaderboard_tables

        drawn = io.StringIO()
        screen = Screen(file=drawn, width=PIPE)
        for table in leaderboard_tables(self.leaderboard, screen):
            screen.print(table)
        return drawn.getvalue()

    def _repr_html_(self) -> str:
        """Draw the board as a table of a notebook."""
        shares = [name for name in self.table.columns if self.table[name].dtype.kind == "f"]
        return self.table.to_html(index=False, formatters=dict.fromkeys(shares, "{:.1%}".format), na_rep="")


def _cells(board: str, row: Row) -> dict[str, Any]:
    """Return a row of the table."""
    found: dict[str, Any] = {
        "board": board,
        "rank": f"{row.rank}{'=' if row.tied else ''}" if row.rank is not None else "",
        "defense": row.defense,
        "clean": _share(row.clean),
        "worst case": row.worst.accuracy.share if row.worst else None,
        "low": row.worst.accuracy.low if row.worst else None,
        "high": row.worst.accuracy.high if row.worst else None,
    }
    found |= {f"{entry.attack} {entry.threat_model}": _share(entry) for entry in row.attacked if entry is not None}
    return {**found, "flags": row.warning, "not ranked": row.unranked}


def _share(entry: Any) -> float | None:
    return None if entry is None or entry.accuracy is None else entry.accuracy.share


# ---------------------------------------------------------------------- suites


def validate(suite: Source) -> Suite:
    """Check a suite.

    Args:
        suite: a shipped name, a path, or what stands in a suite file as a dictionary.

    Raises:
        UserError: with everything that is wrong with it.
    """
    from harness.suite.load import load_suite, read_suite
    from harness.suite.suite import Suite

    if isinstance(suite, Suite):
        return suite
    if isinstance(suite, Mapping):
        return read_suite(yaml.safe_dump(dict(suite), sort_keys=False), "the suite", Path.cwd())
    return load_suite(str(suite))


def plan(suite: Source, db: str | Path | None = None) -> Plan:
    """Return what a run would do: each cell with its verdict, and the jobs behind them; nothing is written.

    Raises:
        UserError: as ``validate``.
    """
    from harness.artifacts import Folder
    from harness.store.write.store import Store
    from harness.suite.plan import make_plan

    return make_plan(validate(suite), None if db is None else Store.peek(str(db)), Folder.default())


def run(
    suite: Source,
    db: str | Path,
    *,
    only: str | None = None,
    limit: int | None = None,
    workers: Workers | None = None,
    quiet: bool = False,
) -> Evaluation:
    """Compute what a suite lacks, and nothing else; return its figures.

    Args:
        suite: as ``validate`` takes it.
        db: a path or an SQLAlchemy URL; made if absent.
        only: some cells, such as ``defense=mae-*``.
        limit: only the first so many examples.
        workers: who does the jobs; worker processes on this machine, or this process where a component lives in it.
        quiet: whether to show no progress.

    Raises:
        UserError: for a mistake in the arguments, or with the reasons why jobs failed; what was done stays.
    """
    from harness.execution.driver.launch import Workers, launch

    checked = validate(suite)
    lives_here = any(session.lives_here(cell.components()) for cell in checked.cells)
    who = workers or Workers("inline" if lives_here else "local")
    if lives_here and who.executor != "inline":
        raise UserError(f"expected the executor inline, since a component lives in this process, got {who.executor}")
    console = Screen(stderr=True, quiet=True) if quiet else err()
    summary, _ = launch(checked, str(db), console=console, only=only, limit=limit, workers=who)
    lost = [*summary.failed, *summary.skipped]
    if lost:
        told = "; ".join(f"{job}: {reason}" for job, reason in lost[:3])
        raise UserError(f"{len(lost)} of {summary.done + len(lost)} jobs were not done: {told}")
    return Evaluation(str(db), checked.name)


def report(db: str | Path, out: str | Path, suite: str | None = None, sections: Sequence[str] = ()) -> Path:
    """Write the page and the tables of a database into a folder; return the page.

    Args:
        db: a path or an SQLAlchemy URL.
        out: the folder.
        suite: only this suite; every suite if None.
        sections: to show in every format: registered names, ``./mine.py:Mine``, ``session:NAME``.

    Raises:
        UserError: if there is no such database, suite or section, or the folder cannot be written.
    """
    from reports.write import write_report

    return next(path for path in write_report(str(db), Path(out), suite, asked=sections) if path.suffix == ".html")


# ---------------------------------------------------------------------- components of a session


def register(kind: str, name: str) -> Callable[[Any], Any]:
    """Register a component for this process; a suite or recipe that it runs may name it as ``use: session:NAME``.

    ::

        @harness.register("defense", "blur")
        class Blur(harness.Purifier):
            ...

    Args:
        kind: dataset, classifier, defense, attack, certificate, network, objective, metric or section.
        name: letters, digits, ``-``, ``_`` and ``.``.

    Raises:
        UserError: if there is no such kind, or the component has no stable name; see ``harness.objects``.
    """
    from harness.objects import object_hash

    if kind not in TABLES:
        raise UserError(f"expected a kind of component, one of {', '.join(TABLES)}, got {kind!r}")

    def keep(component: Any) -> Any:
        session.register(kind, name, component, object_hash(component, f"{kind} {name}"))
        return component

    return keep


def _given(kind: str, name: str, instance: Any, identity: Any) -> dict[str, Any]:
    """Register an object as a component; return the entry of a suite that names it."""
    from harness.objects import object_hash
    from harness.options import NoOptions

    class Given(type(instance)):  # type: ignore[misc]
        """What was handed over, as it is: with options of its own, and whatever version its class has."""

        version, Options = 1, NoOptions

        def __new__(cls, options: Any) -> Any:
            return copy.deepcopy(instance)

    source = object_hash(identity, f"the {kind} {name}")
    return {"name": name, "use": session.register(kind, name, Given, source)}


class _Network(Classifier):
    """A network that was handed over."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def load(self, nets: Nets, data: DataCard) -> nn.Module:
        return self.net


class _Arrays(Dataset):
    """Images and labels that were handed over."""

    def __init__(self, images: Any, labels: Any, n_classes: int) -> None:
        super().__init__()
        self._images, self._labels = images, labels
        self.n_classes = n_classes  # type: ignore[misc]

    def arrays(self, part: str) -> tuple[Any, Any]:
        return self._images, self._labels


class _Function(Purifier):
    """A function from images to images that was handed over, with or without draws."""

    def __init__(self, function: Callable[..., Tensor], traits: Traits) -> None:
        super().__init__()
        self.function, self.told = function, traits
        self.drawing = _takes_draws(function)

    @property
    def traits(self) -> Traits:
        return self.told

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        from torch import nn

        if isinstance(self.function, nn.Module):
            self.function.to(x.device, x.dtype).eval()
        return self.function(x, draws) if self.drawing else self.function(x)


def _takes_draws(function: Callable[..., Any]) -> bool:
    target = function.forward if hasattr(function, "forward") else function
    try:
        given = [one for one in inspect.signature(target).parameters.values() if one.default is one.empty]
    except (TypeError, ValueError):
        return False
    return len([one for one in given if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]) > 1


def _traits_of(function: Callable[..., Any], x: Tensor) -> Traits:
    """Say what a function does, by what it does to a few images.

    Raises:
        UserError: if it cannot be called on images, or returns none.
    """
    import torch

    from harness.draws import Draws

    def called(seed: int, at: Tensor) -> Tensor:
        taken = copy.deepcopy(function) if isinstance(function, torch.nn.Module) else function
        torch.manual_seed(seed)
        return _Function(taken, Traits(False, False)).purify(at, {}, Draws(("traits", seed), torch.arange(len(at))))

    with torch.random.fork_rng():
        try:
            with torch.no_grad():
                first, other = called(0, x.clone()), called(1, x.clone())
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            raise UserError(f"expected a purifier that takes images {tuple(x.shape)}, but it raised {said}") from error
        if not isinstance(first, torch.Tensor) or first.shape != x.shape:
            got = tuple(first.shape) if isinstance(first, torch.Tensor) else type(first).__name__
            raise UserError(f"expected a purifier that returns images {tuple(x.shape)}, got {got}")
        followed = _followed(functools.partial(called, 0), x.clone().requires_grad_(True))
    return Traits(random=not torch.equal(first, other), differentiable=followed)


def _followed(purify: Callable[[Tensor], Tensor], x: Tensor) -> bool:
    """Whether a gradient comes through a function that is not zero."""
    import torch

    with torch.enable_grad():
        try:
            found = purify(x)
            if not found.requires_grad:
                return False
            uneven = torch.linspace(0.5, 1.5, found[0].numel()).view_as(found[0])
            (gradient,) = torch.autograd.grad((found * uneven).sum(), x)
        except RuntimeError:
            return False
    return bool(gradient.abs().max() > 0)


# ---------------------------------------------------------------------- evaluate


def evaluate(
    classifier: Any,
    purifier: Any = None,
    data: Any = "digits",
    *,
    attacks: str | Sequence[Mapping[str, Any]] = "purifier-1",
    norm: str = "Linf",
    eps: float | str = "8/255",
    n_examples: int | None = None,
    repeats: int = 10,
    traits: Traits | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    device: str = "auto",
    db: str | Path | None = None,
    quiet: bool = False,
) -> Evaluation:
    """Attack a classifier, behind a purifier and without it, and judge what comes of it.

    The same arguments and database a second time compute nothing.

    Args:
        classifier: any ``torch.nn.Module`` from pixels ``(B, C, H, W)`` in [0, 1] to logits; the name of a registered
            classifier or recipe; or an entry of a suite, ``{"use": ..., "params": {...}}``.
        purifier: any function from images to images, a module, or with a second argument ``draws`` a function that
            takes its random numbers from there; a ``harness.Purifier``; the name of a registered defense or an entry of
            a suite. None: the classifier alone.
        data: images and labels ``(x, y)`` as arrays or tensors, pixels in [0, 1] or bytes; a ``harness.Dataset``; the
            name of a registered dataset, or an entry of a suite.
        attacks: the name of a set of attacks, see ``PRESETS``; or entries of a suite, each run with what an attacker
            can know: nothing of the defense, BPDA, the full gradient or smooth signs, as far as the defense allows.
        norm: of the threat model: ``Linf``, ``L2`` or ``L1``.
        eps: its radius, in pixels of [0, 1]; a fraction such as ``"8/255"`` will do.
        n_examples: how many images are measured; 128 if None, or all where there are fewer.
        repeats: how often a random defense is measured anew.
        traits: what a function is; found out by purifying a few images if None.
        seed: of the attacks' and the defense's draws.
        batch_size: images at a time; all of a shard if None.
        device: ``cpu``, ``cuda``, or ``auto``: a GPU where there is one.
        db: where results are kept, a path or an SQLAlchemy URL; None: until this process ends.
        quiet: whether to show no progress.

    Raises:
        UserError: for a mistake in the arguments, an object that has no stable name, or a job that failed.
    """
    from harness.execution.driver.launch import Workers

    entries = {"datasets": _data(data, classifier), "classifiers": _classifier(classifier)}
    split = _images(entries["datasets"])
    defenses = [{"name": "none", "use": "none"}]
    if purifier is not None:
        defenses.append(_purifier(purifier, traits, split.images))
    told = dict(PRESETS[attacks]) if isinstance(attacks, str) and attacks in PRESETS else {}
    if not told:
        if isinstance(attacks, str):
            raise UserError(f"expected a set of attacks, one of {', '.join(PRESETS)}, or a list, got {attacks!r}")
        names = [str(one.get("name", one.get("use"))) for one in attacks]
        listed = [{**one, "name": name} for one, name in zip(attacks, names, strict=True)]
        told = {"attacks": listed, "matrix": [{"attacks": names, "impossible": "skip"}]}
    threats = [{"name": one, "use": norm, "params": {"eps": eps, "knowledge": one}} for one in _KNOWLEDGE]
    used = {name for block in told["matrix"] for name in block.get("threat_models", _KNOWLEDGE)}
    number = min(128 if n_examples is None else n_examples, len(split.labels))
    suite = {
        "name": "evaluation",
        "datasets": [entries["datasets"]],
        "classifiers": [entries["classifiers"]],
        "defenses": defenses,
        **told,
        "threat_models": [one for one in threats if one["name"] in used],
        "evaluation": {"n_examples": number, "repeats": repeats, "shard_size": min(number, 64), "seed": seed},
    }
    try:
        suite["name"] = f"{defenses[-1]['name']}-{_digest(suite)}"
    except UserError as error:  # there is no file that anybody could look into
        raise UserError(_unlike(error.problems)) from None
    workers = Workers("inline", device, batch_size=batch_size)
    return run(suite, _scratch() if db is None else db, workers=workers, quiet=quiet)


def _unlike(problems: Sequence[Problem]) -> list[Problem]:
    """Return the first problem of each sentence, without its place."""
    first = {one.sentence: one for one in reversed(problems)}
    return [replace(one, where="", key=one.key.rpartition(".")[2]) for one in reversed(first.values())]


def _digest(suite: Mapping[str, Any]) -> str:
    """Return some digits that name a suite with what its components are."""
    cells = [one.digest for one in validate(suite).cells]
    return short(digest_of([suite["evaluation"], cells]))[:8]


def _data(data: Any, classifier: Any) -> dict[str, Any]:
    if isinstance(data, str | Mapping):
        return _entry(data)
    if isinstance(data, Dataset):
        return _given("dataset", type(data).__name__.lower(), data, [data, data.card.sha256])
    if not isinstance(data, Sequence) or isinstance(data, str) or len(data) != 2:
        raise UserError(f"expected data as a name or as images and labels (x, y), got {type(data).__name__}")
    import numpy as np

    images, labels = (np.asarray(one.detach().cpu() if hasattr(one, "detach") else one) for one in data)
    dataset = _Arrays(images, labels, _classes(classifier, images, labels))
    return _given("dataset", "data", dataset, [images, labels, dataset.n_classes])


def _classes(classifier: Any, images: Any, labels: Any) -> int:
    """Return how many classes there are: as many as the classifier has logits, where it can be asked."""
    import torch

    least = int(labels.max()) + 1 if len(labels) else 0
    if not isinstance(classifier, torch.nn.Module) or not len(images):
        return least
    one = torch.as_tensor(images[:1]).float() / (255 if images.dtype.kind == "u" else 1)
    try:
        with torch.no_grad():
            found = copy.deepcopy(classifier).cpu().float().eval()(one)
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise UserError(f"expected a classifier that takes images {tuple(one.shape)}, but it raised {said}") from error
    return max(least, found.shape[-1]) if isinstance(found, torch.Tensor) and found.ndim == 2 else least


def _classifier(classifier: Any) -> dict[str, Any]:
    import torch

    from harness.suite import shipped

    if isinstance(classifier, str) and classifier in shipped.recipes():
        return {"name": classifier, "use": "recipe", "params": {"recipe": classifier}}
    if isinstance(classifier, str | Mapping):
        return _entry(classifier)
    if isinstance(classifier, Classifier):
        return _given("classifier", type(classifier).__name__.lower(), classifier, classifier)
    if isinstance(classifier, torch.nn.Module):
        return _given("classifier", type(classifier).__name__.lower(), _Network(classifier), classifier)
    raise UserError(f"expected a torch.nn.Module as classifier, or a name, got {type(classifier).__name__}")


def _purifier(purifier: Any, traits: Traits | None, images: Any) -> dict[str, Any]:
    import torch

    if isinstance(purifier, str | Mapping):
        return _entry(purifier)
    if isinstance(purifier, type) and issubclass(purifier, Purifier):
        purifier = purifier()
    if isinstance(purifier, Purifier):
        return _given("defense", type(purifier).__name__.lower(), purifier, purifier)
    if not callable(purifier):
        raise UserError(f"expected a function from images to images as purifier, or a name, got {purifier!r:.80}")
    name = getattr(purifier, "__name__", type(purifier).__name__).strip("<>").lower()
    told = traits or _traits_of(purifier, torch.from_numpy(images[:_TRIED].copy()))
    return _given("defense", name, _Function(purifier, told), [purifier, vars(told)])


def _entry(told: str | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(told, str):
        return {"name": told, "use": told}
    use = str(told.get("use", told.get("name")))
    return {"name": use.rpartition(":")[2], **told}


def _images(entry: Mapping[str, Any]) -> Any:
    """Return the test part of a dataset that a suite names.

    Raises:
        UserError: if there is none such.
    """
    from harness.core import registry

    use = str(entry["use"])
    found = session.find("dataset", use) if session.is_session(use) else registry.find("dataset", use)
    component = found.load()
    return component(component.Options.model_validate(dict(entry.get("params", {})))).load("test")


@functools.cache
def _scratch() -> str:
    """Return the database of this process, which ends with it."""
    folder = tempfile.mkdtemp(prefix="purebench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return str(Path(folder) / "session.db")
