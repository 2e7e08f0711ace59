"""Cells may have a surrogate, a source of their examples or a certificate; results have notes, outcomes a radius.

What was measured before has none of them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

PARTS = ("surrogate", "source_classifier", "source_defense", "certificate")


def upgrade() -> None:
    """Bring the schema forward."""
    for name in PARTS:
        key = sa.ForeignKey("components.digest", name=op.f(f"fk_cells_{name}"))
        op.add_column("cells", sa.Column(name, sa.String(), key, nullable=True), inline_references=True)
    op.add_column("results", sa.Column("notes", sa.JSON(), nullable=True))
    op.add_column("outcomes", sa.Column("radius", sa.Float(53), nullable=True))


def downgrade() -> None:
    """Refuse: an older version cannot hold what this one does; the copy made by the upgrade can be used."""
    raise NotImplementedError("expected to go forward; to go back, use the copy that `purebench db upgrade` made")
