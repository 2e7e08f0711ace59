"""The contract of an attack, as tests against victims whose optimum is known."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from harness import bounds
from harness.components import Attack as BaseAttack
from harness.core.contracts import Setting, Traits
from harness.core.threat import BALLS, Knowledge, Norm, ThreatModel
from harness.testing.loaded import as_loaded
from harness.testing.nets import CARD
from harness.testing.victims import (
    GuardedLinearVictim,
    GuardedNoisyLinearVictim,
    LinearVictim,
    NoisyLinearVictim,
)

if TYPE_CHECKING:
    from harness.core.contracts import Attack
    from harness.draws import Draws


class _Attacked(NamedTuple):
    """An attack on the linear victim, with what was there before it.

    Attributes:
        victim: as the attack left it.
        x, y: what the attack was given, as it left them.
        clean, labels: the same, as they were.
        found: the proposals.
        state: of the victim's network before, by name; ``needs``, which parameters needed a gradient.
        quiet: whether the global generators are as they were.
    """

    victim: LinearVictim
    x: Tensor
    y: Tensor
    clean: Tensor
    labels: Tensor
    found: Tensor
    state: dict[str, Tensor]
    needs: list[bool]
    quiet: bool


class AttackContract:
    """What every attack promises.

    To test yours:

    1. Subclass, with a name that starts with ``Test``::

           class TestSwirl(AttackContract):
               def make(self):
                   return Swirl(Swirl.Options(steps=40))

    2. Return the attack from ``make``, with enough steps to solve a linear problem.
    3. Say in ``norms`` which norms it serves, if not Linf, L2 and L1, here and in the attack itself. How strong it must
       be is known for those three only.
    4. Say what it is: ``random``, ``by_example``, ``inner``, ``searches``, ``maximises``, ``stops``, ``reach``,
       ``units``, ``classes``.
    5. Run pytest.

    Attributes:
        norms: which norms the attack serves.
        random: other draws lead to other questions to the victim.
        by_example: an image is attacked alike alone and within a batch.
        inner: asks for losses inside the defense, and refuses whom has none; its victims here then have one.
        searches: looks for a proposal of its own; False for one that is given what it proposes.
        maximises: lowers the margin as far as it can where the boundary is out of reach; False for an attack that
            proposes the clean image where it finds no success, and for a loss whose optimum there is another point.
        reach: at how many times the known distance every image falls. More than 1.02 for a path that is too short for
            a random start, for one that follows another loss besides, and for a search without gradients.
        stops: proposes a point at the boundary itself, where a random victim is right every other time.
        units: what logits may be counted in with the attack as strong as ever. Fewer for one whose loss a library
            computes in float32 as a probability: the gauge notes where that saturates.
        classes: of the victim whose unit is changed. Two for an attack on the cross-entropy, which of more weighs all
            others alike where logits are small, and is another function then.
    """

    norms: ClassVar[tuple[Norm, ...]] = BALLS
    random: ClassVar[bool] = True
    by_example: ClassVar[bool] = True
    inner: ClassVar[bool] = False
    searches: ClassVar[bool] = True
    maximises: ClassVar[bool] = True
    reach: ClassVar[float] = 1.02
    stops: ClassVar[bool] = False
    units: ClassVar[tuple[float, ...]] = (1e-3, 30.0, 1e3, 1e6)
    classes: ClassVar[int] = 10

    _known: ClassVar[dict[tuple[Norm, bool], _Attacked]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        """Give each contract attacks of its own to look at."""
        super().__init_subclass__(**options)
        cls._known = {}

    def make(self) -> Attack:
        """Return the attack under test."""
        raise NotImplementedError("return the attack under test from make()")

    # ------------------------------------------------------------------ what a proposal is

    def test_proposals_have_the_images_shape_and_dtype(self) -> None:
        """Shape and dtype are those of the images; a flow has two channels."""
        for norm in self.norms:
            x, found = self._attacked(norm).clean, self._attacked(norm).found
            assert isinstance(found, Tensor), f"expected a tensor of proposals, got {type(found).__name__}"
            assert found.shape == _shape(x, norm), (
                f"expected proposals of shape {_shape(x, norm)}, got {tuple(found.shape)}"
            )
            assert found.dtype == x.dtype, f"expected proposals of dtype {x.dtype}, got {found.dtype}"
            assert not found.requires_grad, "expected proposals without a graph behind them; detach them"

    def test_proposals_are_finite_and_in_range(self) -> None:
        """Pixels stay in [0, 1], also where the images touch its ends; flows are rendered by the judge."""
        for norm in self.norms:
            x, y, draws = self._victim().images()
            x = bounds.clip(0.5 + 4.0 * (x - 0.5))  # many pixels at 0 or 1
            x[..., ::4] = 1.0 - x[..., ::4]  # some of them on the side that an attack pushes towards
            found = self._propose(self._victim(), x, y, norm, draws, share=8.0)
            assert bool(torch.isfinite(found).all()), f"expected finite proposals in {norm}, got some that are not"
            assert norm is Norm.FLOW or bool(((found >= 0.0) & (found <= 1.0)).all()), (
                f"expected pixels in [0, 1] in {norm}, got {float(found.min())} to {float(found.max())}; "
                "bounds.project keeps both budget and range"
            )

    def test_proposals_stay_within_the_budget(self) -> None:
        """No perturbation and no move is larger than eps, but for rounding; a corruption has no size."""
        for norm in (norm for norm in self.norms if norm is not Norm.CORRUPTION):
            x, y, draws = self._victim().images()
            for share in (1.05, 2.0):
                eps = _eps(norm, share)
                found = self._propose(self._victim(), x, y, norm, draws, share)
                largest = float(bounds.size(found if norm is Norm.FLOW else found - x, norm).max())
                assert largest <= eps + bounds.tolerance(eps), (
                    f"expected perturbations of at most {eps} in {norm}, got {largest}; use bounds.project"
                )

    # ------------------------------------------------------------------ randomness

    def test_the_same_draws_give_the_same_proposals(self) -> None:
        """Bit for bit, whatever was drawn in between, also against a random victim."""
        for norm in self.norms:
            for noisy in (False, True):
                first = self._attacked(norm, noisy=noisy)
                torch.rand(3)
                assert torch.equal(self._attack(norm, noisy=noisy).found, first.found), (
                    f"expected the same proposals from the same draws in {norm}, got others; "
                    "take every random number from draws"
                )

    def test_the_flag_random_is_honest(self) -> None:
        """Other draws lead to other questions exactly if the attack is random."""
        for norm in self.norms:
            x, y, draws = self._victim().images()
            other = self._victim()
            self._propose(other, x, y, norm, draws.at("seed", 1))
            asked = [self._attacked(norm).victim.questions, other.questions]
            same = len(asked[0]) == len(asked[1]) and all(
                torch.equal(a, b) for a, b in zip(asked[0], asked[1], strict=True)
            )
            assert same is not self.random, (
                f"expected random = {not same}, since other draws asked the victim {'the same' if same else 'another'} "
                f"questions in {norm}, but the contract says random = {self.random}"
            )

    def test_the_global_generators_are_left_alone(self) -> None:
        """The state of torch's and Python's generators is what it was."""
        for norm in self.norms:
            assert self._attacked(norm).quiet, (
                "expected the global generators as they were, but the attack drew from them or seeded them; "
                "take every random number from draws, or wrap a library in torch.random.fork_rng()"
            )

    # ------------------------------------------------------------------ what is left as it was

    def test_images_and_labels_are_left_alone(self) -> None:
        """Inputs are read only."""
        for norm in self.norms:
            seen = self._attacked(norm)
            assert torch.equal(seen.x, seen.clean), (
                "expected the images as they were, but the attack changed them in place"
            )
            assert torch.equal(seen.y, seen.labels), (
                "expected the labels as they were, but the attack changed them in place"
            )
            assert not seen.x.requires_grad, "expected images without gradients, but the attack turned them on in place"

    def test_the_victim_is_left_alone(self) -> None:
        """Parameters, their gradients and the training mode are what they were."""
        for norm in self.norms:
            seen = self._attacked(norm)
            victim = seen.victim
            for name, tensor in victim.net.state_dict().items():
                assert torch.equal(tensor, seen.state[name]), (
                    f"expected the victim's {name} as it was, got a changed one"
                )
            for name, parameter in victim.net.named_parameters():
                assert parameter.grad is None, (
                    f"expected no gradient at the victim's {name}, got one; use torch.autograd.grad(loss, x)"
                )
            assert seen.needs == [parameter.requires_grad for parameter in victim.net.parameters()], (
                "expected the victim's parameters to need gradients as before, but the attack changed that"
            )
            assert not any(module.training for module in victim.net.modules()), (
                "expected the victim in evaluation mode as before, but the attack switched it to training mode"
            )

    # ------------------------------------------------------------------ batches

    def test_a_batch_of_one_works(self) -> None:
        """One image alone is attacked, and as within a batch if the attack says so."""
        for norm in self.norms:
            x, y, draws = self._victim().images()
            batch = self._attacked(norm).found
            row = slice(2, 3)
            alone = self._propose(self._victim(), x[row], y[row], norm, draws.take(row))
            assert alone.shape == _shape(x[row], norm), (
                f"expected shape {_shape(x[row], norm)} for a batch of one, got {tuple(alone.shape)}"
            )
            if not self.by_example:
                continue
            if norm in (Norm.L1, Norm.FLOW):
                # of gradients that are equal but for rounding, a sparse step may take any; and of one that is nothing
                # but rounding, the sign is anything: what such a step changes is nothing to the victim
                victim, seen = self._victim(), [alone, batch[row]]
                if norm is Norm.FLOW:
                    seen = [bounds.warp(x[row], flow) for flow in seen]
                margins = [victim.margins(one, y[row]) for one in seen]
                apart = (margins[0] - margins[1]).abs().max()
            else:
                apart = (alone - batch[row]).abs().max()
            assert float(apart) <= 1e-4, (
                f"expected an image to be attacked alike alone and within a batch in {norm}, got a difference of "
                f"{float(apart)}; average nothing over the batch, draw by example"
            )

    def test_progress_runs_from_0_to_1(self) -> None:
        """What is reported is a share of the work, and never falls."""
        for norm in self.norms:
            victim = self._attacked(norm).victim
            assert all(0.0 <= fraction <= 1.0 for fraction in victim.told), (
                f"expected progress between 0 and 1, got {victim.told}"
            )
            assert victim.told == sorted(victim.told), f"expected progress that never falls, got {victim.told}"

    def test_claims_are_one_for_each_image(self) -> None:
        """What is noted for people to see is a number per image."""
        for norm in self.norms:
            seen = self._attacked(norm)
            for name, notes in seen.victim.notes.items():
                for values in notes:
                    assert values.shape == seen.labels.shape, (
                        f"expected the note {name!r} to have a value for each of the {len(seen.labels)} images, got "
                        f"the shape {tuple(values.shape)}"
                    )

    # ------------------------------------------------------------------ strength

    def test_every_image_falls_just_beyond_the_known_distance(self) -> None:
        """With ``reach`` times what the closed form asks for, 2 % more, every image is misclassified."""
        for norm in self._measured():
            victim = self._victim()
            x, y, draws = victim.images()
            found = self._propose(victim, x, y, norm, draws, share=self.reach)
            standing = int((victim.margins(found, y) > 0).sum())
            assert standing == 0, (
                f"expected every image of a linear victim to fall at {self.reach} times its known {norm} distance, "
                f"but {standing} of {len(x)} stand"
            )

    def test_no_image_falls_just_short_of_the_known_distance(self) -> None:
        """With 2 % less, none can be: one that is was over budget."""
        for norm in self._measured():
            victim = self._victim()
            x, y, draws = victim.images()
            found = self._propose(victim, x, y, norm, draws, share=0.98)
            fallen = int((victim.margins(found, y) <= 0).sum())
            assert fallen == 0, (
                f"expected no image of a linear victim to fall at 0.98 times its known {norm} distance, "
                f"but {fallen} of {len(x)} did; the budget is not kept"
            )

    def test_the_margin_falls_as_far_as_it_can(self) -> None:
        """At least 98 % of eps times the dual norm, short of the boundary; 1 / ``reach`` of it, to be exact."""
        if not self.maximises:
            return
        for norm in self._measured():
            victim = self._victim()
            x, y, draws = victim.images()
            found = self._propose(victim, x, y, norm, draws, share=0.5)
            eps = 0.5 * victim.distance(norm)
            share = (victim.margins(x, y) - victim.margins(found, y)) / (eps * victim.dual(norm))
            assert float(share.min()) >= 1.0 / self.reach, (
                f"expected the margin of a linear victim to fall by {100.0 / self.reach:.1f} % of eps times the dual "
                f"norm in {norm}, got {100.0 * float(share.min()):.1f} %"
            )

    def test_the_unit_of_the_logits_makes_no_difference(self) -> None:
        """Every image falls at the same distance whether logits are thousandths or millions, and so are gradients."""
        for norm in self._measured():
            for unit in self.units:
                victim = (GuardedLinearVictim if self.inner else LinearVictim)(self.classes, unit)
                x, y, draws = victim.images()
                found = self._propose(victim, x, y, norm, draws, share=self.reach)
                standing = int((victim.margins(found, y) > 0).sum())
                assert standing == 0, (
                    f"expected every image of a linear victim to fall at {self.reach} times its known {norm} distance "
                    f"with logits {unit:g} times as large too, but {standing} of {len(x)} stand; count a gradient in "
                    "its largest entry before its length is taken, and climb the margin or attacks.losses.raised"
                )

    def test_a_random_victim_falls(self) -> None:
        """Proposals that fool the victim under the attack's own draws fool it under fresh ones."""
        if self.stops:
            return
        for norm in self._measured():
            seen = self._attacked(norm, noisy=True)
            victim, draws = seen.victim, seen.victim.images()[2]
            fresh = [
                victim.logits(seen.found, draws.at("fresh", repeat)).argmax(1) != seen.labels for repeat in range(20)
            ]
            share = float(torch.stack(fresh).float().mean())
            assert share >= 0.9, (
                f"expected a noisy linear victim to fall in 90 % of fresh draws at {1.5 * self.reach:.2f} times the "
                f"{norm} distance, got {100.0 * share:.0f} %"
            )

    # ------------------------------------------------------------------ planning

    def test_a_refusal_is_a_sentence(self) -> None:
        """``refuses`` returns None or says why."""
        for norm in Norm:
            for knowledge in Knowledge:
                for traits in (Traits(False, True), Traits(True, False, True)):
                    why = self._made().refuses(Setting(CARD, ThreatModel(norm, 0.1, knowledge), traits))
                    assert why is None or len(why.split()) > 2, f"expected None or a sentence, got {why!r}"
                    assert why or not self.inner, (
                        "expected an attack that asks for an inner loss to refuse a setting that has none, with a why"
                    )

    def test_the_flag_inner_is_honest(self) -> None:
        """True exactly if a loss inside the defense is asked for."""
        for norm in self.norms:
            victim = GuardedLinearVictim()
            x, y, draws = victim.images()
            self._propose(victim, x, y, norm, draws)
            asked = bool(victim.asked)
            assert asked is self.inner, (
                f"expected inner = {asked}, since the attack {'asked' if asked else 'never asked'} for a loss inside "
                f"the defense in {norm}, but the contract says inner = {self.inner}"
            )

    # ------------------------------------------------------------------ helpers

    def _made(self) -> Attack:
        """Return the attack under test as it is when it has been loaded."""
        return as_loaded(self.make(), BaseAttack)

    def _victim(self) -> LinearVictim:
        return GuardedLinearVictim() if self.inner else LinearVictim()

    def _noisy_victim(self) -> NoisyLinearVictim:
        return GuardedNoisyLinearVictim() if self.inner else NoisyLinearVictim()

    def test_the_norms_are_those_it_says_to_serve(self) -> None:
        """A threat model of any other norm is refused before the attack is asked."""
        serves = self._made().norms
        assert set(serves) == set(self.norms), (
            f"expected an attack that serves {', '.join(self.norms)}, got one that says {', '.join(serves)}; "
            "write `norms` into the attack and into its contract"
        )

    def _measured(self) -> tuple[Norm, ...]:
        """Return the norms in which a distance is known that the attack has to find."""
        return tuple(norm for norm in self.norms if norm in BALLS) if self.searches else ()

    def _attacked(self, norm: Norm, *, noisy: bool = False) -> _Attacked:
        """Attack once what several of these tests look at; a noisy victim at half as far again as it has to fall."""
        if (norm, noisy) not in self._known:
            self._known[norm, noisy] = self._attack(norm, noisy=noisy)
        return self._known[norm, noisy]

    def _attack(self, norm: Norm, *, noisy: bool) -> _Attacked:
        victim = self._noisy_victim() if noisy else self._victim()
        x, y, draws = victim.images()
        clean, labels = x.clone(), y.clone()
        state = {name: tensor.clone() for name, tensor in victim.net.state_dict().items()}
        needs = [parameter.requires_grad for parameter in victim.net.parameters()]
        torch_before, before = torch.random.get_rng_state(), random.getstate()
        found = self._propose(victim, x, y, norm, draws, share=1.5 * self.reach if noisy else 1.5)
        quiet = torch.equal(torch.random.get_rng_state(), torch_before) and random.getstate() == before
        return _Attacked(victim, x, y, clean, labels, found, state, needs, quiet)

    def _propose(
        self, victim: LinearVictim, x: Tensor, y: Tensor, norm: Norm, draws: Draws, share: float = 1.5
    ) -> Tensor:
        """Attack with a budget that is a share of the images' known distance."""
        knowledge = Knowledge.BPDA if victim.random else Knowledge.OBLIVIOUS
        return self._made().propose(victim, x, y, ThreatModel(norm, _eps(norm, share), knowledge), draws)


def _shape(x: Tensor, norm: Norm) -> tuple[int, ...]:
    """Return the shape of proposals for images ``(B, C, H, W)``."""
    return (len(x), 2, *x.shape[2:]) if norm is Norm.FLOW else tuple(x.shape)


def _eps(norm: Norm, share: float) -> float:
    """Return a budget: a share of the toy images' distance, so many pixels, or the severity next to it."""
    match norm:
        case Norm.FLOW:
            return share
        case Norm.CORRUPTION:
            return float(min(max(round(share), 1), 5))
        case _:
            return share * LinearVictim().distance(norm)
