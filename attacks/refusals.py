"""Why attacks refuse a cell, where several have the same reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.threat import BALLS

if TYPE_CHECKING:
    from harness.core.contracts import Setting


def no_ball(attack: str, setting: Setting) -> str | None:
    """Return why an attack that steps and projects in a norm cannot keep another kind of budget, or None."""
    if setting.threat.norm in BALLS:
        return None
    known = ", ".join(norm.value for norm in BALLS)
    return (
        f"{attack} keeps budgets in {known}, and the threat model's is {setting.threat.norm.value}; use another attack"
    )


def few_targets(attack: str, targets: int, setting: Setting) -> str | None:
    """Return why there are not so many other classes to aim at, or None."""
    others = setting.data.n_classes - 1
    if targets <= others:
        return None
    return f"{attack} aims at {targets} other classes, and the dataset has {others}; lower the number of targets"
