"""Export: the tidy frames of a database as files that other programmes read."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import UserError
from harness.core.extras import PARQUET
from harness.core.printable import inert
from harness.folders import check_writable
from harness.store.read.frames import results

if TYPE_CHECKING:
    import pandas as pd

#: the frames, in the order in which ``Results`` yields them
FRAMES = ("cells", "examples", "costs")


def export(url: str, out: Path, kind: str, suite: str | None = None) -> list[Path]:
    """Write ``cells``, ``examples`` and ``costs`` as ``parquet`` or ``csv``; return the paths.

    Numbers are whole in both: a float is read back as it was. Each file appears whole or not at all; one of the same
    name is replaced, others are left alone.

    Raises:
        UserError: if there is no such database or suite, the folder cannot be written, or Parquet needs pyarrow.
    """
    missing = PARQUET.missing("--format parquet") if kind == "parquet" else None
    if missing is not None:
        raise UserError(replace(missing, remedy=f"{missing.remedy}, or take csv"))
    check_writable(out, "frames", "choose another --out")
    frames = results(url, suite)
    try:
        out.mkdir(parents=True, exist_ok=True)
        return [_write(frame, out / f"{name}.{kind}", kind) for name, frame in zip(FRAMES, frames, strict=True)]
    except OSError as error:
        raise UserError(
            f"expected a folder that can be written at {out}, got: {error}; choose another --out"
        ) from error


def _write(frame: pd.DataFrame, path: Path, kind: str) -> Path:
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        beside = Path(folder) / path.name
        if kind == "parquet":
            frame.to_parquet(beside, engine="pyarrow", index=False)
        else:
            from pandas.api.types import is_numeric_dtype

            told = frame.copy(deep=False)
            for name, column in frame.items():
                if not is_numeric_dtype(column):
                    told[name] = column.map(inert)
            told.to_csv(beside, index=False, lineterminator="\n")
        beside.replace(path)
    return path
