"""Metrics by name: what they gave has a table, and which are asked for is said of the suite and not of the cell.

A cell's digest no longer covers its probe, so cells that differed in nothing else become one; of what was measured
twice under the same weights and code the first stays, with the metrics of both. Where these are of other places or
repeats, it is cut, so that each part has what was measured of it.
"""

import hashlib
import itertools
import json
import math
from collections import defaultdict

import numpy as np
import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

#: what each metric gave, in columns of outcomes: name, group, title
METRICS = {
    "distances": (("linf", "perturbation", "Linf"), ("l2", "perturbation", "L2")),
    "reconstruction": tuple(
        (f"reconstruction_{image}", "reconstruction loss", image) for image in ("clean", "adversarial", "purified")
    ),
    "amv": (
        ("amv_adversarial_last", "AMV before (adversarial)", "last layer"),
        ("amv_adversarial_mean", "AMV before (adversarial)", "mean"),
        ("amv_purified_last", "AMV after (purified)", "last layer"),
        ("amv_purified_mean", "AMV after (purified)", "mean"),
    ),
    "amv-by-head": (("amv_by_head", "AMV", "by head"),),
}

#: what columns mean, said with the first of their group
LEGENDS = {
    "linf": "Mean size of the change that was judged, pixels in [0, 1], as the largest change of a value (Linf) and as "
    "the Euclidean length (L2).",
    "reconstruction_clean": "Masked reconstruction loss of the probe, a masked autoencoder named in the suite, on the "
    "clean, the adversarial and the purified image.",
    "amv_adversarial_last": "Attention-matrix variation: the Frobenius norm of the change of the probe's decoder "
    "attention, adversarial minus clean (before purification) and purified minus clean (after), under the same weights "
    "and the same masks; for the last decoder layer and as the mean over layers.",
}

#: the metric whose numbers are arrays: images, matrix norms, and of the probe layers and heads
BY_HEAD, HEAD_AXES = "amv-by-head", ["image", "matrix_norm", "layer", "head"]

#: the parts of a cell that are components, and those that take part in the identity only where there are some
PARTS = ("dataset", "classifier", "defense", "attack", "threat")
SPECIAL = ("surrogate", "source_classifier", "source_defense", "certificate")

#: the code of a probe, by role, as that of a metric is called
PROBE_CODE = {"probe.recipe": "metric.probe"}

RULES = ("name", "title", "text", "decision", "n_examples", "repeats", "shard_size")
EDGES = ("start", "stop", "first_repeat", "stop_repeat")

#: of a result, what its parts share: the defense's by outcome, the attack's by place
COSTS = ("images", "seconds", "forwards", "backwards", "evaluations")


