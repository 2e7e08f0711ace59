"""AutoAttack (Croce and Hein 2020): the authors' library, standard and rand."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Setting, Victim
    from harness.core.threat import ThreatModel
    from harness.draws import Draws


class AutoAttack:
    """The ensemble as its authors fixed it; the library narrows its batch by its own claims, the harness judges."""

    version: ClassVar[int] = 1

    class Options(BaseOptions):
        """Which of the authors' versions."""

        version: Literal["standard", "rand"] = Field(
            "standard", description="standard: APGD-CE, APGD-DLR, FAB, Square; rand: APGD-CE and APGD-DLR with EOT 20"
        )

    def __init__(self, options: Options) -> None:
        self.options = options

    def refuses(self, setting: Setting) -> str | None:
        """Refuse too few classes for the targeted losses of the standard version."""
        needed = 10 if self.options.version == "standard" else 3
        if setting.data.n_classes < needed:
            return (
                f"autoattack {self.options.version} needs at least {needed} classes (9 targets, or a DLR loss of 3 "
                f"logits), and the dataset has {setting.data.n_classes}; use pgd"
            )
        return None

    def propose(self, victim: Victim, x: Tensor, y: Tensor, threat: ThreatModel, draws: Draws) -> Tensor:
        """Return the library's proposals; the shard is its batch, and its seed comes from the shard's address."""
        import logging

        import torch
        from pyautoattack import AutoAttack as Library

        # its warnings about random or dynamic defenses say what the defense's traits say already
        logging.getLogger("auto-attack").setLevel(logging.ERROR)
        with torch.random.fork_rng():  # the library seeds torch's global generator
            library = Library(
                _Calls(victim, draws),
                norm=threat.norm.value,
                eps=threat.eps,
                seed=draws.at("library").seed() % 2**31,  # from the clock unless told
                version=self.options.version,
                device=x.device,
            )
            # it calls .view on gradients: contiguous NCHW, or it is slow and then crashes
            proposed, _ = library.run_standard_evaluation(x.contiguous(), y, batch_size=len(x))
        result: Tensor = proposed.detach()
        return result


class _Calls:
    """A victim as the library wants it: a function of images alone.

    The library drops examples as it goes and does not say which, so a random defense draws by call and row.
    """

    def __init__(self, victim: Victim, draws: Draws) -> None:
        self.victim, self.draws, self.calls = victim, draws, 0

    def __call__(self, x: Tensor) -> Tensor:
        import torch

        from harness.draws import Draws

        self.calls += 1
        rows = torch.arange(len(x), device=x.device)
        return self.victim.logits(x, Draws((*self.draws.address, "call", self.calls), rows))
