"""The adversarial examples of a cell, as a file that others can look at, and that the attack ``replay`` reads."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import select

from harness.core.cell import Cell, Shard
from harness.core.code_hashes import of_craft, unlike
from harness.core.errors import UserError
from harness.core.job import Craft
from harness.core.spec import short
from harness.core.threat import Norm
from harness.data.proposals import Proposals, packed
from harness.folders import check_writable
from harness.store.tables import CellRow, OutcomeRow, ResultRow, WeightsRow
from harness.store.write.store import Store

if TYPE_CHECKING:
    from harness.artifacts import Folder


def export_adversarial(url: str, out: Path, cell: str, folder: Folder) -> tuple[Path, str]:
    """Write what was proposed for the examples of a cell as npz; return its path and its sha256.

    What is written are the proposals, not what the judge made of them, so that a replay is judged alike. Those that are
    not finite are left out: the judge takes the clean image in their place, and so does a replay. Pixels are cut to
    [0, 1].

    Args:
        url: a path of an SQLite file or an SQLAlchemy URL.
        out: the folder for the file.
        cell: the cell's id, as reports show it, or any beginning of its digest that no other cell has.
        folder: where the adversarial examples are.

    Raises:
        UserError: if there is no such database, cell or batch, or the folder cannot be written.
    """
    check_writable(out, "adversarial examples", "choose another --out")
    store = Store.open(url)
    digest = _cell(store, cell)
    found = Cell.from_dict(store.spec_of(digest))
    if found.attack is None:
        raise UserError(f"expected a cell with an attack, got {short(digest)}, which has none")
    proposals = _proposals(store, found, folder)
    content = packed(proposals)
    path = out / f"{short(digest)}.npz"
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=out) as beside:
            (Path(beside) / path.name).write_bytes(content)
            (Path(beside) / path.name).replace(path)
    except OSError as error:
        raise UserError(
            f"expected a folder that can be written at {out}, got: {error}; choose another --out"
        ) from error
    return path, hashlib.sha256(content).hexdigest()


def _cell(store: Store, beginning: str) -> str:
    """Return the digest of the one cell that begins so."""
    with store.session() as session:
        known = list(session.scalars(select(CellRow.digest)))
    found = [digest for digest in known if beginning and digest.startswith(beginning)]
    if len(found) != 1:
        said = f"{len(found)} of {len(known)}" if found else "none"
        raise UserError(
            f"expected --cell to name one cell by its id, got {beginning!r}, which names {said}; reports show the ids"
        )
    return found[0]


def _proposals(store: Store, cell: Cell, folder: Folder) -> Proposals:
    digest, flows = cell.digest, cell.threat is not None and cell.threat.norm is Norm.FLOW
    ids: list[np.ndarray] = []
    values: list[np.ndarray] = []
    for start, stop, hashes, code, examples in _shards(store, digest):
        crafted = Craft(cell.origin(), Shard(0, start, stop)).digest
        tensors, about, _ = folder.load("adversarial", crafted)
        other = [recipe for recipe, sha256 in about["weights"].items() if hashes.get(recipe, sha256) != sha256]
        if other:
            raise UserError(
                f"expected adversarial examples made with the weights of the results of {short(digest)}, got some made "
                f"with others of {short(other[0])}; run the suite again"
            )
        edited = unlike(of_craft(code), about.get("code", {}))
        if edited:
            raise UserError(
                f"expected adversarial examples made by the code of the results of {short(digest)}, got some made by "
                f"other code of {' and '.join(edited)}; run the suite again"
            )
        proposed = tensors["proposed"].numpy()
        finite = np.isfinite(proposed).reshape(len(proposed), -1).all(1)
        ids.append(np.asarray(examples, np.int64)[finite])
        values.append(proposed[finite] if flows else proposed[finite].clip(0.0, 1.0))
    if not ids:
        raise UserError(f"expected a cell with results, got {short(digest)}, which has none; run its suite")
    return Proposals(np.concatenate(ids), np.concatenate(values), flows)


def _shards(store: Store, digest: str) -> list[tuple[int, int, dict[str, str], dict[str, str], list[int]]]:
    """Return the shards in which a cell's examples were first measured: places, weights, code, examples in order."""
    read = select(CellRow.current).where(CellRow.digest == digest)
    query = (
        select(ResultRow.id, ResultRow.start, ResultRow.stop, WeightsRow.hashes, ResultRow.code)
        .join(WeightsRow, WeightsRow.digest == ResultRow.weights)
        .where(ResultRow.cell == digest, ResultRow.weights.in_(read), ResultRow.first_repeat == 0)
        .order_by(ResultRow.start)
    )
    examples = select(OutcomeRow.example).where(OutcomeRow.repeat == 0).order_by(OutcomeRow.place)
    with store.engine.connect() as connection:
        return [
            (start, stop, hashes, code, list(connection.scalars(examples.where(OutcomeRow.result == result))))
            for result, start, stop, hashes, code in connection.execute(query).all()
        ]
