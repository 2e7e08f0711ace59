"""ADBM's bridge: where it begins and ends, whose steps stay on it, and that what is trained leads along it."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

from attacks.pgd import PGD
from defenses.diffpure import ADBM
from defenses.reverse import restore
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.draws import Draws
from harness.testing.nets import tiny_cnn, tiny_unet
from harness.training.bridge import Bridge, bridge, coefficient, drawn
from harness.training.context import Batch, Beside
from harness.training.objective_options import BridgeObjective

KEPT = np.cumprod(1.0 - np.linspace(1e-4, 2e-2, 1000))  # Ho et al. 2020, section 4
DRAWS = Draws(("bridge",), torch.arange(4))
X, Y = 0.2 + 0.6 * DRAWS.at("x").uniform(1, 8, 8), torch.arange(4)
BATCH = Batch(X, Y, torch.Generator(), DRAWS)


def column(values):
    return torch.as_tensor(values, dtype=torch.float64).reshape(-1, 1, 1, 1)


def at_step(step, image, noise, begin, sampler="ddpm"):
    kept = column(KEPT[step])
    pull = coefficient(kept, column(KEPT[begin - 1]), sampler)
    return Bridge(image, noise, torch.full((len(image),), step), kept, pull)


def numbers(n, name):
    return Draws((name,), torch.arange(n)).normal(1, 1, 2).double()


# ---------------------------------------------------------------------- the ends


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
@pytest.mark.parametrize("begin", [1, 100, 200, 1000])
def test_the_bridge_begins_at_the_noised_adversarial_image_and_ends_at_the_clean_one(sampler, begin):
    image, noise, perturbation = (numbers(5, name) for name in ("image", "noise", "perturbation"))
    first = at_step(begin - 1, image, noise, begin, sampler).state(perturbation)
    kept = KEPT[begin - 1]
    assert torch.allclose(first, math.sqrt(kept) * (image + perturbation) + math.sqrt(1 - kept) * noise, atol=1e-12)
    last = coefficient(column(1.0), column(kept), sampler)
    assert float(last.abs().max()) == 0.0
    one = column(1.0)
    assert torch.equal(Bridge(image, noise, torch.zeros(5), one, last).state(perturbation), image)


def test_states_have_the_marginals_of_the_bridge():
    image, perturbation = torch.full((20_000, 1, 1, 2), 0.4).double(), torch.full((20_000, 1, 1, 2), -0.3).double()
    here = at_step(60, image, numbers(20_000, "noise"), 150)
    kept, begin = KEPT[60], KEPT[149]
    pull = begin * (1 - kept) / ((1 - begin) * math.sqrt(kept))
    state = here.state(perturbation)
    assert 0.0 < pull < math.sqrt(begin)
    assert float(state.mean()) == pytest.approx(
        math.sqrt(kept) * 0.4 - 0.3 * pull, abs=5 * math.sqrt((1 - kept) / 40_000)
    )
    assert float(state.var()) == pytest.approx(1 - kept, rel=5 * math.sqrt(2 / 40_000))


def test_what_is_predicted_leaves_the_clean_image():
    image, noise, perturbation = (numbers(5, name) for name in ("image", "noise", "perturbation"))
    for step in (0, 70, 149):
        here = at_step(step, image, noise, 150)
        assert torch.allclose(here.seen(here.state(perturbation), here.target(perturbation)), image, atol=1e-9)


# ---------------------------------------------------------------------- the way


class Told(nn.Module):
    """Predicts what leaves a given image of a state; keeps the states."""

    def __init__(self, image):
        super().__init__()
        self.image, self.states = image, {}

    def forward(self, state, step):
        self.states[int(step[0])] = state
        kept = KEPT[int(step[0])]
        return (state - math.sqrt(kept) * self.image) / math.sqrt(1 - kept)


def test_deterministic_steps_stay_on_their_bridge_and_leave_the_papers():
    image, noise, perturbation = (numbers(5, name) for name in ("image", "noise", "perturbation"))
    net, draws = Told(image), Draws(("way",), torch.arange(5))
    begin = at_step(99, image, noise, 100, "ddim").state(perturbation)
    end = restore(begin, net, draws, t_star=100, steps=5, sampler="ddim")
    assert torch.allclose(end, image, atol=1e-4)
    assert list(net.states) == [99, 79, 59, 39, 19]
    for step, state in net.states.items():
        assert torch.allclose(state, at_step(step, image, noise, 100, "ddim").state(perturbation), atol=1e-5)
    papers = at_step(39, image, noise, 100, "ddpm").state(perturbation)
    assert not torch.allclose(net.states[39], papers, atol=1e-2)


def test_ancestral_steps_stay_on_the_papers_bridge():
    n = 40_000
    image, perturbation = torch.full((n, 1, 1, 2), 0.4).double(), torch.full((n, 1, 1, 2), -1.5).double()
    noise, net = numbers(n, "noise"), Told(image)
    begin = at_step(149, image, noise, 150).state(perturbation)
    end = restore(begin, net, Draws(("way",), torch.arange(n)), t_star=150, steps=3, sampler="ddpm")
    assert torch.allclose(end, image, atol=1e-6)
    assert list(net.states) == [149, 99, 49]
    for step, state in net.states.items():
        left = state - at_step(step, image, 0.0 * noise, 150).state(perturbation)
        assert float(left.mean()) == pytest.approx(0.0, abs=5 * math.sqrt((1 - KEPT[step]) / (2 * n)))
        assert float(left.var()) == pytest.approx(1 - KEPT[step], rel=5 * math.sqrt(1 / n))
        others = at_step(step, image, 0.0 * noise, 150, "ddim").state(perturbation)
        assert step == 149 or abs(float((state - others).mean())) > 0.05


def test_the_bridge_leads_to_the_clean_image_and_the_exact_noise_to_the_attacked_one():
    """The same way back from the same state: by what the bridge is trained on, and by the noise that was added."""
    x = X.double()
    perturbation = 0.1 * DRAWS.at("perturbation").normal(1, 8, 8).double().sign()
    attacked = x + perturbation
    noise = DRAWS.at("forward").normal(1, 8, 8).double()

    class Noise(nn.Module):
        def forward(self, state, step):
            return noise

    def purified(net):
        return ADBM(ADBM.Options(unet="tiny", noised="level")).purify(attacked, {"unet": net}, DRAWS)

    assert torch.allclose(purified(Told(2 * x - 1)), x, atol=1e-5)
    assert torch.allclose(purified(Noise()), attacked, atol=1e-5)
    above = ADBM(ADBM.Options(unet="tiny")).purify(attacked, {"unet": Noise()}, DRAWS)
    assert float((above - attacked).abs().max()) < 0.05  # noised to a step above the network's, as the authors have it


# ---------------------------------------------------------------------- what is learned

MEAN, SPREAD, PUSH = 0.3, 0.5, -0.4


class Gaussian(nn.Module):
    """The best prediction where clean pixels are N(MEAN, SPREAD^2) and the perturbation is always the same."""

    def __init__(self, push, begin):
        super().__init__()
        self.push, self.begin = push, begin

    def forward(self, state, step):
        kept = column(KEPT[step.numpy()])
        pull = coefficient(kept, column(KEPT[self.begin - 1]), "ddpm")
        spread = kept * SPREAD**2 + 1 - kept
        left = state - kept.sqrt() * MEAN - pull * self.push
        image = MEAN + kept.sqrt() * SPREAD**2 / spread * left  # posterior mean of x_0
        return (state - kept.sqrt() * image) / (1 - kept).sqrt()


class Push:
    """An attack that moves every pixel alike."""

    def propose(self, victim, x, y, threat, draws):
        victim.logits(x, draws)
        return x + PUSH / 2


def loss_of(net, x, draws, **objective):
    budget = ThreatModel(Norm.LINF, 0.4, Knowledge.OBLIVIOUS)
    batch = Batch(x, torch.zeros(len(x), dtype=torch.int64), torch.Generator(), draws)
    beside = Beside({"classifier": nn.Flatten()}, Push(), budget, 10)
    return float(bridge(net, batch, BridgeObjective(use="bridge", **objective), beside))


def test_the_best_prediction_of_gaussian_images_has_the_least_loss_and_its_way_ends_at_clean_images():
    """The plain diffusion's best prediction costs more on the bridge, and what it ends in is shifted."""
    n, begin = 20_000, 150
    draws = Draws(("gaussian",), torch.arange(n))
    x = (MEAN + SPREAD * draws.at("x").normal(1, 1, 2).double() + 1) / 2
    tuned, plain = Gaussian(PUSH, begin), Gaussian(0.0, begin)
    least = loss_of(tuned, x, draws, min_step=begin, max_step=begin)
    # the variance of what is predicted given the state, averaged over the steps: of x_0's posterior, abar / (1 - abar)
    kept = KEPT[:begin]
    expected = float(np.mean(kept / (1 - kept) * SPREAD**2 * (1 - kept) / (kept * SPREAD**2 + 1 - kept)))
    assert least == pytest.approx(expected, rel=0.02)
    for other in (plain, Gaussian(0.8 * PUSH, begin), Gaussian(1.2 * PUSH, begin)):
        assert loss_of(other, x, draws, min_step=begin, max_step=begin) > least + 1e-3

    noise = draws.at("forward").normal(1, 1, 2).double()
    state = at_step(begin - 1, 2 * x - 1, noise, begin).state(torch.full_like(x, PUSH))
    ends = {
        net: restore(state, net, draws, t_star=begin, steps=begin, sampler="ddpm").flatten() for net in (tuned, plain)
    }
    within = 5 * SPREAD / math.sqrt(2 * n)
    assert float(ends[tuned].mean()) == pytest.approx(MEAN, abs=within + 2e-3)
    assert float(ends[tuned].std()) == pytest.approx(SPREAD, rel=0.03)
    assert float(ends[plain].mean()) < MEAN - 0.1


