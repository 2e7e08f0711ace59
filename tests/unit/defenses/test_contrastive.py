"""Contrastive guidance: its loss against a loop over pairs, and what it depends on."""

import math

import pytest
import torch
from torch import nn

from defenses.contrastive import BLOCKS, Contrastive, _first_weights, contrast, embed
from harness.draws import Draws


def draws(n):
    return Draws(("contrastive",), torch.arange(n))


def numbers(name, *shape):
    return Draws((name,), torch.arange(shape[0])).normal(*shape[1:]).double()


def options(**how):
    return Contrastive.Options(**({"unet": "u", "guide": "g", "t_star": 40, "steps": 4} | how))


#: what an image is on its own
ALONE = {"mates": "alone", "sees": "pixels"}


class Bent(nn.Module):
    def forward(self, state, level):
        return torch.tanh(1.3 * state)


class Judge(nn.Module):
    """Three classes; not linear."""

    def forward(self, x):
        flat = x.flatten(1)
        return 3 * torch.stack([flat.sum(1), (flat**2).sum(1), flat[:, 0] * flat[:, -1] - 1], 1)


NETS = {"unet": Bent(), "guide": Judge()}


def by_hand(one, other, temperature, beta, tau, hard):
    """The loss of a group, pair by pair."""
    size = len(one)
    views = [*one, *other]

    def likeness(a, b):
        return math.exp(float(a @ b / (a.norm() * b.norm())) / temperature)

    losses = []
    for row, view in enumerate(views):
        positive = likeness(view, views[(row + size) % (2 * size)])
        negatives = [likeness(view, views[k]) for k in range(2 * size) if k % size != row % size]
        n = len(negatives)
        total = sum(negatives)
        if hard:
            weights = [value**beta for value in negatives]
            weighted = sum(w * v for w, v in zip(weights, negatives, strict=True)) / (sum(weights) / n)
            total = max((weighted - tau * n * positive) / (1 - tau), n * math.exp(-1 / temperature))
        losses.append(-math.log(positive / (positive + total)))
    return sum(losses) / len(losses)


def test_by_default_it_is_the_authors_for_cifar10():
    """Their script for Linf 8/255 and the defaults of its arguments."""
    paper = Contrastive.Options(unet="u", guide="g")
    assert (paper.t_star, paper.steps, paper.sampler, paper.clock) == (100, 100, "sde", "floor")
    assert (paper.multiplier, paper.batch, paper.start, paper.lr) == (500, 64, 0, 0.01)
    assert (paper.estimator, paper.tau_plus, paper.beta, paper.temperature) == ("hard", 0.1, 1, 1)
    assert (paper.mates, paper.sees) == ("batch", "state")
    assert Contrastive(paper).traits.batchwise


