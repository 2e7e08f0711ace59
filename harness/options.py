"""Options of components: frozen, unknown keys refused, every field documented, numbers as people write them."""

from __future__ import annotations

import fractions
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

_DECIMAL = r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,3})?"
_FRACTION = re.compile(rf"({_DECIMAL})\s*/\s*({_DECIMAL})")


def _number(value: Any) -> Any:
    """Read ``8/255`` and ``0.5/255`` as the quotient; leave everything else to pydantic."""
    if isinstance(value, str) and "/" in value:
        found = _FRACTION.fullmatch(value.strip())
        try:
            if found is None:
                raise ValueError
            above, below = (fractions.Fraction(found[group]) for group in (1, 5))
            return float(above / below)
        except (ValueError, ZeroDivisionError, OverflowError):
            raise ValueError(f"expected a number or a fraction such as 8/255, got {value!r}") from None
    return value


_NUMBER_SCHEMA = {
    "anyOf": [{"type": "number"}, {"type": "string", "pattern": rf"^\s*{_DECIMAL}\s*/\s*{_DECIMAL}\s*$"}],
}

#: a real number, also written as a fraction (``8/255``)
Number = Annotated[float, BeforeValidator(_number), WithJsonSchema(_NUMBER_SCHEMA)]


@dataclass(frozen=True)
class Range:
    """The natural range of a size: from 0 to where its unit ends. Beyond it, another unit is meant.

    Attributes:
        most: the largest that there is; more is refused.
        since: why, as the end of a sentence.
        levels: how many of this unit make the range of pixels; 0 where sizes have nothing to do with grey levels.
        usual: share of the range beyond which a size is odd.
    """

    most: float
    since: str
    levels: float = 0.0
    usual: float = 0.5

    def error(self, value: float) -> str | None:
        """Return why a size is refused, as a sentence; None where it is not."""
        if value <= self.most * (1 + 1e-6):
            return None
        return f"expected at most {self.most:.4g}, since {self.since}, got {value:g}{self._in_levels(value)}"

    def doubt(self, value: float) -> str | None:
        """Return what is odd about a size beyond what is usual, unless it is all of it; None otherwise."""
        if not self.usual * self.most < value < self.most * 0.99:
            return None
        return f"expected at most {self.usual * self.most:.4g} as a rule, since {self.since}, got {value:g}"

    def _in_levels(self, value: float) -> str:
        if not self.levels:
            return ""
        if value > 255:
            return "; grey levels of 255 are written as fractions, such as 8/255"
        times = "" if self.levels == 1 else f"{self.levels:g} * "
        return f"; {value:g} of 255 grey levels is {times}{value:g}/255"

    def keep(self, value: float) -> float:
        """Return a size that is not refused.

        Raises:
            ValueError: for another.
        """
        reason = self.error(value)
        if reason is not None:
            raise ValueError(reason)
        return value


#: of sizes in the units of pixels in [0, 1], and of pixels in [-1, 1]
PIXELS = Range(1.0, "pixels are in [0, 1]", levels=1.0)
SIGNED_PIXELS = Range(2.0, "pixels are in [-1, 1] here", levels=2.0)


@dataclass(frozen=True)
class InNorm:
    """Marks a length in the norm of a threat model: how large it may be depends on the norm and on the images.

    Attributes:
        step: whether it is that of a step, which need not be longer than the ball is wide.
    """

    step: bool = True


#: a length in pixel units of [0, 1], greater than 0, in the norm of the threat model that it belongs to
Eps = Annotated[
    float, BeforeValidator(_number), Field(gt=0, allow_inf_nan=False), WithJsonSchema(_NUMBER_SCHEMA), InNorm()
]

#: how far each pixel of [0, 1] may go, or a standard deviation of what is added to it
Pixels = Annotated[Number, AfterValidator(PIXELS.keep), PIXELS]

#: likewise where pixels are in [-1, 1]
SignedPixels = Annotated[Number, AfterValidator(SIGNED_PIXELS.keep), SIGNED_PIXELS]

#: a grey level or colour of pixels in [0, 1]
Grey = Annotated[Number, Field(ge=0), AfterValidator(PIXELS.keep)]

#: what such pixels are divided by; networks that want bytes have 1/255, and less was divided twice
Deviation = Annotated[Number, Field(gt=0.003), AfterValidator(PIXELS.keep)]

#: the largest seed: what a database, and every source of random numbers, can hold
LARGEST = 2**63 - 1

#: what random numbers are drawn from
Seed = Annotated[int, Field(ge=0, le=LARGEST)]


class RecipeName:
    """Marks an option that names a recipe: the suite replaces it by the recipe itself, digest and all."""


#: the name of a shipped recipe, or a path to one
Recipe = Annotated[str, RecipeName(), Field(min_length=1)]


class Options(BaseModel):
    """Base of every component's options.

    Fields are keyword-only, checked, immutable; an unknown key is an error. A field annotated ``Recipe`` names
    a network that has to be trained first and becomes a part of the component under the field's name; one annotated
    ``Recipe | None`` may name none. One annotated ``Pixels`` has the range of pixels; one annotated ``Eps`` that of the
    norm of the threat model that an attack meets, or that a recipe trains under, and of pixels where there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)

    @classmethod
    def recipe_fields(cls) -> tuple[str, ...]:
        """Return the names of the options that name a recipe."""
        return tuple(
            name
            for name, item in cls.model_fields.items()
            if any(isinstance(mark, RecipeName) for mark in _marks(item.annotation, item.metadata))
        )


def marked(options: BaseModel, mark: type[Any], path: tuple[str | int, ...] = ()) -> Iterator[tuple[Any, Any, float]]:
    """Yield the numbers that were given to fields with a mark, in nested options and lists too.

    Each with its path and the mark itself; defaults are left out.
    """
    for name in sorted(options.model_fields_set):
        item = type(options).model_fields[name]
        found = next((one for one in _marks(item.annotation, item.metadata) if isinstance(one, mark)), None)
        yield from _numbers(getattr(options, name), found, mark, (*path, name))


def _numbers(value: Any, found: Any, mark: type[Any], path: tuple[str | int, ...]) -> Iterator[tuple[Any, Any, float]]:
    if isinstance(value, BaseModel):
        yield from marked(value, mark, path)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, item in enumerate(value):
            yield from _numbers(item, found, mark, (*path, index))
    elif found is not None and isinstance(value, int | float) and math.isfinite(value):
        yield path, found, float(value)


def _marks(annotation: Any, metadata: Sequence[Any] = ()) -> Iterator[Any]:
    """Yield the marks of a field, and of the branches and items of its type."""
    yield from metadata
    for branch in get_args(annotation):
        yield from _marks(branch, getattr(branch, "__metadata__", ()))


class NoOptions(Options):
    """For components that have nothing to set."""

    nothing: ClassVar[bool] = True
