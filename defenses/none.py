"""No defense: the row that every other one is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from harness.components import Purifier
from harness.core.contracts import Traits
from harness.core.roles import Role

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Nets
    from harness.draws import Draws


class Undefended(Purifier):
    """The classifier alone."""

    version: ClassVar[int] = 1
    source: ClassVar[str] = "what every defense is compared with"
    role: ClassVar[Role] = Role.REFERENCE
    traits = Traits(random=False, differentiable=True)

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return the images as they are."""
        return x.clone()
