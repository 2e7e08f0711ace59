"""A member's certificate, and what its examples were crafted on, in columns of their own.

Before, the attack's name told them: ``pgd from defense on classifier``, or a certificate's in its place.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

NAMES = ("suite_id", "dataset", "classifier", "defense", "attack", "threat_model")
PARTS = ("certificate", "source_defense", "source_classifier")


def upgrade() -> None:
    """Bring the schema forward."""
    with op.batch_alter_table("members") as members:
        members.drop_constraint("uq_members", type_="unique")
        for name in PARTS:
            members.add_column(sa.Column(name, sa.String(), nullable=True))
    connection = op.get_bind()
    rows = connection.execute(sa.text("SELECT id, classifier, attack, threat_model FROM members")).all()
    told = [{"id": row.id, **_parts(row.classifier, row.attack, row.threat_model)} for row in rows]
    if told:
        values = ", ".join(f"{name} = :{name}" for name in ("attack", *PARTS))
        connection.execute(sa.text(f"UPDATE members SET {values} WHERE id = :id"), told)
    with op.batch_alter_table("members") as members:
        for name in PARTS:
            members.alter_column(name, existing_type=sa.String(), nullable=False)
        members.create_unique_constraint("uq_members", [*NAMES, *PARTS])


def _parts(classifier: str, attack: str, threat_model: str) -> dict[str, str]:
    """Return what an attack's name told; one that no suite can have given stays as it is."""
    found = {"attack": attack, **dict.fromkeys(PARTS, "")}
    if threat_model == "-" and attack != "clean":
        return {**found, "attack": "clean", "certificate": attack}
    name, _, source = attack.partition(" from ")
    defense, _, other = source.partition(" on ")
    if not defense or other == classifier:
        return found
    return {**found, "attack": name, "source_defense": defense, "source_classifier": other or classifier}


def downgrade() -> None:
    """Refuse: an older version cannot hold what this one does; the copy made by the upgrade can be used."""
    raise NotImplementedError("expected to go forward; to go back, use the copy that `purebench db upgrade` made")
