"""Role: what a defense is in a study of purifiers, by its own word; where that was not recorded, by its name."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class Role(StrEnum):
    """What a defense is.

    ``purifier``: any other.
    ``reconstruction``: lowers a reconstruction loss in place of the attention's change, which it cannot know; whether
    the one stands for the other is what a study of attention asks.
    ``control``: knows nothing of images.
    ``oracle``: is shown the clean image; for analysis, never ranked.
    ``reference``: no defense.
    """

    PURIFIER = "purifier"
    RECONSTRUCTION = "reconstruction"
    CONTROL = "control"
    ORACLE = "oracle"
    REFERENCE = "reference"


#: of defenses that shipped before roles were recorded, by registered name; later ones say it themselves alone
SHIPPED = {
    "none": Role.REFERENCE,
    "amv-oracle": Role.ORACLE,
    "random-sign": Role.CONTROL,
    "noise": Role.CONTROL,
    **dict.fromkeys(("mae-pure", "rmae-pure", "maskdit-pure", "rmaskdit-pure"), Role.RECONSTRUCTION),
}


def role_of(use: str, traits: Mapping[str, Any] | None = None) -> Role:
    """Return the role of a defense.

    Args:
        use: its registered name.
        traits: what was recorded of it, as far as anything was: ``role``, what it says itself; ``oracle``.
    """
    told = traits or {}
    if told.get("role") in tuple(Role):
        return Role(told["role"])
    return SHIPPED.get(use, Role.ORACLE if told.get("oracle") else Role.PURIFIER)
