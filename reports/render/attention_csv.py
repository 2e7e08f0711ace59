"""The studies of attention as one tidy CSV file: a row per number, unrounded."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from reports.attention.quantities import QUANTITIES
from reports.render.csv_file import Cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reports.attention.study import Study

HEAD = (
    *("suite", "dataset", "classifier", "table", "defense", "role", "attack", "threat_model", "norm", "eps"),
    *("knowledge", "id", "mask_ratio", "matrix_norm", "layer", "head", "against", "quantity", "value", "low"),
    *("high", "n"),
)


def attention_csv(studies: Sequence[Study]) -> str:
    """Return the file's text.

    ``table`` says where a row belongs (see ``Study``), ``quantity`` what it is (see ``QUANTITIES``); ``defense`` is
    empty for images that were attacked and not purified, ``layer`` and ``head`` where a number is a mean over them.
    ``n`` is the number of examples. Shares are in [0, 1].
    """
    text = io.StringIO()
    writer = Cells(text, HEAD)
    for study in studies:
        for table, part in study.parts:
            for quantity in QUANTITIES:
                found = part[quantity]
                if found is None:
                    continue
                writer.writerow(
                    {
                        "suite": study.suite,
                        "dataset": study.probed.dataset,
                        "classifier": study.probed.classifier,
                        "table": table,
                        "defense": part.defense,
                        "role": part.role,
                        "attack": part.attack,
                        "threat_model": part.threat_model,
                        "norm": part.norm,
                        "eps": part.eps,
                        "knowledge": part.knowledge,
                        "id": part.cell,
                        "mask_ratio": part.mask_ratio,
                        "matrix_norm": part.matrix_norm,
                        "layer": part.layer,
                        "head": part.head,
                        "against": part.against,
                        "quantity": quantity,
                        "value": found.value,
                        "low": found.low if found.bounded else None,
                        "high": found.high if found.bounded else None,
                        "n": found.n,
                    }
                )
    return text.getvalue()
