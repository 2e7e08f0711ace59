"""No defense: the row that every other one is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from harness.core.contracts import Setting, Traits
from harness.options import NoOptions

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Nets
    from harness.draws import Draws


class Undefended:
    """The classifier alone."""

    version: ClassVar[int] = 1
    source: ClassVar[str] = "what every defense is compared with"
    Options = NoOptions

    def __init__(self, options: NoOptions) -> None:
        self.options = options

    @property
    def traits(self) -> Traits:
        """Fixed, and transparent to gradients."""
        return Traits(random=False, differentiable=True)

    def refuses(self, setting: Setting) -> str | None:
        """Refuse nothing."""
        return None

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return the images as they are."""
        return x.clone()
