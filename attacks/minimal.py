"""Attacks that look for the smallest perturbation, by Foolbox: DDN, Carlini and Wagner, DeepFool, Brendel and Bethge.

None of them asks how large eps is: they walk to the boundary and along it. What is found is proposed where it lies
within eps; else the image is moved towards it, as far as eps allows. How far each image had to be moved is noted as
``distance``, in the norm of the threat model: a curve of accuracy over eps in one run. It is infinite where the victim
gets right what was found, whatever eps is. It is a claim; the judge looks at the proposal alone.

They weigh logits and slopes against constants: the library's were chosen for usual classifiers. So each is shown the
logits of an image in the power of 2 in which they span from 8 to 16 on the clean one.

A smallest perturbation ends where the victim begins to err, so a random one is right about it every other time. With
``extend`` the proposal goes on along the same line to the edge of the ball.
"""

from __future__ import annotations

import importlib.util
from copy import copy
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from attacks.library import sealed, seeded
from attacks.losses import log_ce, unit
from harness.components import Attack
from harness.core.threat import Norm
from harness.options import InNorm, Number
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Setting, Victim
    from harness.core.threat import ThreatModel
    from harness.draws import Draws

#: the import package, whose version and hash are kept with every result
PACKAGE = "foolbox"

#: what ``extend`` does
EXTEND = "propose not what was found, but the point on its line at the edge of the ball, beyond the boundary"


class DDN(Attack):
    """Decoupled direction and norm (Rony et al. 2019), in L2: the ball shrinks while the image in it is misclassified.

    Where a gradient is zero the library draws a direction for its whole batch, so the shard is that batch.
    """

    version: ClassVar[int] = 2
    library: ClassVar[str] = PACKAGE
    norms: ClassVar[tuple[Norm, ...]] = (Norm.L2,)

    class Options(BaseOptions):
        """The authors' defaults."""

        steps: int = Field(100, ge=1, description="gradient steps")
        init_eps: Annotated[Number, InNorm(step=False)] = Field(
            1.0, gt=0, description="radius of the ball to begin with"
        )
        gamma: Number = Field(0.05, gt=0, lt=1, description="share by which it grows and shrinks")
        extend: bool = Field(False, description=EXTEND)

    options: Options

    def propose(self, victim: Victim, x: Tensor, y: Tensor, threat: ThreatModel, draws: Draws) -> Tensor:
        """Return what was found where it lies within the budget, else what lies on the way there."""
        import foolbox

        options = self.options
        library = foolbox.attacks.DDNAttack(init_epsilon=options.init_eps, steps=options.steps, gamma=options.gamma)
        asked = _Asked(victim, draws, x, options.steps + 2)
        return _proposed(asked, x, y, _run(library, asked.climbing(y), x, y), threat, options.extend)


class CarliniWagner(Attack):
    """Carlini and Wagner (2017), in L2: distance plus a constant times the margin; the constant is searched for.

    ``abort_early`` stops when the whole batch makes no progress, so the shard is that batch.
    """

    version: ClassVar[int] = 2
    library: ClassVar[str] = PACKAGE
    norms: ClassVar[tuple[Norm, ...]] = (Norm.L2,)

    class Options(BaseOptions):
        """The authors' defaults, but for a tenth of their 10,000 steps."""

        steps: int = Field(1000, ge=1, description="Adam steps for each constant")
        search_steps: int = Field(9, ge=1, description="constants that are tried")
        step_size: Number = Field(0.01, gt=0, description="Adam's step, in the space where [0, 1] has no ends")
        initial_const: Number = Field(1e-3, gt=0, description="constant to begin with")
        confidence: Number = Field(0.0, ge=0, description="margin, in logits as they are shown, that is asked for")
        abort_early: bool = Field(True, description="give a constant up when the loss of the batch falls no more")
        extend: bool = Field(False, description=EXTEND)

    options: Options

    def propose(self, victim: Victim, x: Tensor, y: Tensor, threat: ThreatModel, draws: Draws) -> Tensor:
        """Return what was found where it lies within the budget, else what lies on the way there."""
        import foolbox
        import torch

        options = self.options
        asked = _Asked(victim, draws, x, options.search_steps * options.steps + 2)
        library = foolbox.attacks.L2CarliniWagnerAttack(
            binary_search_steps=options.search_steps,
            steps=options.steps,
            stepsize=options.step_size,
            confidence=options.confidence,
            initial_const=options.initial_const,
            abort_early=options.abort_early,
        )
        found = _run(library, asked, x, y)
        # where it finds nothing the library returns a black image, which it cannot find: tanh does not reach its limit
        black = (found == 0).flatten(1).all(1).reshape(-1, 1, 1, 1)
        return _proposed(asked, x, y, torch.where(black, x, found), threat, options.extend)


