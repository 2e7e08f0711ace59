"""The contract of an objective: one number with a gradient at the network that learns, and at nothing else."""

from __future__ import annotations

import copy
import random
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from harness.core.contracts import BESIDE
from harness.core.errors import UserError
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.draws import Draws
from harness.testing.nets import CARD, tiny_cnn
from harness.training.context import Batch, Beside

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Attack, DataCard, Objective, Victim


class _Push:
    """Brightens every pixel, which is as cheap as an attack can be."""

    version = 1

    def refuses(self, setting: object) -> str | None:
        """Refuse nothing."""
        return None

    def propose(self, victim: Victim, x: Tensor, y: Tensor, threat: ThreatModel, draws: Draws) -> Tensor:
        """Return images at the end of the budget, having looked once."""
        victim.logits(x, draws)
        return (x + threat.eps).clamp(0.0, 1.0)


class ObjectiveContract:
    """What every objective promises.

    To test yours:

    1. Subclass, with a name that starts with ``Test``::

           class TestMine(ObjectiveContract):
               def make(self):
                   return Mine(Mine.Options(weight=0.5))

    2. Return the objective from ``make``.
    3. If it trains no classifier, return the module that learns from ``net``; it is put into train mode.
    4. If it stands on other networks than a classifier, return them, by role, from ``nets``; if it wants a certain
       attack, return it from ``attack``, and its budget from ``threat``.
    5. Run pytest.
    """

    def make(self) -> Objective:
        """Return the objective under test."""
        raise NotImplementedError("return the objective under test from make()")

    def card(self) -> DataCard:
        """Return the card of the dataset that is trained on."""
        return CARD

    def net(self) -> nn.Module:
        """Return a module that learns, the same weights at every call."""
        return tiny_cnn()

    def nets(self) -> dict[str, nn.Module]:
        """Return the networks that it stands on, by role."""
        return {"classifier": tiny_cnn(1)}

    def attack(self) -> Attack:
        """Return what is trained against, if the objective asks for it."""
        return _Push()  # type: ignore[return-value]

    def threat(self) -> ThreatModel:
        """Return its budget."""
        return ThreatModel(Norm.LINF, 0.1, Knowledge.FULL)

    # ------------------------------------------------------------------ what it says of itself

    def test_what_it_needs_is_what_a_recipe_can_name(self) -> None:
        """``needs`` and ``takes`` are of ``harness.core.contracts.BESIDE``."""
        objective = self.make()
        unknown = {*objective.needs, *objective.takes} - {*BESIDE}
        assert not unknown, f"expected needs and takes of {', '.join(BESIDE)}, got {', '.join(sorted(unknown))}"

    def test_it_asks_for_nothing_else(self) -> None:
        """A recipe that names what it needs is enough."""
        try:
            self._loss(self._learner())
        except UserError as error:
            raise AssertionError(f"expected a loss with what `needs` says, got: {error}") from error

    # ------------------------------------------------------------------ the loss

    def test_the_loss_is_one_finite_number(self) -> None:
        """With a gradient behind it."""
        loss: object = self._loss(self._learner())
        assert isinstance(loss, torch.Tensor), f"expected a tensor as loss, got {type(loss).__name__}"
        assert loss.ndim == 0, f"expected one number as loss, got a tensor {tuple(loss.shape)}; take the mean"
        assert bool(torch.isfinite(loss)), f"expected a finite loss, got {loss.item()}"
        assert loss.requires_grad, "expected a loss with a gradient, got one without; detach nothing on the way"

    def test_the_network_gets_a_gradient(self) -> None:
        """Finite, and not zero everywhere."""
        net = self._learner()
        self._loss(net).backward()  # type: ignore[no-untyped-call]
        found = [one.grad for one in net.parameters() if one.grad is not None]
        assert any(bool(one.any()) for one in found), "expected a gradient at the network that learns, got none"
        assert all(bool(torch.isfinite(one).all()) for one in found), "expected a finite gradient, got one that is not"

    def test_the_same_batch_has_the_same_loss(self) -> None:
        """Whatever was drawn before: random numbers come from the batch."""
        losses, others = [], (random.getstate(), str(np.random.get_state(legacy=False)))
        for seed in (0, 1):
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                losses.append(self._loss(self._learner()).item())
        drawn = losses[0] != losses[1] or (random.getstate(), str(np.random.get_state(legacy=False))) != others
        assert not drawn, (
            "expected the same loss of the same batch, got draws from a global generator; take random numbers from "
            "batch.draws"
        )

    # ------------------------------------------------------------------ what is left as it was

    def test_the_network_is_left_in_train_mode(self) -> None:
        """An attack may look at it in eval mode, in ``harness.training.context.held``."""
        net = self._learner()
        self._loss(net)
        still = [name or "itself" for name, module in net.named_modules() if not module.training]
        assert not still, f"expected the network in train mode afterwards, got {', '.join(still[:3])} in eval mode"

    def test_the_batch_is_left_alone(self) -> None:
        """Images and labels are those of the dataset."""
        batch = self._batch()
        x, y = batch.x.clone(), batch.y.clone()
        self.make().loss(self._learner(), batch, self._beside())
        assert torch.equal(batch.x, x), "expected images as they were, got others; write to a copy"
        assert torch.equal(batch.y, y), "expected labels as they were, got others; write to a copy"

    def test_what_it_stands_on_does_not_learn(self) -> None:
        """No weight, buffer, gradient or mode of the other networks changes."""
        beside = self._beside()
        before = {role: copy.deepcopy(net.state_dict()) for role, net in beside.nets.items()}
        net = self._learner()
        self.make().loss(net, self._batch(), beside).backward()  # type: ignore[no-untyped-call]
        for role, other in beside.nets.items():
            changed = [name for name, one in other.state_dict().items() if not torch.equal(one, before[role][name])]
            assert not changed, f"expected the {role} as it was, but {', '.join(changed[:3])} changed"
            training = any(module.training for module in other.modules())
            assert not training, f"expected the {role} in eval mode, got it in train mode"
            learned = any(one.grad is not None for one in other.parameters())
            assert not learned, f"expected no gradients at the {role}, got some; leave requires_grad as it is"

    # ------------------------------------------------------------------ helpers

    def _learner(self) -> nn.Module:
        return self.net().requires_grad_(True).train()

    def _batch(self) -> Batch:
        draws = Draws(("toy batch",), torch.arange(6))
        x = 0.15 + 0.7 * draws.at("x").uniform(*self.card().shape)
        return Batch(x, torch.arange(6) % self.card().n_classes, torch.Generator().manual_seed(0), draws)

    def _beside(self) -> Beside:
        """Return what a recipe names that names what is needed and nothing else."""
        objective = self.make()
        own = set(type(objective).Options.recipe_fields())
        nets = {role: net for role, net in self.nets().items() if role in {*objective.needs, *own}}
        attack = self.attack() if "attack" in objective.needs else None
        threat = self.threat() if "threat_model" in objective.needs else None
        return Beside(nets, attack, threat, self.card().n_classes)

    def _loss(self, net: nn.Module) -> Tensor:
        return self.make().loss(net, self._batch(), self._beside())
