"""Published checkpoints of masked autoencoders, read into ours: He et al. 2022, and Hugging Face's copies of them.

The authors' files (facebookresearch/mae, CC-BY-NC 4.0) are named ``mae_visualize_vit_*`` (raw pixels as targets) and
``mae_pretrain_vit_*_full`` (pixels normalised by patch); Hugging Face's ``facebook/vit-mae-*`` were converted from the
former. All take 224 x 224 images normalised by ImageNet's mean and deviation. Nothing is downloaded here, and no file
is read that could run code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.contracts import DataCard
from harness.core.errors import UserError
from harness.nets.published_maes import ENCODERS, SHAPE, contradiction, no_decoder
from harness.nets.reading import table, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

    from harness.nets.sizes import MAESize

#: what is in a block: ours -> the authors', Hugging Face's
_BLOCK = {
    "norm1": ("norm1", "layernorm_before"),
    "attn.qkv": ("attn.qkv", "attention.attention.{query,key,value}"),
    "attn.proj": ("attn.proj", "attention.output.dense"),
    "norm2": ("norm2", "layernorm_after"),
    "mlp.fc1": ("mlp.fc1", "intermediate.dense"),
    "mlp.fc2": ("mlp.fc2", "output.dense"),
}

#: what is not in a block: ours -> the authors', Hugging Face's
_REST = {
    "embed": ("patch_embed.proj", "vit.embeddings.patch_embeddings.projection"),
    "encoder": ("blocks", "vit.encoder.layer"),
    "norm": ("norm", "vit.layernorm"),
    "bridge": ("decoder_embed", "decoder.decoder_embed"),
    "hidden_token": ("mask_token", "decoder.mask_token"),
    "decoder": ("decoder_blocks", "decoder.decoder_layers"),
    "decoder_norm": ("decoder_norm", "decoder.decoder_norm"),
    "predict": ("decoder_pred", "decoder.decoder_pred"),
    "class_token": ("cls_token", "vit.embeddings.cls_token"),
    "positions": ("pos_embed", "vit.embeddings.position_embeddings"),
    "decoder_positions": ("decoder_pos_embed", "decoder.decoder_pos_embed"),
}


@dataclass(frozen=True)
class _Row:
    """A tensor of ours and those of the file that it is made of.

    Attributes:
        theirs: names in the file; three where query, key and value are apart.
        shape: of each of them.
        make: from them to ours.
    """

    theirs: tuple[str, ...]
    shape: tuple[int, ...]
    make: Callable[[list[Tensor]], Tensor]


def load(
    path: Path, size: MAESize, shape: tuple[int, int, int] = SHAPE, content: bytes | None = None
) -> dict[str, Tensor]:
    """Return the weights in a file with the authors' or Hugging Face's names, for ``MAE`` of a size, in float32.

    The names and shapes in the file must be exactly those that the size asks for. What they do not show is believed,
    the pixels' mean and deviation, unless the file says otherwise, of heads and targets: see ``contradiction``.

    Args:
        path: a file of torch's (its tensors below ``model``, or alone) or safetensors.
        size: of the autoencoder in it.
        shape: channels, height, width of the images that it takes.
        content: what is in the file, where that has been read.

    Raises:
        UserError: if the file is missing, is not read safely, holds other tensors, or says something else of itself.
    """
    found = unpack(content_of(path) if content is None else content, path)
    weights = translated(table(found, path), size, shape, path.name)
    told = contradiction(size, path.name, found.get("args") if isinstance(found, dict) else None)
    if told is not None:
        raise UserError(told)
    return weights


def translated(
    tensors: Mapping[str, Tensor], size: MAESize, shape: tuple[int, int, int], source: str
) -> dict[str, Tensor]:
    """Return tensors under the authors' or Hugging Face's names as the weights of ``MAE``; ``load`` without the file.

    Raises:
        UserError: in one sentence, if one is missing, not expected or of another shape.
    """
    import torch

    if not any("decoder" in key for key in tensors) and any(key.endswith("cls_token") for key in tensors):
        vit = next((vit for vit, encoder in ENCODERS.items() if encoder[1] == size.dim), "base")
        raise UserError(no_decoder(source, vit))
    rows = _rows(size, shape, column=int(any(key.startswith("vit.") for key in tensors)))
    shapes = {their: row.shape for row in rows.values() for their in row.theirs}
    faults = {
        "missing": [key for key in shapes if key not in tensors],
        "unexpected": [key for key in tensors if key not in shapes],
        "of another shape": [
            f"{key} {tuple(tensors[key].shape)} for {wanted}"
            for key, wanted in shapes.items()
            if key in tensors and tuple(tensors[key].shape) != wanted
        ],
    }
    told = [f"{len(found)} {fault} ({_some(found)})" for fault, found in faults.items() if found]
    if told:
        raise UserError(
            f"expected the {len(shapes)} tensors of a masked autoencoder of width {size.dim} with {size.depth} and "
            f"{size.decoder_depth} blocks in {source}, got {', '.join(told)}; "
            "give the name or the size of what the file holds"
        )
    made = {ours: row.make([tensors[their] for their in row.theirs]) for ours, row in rows.items()}
    if size.positions != "learned":
        for name, table in _fixed(size, shape).items():
            if not torch.allclose(made.pop(name).float(), table, rtol=0.0, atol=1e-3):
                raise UserError(
                    f"expected the fixed positions {size.positions!r} in {rows[name].theirs[0]} of {source}, got "
                    "others; declare the net with positions: learned to take them as they are"
                )
    return {name: tensor.float().contiguous() for name, tensor in made.items()}


def _fixed(size: MAESize, shape: tuple[int, int, int]) -> dict[str, Tensor]:
    """Return the tables of positions that are no part of our weights; the class token stands at zero."""
    import torch

    from harness.nets.mae import sincos_positions

    grid = (shape[1] // size.patch, shape[2] // size.patch)
    tables = {}
    for name, dim in (("positions", size.dim), ("decoder_positions", size.decoder_dim)):
        places = sincos_positions(dim, *grid, columns_first=size.positions == "sincos-columns-first")
        tables[name] = torch.cat([torch.zeros(int(size.class_token), dim), places])
    return tables


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _rows(size: MAESize, shape: tuple[int, int, int], column: int) -> dict[str, _Row]:
    """Return what each tensor of ours is made of; ``column`` 0: the authors' names, 1: Hugging Face's."""
    import torch

    from harness.nets.mae import MAE

    with torch.device("meta"):
        net = MAE(size, DataCard(shape, 1, 1, ""))
    shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    shapes |= {name: tuple(getattr(net, name).shape) for name in ("positions", "decoder_positions")}
    return {name: _row(name, its, size.patch, shape[0], column) for name, its in shapes.items()}


def _row(name: str, shape: tuple[int, ...], patch: int, channels: int, column: int) -> _Row:
    import torch

    first, _, rest = name.partition(".")
    their = _REST[first][column]
    if first in ("encoder", "decoder"):
        number, _, inner = rest.partition(".")
        module, _, kind = inner.rpartition(".")
        their = f"{their}.{number}.{_BLOCK[module][column]}.{kind}"
    elif rest:
        their = f"{their}.{rest}"
    if "{" in their:
        head, _, tail = their.partition("{")
        words, _, tail = tail.partition("}")
        apart = tuple(f"{head}{word}{tail}" for word in words.split(","))
        return _Row(apart, (shape[0] // len(apart), *shape[1:]), torch.cat)
    if name == "embed.weight":  # their convolution's weights are (D, C, p, p); our patches have channels innermost
        kernel = (shape[0], channels, patch, patch)
        return _Row((their,), kernel, lambda found: found[0].permute(0, 2, 3, 1).flatten(1))
    if first in ("positions", "decoder_positions"):
        return _Row((their,), (1, *shape), lambda found: found[0][0])
    return _Row((their,), shape, lambda found: found[0])


def content_of(path: Path) -> bytes:
    """Return what is in a file.

    Raises:
        UserError: if it is missing.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"expected a checkpoint at {path}, found none; download it and put it there ({error.strerror})"
        ) from error