class DeepFool(Attack):
    """DeepFool (Moosavi-Dezfooli et al. 2016), in Linf and L2: steps to the nearest boundary of a linear victim."""

    version: ClassVar[int] = 2
    library: ClassVar[str] = PACKAGE
    by_example: ClassVar[bool] = True
    norms: ClassVar[tuple[Norm, ...]] = (Norm.LINF, Norm.L2)

    class Options(BaseOptions):
        """The authors' defaults."""

        steps: int = Field(50, ge=1, description="steps at most")
        candidates: int = Field(10, ge=2, description="classes, the likeliest ones, whose boundaries are looked at")
        overshoot: Number = Field(0.02, ge=0, le=1, description="share by which a boundary is overstepped")
        extend: bool = Field(False, description=EXTEND)

    options: Options

    def propose(self, victim: Victim, x: Tensor, y: Tensor, threat: ThreatModel, draws: Draws) -> Tensor:
        """Return what was found where it lies within the budget, else what lies on the way there."""
        import foolbox

        options = self.options
        chosen = {Norm.LINF: foolbox.attacks.LinfDeepFoolAttack, Norm.L2: foolbox.attacks.L2DeepFoolAttack}
        library = chosen[threat.norm](
            steps=options.steps, candidates=options.candidates, overshoot=options.overshoot, loss="logits"
        )
        looks = min(options.candidates, victim.n_classes) - 1
        asked = _Asked(victim, draws, x, options.steps * looks + 3)
        return _proposed(asked, x, y, _run(library, asked, x, y), threat, options.extend)