class Watching(Judge):
    """Keeps what it is shown."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x.detach())
        return super().forward(x)


@pytest.mark.parametrize("mates", ["batch", "alone"])
def test_the_guide_is_shown_the_state_as_it_is_or_as_pixels(mates):
    seen = {}
    for sees in ("state", "pixels"):
        guide = Watching()
        Contrastive(options(sees=sees, mates=mates, multiplier=0)).purify(
            0.5 + 0.1 * numbers("x", 3, 1, 2, 2), {"unet": Bent(), "guide": guide}, draws(3)
        )
        seen[sees] = guide.seen
    assert len(seen["state"]) == 6  # at all evaluations but the first: the state before, and the state
    for state, pixels in zip(seen["state"], seen["pixels"], strict=True):
        assert torch.allclose(pixels, (state + 1) / 2)


def test_an_image_is_pulled_alike_in_a_small_batch_and_in_a_large_one():
    """Of a batch that holds the same images twice each has the same negatives, twice, and half of the mean."""
    x = 0.5 + 0.1 * numbers("x", 4, 1, 2, 2)
    found = []
    for times in (1, 2):
        defense = Contrastive(options(multiplier=40.0, batch=4, beta=0.0, tau_plus=0.0, steps=2, sampler="ddim"))
        found.append(defense.purify(x.repeat(times, 1, 1, 1), NETS, Draws(("b",), torch.arange(4).repeat(times)))[:4])
    plain = Contrastive(options(multiplier=0, steps=2, sampler="ddim")).purify(x, NETS, Draws(("b",), torch.arange(4)))
    once, twice = (float((one - plain).norm()) for one in found)
    assert 0.5 < twice / once < 2  # not half: what is left is that an image meets itself among its negatives


def test_the_multiplier_is_that_of_a_batch():
    x = 0.5 + 0.1 * numbers("x", 4, 1, 2, 2)
    one, other = (
        Contrastive(options(multiplier=multiplier, batch=batch)).purify(x, NETS, draws(4))
        for multiplier, batch in ((20.0, 4), (320.0, 64))
    )
    assert torch.allclose(one, other)


@pytest.mark.parametrize("estimator", ["hard", "soft"])
def test_all_pairs_of_a_batch_can_be_positives(estimator):
    """As their code has it: each image before with each image now, against the negatives of the former's row."""
    one, other = numbers("one", 1, 4, 5), numbers("other", 1, 4, 5)
    how = options(pairs="all", estimator=estimator, tau_plus=0.15, beta=1.5, temperature=0.7)
    views = [*one[0], *other[0]]

    def likeness(a, b):
        return math.exp(float(a @ b / (a.norm() * b.norm())) / 0.7)

    losses = []
    for row in range(8):
        negatives = [likeness(views[row], views[k]) for k in range(8) if k % 4 != row % 4]
        for k in range(4):
            positive, total = likeness(views[row % 4], views[4 + k]), sum(negatives)
            if estimator == "hard":
                weighted = sum(n**2.5 for n in negatives) / (sum(n**1.5 for n in negatives) / 6)
                total = max((weighted - 0.15 * 6 * positive) / 0.85, 6 * math.exp(-1 / 0.7))
            losses.append(-math.log(positive / (positive + total)))
    assert float(contrast(one, other, how)) == pytest.approx(sum(losses) / len(losses), rel=1e-9)


@pytest.mark.parametrize("estimator", ["hard", "soft"])
@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_the_loss_is_what_a_loop_over_pairs_gives(estimator, temperature):
    one, other = numbers("one", 2, 4, 5), numbers("other", 2, 4, 5)
    found = contrast(one, other, options(estimator=estimator, temperature=temperature, beta=1.5, tau_plus=0.15))
    wanted = [by_hand(a, b, temperature, 1.5, 0.15, estimator == "hard") for a, b in zip(one, other, strict=True)]
    assert found.tolist() == pytest.approx(wanted, rel=1e-9)


def test_alone_only_nearness_counts():
    one, other = numbers("one", 3, 1, 5), numbers("other", 3, 1, 5)
    cosine = torch.nn.functional.cosine_similarity(one[:, 0], other[:, 0])
    positive = cosine.exp()
    assert torch.allclose(contrast(one, other, options()), -(positive / (positive + 2 / math.e)).log())


def test_the_embedding_is_three_gated_blocks_each_beside_the_identity():
    weights = [numbers(f"w{k}", 1, *shape) for k, shape in enumerate([(6, 3), (6, 3), (3, 6)] * BLOCKS)]
    value = wanted = numbers("logits", 1, 2, 3)
    for block in range(3):
        gate, up, out = (weight[0] for weight in weights[3 * block : 3 * block + 3])
        rows = []
        for row in wanted[0]:
            opened = gate @ row
            rows.append(row + out @ (opened * torch.sigmoid(opened) * (up @ row)))
        wanted = torch.stack(rows)[None]
    assert torch.allclose(embed(value, weights), wanted)


