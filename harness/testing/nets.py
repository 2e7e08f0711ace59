"""Tiny untrained networks for images ``(1, 8, 8)`` of ten classes, the same weights at every call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch import nn

from harness.core.contracts import DataCard

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.nets.cnn import CNN
    from harness.nets.dir import DIR
    from harness.nets.joint import Joint
    from harness.nets.mae import MAE
    from harness.nets.maskdit import MaskDiT
    from harness.nets.unet import UNet

Net = TypeVar("Net", bound=nn.Module)

#: the images that these networks take
CARD = DataCard(shape=(1, 8, 8), n_classes=10, n_test=64, sha256="0" * 64)


def tiny_cnn(seed: int = 0) -> CNN:
    """Return a classifier."""
    from harness.nets.cnn import build
    from harness.nets.sizes import CNNSize

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = build(CNNSize(use="cnn", width=8, hidden=16), CARD)
    return _still(net)


def tiny_mae(seed: int = 0, targets: Literal["raw", "normalised"] = "raw") -> MAE:
    """Return a masked autoencoder with 16 patches, which predicts pixels or pixels normalised by patch."""
    from harness.nets.mae import build
    from harness.nets.sizes import MAESize

    size = MAESize(
        use="mae", patch=2, dim=16, depth=1, heads=2, decoder_dim=16, decoder_depth=2, decoder_heads=2, targets=targets
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = build(size, CARD)
    return _still(net)


def tiny_maskdit(
    seed: int = 0,
    targets: Literal["raw", "normalised"] = "raw",
    masked: Literal["plain", "preconditioned"] = "plain",
) -> MaskDiT:
    """Return a masked diffusion transformer with 16 patches, whose gates, zero at first, have been opened at random."""
    from harness.nets.maskdit import build
    from harness.nets.sizes import MaskDiTSize

    size = MaskDiTSize(
        use="maskdit",
        patch=2,
        dim=16,
        depth=1,
        heads=2,
        decoder_dim=16,
        decoder_depth=2,
        decoder_heads=2,
        targets=targets,
        masked=masked,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = build(size, CARD)
        for name, weight in net.named_parameters():
            if "modulation" in name or "predict" in name:
                nn.init.normal_(weight, std=0.2)
    return _still(net)


def tiny_dir(seed: int = 0) -> DIR:
    """Return DIR's purifier with 16 patches."""
    from harness.nets.dir import build
    from harness.nets.sizes import DIRSize

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = build(DIRSize(use="dir", patch=2, dim=16, depth=1, heads=2, decoder_depth=1), CARD)
    return _still(net)


def tiny_joint(seed: int = 0) -> Joint:
    """Return DIR's purifier with the classifier that it was trained with."""
    from harness.nets.joint import build
    from harness.nets.sizes import CNNSize, DIRSize, JointSize

    purifier = DIRSize(use="dir", patch=2, dim=16, depth=1, heads=2, decoder_depth=1)
    size = JointSize(use="joint", purifier=purifier, classifier=CNNSize(use="cnn", width=8, hidden=16))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = build(size, CARD)
    return _still(net)


def tiny_unet(seed: int = 0) -> UNet:
    """Return a noise-predicting U-Net."""
    from harness.nets.sizes import UNetSize
    from harness.nets.unet import build

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = build(UNetSize(use="unet", channels=(8, 8), layers=1, groups=4), CARD)
    return _still(net)


def _still(net: Net) -> Net:
    """Bring a network into the state in which the harness hands it over."""
    return net.eval().requires_grad_(False)


#: how the network of an option is made that names a recipe, by the option's usual name
BY_ROLE: dict[str, Callable[[], nn.Module]] = {
    "mae": tiny_mae,
    "maskdit": tiny_maskdit,
    "unet": tiny_unet,
    "dir": tiny_dir,
    "guide": tiny_cnn,
    "classifier": tiny_cnn,
}


def by_default(component: Any) -> tuple[Any, dict[str, Callable[[], nn.Module]]]:
    """Return a component with default options, and how the networks that these need are made, by role.

    Raises:
        LookupError: if no network is known for a role.
    """
    roles = [name for name in component.Options.recipe_fields() if component.Options.model_fields[name].is_required()]
    unknown = [role for role in roles if role not in BY_ROLE]
    if unknown:
        raise LookupError(f"expected a role of {', '.join(BY_ROLE)}, got {unknown[0]!r} of {component.__name__}")
    made = component(component.Options.model_validate(dict.fromkeys(roles, "tiny")))
    return made, {role: BY_ROLE[role] for role in roles}
