"""Results hold the peak memory of defense and attack, and the batch size that it was measured at.

What was measured before has none: it is not known, and not zero.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema forward."""
    for side in ("defense", "attack"):
        op.add_column("results", sa.Column(f"{side}_peak_memory", sa.BigInteger(), nullable=True))
        op.add_column("results", sa.Column(f"{side}_batch_size", sa.Integer(), nullable=True))


def downgrade() -> None:
    """Refuse: an older version cannot hold what this one does; the copy made by the upgrade can be used."""
    raise NotImplementedError("expected to go forward; to go back, use the copy that `purebench db upgrade` made")