def test_the_second_prediction_gets_the_gradient_of_the_loss_and_the_first_gets_none():
    """A network that finds no noise: a DDIM step then moves by what the guidance adds alone."""
    x, states = (0.5 + 0.1 * numbers("x", 3, 1, 2, 2)), []

    class Still(nn.Module):
        def forward(self, state, level):
            states.append(state)
            return torch.zeros_like(state)

    how = options(multiplier=7.0, sampler="ddim", t_star=30, steps=3, **ALONE)
    Contrastive(how).purify(x, {"unet": Still(), "guide": Judge()}, draws(3))
    kept = torch.cumprod(1 - torch.linspace(1e-4, 2e-2, 1000, dtype=torch.float64), 0)[[29, 19, 9]]
    assert torch.allclose(states[1], (kept[1] / kept[0]).sqrt() * states[0], atol=1e-6)
    at = states[1].clone().requires_grad_(True)
    before, now = (Judge()((state + 1) / 2)[:, None] for state in (states[0], at))
    weights = _first_weights(3, 3, before, draws(3))
    (towards,) = torch.autograd.grad(contrast(embed(before, weights), embed(now, weights), how).sum(), at)
    noise = 7.0 * towards
    image = (states[1] - (1 - kept[1]).sqrt() * noise) / kept[1].sqrt()
    assert torch.allclose(states[2], kept[2].sqrt() * image + (1 - kept[2]).sqrt() * noise, atol=1e-6)
    assert float(noise.abs().max()) > 1e-3


@pytest.mark.parametrize("how", [ALONE, {}, {"pairs": "all"}, {"estimator": "soft", "sampler": "ddpm"}])
def test_the_gradient_agrees_with_finite_differences(how):
    """Through the guidance, the states before and the training of the embedding."""
    x = (0.5 + 0.1 * numbers("x", 3, 1, 2, 2)).requires_grad_(True)
    defense = Contrastive(options(multiplier=2.0, batch=3, **how))
    assert torch.autograd.gradcheck(lambda at: defense.purify(at, NETS, draws(3)), (x,), eps=1e-6, atol=1e-6, rtol=1e-5)


def test_a_detached_guidance_hides_a_part_of_the_gradient():
    x = (0.5 + 0.1 * numbers("x", 3, 1, 2, 2)).requires_grad_(True)
    found = []
    for path in ("attached", "detached"):
        purified = Contrastive(options(multiplier=2.0, batch=3, path=path)).purify(x, NETS, draws(3))
        found.append((purified.detach(), torch.autograd.grad(purified.sum(), x)[0]))
    assert torch.allclose(found[0][0], found[1][0])
    assert float((found[0][1] - found[1][1]).abs().max()) > 1e-3


def test_the_last_state_is_kept_and_nothing_of_the_embedding(monkeypatch):
    """As their script has it, which begins the embedding anew after each call."""
    begun = []

    def first(*asked):
        begun.append(asked)
        return _first_weights(*asked)

    monkeypatch.setattr("defenses.contrastive._first_weights", first)
    x = (0.5 + 0.1 * numbers("x", 4, 1, 2, 2)).clamp(0, 1)
    guide, defense = Watching(), Contrastive(options(memory="kept", multiplier=5.0))
    for _ in range(2):
        defense.purify(x, {"unet": Bent(), "guide": guide}, draws(4))
    assert len(begun) == 2
    assert len(guide.seen) == 6 + 8  # two looks at each evaluation; the first one of all has no state before
    assert torch.equal(guide.seen[6], guide.seen[5])


def test_what_is_kept_is_forgotten_where_images_of_another_shape_come():
    defense = Contrastive(options(memory="kept", multiplier=5.0, **ALONE))
    x = (0.5 + 0.1 * numbers("x", 4, 1, 2, 2)).clamp(0, 1)
    first = defense.purify(x, NETS, draws(4))
    again = defense.purify(x, NETS, draws(4))
    assert not torch.equal(first, again)
    defense.purify(x[:2], NETS, draws(2))
    assert torch.equal(defense.purify(x, NETS, draws(4)), first)
