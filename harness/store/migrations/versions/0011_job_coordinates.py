"""A job says what it does: a training its recipe, an evaluation its places and repeats.

Those of an evaluation that is there are found by its digest among what its suites can have asked for, and are unknown
where it is none of these. A craft's stay unknown.
"""

import hashlib
import json
from itertools import chain, combinations, groupby, islice, product

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

PLACES = ("start", "stop", "first_repeat", "stop_repeat")

#: slices of a cell that are tried for those of its jobs, and of a result for the job that it is a part of
MOST_TRIED = 100_000


def upgrade() -> None:
    """Bring the schema forward."""
    op.add_column("jobs", sa.Column("recipe", sa.String(), nullable=True))
    for name in PLACES:
        op.add_column("jobs", sa.Column(name, sa.Integer(), nullable=True))
    op.execute(sa.text("UPDATE jobs SET recipe = digest WHERE kind = 'train'"))
    _find_the_evaluations(op.get_bind())


def _find_the_evaluations(connection: sa.Connection) -> None:
    jobs = connection.execute(
        sa.text("SELECT cell, digest FROM jobs WHERE kind = 'evaluate' AND cell IS NOT NULL ORDER BY cell, digest")
    ).all()
    listed = sa.text(
        "SELECT DISTINCT members.cell, suites.n_examples, suites.shard_size, suites.repeats FROM members "
        "JOIN suites ON suites.id = members.suite_id WHERE members.cell IS NOT NULL AND suites.shard_size > 0"
    )
    grids: dict[str, list] = {}
    for cell, *grid in connection.execute(listed):
        grids.setdefault(cell, []).append(grid)
    places = ", ".join(f"results.{name}" for name in PLACES)
    measured = sa.text(f"SELECT attempts.job, {places} FROM results JOIN attempts ON attempts.id = results.attempt")
    parts: dict[str, list] = {}
    for job, *part in connection.execute(measured):
        parts.setdefault(job, []).append(tuple(part))
    change = sa.text(f"UPDATE jobs SET {', '.join(f'{name} = :{name}' for name in PLACES)} WHERE digest = :digest")
    for cell, rows in groupby(jobs, lambda row: row.cell):
        mine = [digest for _, digest in rows]
        found = _found(cell, mine, parts, grids.get(cell, []))
        if found:
            told = [{"digest": digest, **dict(zip(PLACES, where, strict=True))} for digest, where in found.items()]
            connection.execute(change, told)


def _found(cell: str, jobs: list, parts: dict, grids: list) -> dict[str, tuple]:
    """Return places and repeats of the jobs of a cell, by digest, as far as they can be found."""
    found: dict[str, tuple] = {}
    left = set(jobs)

    def look(rectangles) -> None:
        for where in islice(rectangles, MOST_TRIED):
            if not left:
                return
            digest = _digest(cell, *where)
            if digest in left:
                found[digest] = where
                left.discard(digest)

    look(part for job in jobs for part in parts.get(job, []))  # mostly a result is all that its job measured
    look(chain.from_iterable(_slices(*grid) for grid in grids))
    for job in sorted(left & parts.keys()):
        look(chain.from_iterable(_around(parts[job][0], *grid) for grid in grids))
    return found


def _slices(examples: int, size: int, repeats: int):
    """Yield what a suite asks for when nothing of a cell is there, and when fewer repeats are."""
    for start in range(0, examples, size):
        for first, end in combinations(range(repeats + 1), 2):
            yield start, min(start + size, examples), first, end


def _around(part: tuple, examples: int, size: int, repeats: int):
    """Yield what holds a part, in its slice."""
    start, stop, first, end = part
    index = start // size
    begins, ends = range(index * size, start + 1), range(stop, min(examples, (index + 1) * size) + 1)
    yield from product(begins, ends, range(first + 1), range(end, repeats + 1))


def _digest(cell: str, start: int, stop: int, first: int, end: int) -> str:
    value = {"cell": cell, "start": start, "stop": stop, "repeats": [first, end]}
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def downgrade() -> None:
    """Refuse: an older version cannot hold what this one does; the copy made by the upgrade can be used."""
    raise NotImplementedError("expected to go forward; to go back, use the copy that `purebench db upgrade` made")