# ---------------------------------------------------------------------- the objective


def test_levels_and_steps_are_uniform_and_fit_each_other():
    draws = Draws(("levels",), torch.arange(20_000))
    x = torch.zeros(20_000, 1, 1, 1).double()
    course = drawn(x, draws, BridgeObjective(use="bridge", min_step=3, max_step=5))
    pairs = {}
    for begin in (3, 4, 5):
        for step in range(begin):
            pull = coefficient(column(KEPT[step]), column(KEPT[begin - 1]), "ddpm")
            near = torch.isclose(course.pull.flatten(), pull.flatten(), rtol=1e-2)  # the schedule is in float32
            same = (course.step == step) & near
            pairs[begin, step] = int(same.sum())
    assert sum(pairs.values()) == 20_000
    for (begin, _), count in pairs.items():
        assert count == pytest.approx(20_000 / 3 / begin, abs=5 * math.sqrt(20_000 / 3 / begin))


@pytest.mark.parametrize("knowledge", [Knowledge.OBLIVIOUS, Knowledge.FULL])
def test_the_attack_has_the_state_of_the_loss_and_the_loss_is_the_formula(knowledge):
    net, cnn, asked = tiny_unet(), tiny_cnn(), []
    budget = ThreatModel(Norm.LINF, 0.1, knowledge)

    class Seen(PGD):
        def propose(self, victim, x, y, threat, draws):
            asked.append(victim)
            return super().propose(victim, x, y, threat, draws)

    attack = Seen(Seen.Options(steps=3, step_size=0.1))
    beside = Beside({"classifier": cnn}, attack, budget, 10)
    objective = BridgeObjective(use="bridge", min_step=100, max_step=200)
    loss = bridge(net, BATCH, objective, beside)
    (victim,) = asked
    assert not victim.random

    begin = 100 + (DRAWS.at("begin").uniform() * 101).long()
    step = (DRAWS.at("step").uniform() * begin).long()
    noise = DRAWS.at("noise").normal(1, 8, 8)
    kept, first = (torch.from_numpy(KEPT)[at].float().reshape(-1, 1, 1, 1) for at in (step, begin - 1))
    pull = first * (1 - kept) / ((1 - first) * kept.sqrt())

    def state(at):
        return kept.sqrt() * (2 * X - 1) + pull * 2 * (at - X) + (1 - kept).sqrt() * noise

    def ask(at, draws):
        if knowledge is Knowledge.OBLIVIOUS:
            return cnn(at)
        image = (state(at) - (1 - kept).sqrt() * net(state(at), step)) / kept.sqrt()
        return cnn((image + 1) / 2)

    other = DRAWS.at("whatever")
    near = X + 0.05
    assert torch.allclose(victim.logits(near, other), ask(near, other), atol=1e-5)
    x_adv = beside.attacked(ask, X, Y, DRAWS, random=False)
    assert float((x_adv - X).abs().max()) == pytest.approx(0.1, abs=1e-5)
    target = noise + pull / (1 - kept).sqrt() * 2 * (x_adv - X)
    assert float(loss) == pytest.approx(float(F.mse_loss(net(state(x_adv), step), target)), rel=1e-4)


def test_an_attack_may_ask_of_some_images_or_of_copies():
    net, answers = tiny_unet(), []

    class Some:
        def propose(self, victim, x, y, threat, draws):
            rows = torch.tensor([2, 0, 2])
            answers.append((victim.logits(x, draws)[rows], victim.logits(x[rows], draws.take(rows))))
            return x

    beside = Beside({"classifier": tiny_cnn()}, Some(), ThreatModel(Norm.LINF, 0.1, Knowledge.FULL), 10)
    bridge(net, BATCH, BridgeObjective(use="bridge"), beside)
    assert torch.allclose(*answers[0], atol=1e-5)


def test_levels_out_of_order_are_told():
    with pytest.raises(ValidationError, match="expected a max_step of at least min_step, 100, got 50"):
        BridgeObjective(use="bridge", max_step=50)
