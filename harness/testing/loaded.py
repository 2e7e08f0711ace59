"""As loaded: a component under test with the defaults of its kind, as it has them in a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from harness.components import completed

if TYPE_CHECKING:
    from harness.components import Component

Made = TypeVar("Made")


def as_loaded(component: Made, base: type[Component]) -> Made:
    """Return an object that somebody made, with the defaults of a base class where its own class has none.

    Raises:
        UserError: if it lacks something that has no default.
    """
    component.__class__ = completed(type(component), base)
    return component