class BrendelBethge(Attack):
    """Brendel and Bethge (2019), in Linf, L2 and L1: along the boundary, from a wrong image towards the clean one.

    The walk keeps to the boundary of the class that it begins in, so it begins a little beyond what DDN finds, and at
    noise that is misclassified where DDN finds nothing. Of a random victim it walks along the boundary that a single
    draw has. Its solver is compiled by numba, for a minute, whenever a worker begins. The library's trust region grows
    with the batch, which is divided out here.
    """

    version: ClassVar[int] = 2
    library: ClassVar[str] = PACKAGE
    norms: ClassVar[tuple[Norm, ...]] = (Norm.LINF, Norm.L2, Norm.L1)

    class Options(BaseOptions):
        """The authors' defaults."""

        steps: int = Field(1000, ge=1, description="steps along the boundary")
        lr: Number = Field(1e-3, gt=0, le=1, description="radius of the trust region, as a share of all pixels")
        lr_decay: Number = Field(0.5, gt=0, le=1, description="factor by which it shrinks, 20 times in all")
        overshoot: Number = Field(1.1, ge=1, le=2, description="how far a step goes: 1: to the boundary")
        momentum: Number = Field(0.8, ge=0, lt=1, description="weight of earlier normals of the boundary")
        search_steps: int = Field(10, ge=1, description="halvings between start and image, to find the boundary")
        init_steps: int = Field(100, ge=1, description="of DDN, and draws of noise, to find where to begin")
        extend: bool = Field(False, description=EXTEND)

    options: Options

    def refuses(self, setting: Setting) -> str | None:
        """Refuse an installation without numba."""
        if importlib.util.find_spec("numba") is None:
            return "brendel-bethge needs numba, which compiles its solver; install purebench[brendel-bethge]"
        return None

    def propose(self, victim: Victim, x: Tensor, y: Tensor, threat: ThreatModel, draws: Draws) -> Tensor:
        """Return what was found where it lies within the budget, else what lies on the way there."""
        options = self.options
        expected = 2 * options.init_steps + options.steps + options.search_steps + 4
        asked = _Asked(victim, draws, x, expected, fixed=True)
        start, rows = self._starts(asked, x, y)
        found = x.clone()
        if bool(rows.any()):
            part = asked.of(rows)
            found[rows] = _run(self._library(threat.norm, int(rows.sum())), part, x[rows], y[rows], start[rows])
        return _proposed(asked, x, y, found, threat, options.extend)

    def _library(self, norm: Norm, n: int) -> Any:
        import warnings

        import foolbox

        options, attacks = self.options, foolbox.attacks
        chosen = {
            Norm.LINF: attacks.LinfinityBrendelBethgeAttack,
            Norm.L2: attacks.L2BrendelBethgeAttack,
            Norm.L1: attacks.L1BrendelBethgeAttack,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it compiles its solver
            return chosen[norm](
                overshoot=options.overshoot,
                steps=options.steps,
                lr=options.lr / n,
                lr_decay=options.lr_decay,
                momentum=options.momentum,
                binary_search_steps=options.search_steps,
            )

    def _starts(self, asked: _Asked, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return images to begin at, and which of them the victim gets wrong, ``(B,)``."""
        import foolbox

        from harness.bounds import clip

        found = _run(foolbox.attacks.DDNAttack(steps=self.options.init_steps), asked.climbing(y), x, y)
        start = clip(x + 1.05 * (found - x))
        wrong = asked.fooled(start, y)
        for direction in range(self.options.init_steps):
            if bool(wrong.all()):
                break
            noise = asked.draws.at("noise", direction).uniform(*x.shape[1:]).to(x.dtype)
            fresh = asked.fooled(noise, y) & ~wrong
            start[fresh], wrong = noise[fresh], wrong | fresh
        return start, wrong


# ---------------------------------------------------------------------- between the library and the victim


class _Asked:
    """A victim as the library wants it: a function of images alone, with bounds.

    The library asks about all images at once, in their order, so a random victim draws by call and example. It calls
    ``backward``, which leaves gradients at every parameter behind the images; here they reach the images alone.

    Args:
        victim: what is asked.
        draws: of the images.
        x: the clean images, whose logits tell their units.
        expected: how often it is asked at most, for telling how much is done.
        fixed: whether a random victim draws the same in every call.
    """

    def __init__(self, victim: Victim, draws: Draws, x: Tensor, expected: int, *, fixed: bool = False) -> None:
        import torch
        from foolbox.types import Bounds

        from harness.bounds import HIGH, LOW

        self.victim, self.draws, self.expected, self.fixed = victim, draws, expected, fixed
        self.bounds = Bounds(LOW, HIGH)
        self.calls = 0
        with torch.no_grad():
            self.units = unit(victim.logits(x, draws.at("unit")))
        self.through = sealed(self._logits)
        self.whole: _Asked | None = None

    def of(self, rows: Tensor) -> _Asked:
        """Return the same for some of the images."""
        part = copy(self)
        part.draws, part.units, part.whole = self.draws.take(rows), self.units[rows], self
        part.through = sealed(part._logits)
        return part

    def climbing(self, y: Tensor) -> _Asked:
        """Return the same for who follows the direction of the cross-entropy of these labels, and nothing else."""
        import torch

        def slopes(logits: Tensor) -> Tensor:
            with torch.enable_grad():
                at = logits.requires_grad_(True)
                return torch.autograd.grad(log_ce(at, y).sum(), at)[0]

        part = copy(self)
        part.whole = self
        part.through = sealed(part._logits, slopes)
        return part

    def fooled(self, x: Tensor, y: Tensor) -> Tensor:
        """Return which images the victim gets wrong, ``(B,)``."""
        import torch

        with torch.no_grad():
            return self._logits(x).argmax(1) != y

    def __call__(self, inputs: Any) -> Any:
        import eagerpy
        import torch

        x, restored = eagerpy.astensor_(inputs)
        raw: Tensor = x.raw
        if torch.is_grad_enabled() and raw.requires_grad:
            return restored(eagerpy.astensor(self.through(raw)))
        with torch.no_grad():
            return restored(eagerpy.astensor(self._logits(raw)))

    def _logits(self, x: Tensor) -> Tensor:
        call = self._count()
        return self.victim.logits(x, self.draws.at("call", 0 if self.fixed else call)) / self.units[:, None]

    def _count(self) -> int:
        if self.whole is not None:
            return self.whole._count()
        self.calls += 1
        self.victim.progress(min(1.0, self.calls / self.expected))
        return self.calls


def _run(library: Any, asked: _Asked, x: Tensor, y: Tensor, start: Tensor | None = None) -> Tensor:
    """Return what the library finds, with torch's global generator seeded by the images' address and left as it was."""
    import torch
    from foolbox.criteria import Misclassification

    more = {} if start is None else {"starting_points": start}
    with seeded(asked.draws.at("library")), torch.enable_grad():
        found: Tensor = library.run(asked, x.detach(), Misclassification(y), **more)
    return found.detach().to(x.dtype)


def _proposed(asked: _Asked, x: Tensor, y: Tensor, found: Tensor, threat: ThreatModel, extend: bool) -> Tensor:
    """Note how far what was found is from each image, and return what is within the budget."""
    import torch

    from harness.bounds import project, size

    found = torch.where(torch.isfinite(found).flatten(1).all(1).reshape(-1, 1, 1, 1), found, x)
    distance = size(found - x, threat.norm)
    fooled = asked.fooled(found, y)
    asked.victim.note("distance", torch.where(fooled, distance, torch.full_like(distance, torch.inf)))
    asked.victim.progress(1.0)
    if extend:
        times = (threat.eps / distance.clamp_min(1e-12)).reshape(-1, 1, 1, 1)
        return project(x + times * (found - x), x, threat.eps, threat.norm)
    near = (distance <= threat.eps).reshape(-1, 1, 1, 1)
    # what is near enough is proposed to the last bit: at a boundary that decides
    return torch.where(near, found, project(found, x, threat.eps, threat.norm))
