"""Components and jobs in tables of their own; suites as run; aggregates beside outcomes.

What a database of the first release holds is carried over: outcomes, costs and attempts as they are.
"""

import hashlib
import json
import math
import struct
from itertools import groupby

import sqlalchemy as sa
from alembic import op

import harness.store.types

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

OLD = ("outcomes", "results", "members", "attempts", "suites", "environments", "cells", "artifacts")
MEASURES = (
    "linf",
    "l2",
    "reconstruction_clean",
    "reconstruction_adversarial",
    "reconstruction_purified",
    "amv_adversarial_last",
    "amv_adversarial_mean",
    "amv_purified_last",
    "amv_purified_mean",
)


def upgrade() -> None:
    """Bring the schema forward."""
    connection = op.get_bind()
    for name in OLD:
        op.execute(sa.text(f"CREATE TABLE old_{name} AS SELECT * FROM {name}"))
    for name in OLD:
        op.drop_table(name)
    _create()
    new = sa.MetaData()
    new.reflect(connection)
    _carry(connection, new.tables)
    for name in OLD:
        op.drop_table(f"old_{name}")
    if connection.dialect.name == "postgresql":
        for name in ("suites", "members", "attempts", "results"):
            op.execute(sa.text(f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), max(id)) FROM {name}"))


def downgrade() -> None:
    """Refuse: an older version cannot hold what this one does; the copy made by the upgrade can be used."""
    raise NotImplementedError("expected to go forward; to go back, use the copy that `purebench db upgrade` made")


def _rows(connection, name, order="") -> list:
    """Return what an old table held, as the driver gives it: SQLite keeps JSON and times as text."""
    rows = connection.execute(sa.text(f"SELECT * FROM old_{name} {order}"))
    return [dict(row) for row in rows.mappings()]


def _carry(connection, new) -> None:
    """Fill the new tables from the old ones."""
    for name in ("artifacts", "environments"):
        rows = [_plain(row, new[name]) for row in _rows(connection, name)]
        if rows:
            connection.execute(sa.insert(new[name]), rows)
    threats = _carry_cells(connection, new)
    _carry_suites(connection, new, threats)
    _carry_attempts(connection, new)
    _carry_results(connection, new)


def _plain(row, table) -> dict:
    """Return what of an old row a table takes, parsed where it was text."""
    return {column.name: _parsed(row[column.name], column.type) for column in table.columns if column.name in row}


def _parsed(value, kind):
    if value is None:
        return None
    if isinstance(kind, sa.JSON) and isinstance(value, str):
        return json.loads(value)
    if isinstance(kind, sa.DateTime) and isinstance(value, str):
        return harness.store.types.moment(value)
    return bool(value) if isinstance(kind, sa.Boolean) else value


def _digest(value) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _recipes(spec):
    """Yield the recipes among the parts of a component, and theirs."""
    for part in spec["parts"].values():
        if part["kind"] == "recipe":
            yield part
        yield from _recipes(part)


def _carry_cells(connection, new) -> dict:
    """Split the cells' specs into components; return the digest of each cell's threat model."""
    components, cells, threats = {}, [], {}
    for row in _rows(connection, "cells"):
        spec = row["spec"] if isinstance(row["spec"], dict) else json.loads(row["spec"])
        cell = {"digest": row["digest"], "seed": spec["seed"], "subset_seed": spec["subset_seed"]}
        cell["random"] = bool(row["random"])
        for name in ("dataset", "classifier", "defense", "attack", "threat", "probe"):
            part = spec[name]
            cell[name] = _digest(part) if part else None
            if not part:
                continue
            if name == "threat":
                kind = {"kind": "threat_model", "use": part["norm"], "version": 1}
                threats[row["digest"]] = cell[name]
            else:
                kind = {key: part[key] for key in ("kind", "use", "version")}
                for recipe in _recipes(part):
                    like = {key: recipe[key] for key in ("kind", "use", "version")}
                    components[_digest(recipe)] = {**like, "spec": recipe}
            components[cell[name]] = {**kind, "spec": part}
        cells.append(cell)
    if cells:
        connection.execute(
            sa.insert(new["components"]), [{"digest": digest, **values} for digest, values in components.items()]
        )
        connection.execute(sa.insert(new["cells"]), cells)
    return threats


