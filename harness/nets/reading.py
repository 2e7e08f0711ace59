"""Reading weights from the bytes of a file, without running anything that it may hold.

Whatever is wrong with a file ends in a sentence of ours: torch's own advises to switch the safety off.
"""

from __future__ import annotations

import argparse
import io
import re
import warnings
from typing import TYPE_CHECKING, Any, TypeGuard

from harness.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

#: what a file calls that only holds numbers and settings: the options of a training run, figures of numpy
_HARMLESS = (argparse.Namespace,)

#: what a parallel module puts before the names of its tensors
PARALLEL = "module."


def unpack(content: bytes, where: object) -> Any:
    """Return what is in a file of torch's or of safetensors, whichever it is.

    Args:
        content: the bytes of the file.
        where: it is, for a sentence.

    Raises:
        UserError: if it cannot be read without running something, or not at all.
    """
    try:
        return _safetensors(content) if _is_safetensors(content) else _torch(content)
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle ends in whatever its next bytes happen to mean
        reason = _reason(content, error)
        raise UserError(
            f"expected tensors and nothing that could run in {where}, but it cannot be read so ({reason}); "
            "take the file as it was published, or save the tensors alone as safetensors"
        ) from error


def table(found: Any, where: object) -> dict[str, Tensor]:
    """Return the table of tensors in what was unpacked, alone or as ``model``.

    Raises:
        UserError: if there is something else, or the same tensor twice.
    """
    if isinstance(found, dict) and isinstance(found.get("model"), dict):
        found = found["model"]
    if not is_table(found) or not found:
        raise UserError(f"expected a table of tensors in {where}, alone or as `model`, got something else")
    check_names(found, where)
    return found


def is_table(found: Any) -> TypeGuard[dict[str, Tensor]]:
    """Whether something is a table of tensors by name."""
    import torch

    return isinstance(found, dict) and all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in found.items()
    )


def check_names(found: Mapping[str, Any], where: object) -> None:
    """See whether a table has the same tensor twice: with the name that a parallel module gives it, and without.

    Raises:
        UserError: then.
    """
    twice = [name for name in found if f"{PARALLEL}{name}" in found]
    if twice:
        raise UserError(
            f"expected each tensor once in {where}, got both {twice[0]} and {PARALLEL}{twice[0]}"
            + (f", and {len(twice) - 1} more such pairs" if len(twice) > 1 else "")
            + "; save the tensors of the network that is meant alone"
        )


def bare_names(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a table without what a parallel module puts before the names, where it is before all of them."""
    parallel = all(name.startswith(PARALLEL) for name in found)
    return {name.removeprefix(PARALLEL) if parallel else name: tensor for name, tensor in found.items()}


def _is_safetensors(content: bytes) -> bool:
    return content[8:9] == b"{" and int.from_bytes(content[:8], "little") < len(content)


def _safetensors(content: bytes) -> dict[str, Tensor]:
    from safetensors.torch import load

    found: dict[str, Tensor] = load(content)
    return found


def _torch(content: bytes) -> Any:
    import numpy as np
    import torch

    kinds = [type(np.dtype(code)) for code in "?bBhHiIlLqQefd"]
    scalar: Any = np.float64(0).__reduce__()[0]  # what makes a number of numpy; it has moved between its versions
    harmless: list[Any] = [*_HARMLESS, np.dtype, *kinds, scalar, (scalar, "numpy.core.multiarray.scalar")]
    with torch.serialization.safe_globals(harmless), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _reason(content: bytes, error: Exception) -> str:
    """Say why a file cannot be read; the words of torch are looked at and never repeated."""
    said = str(error)
    named = re.search(r"GLOBAL ([\w.]+)", said)
    if named is not None:
        return f"it asks for {named[1]}, which is code that is not run here"
    if "TorchScript" in said:
        return "it is an archive of TorchScript, which is code"
    if not content:
        return "it is empty"
    return "it is damaged, or has another format than those of torch and safetensors, or holds more than tensors"
