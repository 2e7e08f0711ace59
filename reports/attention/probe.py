"""Probed: what a suite's probe saw of the cells on one classifier, a row per cell and example, repeats averaged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.core.metric import PROBE
from harness.core.roles import Role, role_of
from harness.core.spec import digest_of
from harness.store.read.frames import BY_HEAD
from harness.store.read.summaries import decide

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pandas as pd

    from harness.store.read.frames import Results
    from harness.store.read.provenance import Provenance
    from reports.stats.bootstrap import Numbers, Places

#: outcomes that are read of one classifier at most; of larger suites the first places, which a seed has permuted
LIMIT = 100_000

#: column of a sight -> metric of an outcome
COLUMNS = {
    "l2": "l2",
    "loss_clean": "reconstruction_clean",
    "loss_before": "reconstruction_adversarial",
    "loss_after": "reconstruction_purified",
    "amv_before": "amv_adversarial_mean",
    "amv_after": "amv_purified_mean",
    "amv_last_before": "amv_adversarial_last",
    "amv_last_after": "amv_purified_last",
}


@dataclass(frozen=True)
class Sight:
    """A cell as the probe saw it: an entry per example, means over repeats.

    Attributes:
        use: the registered name of the defense.
        role: that of the defense; one whose networks were not trained is a control.
        attack: ``clean`` where there is none.
        crafted: names the adversarial images; cells of the same ones judged the same images. Empty on clean input.
        place: the examples, ascending.
        right: the verdict on each under the suite's decision rule, 0 to 1.
        values: the columns ``COLUMNS``.
    """

    id: str
    defense: str
    use: str
    role: Role
    attack: str
    threat_model: str
    norm: str | None
    eps: float | None
    knowledge: str | None
    crafted: str
    place: Places
    right: Numbers
    values: Mapping[str, Numbers]

    @property
    def clean(self) -> bool:
        """Whether the images are clean ones."""
        return not self.crafted

    @property
    def column(self) -> str:
        """Name the attack."""
        return "clean" if self.clean else f"{self.attack} {self.threat_model}"

    def first(self, places: int) -> Sight:
        """Return the same of the first so many places only."""
        kept = self.place < places
        values = {name: column[kept] for name, column in self.values.items()}
        return replace(self, place=self.place[kept], right=self.right[kept], values=values)

    def __getitem__(self, name: str) -> Numbers:
        """Return a column, or what one makes of it: ``extra`` losses above clean, changes through purification."""
        values = self.values
        match name:
            case "extra_before" | "extra_after":
                return values[f"loss_{name.removeprefix('extra_')}"] - values["loss_clean"]
            case "amv_change" | "loss_change" | "amv_last_change":
                stem = name.removesuffix("_change")
                return values[f"{stem}_after"] - values[f"{stem}_before"]
            case _:
                return values[name]


@dataclass(frozen=True)
class Probed:
    """All sights on one classifier of a suite, through one probe.

    Attributes:
        examples: how many places were read, of ``wanted``.
        probe: its ``recipe``, ``mask_ratio`` and ``masks``.
        by_head: whether the AMV was taken of each head.
        spec_of: the spec of each cell, by its id.
    """

    suite: str
    dataset: str
    classifier: str
    examples: int
    wanted: int
    probe: Mapping[str, Any]
    by_head: bool
    sights: tuple[Sight, ...]
    spec_of: Mapping[str, Mapping[str, Any]]

    @property
    def mask_ratio(self) -> float:
        """The share of patches that the probe's masks remove."""
        return float(self.probe["mask_ratio"])

    @property
    def defenses(self) -> dict[str, list[Sight]]:
        """The sights of each defense, in the suite's order."""
        found: dict[str, list[Sight]] = {}
        for sight in self.sights:
            found.setdefault(sight.defense, []).append(sight)
        return found

    @property
    def attacked(self) -> list[Sight]:
        """A sight for each set of adversarial images: what an attack did, whoever was to stand it."""
        found: dict[str, Sight] = {}
        for sight in self.sights:
            if not sight.clean and len(sight.place) > len(found.get(sight.crafted, _NOBODY).place):
                found[sight.crafted] = sight
        return list(found.values())

    def beside(self, sight: Sight) -> Sight | None:
        """Return how the undefended classifier met the same images; None if it did not."""
        same = (one for one in self.sights if one.role == "reference" and one.crafted == sight.crafted)
        return next(same, None)


_NOBODY = Sight("", "", "", Role.PURIFIER, "", "", None, None, None, "", np.zeros(0, np.int64), np.zeros(0), {})