def upgrade() -> None:
    """Bring the schema forward."""
    op.create_table(
        "measures",
        sa.Column("result", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("metric", sa.String(), nullable=False),
        sa.Column("set", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("names", sa.String(), nullable=False),
        sa.Column("shape", sa.String(), nullable=False),
        sa.Column("sums", sa.LargeBinary(), nullable=False),
        sa.Column("numbers", sa.LargeBinary(), nullable=False),
        sa.Column("arrival", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["result"], ["results.id"], name=op.f("fk_measures_result")),
        sa.ForeignKeyConstraint(["metric"], ["components.digest"], name=op.f("fk_measures_metric")),
        sa.ForeignKeyConstraint(["set"], ["weights.digest"], name=op.f("fk_measures_set")),
        sa.ForeignKeyConstraint(["attempt"], ["attempts.id"], name=op.f("fk_measures_attempt")),
        sa.ForeignKeyConstraint(["arrival"], ["arrivals.id"], name=op.f("fk_measures_arrival")),
        sa.PrimaryKeyConstraint("result", "metric", "set", name=op.f("pk_measures")),
    )
    op.add_column("jobs", sa.Column("metrics", sa.String(), nullable=True))
    op.add_column("suites", sa.Column("metrics", sa.JSON(), nullable=False, server_default="{}"))
    connection = op.get_bind()
    _Move(connection).move()
    for name in [name for columns in METRICS.values() for name, _, _ in columns]:
        op.execute(f"ALTER TABLE outcomes DROP COLUMN {name}")
    op.execute("ALTER TABLE results DROP COLUMN sums")
    with op.batch_alter_table("cells") as cells:
        cells.drop_constraint("fk_cells_probe", type_="foreignkey")
        cells.drop_column("probe")
    connection.execute(sa.text("DELETE FROM components WHERE kind = 'probe'"))
    if connection.dialect.name == "postgresql":
        op.execute("SELECT setval(pg_get_serial_sequence('results', 'id'), max(id)) FROM results")
    with op.batch_alter_table("suites") as suites:
        suites.alter_column("metrics", existing_type=sa.JSON(), server_default=None)


class _Move:
    """Moves what metrics gave out of the outcomes, and cells to the digests that they have without a probe."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection
        rows = connection.execute(sa.text("SELECT digest, spec FROM components")).all()
        self.specs = {row.digest: _loaded(row.spec) for row in rows}
        self.metrics: dict[str, dict[str, dict]] = {}  # by probe: the spec of each metric by its digest
        self.cells: dict[str, str] = {}
        self.sets: dict[tuple[str, str], str] = {}
        self.last: dict[tuple[str, str], int] = {}  # by cell and set: the latest attempt
        self.origins = dict(connection.execute(sa.text("SELECT id, database FROM origins")).all())

    def move(self) -> None:
        """Move everything."""
        self._metrics()
        old = self._rows("SELECT * FROM cells ORDER BY digest")
        probes = {cell["digest"]: None if cell["certificate"] else cell["probe"] for cell in old}
        asked = self._rows(
            "SELECT DISTINCT suite_id, probe FROM members JOIN cells ON cells.digest = members.cell "
            "WHERE probe IS NOT NULL"
        )
        right = [one["id"] for one in self._rows("SELECT * FROM suites") if self._suite_digest(one) == one["digest"]]
        for cell in old:
            self._cell(cell)
        self._results({cell["digest"]: cell for cell in old}, probes)
        self._current(old)
        for table in ("members", "jobs"):
            for before, now in self.cells.items():
                self._run(f"UPDATE {table} SET cell = :now WHERE cell = :before", before=before, now=now)
        for before in self.cells:
            self._run("DELETE FROM cells WHERE digest = :before", before=before)
        self._run(
            "DELETE FROM weights WHERE digest NOT IN (SELECT weights FROM results) "
            'AND digest NOT IN (SELECT "set" FROM measures)'
        )
        self._jobs(probes)
        self._suites({row["suite_id"]: row["probe"] for row in asked}, right)

    # ------------------------------------------------------------------ what is asked

    def _metrics(self) -> None:
        """Record the metrics of every probe as components."""
        for digest, spec in self.specs.items():
            if spec.get("kind") != "probe":
                continue
            self.metrics[digest] = {}
            for name in (name for name in METRICS if name in spec["params"]["names"]):
                through = {name: value for name, value in spec["params"].items() if name != "names"}
                probed = name != "distances"
                metric = {
                    "kind": "metric",
                    "use": name,
                    "version": 1,
                    "params": {"probe": through} if probed else {},
                    "parts": {"probe": spec["parts"]["recipe"]} if probed else {},
                }
                self.metrics[digest][_digest(metric)] = metric
        for digest, metric in {key: one for some in self.metrics.values() for key, one in some.items()}.items():
            told = {"kind": "metric", "use": metric["use"], "version": 1, "spec": json.dumps(metric)}
            self._insert("components", digest=digest, **told)

    def _cell(self, cell: dict) -> None:
        """Make a cell's row anew, under its digest without a probe."""
        spec = {name: self.specs[cell[name]] if cell[name] else None for name in PARTS}
        spec |= {name: self.specs[cell[name]] for name in SPECIAL if cell[name]}
        now = _digest({**spec, "seed": cell["seed"], "subset_seed": cell["subset_seed"], "probe": None})
        if now == cell["digest"]:
            return
        self.cells[cell["digest"]] = now
        if self._rows("SELECT digest FROM cells WHERE digest = :now", now=now):
            if cell["traits"] is not None:
                self._run(
                    "UPDATE cells SET traits = :traits WHERE digest = :now AND traits IS NULL",
                    traits=_text(cell["traits"]),
                    now=now,
                )
            return
        traits = None if cell["traits"] is None else _text(cell["traits"])
        self._insert(
            "cells", **{**cell, "digest": now, "probe": None, "current": None, "adopted": None, "traits": traits}
        )

    # ------------------------------------------------------------------ what was measured

    def _results(self, cells: dict[str, dict], probes: dict[str, str | None]) -> None:
        """Move what metrics gave of every result, and bring results under the cells and sets that are theirs now."""
        placed: dict[tuple[str, str], dict[int, tuple[int, ...]]] = defaultdict(dict)
        rows = self._rows("SELECT id, cell FROM results ORDER BY id")
        numbers = [row["id"] for row in sorted(rows, key=lambda row: row["cell"] in self.cells)]  # who stays is first
        sets = {row["digest"]: row for row in self._rows("SELECT * FROM weights")}
        for number in numbers:
            (result,) = self._rows("SELECT * FROM results WHERE id = :number", number=number)
            cell = cells[result["cell"]]
            metrics = self.metrics.get(probes[cell["digest"]], {})
            now, version = self.cells.get(cell["digest"], cell["digest"]), self._set(cell, sets[result["weights"]])
            self.last[now, version] = max(self.last.get((now, version), 0), result["attempt"])
            rectangle = tuple(result[name] for name in EDGES)
            measured = list(self._measured(result, metrics, sets[result["weights"]]))
            code = {role: name for role, name in _loaded(result["code"]).items() if not _of_probe(role)}
            there = placed[now, version]
            left = list(_unmeasured(rectangle, list(there.values())))
            if left == [rectangle]:
                self._run(
                    "UPDATE results SET cell = :cell, weights = :version, code = :code WHERE id = :number",
                    cell=now,
                    version=version,
                    code=json.dumps(code),
                    number=number,
                )
                self._clear(number)
                there[number] = rectangle
                self._attach(number, rectangle, rectangle, measured, result)
                continue
            for key, edges in list(there.items()):
                both = _common(edges, rectangle)
                if both is None or not self._lacking(key, measured):
                    continue
                if both != edges:
                    del there[key]
                    parts = self._cut(key, edges, [both, *_unmeasured(edges, [both])])
                    there |= parts
                    key = next(part for part in parts if parts[part] == both)
                self._attach(key, both, rectangle, measured, result)
            for part in left:
                key = self._part(result, rectangle, part, now, version, code)
                there[key] = part
                self._attach(key, part, rectangle, measured, result)
            self._remove(number)

    def _cut(self, number: int, whole: tuple, parts: list[tuple]) -> dict[int, tuple]:
        """Put parts of a result in its place; return them by number."""
        (result,) = self._rows("SELECT * FROM results WHERE id = :number", number=number)
        confirmed = self._rows("SELECT * FROM confirmations WHERE result = :number", number=number)
        measures = self._rows("SELECT * FROM measures WHERE result = :number", number=number)
        made = {}
        for part in parts:
            key = self._part(result, whole, part, result["cell"], result["weights"], _loaded(result["code"]))
            made[key] = part
            for row in confirmed:
                self._insert("confirmations", **{**row, "result": key})
            for row in measures:
                names, shape = row["names"].split(","), [int(length) for length in row["shape"].split(",") if length]
                numbers = np.frombuffer(bytes(row["numbers"]), "<f4" if shape else "<f8")
                numbers = numbers.reshape(len(names), whole[1] - whole[0], whole[3] - whole[2], *shape)
                self._attach(key, part, whole, [(row["metric"], row["set"], names, shape, numbers)], row)
        self._remove(number)
        return made

    def _remove(self, result: int) -> None:
        for table in ("outcomes", "confirmations", "measures"):
            self._run(f"DELETE FROM {table} WHERE result = :number", number=result)
        self._run("DELETE FROM results WHERE id = :number", number=result)

    def _set(self, cell: dict, told: dict) -> str:
        """Return the set of weights and code of a cell's results without what its probe looked through."""
        key = (cell["digest"], told["digest"])
        if key not in self.sets:
            parts = [self.specs[cell[name]] for name in (*PARTS, *SPECIAL) if cell[name] and name != "threat"]
            judged = {digest for spec in parts for digest in _stands_on(spec)}
            seen = set() if cell["probe"] is None else set(_stands_on(self.specs[cell["probe"]]))
            hashes = {key: sha256 for key, sha256 in _loaded(told["hashes"]).items() if key not in seen - judged}
            code = _loaded(told["code"]) if told["code"] is not None else None
            code = None if code is None else {role: name for role, name in code.items() if not _of_probe(role)}
            self.sets[key] = self._record_set(hashes, code, told["origin"])
        return self.sets[key]

    def _record_set(self, hashes: dict, code: dict | None, origin: int | None) -> str:
        if origin is not None:
            digest = _digest([hashes, code or {}, self.origins[origin]])
        else:
            digest = _digest([hashes, code] if code else hashes)
        if not self._rows("SELECT digest FROM weights WHERE digest = :digest", digest=digest):
            told = None if not code else json.dumps(code)
            self._insert("weights", digest=digest, hashes=json.dumps(hashes), code=told, origin=origin)
        return digest

    def _measured(self, result: dict, metrics: dict[str, dict], told: dict):
        """Yield what each metric gave of a result: its digest, set, names, shape and numbers."""
        if not metrics:
            return
        columns = [name for metric in metrics.values() for name, _, _ in METRICS[metric["use"]]]
        query = f"SELECT {', '.join(columns)} FROM outcomes WHERE result = :number ORDER BY place, repeat"
        rows = self.connection.execute(sa.text(query), {"number": result["id"]}).all()
        by_name = dict(zip(columns, zip(*rows, strict=True), strict=True)) if rows else {}
        places, repeats = result["stop"] - result["start"], result["stop_repeat"] - result["first_repeat"]
        if len(rows) != places * repeats:
            return
        hashes, code = _loaded(told["hashes"]), _loaded(told["code"]) or {}
        for digest, metric in metrics.items():
            names = [name for name, _, _ in METRICS[metric["use"]]]
            shape = []
            if metric["use"] == BY_HEAD:
                recipe = metric["parts"]["probe"]
                net = recipe["parts"]["net"]["params"] if "net" in recipe["parts"] else recipe["params"]["net"]
                shape = [2, 2, net["decoder_depth"], net["decoder_heads"]]
                size = math.prod(shape)
                lost = np.full(size, np.nan, "<f4").tobytes()
                packed = b"".join(bytes(value) if value is not None else lost for value in by_name[names[0]])
                numbers = np.frombuffer(packed, "<f4").reshape(1, places, repeats, *shape)
            else:
                values = [[math.nan if value is None else value for value in by_name[name]] for name in names]
                numbers = np.array(values, "<f8").reshape(len(names), places, repeats)
            seen = {key: hashes[key] for key in _stands_on(metric) if key in hashes}
            its = {PROBE_CODE[role]: name for role, name in code.items() if role in PROBE_CODE and metric["parts"]}
            yield digest, self._record_set(seen, its or None, told["origin"]), names, shape, numbers

    def _lacking(self, result: int, measured: list) -> bool:
        """Whether a result lacks something that metrics gave of it."""
        rows = self._rows('SELECT metric, "set" FROM measures WHERE result = :result', result=result)
        return bool({(metric, which) for metric, which, *_ in measured} - {(row["metric"], row["set"]) for row in rows})

    def _attach(self, result: int, part: tuple, whole: tuple, measured: list, told: dict) -> None:
        """Record what metrics gave of a part of a result, unless it is there."""
        for metric, which, names, shape, numbers in measured:
            there = 'SELECT 1 FROM measures WHERE result = :result AND metric = :metric AND "set" = :which'
            if self._rows(there, result=result, metric=metric, which=which):
                continue
            places = slice(part[0] - whole[0], part[1] - whole[0])
            its = np.ascontiguousarray(numbers[:, places, part[2] - whole[2] : part[3] - whole[2]])
            self._insert(
                "measures",
                result=result,
                metric=metric,
                set=which,
                attempt=told["attempt"],
                names=",".join(names),
                shape=",".join(map(str, shape)),
                sums=b"" if shape else _sums(its),
                numbers=its.tobytes(),
                arrival=told["arrival"],
            )

    def _part(self, result: dict, whole: tuple, part: tuple, cell: str, version: str, code: dict) -> int:
        """Make a result of a part of another, with its outcomes and its share of the cost."""
        of = _size(whole)
        share = {"defense": _size(part) / of, "attack": (part[1] - part[0]) / (whole[1] - whole[0])}
        shares = {}
        for side, name in itertools.product(share, COSTS):
            value = result[f"{side}_{name}"]
            if value is not None:
                its = value * share[side]
                shares[f"{side}_{name}"] = its if name == "seconds" else round(its)
        key = self._rows("SELECT MAX(id) + 1 AS id FROM results")[0]["id"]
        bits = np.unpackbits(np.frombuffer(bytes(result["correct"]), np.uint8), count=of)
        bits = bits.reshape(whole[1] - whole[0], -1)
        its = bits[part[0] - whole[0] : part[1] - whole[0], part[2] - whole[2] : part[3] - whole[2]]
        notes = None if result["notes"] is None else _text(result["notes"])
        told = {**result, **shares, **dict(zip(EDGES, part, strict=True)), "id": key, "cell": cell, "weights": version}
        told |= {
            "code": json.dumps(code),
            "notes": notes,
            "correct": np.packbits(its).tobytes(),
            "faults": 0,
            "sums": b"",
        }
        self._insert("results", **told)
        self._run(
            "UPDATE outcomes SET result = :key WHERE result = :number AND place >= :start AND place < :stop "
            "AND repeat >= :first_repeat AND repeat < :stop_repeat",
            key=key,
            number=result["id"],
            **dict(zip(EDGES, part, strict=True)),
        )
        self._clear(key)
        return key

    def _clear(self, result: int) -> None:
        """Take away faults that are of metrics, and count the others anew."""
        names = [f"{name} not finite" for columns in METRICS.values() for name, _, _ in columns]
        for fault in names:
            self._run(
                "UPDATE outcomes SET fault = NULL WHERE result = :result AND fault = :fault", result=result, fault=fault
            )
        self._run(
            "UPDATE results SET faults = (SELECT COUNT(*) FROM outcomes WHERE result = :result AND fault IS NOT NULL) "
            "WHERE id = :result",
            result=result,
        )

    def _current(self, old: list[dict]) -> None:
        """Say which results of the new cells are read: ours before others', the latest of them."""
        foreign = {row["digest"] for row in self._rows("SELECT digest FROM weights WHERE origin IS NOT NULL")}
        chosen: dict[str, list[tuple]] = defaultdict(list)
        for cell in old:
            now = self.cells.get(cell["digest"], cell["digest"])
            if cell["current"] is not None and (cell["digest"], cell["current"]) in self.sets:
                current = self.sets[cell["digest"], cell["current"]]
                adopted = None if cell["adopted"] is None else self.sets.get((cell["digest"], cell["adopted"]))
                chosen[now].append((current not in foreign, self.last[now, current], current, adopted))
        for cell, some in chosen.items():
            _, _, current, adopted = max(some, key=lambda one: one[:2])
            self._run(
                "UPDATE cells SET current = :current, adopted = :adopted WHERE digest = :cell",
                current=current,
                adopted=adopted,
                cell=cell,
            )

    # ------------------------------------------------------------------ what was tried, and asked

    def _jobs(self, probes: dict[str, str | None]) -> None:
        """Give the evaluations the digests that they have now."""
        for job in self._rows("SELECT * FROM jobs WHERE kind = 'evaluate' AND start IS NOT NULL"):
            metrics = self._metrics_of(job, probes)
            if metrics is None:
                continue
            digest = _digest({"cell": job["cell"], **_asked(job), **({"metrics": metrics} if metrics else {})})
            told = {"digest": digest, "metrics": ",".join(metrics)}
            if digest == job["digest"]:
                self._run("UPDATE jobs SET metrics = :metrics WHERE digest = :digest", **told)
                continue
            if not self._rows("SELECT digest FROM jobs WHERE digest = :digest", digest=digest):
                self._insert("jobs", **{**job, **told})
            self._run("UPDATE attempts SET job = :now WHERE job = :digest", now=digest, digest=job["digest"])
            self._run("DELETE FROM jobs WHERE digest = :digest", digest=job["digest"])

    def _metrics_of(self, job: dict, probes: dict[str, str | None]) -> list[str] | None:
        """Return the metrics of an evaluation; the cell that it was of is known by the digest that it had."""
        for old in [job["cell"], *(cell for cell, now in self.cells.items() if now == job["cell"])]:
            if _digest({"cell": old, **_asked(job)}) == job["digest"]:
                return sorted(self.metrics.get(probes.get(old), {}))
        return None

    def _suites(self, probes: dict[int, str], right: list[int]) -> None:
        """Record which metrics each suite asks for, and make digests anew that were right; a wrong one stays wrong."""
        for suite in self._rows("SELECT * FROM suites ORDER BY id"):
            metrics = {digest: _columns(spec) for digest, spec in self.metrics.get(probes.get(suite["id"]), {}).items()}
            digest = self._suite_digest(suite, metrics=sorted(metrics)) if suite["id"] in right else suite["digest"]
            self._run(
                "UPDATE suites SET metrics = :metrics, digest = :digest WHERE id = :id",
                metrics=json.dumps(metrics),
                digest=digest,
                id=suite["id"],
            )

    def _suite_digest(self, suite: dict, **more: object) -> str:
        members = self._rows("SELECT * FROM members WHERE suite_id = :id ORDER BY position", id=suite["id"])
        rules = {name: suite[name] for name in RULES}
        named = [[*_path(member), member["cell"] or member["reason"]] for member in members]
        return _digest([{**rules, **more}, named])

    # ------------------------------------------------------------------ rows

    def _rows(self, query: str, **values: object) -> list[dict]:
        return [dict(row._mapping) for row in self.connection.execute(sa.text(query), values)]

    def _run(self, statement: str, **values: object) -> None:
        self.connection.execute(sa.text(statement), values)

    def _insert(self, table: str, **values: object) -> None:
        names = ", ".join(f'"{name}"' for name in values)
        marks = ", ".join(f":{name}" for name in values)
        self._run(f"INSERT INTO {table} ({names}) VALUES ({marks})", **values)


def _asked(job: dict) -> dict:
    """Return what the digest of an evaluation was made of besides its cell."""
    return {"start": job["start"], "stop": job["stop"], "repeats": [job["first_repeat"], job["stop_repeat"]]}


def _path(member: dict) -> list[str]:
    """Return what people tell a suite's cells apart by."""
    attack = member["certificate"] or member["attack"]
    if member["source_defense"]:
        attack += f" from {member['source_defense']}"
        if member["source_classifier"] not in ("", member["classifier"]):
            attack += f" on {member['source_classifier']}"
    return [member["dataset"], member["classifier"], member["defense"], attack, member["threat_model"]]


def _columns(metric: dict) -> list[dict]:
    told = {"unit": "", "format": "number", "axes": HEAD_AXES if metric["use"] == BY_HEAD else []}
    return [
        {"name": name, "group": group, "title": title, "legend": LEGENDS.get(name, ""), **told}
        for name, group, title in METRICS[metric["use"]]
    ]


def _stands_on(spec: dict):
    """Yield the digests of the recipes whose networks something needs."""
    for part in spec["parts"].values():
        if part["kind"] == "recipe":
            yield _digest(part)
        else:
            yield from _stands_on(part)


def _of_probe(role: str) -> bool:
    return role == "probe" or role.startswith("probe.")


def _common(one: tuple, other: tuple) -> tuple | None:
    """Return what two rectangles have in common."""
    both = (max(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), min(one[3], other[3]))
    return both if both[0] < both[1] and both[2] < both[3] else None


def _size(part: tuple) -> int:
    return (part[1] - part[0]) * (part[3] - part[2])


def _unmeasured(wanted: tuple, there: list[tuple]):
    """Yield what is left of a rectangle when others are taken out, as rectangles."""
    near = [one for one in there if one[0] < wanted[1] and wanted[0] < one[1]]
    if not near:
        yield wanted
        return
    edges = {wanted[0], wanted[1]} | {edge for one in near for edge in one[:2]}
    cuts = sorted(edge for edge in edges if wanted[0] <= edge <= wanted[1])
    for start, stop in itertools.pairwise(cuts):
        left = set(range(wanted[2], wanted[3]))
        for one in near:
            if one[0] <= start and stop <= one[1]:
                left -= set(range(one[2], one[3]))
        for first in sorted(left):
            if first - 1 not in left:
                end = next(repeat for repeat in range(first, wanted[3] + 1) if repeat not in left)
                yield (start, stop, first, end)


def _sums(numbers: np.ndarray) -> bytes:
    """Return count, sum and sum of squares of each column, each rounded once."""
    sums = []
    for column in numbers:
        values = column[np.isfinite(column)].tolist()
        sums.append([len(values), math.fsum(values), math.fsum(value * value for value in values)])
    return np.array(sums, "<f8").tobytes()


def _loaded(value: object):
    return json.loads(value) if isinstance(value, str) else value


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def downgrade() -> None:
    """Refuse: an older version cannot hold what this one does; the copy made by the upgrade can be used."""
    raise NotImplementedError("expected to go forward; to go back, use the copy that `purebench db upgrade` made")
