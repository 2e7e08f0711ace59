"""Proposals in a file: adversarial images, or flows, by the numbers of the examples that they are for.

A ``.npz`` without pickles, or a ``.safetensors``, with two members. ``ids`` are integers ``(N,)``: the examples'
numbers in the dataset's source, called ``example`` in a database. ``images`` are uint8 ``(N, H, W, C)``, or real
numbers in [0, 1] as ``(N, C, H, W)``. Under a threat model of norm ``flow`` there are ``flows`` in their place, real
numbers ``(N, 2, H, W)`` in pixels. The order of the examples says nothing.
"""

from __future__ import annotations

import functools
import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.core.errors import UserError
from harness.data.archive import BROKEN, opened
from harness.data.files import data_folder

if TYPE_CHECKING:
    from pathlib import Path

#: how a file may be called: a name, no path
NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\.(npz|safetensors)$"


@dataclass(frozen=True)
class Proposals:
    """What is proposed for some examples.

    Attributes:
        ids: the examples' numbers, ``(N,)`` int64, in ascending order.
        values: images ``(N, C, H, W)`` in [0, 1] or flows ``(N, 2, H, W)`` in pixels, real numbers.
        flows: which of the two.
    """

    ids: np.ndarray
    values: np.ndarray
    flows: bool

    def at(self, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where the examples ``wanted`` ``(B,)`` are in ``values``, and whether each is there at all."""
        if not len(self.ids):
            return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
        places = np.searchsorted(self.ids, wanted).clip(max=len(self.ids) - 1)
        return places, self.ids[places] == wanted


def read_proposals(file: str, sha256: str) -> Proposals:
    """Return what is in a file of the data folder.

    Args:
        file: its name, without a folder.
        sha256: hash of its content.

    Raises:
        UserError: if it is not there, is another one, or does not hold what it should.
    """
    return _read(data_folder() / file, sha256)


@functools.lru_cache(maxsize=2)
def _read(path: Path, sha256: str) -> Proposals:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"expected adversarial examples at {path}, got {error.strerror}; put the file there, or set "
            "PUREBENCH_DATA to the folder that has it"
        ) from error
    its = hashlib.sha256(content).hexdigest()
    if its != sha256:
        raise UserError(
            f"expected adversarial examples with sha256 {sha256[:12]}, got {its[:12]} at {path}; put the right file "
            "there, or name its hash where the file is named"
        )
    try:
        return _checked(_unpacked(path, content))
    except ValueError as error:
        raise UserError(
            f"expected adversarial examples at {path}, got {error}; see the documentation of the attack replay"
        ) from error


def _unpacked(path: Path, content: bytes) -> dict[str, np.ndarray]:
    """Return the members of a file; nothing in it is run."""
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors: dict[str, np.ndarray] = load(content)
        except (SafetensorError, KeyError, TypeError) as error:
            raise ValueError(f"a file that is no safetensors ({error})") from error
        return tensors
    try:
        with opened(io.BytesIO(content)) as members:
            return {name: members[name] for name in members.files if name in ("ids", "images", "flows")}
    except BROKEN as error:
        raise ValueError(f"a file that is no npz without pickles ({error})") from error


def _checked(members: dict[str, np.ndarray]) -> Proposals:
    kinds = [name for name in ("images", "flows") if name in members]
    if "ids" not in members or len(kinds) != 1:
        raise ValueError(f"the members {', '.join(sorted(members)) or 'nothing'} where ids and images were expected")
    flows = kinds == ["flows"]
    ids, values = members["ids"], members[kinds[0]]
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise ValueError(f"ids {ids.shape} {ids.dtype} where a list of integers was expected")
    if len(ids) and (ids.min() < 0 or ids.max() >= 2**63):
        raise ValueError(f"ids from {ids.min()} to {ids.max()} where numbers of examples were expected")
    if len(np.unique(ids)) < len(ids):
        raise ValueError("the same id more than once")
    if values.ndim != 4 or len(values) != len(ids):
        raise ValueError(f"{kinds[0]} {values.shape} for {len(ids)} ids")
    order = np.argsort(ids)
    values = values[order]
    if not flows and values.dtype == np.uint8:
        values = values.transpose(0, 3, 1, 2).astype(np.float32)
        values /= 255.0  # as datasets do, to the last bit
    elif values.dtype.kind != "f":
        raise ValueError(f"{kinds[0]} of {values.dtype}")
    elif flows and (values.shape[1] != 2 or not np.isfinite(values).all()):
        raise ValueError(f"flows {values.shape} that are not all finite pairs of moves")
    elif not flows and not ((values >= 0.0) & (values <= 1.0)).all():
        raise ValueError("images with pixels outside [0, 1]")
    return Proposals(ids[order].astype(np.int64), values, flows)


def packed(proposals: Proposals) -> bytes:
    """Return an npz that ``read_proposals`` understands: the same proposals make the same bytes."""
    held: dict[str, Any] = {"ids": proposals.ids, "flows" if proposals.flows else "images": proposals.values}
    content = io.BytesIO()
    np.savez_compressed(content, **held)
    return content.getvalue()