def read_probed(frames: Results, origin: Provenance) -> Iterator[Probed]:
    """Yield what was probed, by suite and classifier in the suites' order; nothing where AMV or loss was not asked."""
    cells = frames.cells
    if not {"amv_purified_mean", "reconstruction_purified"} <= {*cells}:
        return
    known = cells[cells["amv_purified_mean"].notna() & cells["reconstruction_purified"].notna() & cells["id"].notna()]
    for group, members in known.groupby(["suite", "dataset", "classifier"], sort=False):
        suite, dataset, classifier = map(str, group)
        specs = {cell: origin.cells[cell].spec for cell in members["id"]}
        records = [one for one in members.to_dict("records") if "certificate" not in specs[one["id"]]]
        if not records:
            continue
        wanted = int(records[0]["wanted_examples"])
        places = max(1, min(wanted, LIMIT // (len(records) * max(int(one["n_repeats"]) for one in records))))
        rows = dict(iter(frames.part(suite, list(specs), places).groupby("id", sort=False)))
        sights = [
            _sight(one, specs[one["id"]], origin.cells[one["id"]].traits, rows[one["id"]])
            for one in records
            if one["id"] in rows
        ]
        sights = [sight for sight in sights if len(sight.place)]
        by_head = any(column.name == BY_HEAD for its in frames.asked[suite].values() for column in its)
        probe = _probe(frames, suite)
        yield Probed(suite, dataset, classifier, places, wanted, probe, by_head, tuple(sights), specs)


def _probe(frames: Results, suite: str) -> dict[str, Any]:
    """Return the probe that a suite's metrics look through."""
    specs = [frames.metrics[digest] for digest in frames.asked[suite]]
    through = next(spec for spec in specs if PROBE in spec["parts"])
    return {"recipe": through["parts"][PROBE], **through["params"][PROBE]}


def _sight(
    record: Mapping[Any, Any], spec: Mapping[str, Any], traits: Mapping[str, Any] | None, rows: pd.DataFrame
) -> Sight:
    """Average a cell's repeats; an example that lacks a number in one of them is left out."""
    if "l2" not in rows or rows["l2"].isna().all():  # distances were not asked for
        rows = rows.assign(l2=0.0)
    whole = rows[list(COLUMNS.values())].notna().all(axis=1).groupby(rows["place"]).all()
    means = rows[["place", "correct", *COLUMNS.values()]].astype(float).groupby("place").mean()
    means = means[whole.to_numpy()]
    known = {name: None if value != value else value for name, value in record.items()}  # NaN is not itself
    return Sight(
        id=record["id"],
        defense=record["defense"],
        use=spec["defense"]["use"],
        role=role_in_study(spec["defense"], traits),
        attack=record["attack"],
        threat_model=record["threat_model"],
        norm=known["norm"],
        eps=known["eps"],
        knowledge=known["knowledge"],
        crafted=crafted(spec),
        place=means.index.to_numpy(np.int64),
        right=decide(means["correct"].to_numpy(float), record["decision"]),
        values={name: means[metric].to_numpy(float) for name, metric in COLUMNS.items()},
    )


def role_in_study(defense: Mapping[str, Any], traits: Mapping[str, Any] | None = None) -> Role:
    """Return what a defense is in the argument; see ``Sight``."""
    role = role_of(defense["use"], traits)
    nets = [part for part in defense["parts"].values() if part["kind"] == "recipe"]
    untrained = bool(nets) and all(map(_untrained, nets))
    return Role.CONTROL if untrained and role is not Role.ORACLE else role


def _untrained(recipe: Mapping[str, Any]) -> bool:
    params, own = recipe["params"], recipe.get("parts", {}).get("objective")
    trains = params.get("objective", {}).get("use") != "published" if own is None else own["params"].get("trains", True)
    return bool(params.get("steps") == 0 and trains)


def crafted(spec: Mapping[str, Any]) -> str:
    """Return a digest of what a cell's adversarial images depend on (law 7); empty on clean input."""
    if spec["attack"] is None:
        return ""
    made_of = dict(spec)
    if "source_defense" in spec:  # crafted there, whoever judges them
        made_of |= {"classifier": None, "defense": None}
    elif spec["threat"]["knowledge"] == "oblivious":
        made_of["defense"] = None
    return digest_of(made_of)


def alike(spec: Mapping[str, Any], probe: Mapping[str, Any]) -> str:
    """Return a digest of a cell and its probe but for the mask ratio: those of the same one differ in nothing else."""
    return digest_of([dict(spec), {name: value for name, value in probe.items() if name != "mask_ratio"}])


def joined(sights: Sequence[Sight], name: str) -> Numbers:
    """Return a column of several sights, one after the other."""
    return np.concatenate([one[name] for one in sights])


def places(sights: Sequence[Sight]) -> Places:
    """Return the examples of several sights, one after the other, as ``joined`` has their columns."""
    return np.concatenate([one.place for one in sights])