def _carry_suites(connection, new, threats) -> None:
    members = _rows(connection, "members", "ORDER BY suite_id, position")
    of = {}
    for member in members:
        of.setdefault(member["suite_id"], []).append(member["cell"] or member["reason"])
    for row in _rows(connection, "suites"):
        rules = {
            name: row[name] for name in ("name", "title", "text", "decision", "n_examples", "repeats", "shard_size")
        }
        digest = _digest([rules, of.get(row["id"], [])])
        connection.execute(sa.insert(new["suites"]).values(**_plain(row, new["suites"]), digest=digest))
    if members:
        # a refused place takes its budget from another one under the same name
        named = {
            (row["suite_id"], row["threat_model"]): threats[row["cell"]] for row in members if row["cell"] in threats
        }
        budgets = [named.get((row["suite_id"], row["threat_model"])) for row in members]
        plain = [_plain(row, new["members"]) for row in members]
        rows = [{**row, "threat": budget} for row, budget in zip(plain, budgets, strict=True)]
        connection.execute(sa.insert(new["members"]), rows)


def _carry_attempts(connection, new) -> None:
    attempts = _rows(connection, "attempts", "ORDER BY id")
    jobs = {}
    for row in attempts:
        running = row["status"] == "running"
        before = jobs.get(row["job"], {"tries": 0})
        jobs[row["job"]] = {
            "digest": row["job"],
            "kind": row["kind"],
            "label": row["label"],
            "cell": row["cell"],
            "status": row["status"],
            "tries": before["tries"] + 1,
            "attempt": row["id"],
            "driver": row["driver"],
            "lease": 0.0 if running else None,
            "reason": row["reason"],
        }
    if not attempts:
        return
    connection.execute(sa.insert(new["jobs"]), list(jobs.values()))
    connection.execute(sa.insert(new["attempts"]), [_plain(row, new["attempts"]) for row in attempts])


