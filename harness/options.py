"""Options of components: frozen, unknown keys refused, every field documented, numbers as people write them."""

from __future__ import annotations

import fractions
from typing import Annotated, Any, ClassVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema


def _number(value: Any) -> Any:
    """Read ``8/255`` as the quotient; leave everything else to pydantic."""
    if isinstance(value, str) and "/" in value:
        try:
            return float(fractions.Fraction(value.replace(" ", "")))
        except (ValueError, ZeroDivisionError):
            raise ValueError(f"expected a number or a fraction such as 8/255, got {value!r}") from None
    return value


_NUMBER_SCHEMA = {
    "anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^\s*[0-9]+\s*/\s*[0-9]+\s*$"}],
}

#: a real number, also written as a fraction (``8/255``)
Number = Annotated[float, BeforeValidator(_number), WithJsonSchema(_NUMBER_SCHEMA)]

#: a length in pixel units of [0, 1], greater than 0
Eps = Annotated[float, BeforeValidator(_number), Field(gt=0, allow_inf_nan=False), WithJsonSchema(_NUMBER_SCHEMA)]


class RecipeName:
    """Marks an option that names a recipe: the suite replaces it by the recipe itself, digest and all."""


#: the name of a shipped recipe, or a path to one
Recipe = Annotated[str, RecipeName(), Field(min_length=1)]


class Options(BaseModel):
    """Base of every component's options.

    Fields are keyword-only, checked, immutable; an unknown key is an error. A field annotated ``Recipe`` names
    a network that has to be trained first and becomes a part of the component under the field's name; one annotated
    ``Recipe | None`` may name none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)

    @classmethod
    def recipe_fields(cls) -> tuple[str, ...]:
        """Return the names of the options that name a recipe."""
        return tuple(
            name
            for name, item in cls.model_fields.items()
            if any(isinstance(mark, RecipeName) for mark in (*item.metadata, *_within(item.annotation)))
        )


def _within(annotation: Any) -> tuple[Any, ...]:
    """Return the marks of the branches of a union."""
    return tuple(mark for branch in get_args(annotation) for mark in getattr(branch, "__metadata__", ()))


class NoOptions(Options):
    """For components that have nothing to set."""

    nothing: ClassVar[bool] = True
