"""Rows say which database they come from, and a suite's digest covers the names of its members.

What is there was computed here, as far as is known.
"""

import hashlib
import json
from itertools import groupby

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

#: what the digest of a suite was made of besides its members
RULES = ("name", "title", "text", "decision", "n_examples", "repeats", "shard_size")

#: of a member; its cell, or why there is none, follows
NAMES = ("dataset", "classifier", "defense", "attack", "threat_model")


def upgrade() -> None:
    """Bring the schema forward."""
    op.create_table(
        "origins",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("database", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_origins")),
        sa.UniqueConstraint("database", "kind", name="uq_origins"),
    )
    op.create_table(
        "arrivals",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("origin", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=True),
        sa.Column("arrived_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["origin"], ["origins.id"], name=op.f("fk_arrivals_origin")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_arrivals")),
    )
    op.create_table(
        "confirmations",
        sa.Column("result", sa.Integer(), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["result"], ["results.id"], name=op.f("fk_confirmations_result")),
        sa.PrimaryKeyConstraint("result", name=op.f("pk_confirmations")),
    )
    _refer("cells", "adopted", "weights.digest", sa.String())
    _refer("weights", "origin", "origins.id", sa.Integer())
    for table in ("suites", "attempts", "artifacts", "results"):
        _refer(table, "arrival", "arrivals.id", sa.Integer())
    _name_the_members(op.get_bind())


def _refer(table: str, column: str, to: str, kind: sa.types.TypeEngine) -> None:
    key = sa.ForeignKey(to, name=op.f(f"fk_{table}_{column}"))
    op.add_column(table, sa.Column(column, kind, key, nullable=True), inline_references=True)


def _name_the_members(connection: sa.Connection) -> None:
    """Make the digests of suites anew, where they are what they say; a wrong one stays wrong."""
    listed = sa.text(f"SELECT suite_id, cell, reason, {', '.join(NAMES)} FROM members ORDER BY suite_id, position")
    members = {key: list(rows) for key, rows in groupby(connection.execute(listed), lambda row: row.suite_id)}
    for row in connection.execute(sa.text(f"SELECT id, digest, {', '.join(RULES)} FROM suites")).all():
        rules, mine = {name: getattr(row, name) for name in RULES}, members.get(row.id, [])
        if row.digest == _digest([rules, [one.cell or one.reason for one in mine]]):
            named = [[*(getattr(one, name) for name in NAMES), one.cell or one.reason] for one in mine]
            change = sa.text("UPDATE suites SET digest = :now WHERE id = :id")
            connection.execute(change, {"now": _digest([rules, named]), "id": row.id})


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def downgrade() -> None:
    """Refuse: an older version cannot hold what this one does; the copy made by the upgrade can be used."""
    raise NotImplementedError("expected to go forward; to go back, use the copy that `purebench db upgrade` made")
