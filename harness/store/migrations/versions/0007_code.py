"""What counts together has the same weights and the same code; a cell says which of its results are read.

Of what was measured before it is not known by which code; the newest results of a cell are those that were read.
Seeds of 2^31 and more have room.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema forward."""
    op.add_column("weights", sa.Column("code", sa.JSON(), nullable=True))
    key = sa.ForeignKey("weights.digest", name=op.f("fk_cells_current"))
    op.add_column("cells", sa.Column("current", sa.String(), key, nullable=True), inline_references=True)
    newest = "SELECT weights FROM results WHERE id = (SELECT max(id) FROM results WHERE cell = cells.digest)"
    if op.get_context().dialect.name != "sqlite":  # whose integers are wide enough for every seed
        for seed in ("seed", "subset_seed"):
            op.alter_column("cells", seed, type_=sa.BigInteger(), existing_type=sa.Integer(), existing_nullable=False)
    op.execute(f"UPDATE cells SET current = ({newest})")


def downgrade() -> None:
    """Refuse: an older version cannot hold what this one does; the copy made by the upgrade can be used."""
    raise NotImplementedError("expected to go forward; to go back, use the copy that `purebench db upgrade` made")
