"""The published masked autoencoders by name: what their files do not show; needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.nets.sizes import MAESize

#: channels, height, width that the published checkpoints take
SHAPE = (3, 224, 224)

#: ViT -> patch, width, blocks, heads of the encoder (He et al. 2022, section 4; patch 14 of the huge one: their code)
ENCODERS = {"base": (16, 768, 12, 12), "large": (16, 1024, 24, 16), "huge": (14, 1280, 32, 16)}

#: the decoder of all of them (He et al. 2022, section 4)
DECODER = {"decoder_dim": 512, "decoder_depth": 8, "decoder_heads": 16}

#: name -> ViT, what it predicts
_NAMES = (
    {f"mae_visualize_vit_{vit}": (vit, "raw") for vit in ENCODERS}
    | {"mae_visualize_vit_large_ganloss": ("large", "raw")}
    | {f"mae_pretrain_vit_{vit}_full": (vit, "normalised") for vit in ENCODERS}
    | {f"facebook/vit-mae-{vit}": (vit, "raw") for vit in ENCODERS}
)


def no_decoder(source: str, vit: str) -> str:
    """Say that a file holds no decoder, and which one to take."""
    return (
        f"expected an autoencoder, got an encoder without its decoder in {source}, which reconstructs nothing; take "
        f"mae_visualize_vit_{vit}.pth (predicts pixels) or mae_pretrain_vit_{vit}_full.pth (pixels normalised by patch)"
    )


def contradiction(size: MAESize, file: str, settings: Any = None) -> str | None:
    """Return in what a size is not what a file says of itself, as a sentence, or None.

    Weights fit any number of heads, and either kind of targets, so that what they do not show is looked for elsewhere:
    in the file's name, in the options of the training run that the authors kept in it, and in the widths and depths
    that the published networks alone have.

    Args:
        size: of the autoencoder that the file is read as.
        file: its name.
        settings: the options of the training run; None where there are none.
    """
    stem = file.rpartition(".")[0] or file
    named = next((name for name in _NAMES if stem in (name, name.rpartition("/")[2])), None)
    vit, targets = _NAMES[named] if named is not None else (None, None)
    kept: dict[str, Any] = settings if isinstance(settings, dict) else vars(settings) if settings is not None else {}
    normalised = kept.get("norm_pix_loss")
    trained = next((one for one in ENCODERS if str(kept.get("model", "")).startswith(f"mae_vit_{one}_")), None)
    same = next((one for one, its in ENCODERS.items() if its[:3] == (size.patch, size.dim, size.depth)), None)
    claims = (
        (f"the name {file}", targets, vit),
        (f"the training run kept in {file}", {None: None, True: "normalised"}.get(normalised, "raw"), trained),
        ("the published network of these widths and depths", None, same),
    )
    return next((told for claim in claims if (told := _told(size, *claim)) is not None), None)


def _told(size: MAESize, source: str, targets: str | None, vit: str | None) -> str | None:
    """Return in what a size contradicts a source that tells of targets, or of a ViT with the authors' decoder."""
    says: dict[str, Any] = {} if targets is None else {"targets": targets}
    if vit is not None and size.dim == ENCODERS[vit][1]:
        says["heads"] = ENCODERS[vit][3]
        if (size.decoder_dim, size.decoder_depth) == (DECODER["decoder_dim"], DECODER["decoder_depth"]):
            says["decoder_heads"] = DECODER["decoder_heads"]
    differs = [(key, value) for key, value in says.items() if getattr(size, key) != value]
    if not differs:
        return None
    wanted = " and ".join(f"{key}: {value}" for key, value in differs)
    got = " and ".join(f"{key}: {getattr(size, key)}" for key, _ in differs)
    return f"expected a net with {wanted}, as {source} has it, got {got}; correct the net of the recipe"