def _carry_results(connection, new) -> None:
    results = _rows(connection, "results", "ORDER BY id")
    weights = {}
    for row in results:
        row["weights"] = row["weights"] if isinstance(row["weights"], dict) else json.loads(row["weights"])
        weights[row["weights_digest"]] = row["weights"]
    if weights:
        connection.execute(
            sa.insert(new["weights"]), [{"digest": digest, "hashes": hashes} for digest, hashes in weights.items()]
        )
    rows = _rows(connection, "outcomes", "ORDER BY result, place, repeat")
    by_result = {key: list(mine) for key, mine in groupby(rows, lambda row: row["result"])}
    for row in results:
        mine = by_result.get(row["id"], [])
        sums = b""
        for name in MEASURES:
            found = [one[name] for one in mine if one[name] is not None]
            sums += struct.pack("<3d", len(found), math.fsum(found), math.fsum(value * value for value in found))
        bits = "".join(str(int(one["correct"])) for one in mine)
        packed = bytes(int(bits[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(bits), 8))
        values = _plain({**row, "weights": row["weights_digest"]}, new["results"])
        faults = sum(one["fault"] is not None for one in mine)
        connection.execute(
            sa.insert(new["results"]).values(**values, correct=packed, faults=faults, sums=sums, code={})
        )
        if mine:
            connection.execute(sa.insert(new["outcomes"]), [_plain(one, new["outcomes"]) for one in mine])


def _create() -> None:
    """Make the tables."""
    op.create_table(
        "artifacts",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("first_seen", harness.store.types.Moment(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", "sha256", name=op.f("pk_artifacts")),
    )
    op.create_table(
        "components",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("use", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_components")),
    )
    op.create_table(
        "environments",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_environments")),
    )
    op.create_table(
        "published",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("norm", sa.String(), nullable=False),
        sa.Column("eps", harness.store.types.Real(precision=53), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("architecture", sa.String(), nullable=False),
        sa.Column("attack", sa.String(), nullable=False),
        sa.Column("clean", harness.store.types.Real(precision=53), nullable=True),
        sa.Column("robust", harness.store.types.Real(precision=53), nullable=True),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("link", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_published")),
        sa.UniqueConstraint(
            "dataset", "norm", "eps", "method", "architecture", "attack", "source", name="uq_published"
        ),
    )
    op.create_table(
        "suites",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("decision", sa.String(), nullable=False),
        sa.Column("n_examples", sa.Integer(), nullable=False),
        sa.Column("repeats", sa.Integer(), nullable=False),
        sa.Column("shard_size", sa.Integer(), nullable=False),
        sa.Column("declared_at", harness.store.types.Moment(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_suites")),
        sa.UniqueConstraint("name", "digest", name="uq_suites"),
    )
    op.create_table(
        "weights",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("hashes", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_weights")),
    )
    op.create_table(
        "cells",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("classifier", sa.String(), nullable=False),
        sa.Column("defense", sa.String(), nullable=False),
        sa.Column("attack", sa.String(), nullable=True),
        sa.Column("threat", sa.String(), nullable=True),
        sa.Column("probe", sa.String(), nullable=True),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("subset_seed", sa.Integer(), nullable=False),
        sa.Column("random", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["attack"], ["components.digest"], name=op.f("fk_cells_attack")),
        sa.ForeignKeyConstraint(["classifier"], ["components.digest"], name=op.f("fk_cells_classifier")),
        sa.ForeignKeyConstraint(["dataset"], ["components.digest"], name=op.f("fk_cells_dataset")),
        sa.ForeignKeyConstraint(["defense"], ["components.digest"], name=op.f("fk_cells_defense")),
        sa.ForeignKeyConstraint(["probe"], ["components.digest"], name=op.f("fk_cells_probe")),
        sa.ForeignKeyConstraint(["threat"], ["components.digest"], name=op.f("fk_cells_threat")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_cells")),
    )
    op.create_table(
        "jobs",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("cell", sa.String(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("driver", sa.String(), nullable=True),
        sa.Column("lease", harness.store.types.Real(precision=53), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["cell"], ["cells.digest"], name=op.f("fk_jobs_cell")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_jobs")),
    )
    op.create_index("ix_jobs_status", "jobs", ["status", "driver"], unique=False)
    op.create_table(
        "members",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("suite_id", sa.Integer(), nullable=False),
        sa.Column("cell", sa.String(), nullable=True),
        sa.Column("threat", sa.String(), nullable=True),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("classifier", sa.String(), nullable=False),
        sa.Column("defense", sa.String(), nullable=False),
        sa.Column("attack", sa.String(), nullable=False),
        sa.Column("threat_model", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["cell"], ["cells.digest"], name=op.f("fk_members_cell")),
        sa.ForeignKeyConstraint(["suite_id"], ["suites.id"], name=op.f("fk_members_suite_id")),
        sa.ForeignKeyConstraint(["threat"], ["components.digest"], name=op.f("fk_members_threat")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_members")),
        sa.UniqueConstraint(
            "suite_id", "dataset", "classifier", "defense", "attack", "threat_model", name="uq_members"
        ),
    )
    op.create_index(op.f("ix_members_cell"), "members", ["cell"], unique=False)
    op.create_table(
        "attempts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job", sa.String(), nullable=False),
        sa.Column("suite", sa.Integer(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("started_at", harness.store.types.Moment(timezone=True), nullable=False),
        sa.Column("ended_at", harness.store.types.Moment(timezone=True), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("driver", sa.String(), nullable=False),
        sa.Column("batch_size", sa.Integer(), nullable=True),
        sa.Column("seconds", harness.store.types.Real(precision=53), nullable=True),
        sa.Column("environment", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["environment"], ["environments.digest"], name=op.f("fk_attempts_environment")),
        sa.ForeignKeyConstraint(["job"], ["jobs.digest"], name=op.f("fk_attempts_job")),
        sa.ForeignKeyConstraint(["suite"], ["suites.id"], name=op.f("fk_attempts_suite")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
    )
    op.create_index(op.f("ix_attempts_job"), "attempts", ["job"], unique=False)
    op.create_table(
        "results",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("cell", sa.String(), nullable=False),
        sa.Column("weights", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("stop", sa.Integer(), nullable=False),
        sa.Column("first_repeat", sa.Integer(), nullable=False),
        sa.Column("stop_repeat", sa.Integer(), nullable=False),
        sa.Column("correct", sa.LargeBinary(), nullable=False),
        sa.Column("faults", sa.Integer(), nullable=False),
        sa.Column("sums", sa.LargeBinary(), nullable=False),
        sa.Column("code", sa.JSON(), nullable=False),
        sa.Column("defense_images", sa.Integer(), nullable=False),
        sa.Column("defense_seconds", harness.store.types.Real(precision=53), nullable=False),
        sa.Column("defense_forwards", sa.BigInteger(), nullable=False),
        sa.Column("defense_backwards", sa.BigInteger(), nullable=False),
        sa.Column("defense_evaluations", sa.BigInteger(), nullable=False),
        sa.Column("attack_images", sa.Integer(), nullable=True),
        sa.Column("attack_seconds", harness.store.types.Real(precision=53), nullable=True),
        sa.Column("attack_forwards", sa.BigInteger(), nullable=True),
        sa.Column("attack_backwards", sa.BigInteger(), nullable=True),
        sa.Column("attack_evaluations", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["attempt"], ["attempts.id"], name=op.f("fk_results_attempt")),
        sa.ForeignKeyConstraint(["cell"], ["cells.digest"], name=op.f("fk_results_cell")),
        sa.ForeignKeyConstraint(["weights"], ["weights.digest"], name=op.f("fk_results_weights")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_results")),
        sa.UniqueConstraint("cell", "weights", "start", "stop", "first_repeat", "stop_repeat", name="uq_results"),
    )
    op.create_table(
        "outcomes",
        sa.Column("result", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("place", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("repeat", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("example", sa.Integer(), nullable=False),
        sa.Column("label", sa.Integer(), nullable=False),
        sa.Column("prediction", sa.Integer(), nullable=False),
        sa.Column("correct", sa.Boolean(), nullable=False),
        sa.Column("fault", sa.String(), nullable=True),
        sa.Column("linf", harness.store.types.Real(precision=53), nullable=True),
        sa.Column("l2", harness.store.types.Real(precision=53), nullable=True),
        sa.Column("reconstruction_clean", harness.store.types.Real(precision=53), nullable=True),
        sa.Column("reconstruction_adversarial", harness.store.types.Real(precision=53), nullable=True),
        sa.Column("reconstruction_purified", harness.store.types.Real(precision=53), nullable=True),
        sa.Column("amv_adversarial_last", harness.store.types.Real(precision=53), nullable=True),
        sa.Column("amv_adversarial_mean", harness.store.types.Real(precision=53), nullable=True),
        sa.Column("amv_purified_last", harness.store.types.Real(precision=53), nullable=True),
        sa.Column("amv_purified_mean", harness.store.types.Real(precision=53), nullable=True),
        sa.ForeignKeyConstraint(["result"], ["results.id"], name=op.f("fk_outcomes_result")),
        sa.PrimaryKeyConstraint("result", "place", "repeat", name=op.f("pk_outcomes")),
        sqlite_with_rowid=False,
    )
