"""How large budgets and steps may be, given the norm and the images: what a schema alone cannot say.

What lies beyond is refused. What is within and beyond half of it is told, since it is a slip more often than not.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from harness.core.threat import BALLS, Norm, diameter
from harness.options import PIXELS, InNorm, Range, marked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic import BaseModel

    from harness.core.errors import Problem
    from harness.suite.document import Document, Path

#: what a check is, for whoever may not have meant one
_CHECK = "a cell of such a budget is a check and counts for no worst case"


class Remark(NamedTuple):
    """Something about a number: where it stands below the options, a sentence, and whether it is a mistake or odd."""

    path: Path
    sentence: str
    wrong: bool


class Remarks:
    """What was found about the numbers of a suite.

    Attributes:
        problems: the mistakes.
        doubts: what is odd and no mistake.
    """

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.doubts: list[Problem] = []

    def note(self, found: Iterable[Remark], document: Document, path: Path) -> bool:
        """Keep what was found about options that stand at ``path``; return whether none of it is a mistake."""
        sound = True
        for remark in found:
            told = document.problem((*path, *remark.path), remark.sentence)
            kept = self.problems if remark.wrong else self.doubts
            kept.extend([told] if told not in kept else [])
            sound = sound and not remark.wrong
        return sound


def remarks(options: BaseModel) -> Iterator[Remark]:
    """Yield what is odd about sizes whose range a schema knows; those beyond it were refused there."""
    for path, found, value in marked(options, Range):
        doubt = found.doubt(value)
        if doubt is not None:
            yield Remark(path, doubt, wrong=False)


def lengths(
    options: BaseModel, norm: Norm | None = None, shape: tuple[int, int, int] = (1, 1, 1), eps: float | None = None
) -> Iterator[Remark]:
    """Yield what is wrong or odd about lengths in the norm of a threat model.

    Args:
        options: of an attack, of an objective, or of anything else that has such lengths.
        norm: of the threat model; None where there is none: lengths are those of each pixel.
        shape: channels, height and width of the images.
        eps: the threat model's budget, beyond whose ball a step need not go; None where there is none.
    """
    kept = range_of(norm, shape)
    for path, length, value in marked(options, InNorm):
        error, doubt = kept.error(value), kept.doubt(value)
        if error is not None:
            yield Remark(path, error, wrong=True)
        elif eps is not None and length.step and value > 2 * eps * (1 + 1e-6):
            wide = f"expected steps of at most {2 * eps:.4g} as a rule, twice an eps of {eps:.4g}, got {value:g}"
            yield Remark(path, wide, wrong=False)
        elif eps is None and doubt is not None:
            yield Remark(path, doubt, wrong=False)


def budget(eps: float, norm: Norm, shape: tuple[int, int, int], *, check: bool = True) -> Iterator[Remark]:
    """Yield what is wrong or odd about a budget, given the images; ``check``: whether a cell of it would be a check."""
    kept = range_of(norm, shape)
    error, doubt = kept.error(eps), kept.doubt(eps)
    if error is not None:
        yield Remark(("eps",), error, wrong=True)
    elif doubt is not None and norm in BALLS:
        whole = math.floor(100 * kept.most) / 100
        more = f"; {_CHECK}; write {whole:g} where no bound is meant" if check else ""
        yield Remark(("eps",), doubt + more, wrong=False)


def range_of(norm: Norm | None, shape: tuple[int, int, int]) -> Range:
    """Return the natural range of a length in a norm."""
    most = PIXELS.most if norm is None else diameter(norm, shape)
    if norm in (None, Norm.LINF):
        return PIXELS
    if norm in BALLS:
        return Range(most, f"images {shape} of pixels in [0, 1] are no further apart in {norm}", levels=1.0)
    if norm is Norm.FLOW:
        return Range(most, f"no move within an image {shape} is longer")
    return Range(most, "severities end there")
