"""Replay: adversarial examples that somebody else made, from a file, judged like any other."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from harness.components import Attack
from harness.core.errors import UserError
from harness.core.threat import Norm
from harness.data.proposals import NAME, read_proposals
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Setting, Victim
    from harness.core.threat import ThreatModel
    from harness.data.proposals import Proposals
    from harness.draws import Draws


class Replay(Attack):
    """Proposes what a file in the data folder has for an example, and the clean image where it has nothing.

    So a row can be challenged from outside: whoever thinks that it is too good sends images, and the judge measures
    them, projects back what is over budget, with a fault, and evaluates the rest with fresh randomness. What the
    attacker knew cannot be told from a file; the threat model says what is claimed. Nothing is drawn and the victim is
    not asked. Examples that the file lacks are noted as ``absent``, 1 each. What a file holds is told in
    ``harness.data.proposals``; ``purebench db export --format adversarial`` writes one from a cell that was measured.
    """

    version: ClassVar[int] = 1
    by_example: ClassVar[bool] = True
    norms: ClassVar[tuple[Norm, ...]] = tuple(Norm)

    class Options(BaseOptions):
        """Which file."""

        file: str = Field(pattern=NAME, description="name of an npz or a safetensors in the data folder, no path")
        sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="hash of the file")

    options: Options

    def refuses(self, setting: Setting) -> str | None:
        """Refuse a file that is not there, is another one, or does not fit the images and the threat model."""
        try:
            self._read(setting.data.shape, setting.threat)
        except UserError as error:
            return str(error)
        return None

    def _read(self, shape: tuple[int, ...], threat: ThreatModel) -> Proposals:
        """Return what the file has for images of a shape ``(C, H, W)``."""
        found = read_proposals(self.options.file, self.options.sha256)
        flows = threat.norm is Norm.FLOW
        wanted = (2, *shape[1:]) if flows else shape
        if found.flows is flows and found.values.shape[1:] == wanted:
            return found
        expected, came = ("flows" if one else "images" for one in (flows, found.flows))
        raise UserError(f"expected {expected} {wanted} in {self.options.file}, got {came} {found.values.shape[1:]}")

    def propose(self, victim: Victim, x: Tensor, y: Tensor, threat: ThreatModel, draws: Draws) -> Tensor:
        """Return what the file has for the examples that ``draws`` are for.

        Raises:
            UserError: as ``refuses``.
        """
        import torch

        found = self._read(tuple(x.shape[1:]), threat)
        places, there = found.at(draws.examples.cpu().numpy())
        still = x.new_zeros(len(x), 2, *x.shape[2:]) if threat.norm is Norm.FLOW else x
        present = torch.from_numpy(there).to(x.device)
        proposed = still.clone()
        if bool(present.any()):
            proposed[present] = torch.from_numpy(found.values[places[there]]).to(x.device, x.dtype)
        victim.note("absent", (~present).to(x.dtype))
        victim.progress(1.0)
        return proposed
