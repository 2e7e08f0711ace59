"""Recipe: the spec of a trained network, with its network and its objective.

Those that tell their own name among their options (``use``) stand in the recipe's parameters, as all did once, and have
version 1; every other is a part, as a dataset is. A checkpoint is named by the digest of the whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Mapping

#: role in a recipe -> kind
KINDS = {"net": "network", "objective": "objective"}


def trained(
    network: Spec, objective: Spec, version: int, params: Mapping[str, object], parts: Mapping[str, Spec], label: str
) -> Spec:
    """Return the spec of a network that is trained by an objective; ``params`` and ``parts`` are what else it is of."""
    all_params, all_parts = dict(params), dict(parts)
    for role, component in {"net": network, "objective": objective}.items():
        if component.version == 1 and component.params.get("use") == component.use:
            all_params[role] = component.params
        else:
            all_parts[role] = component
    return Spec.of("recipe", network.use, version, all_params, all_parts, label)


def network(recipe: Spec) -> Spec:
    """Return the network of a recipe."""
    return _component(recipe, "net")


def objective(recipe: Spec) -> Spec:
    """Return the objective of a recipe."""
    return _component(recipe, "objective")


def _component(recipe: Spec, role: str) -> Spec:
    part = dict(recipe.parts).get(role)
    if part is not None:
        return part
    params = recipe.params.get(role, {})
    return Spec.of(KINDS[role], params.get("use", ""), 1, params)
