"""The contract of an attack, as tests against victims whose optimum is known."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from harness import bounds
from harness.core.contracts import Setting, Traits
from harness.core.threat import Knowledge, Norm, ThreatModel
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


class AttackContract:
    """What every attack promises.

    To test yours:

    1. Subclass, with a name that starts with ``Test``::

           class TestSwirl(AttackContract):
               def make(self):
                   return Swirl(Swirl.Options(steps=40))

    2. Return the attack from ``make``, with enough steps to solve a linear problem.
    3. Say in ``norms`` which norms it serves, if not both.
    4. Say what it is: ``random``, ``by_example``, ``inner``, ``maximises``.
    5. Run pytest.

    Attributes:
        norms: which norms the attack serves.
        random: other draws lead to other questions to the victim.
        by_example: an image is attacked alike alone and within a batch.
        inner: asks for losses inside the defense, and refuses whom has none; its victims here then have one.
        maximises: goes on lowering the margin after the boundary, and where the boundary is out of reach; False for
            an attack that proposes the clean image where it finds no success.
    """

    norms: ClassVar[tuple[Norm, ...]] = (Norm.LINF, Norm.L2)
    random: ClassVar[bool] = True
    by_example: ClassVar[bool] = True
    inner: ClassVar[bool] = False
    maximises: ClassVar[bool] = True

    def make(self) -> Attack:
        """Return the attack under test."""
        raise NotImplementedError("return the attack under test from make()")

    # ------------------------------------------------------------------ what a proposal is

    def test_proposals_have_the_images_shape_and_dtype(self) -> None:
        """Shape and dtype are those of the images."""
        for norm in self.norms:
            x, y, draws = self._victim().images()
            found = self._propose(self._victim(), x, y, norm, draws)
            assert isinstance(found, Tensor), f"expected a tensor of proposals, got {type(found).__name__}"
            assert found.shape == x.shape, f"expected proposals of shape {tuple(x.shape)}, got {tuple(found.shape)}"
            assert found.dtype == x.dtype, f"expected proposals of dtype {x.dtype}, got {found.dtype}"
            assert not found.requires_grad, "expected proposals without a graph behind them; detach them"

    def test_proposals_are_finite_and_in_range(self) -> None:
        """Pixels stay in [0, 1], also where the images touch its ends."""
        for norm in self.norms:
            x, y, draws = self._victim().images()
            x = bounds.clip(0.5 + 4.0 * (x - 0.5))  # many pixels at 0 or 1
            x[..., ::4] = 1.0 - x[..., ::4]  # some of them on the side that an attack pushes towards
            found = self._propose(self._victim(), x, y, norm, draws, share=8.0)
            assert bool(torch.isfinite(found).all()), f"expected finite proposals in {norm}, got some that are not"
            assert bool(((found >= 0.0) & (found <= 1.0)).all()), (
                f"expected pixels in [0, 1] in {norm}, got {float(found.min())} to {float(found.max())}; "
                "bounds.project keeps both budget and range"
            )

    def test_proposals_stay_within_the_budget(self) -> None:
        """No perturbation is larger than eps, but for rounding."""
        for norm in self.norms:
            x, y, draws = self._victim().images()
            for share in (1.05, 2.0):
                eps = share * self._victim().distance(norm)
                found = self._propose(self._victim(), x, y, norm, draws, share)
                largest = float(bounds.size(found - x, norm).max())
                assert largest <= eps + bounds.tolerance(eps), (
                    f"expected perturbations of at most {eps} in {norm}, got {largest}; use bounds.project"
                )

    # ------------------------------------------------------------------ randomness

    def test_the_same_draws_give_the_same_proposals(self) -> None:
        """Bit for bit, whatever was drawn in between, also against a random victim."""
        for norm in self.norms:
            for victim in (self._victim, self._noisy_victim):
                x, y, draws = victim().images()
                first = self._propose(victim(), x, y, norm, draws)
                torch.rand(3)
                second = self._propose(victim(), x, y, norm, draws)
                assert torch.equal(first, second), (
                    f"expected the same proposals from the same draws in {norm}, got others; "
                    "take every random number from draws"
                )

    def test_the_flag_random_is_honest(self) -> None:
        """Other draws lead to other questions exactly if the attack is random."""
        for norm in self.norms:
            x, y, draws = self._victim().images()
            asked = []
            for seed in (1, 2):
                victim = self._victim()
                self._propose(victim, x, y, norm, draws.at("seed", seed))
                asked.append(victim.questions)
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
            attack, victim = self.make(), self._victim()
            x, y, draws = victim.images()
            threat = ThreatModel(norm, 1.5 * victim.distance(norm), Knowledge.OBLIVIOUS)
            before, python = torch.random.get_rng_state(), random.getstate()
            attack.propose(victim, x, y, threat, draws)
            untouched = torch.equal(torch.random.get_rng_state(), before) and random.getstate() == python
            assert untouched, (
                "expected the global generators as they were, but the attack drew from them or seeded them; "
                "take every random number from draws, or wrap a library in torch.random.fork_rng()"
            )

    # ------------------------------------------------------------------ what is left as it was

    def test_images_and_labels_are_left_alone(self) -> None:
        """Inputs are read only."""
        for norm in self.norms:
            x, y, draws = self._victim().images()
            kept_x, kept_y = x.clone(), y.clone()
            self._propose(self._victim(), x, y, norm, draws)
            assert torch.equal(x, kept_x), "expected the images as they were, but the attack changed them in place"
            assert torch.equal(y, kept_y), "expected the labels as they were, but the attack changed them in place"
            assert not x.requires_grad, "expected images without gradients, but the attack turned them on in place"

    def test_the_victim_is_left_alone(self) -> None:
        """Parameters, their gradients and the training mode are what they were."""
        for norm in self.norms:
            victim = self._victim()
            x, y, draws = victim.images()
            before = {name: tensor.clone() for name, tensor in victim.net.state_dict().items()}
            flags = [parameter.requires_grad for parameter in victim.net.parameters()]
            self._propose(victim, x, y, norm, draws)
            for name, tensor in victim.net.state_dict().items():
                assert torch.equal(tensor, before[name]), f"expected the victim's {name} as it was, got a changed one"
            for name, parameter in victim.net.named_parameters():
                assert parameter.grad is None, (
                    f"expected no gradient at the victim's {name}, got one; use torch.autograd.grad(loss, x)"
                )
            assert flags == [parameter.requires_grad for parameter in victim.net.parameters()], (
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
            batch = self._propose(self._victim(), x, y, norm, draws)
            row = slice(2, 3)
            alone = self._propose(self._victim(), x[row], y[row], norm, draws.take(row))
            assert alone.shape == x[row].shape, (
                f"expected shape {tuple(x[row].shape)} for a batch of one, got {tuple(alone.shape)}"
            )
            if self.by_example:
                assert torch.allclose(alone, batch[row], atol=1e-5), (
                    f"expected an image to be attacked alike alone and within a batch in {norm}, got a difference of "
                    f"{float((alone - batch[row]).abs().max())}; average nothing over the batch, draw by example"
                )

    def test_progress_runs_from_0_to_1(self) -> None:
        """What is reported is a share of the work, and never falls."""
        for norm in self.norms:
            victim = self._victim()
            x, y, draws = victim.images()
            self._propose(victim, x, y, norm, draws)
            assert all(0.0 <= fraction <= 1.0 for fraction in victim.told), (
                f"expected progress between 0 and 1, got {victim.told}"
            )
            assert victim.told == sorted(victim.told), f"expected progress that never falls, got {victim.told}"

    # ------------------------------------------------------------------ strength

    def test_every_image_falls_just_beyond_the_known_distance(self) -> None:
        """With 5 % more than the closed form asks for, every image is misclassified."""
        for norm in self.norms:
            victim = self._victim()
            x, y, draws = victim.images()
            found = self._propose(victim, x, y, norm, draws, share=1.05)
            standing = int((victim.margins(found, y) > 0).sum())
            assert standing == 0, (
                f"expected every image of a linear victim to fall at 1.05 times its known {norm} distance, "
                f"but {standing} of {len(x)} stand"
            )

    def test_no_image_falls_just_short_of_the_known_distance(self) -> None:
        """With 5 % less, none can be: one that is was over budget."""
        for norm in self.norms:
            victim = self._victim()
            x, y, draws = victim.images()
            found = self._propose(victim, x, y, norm, draws, share=0.95)
            fallen = int((victim.margins(found, y) <= 0).sum())
            assert fallen == 0, (
                f"expected no image of a linear victim to fall at 0.95 times its known {norm} distance, "
                f"but {fallen} of {len(x)} did; the budget is not kept"
            )

    def test_the_margin_falls_as_far_as_it_can(self) -> None:
        """At least 95 % of eps times the dual norm, short of the boundary."""
        if not self.maximises:
            return
        for norm in self.norms:
            victim = self._victim()
            x, y, draws = victim.images()
            found = self._propose(victim, x, y, norm, draws, share=0.5)
            eps = 0.5 * victim.distance(norm)
            share = (victim.margins(x, y) - victim.margins(found, y)) / (eps * victim.dual(norm))
            assert float(share.min()) >= 0.95, (
                f"expected the margin of a linear victim to fall by 95 % of eps times the dual norm in {norm}, "
                f"got {100.0 * float(share.min()):.1f} %"
            )

    def test_a_random_victim_falls(self) -> None:
        """Proposals that fool the victim under the attack's own draws fool it under fresh ones."""
        for norm in self.norms:
            victim = self._noisy_victim()
            x, y, draws = victim.images()
            found = self._propose(victim, x, y, norm, draws, share=1.5)
            fresh = [victim.logits(found, draws.at("fresh", repeat)).argmax(1) != y for repeat in range(20)]
            share = float(torch.stack(fresh).float().mean())
            assert share >= 0.9, (
                f"expected a noisy linear victim to fall in 90 % of fresh draws at 1.5 times the {norm} distance, "
                f"got {100.0 * share:.0f} %"
            )

    # ------------------------------------------------------------------ planning

    def test_a_refusal_is_a_sentence(self) -> None:
        """``refuses`` returns None or says why."""
        for norm in (Norm.LINF, Norm.L2):
            for knowledge in Knowledge:
                for traits in (Traits(False, True), Traits(True, False, True)):
                    why = self.make().refuses(Setting(CARD, ThreatModel(norm, 0.1, knowledge), traits))
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

    def _victim(self) -> LinearVictim:
        return GuardedLinearVictim() if self.inner else LinearVictim()

    def _noisy_victim(self) -> NoisyLinearVictim:
        return GuardedNoisyLinearVictim() if self.inner else NoisyLinearVictim()

    def _propose(
        self, victim: LinearVictim, x: Tensor, y: Tensor, norm: Norm, draws: Draws, share: float = 1.5
    ) -> Tensor:
        """Attack with a budget that is a share of the images' known distance."""
        knowledge = Knowledge.BPDA if victim.random else Knowledge.OBLIVIOUS
        return self.make().propose(victim, x, y, ThreatModel(norm, share * victim.distance(norm), knowledge), draws)
