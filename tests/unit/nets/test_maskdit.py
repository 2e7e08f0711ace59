"""The masked diffusion transformer against the formulas that it stands on, written out."""

from __future__ import annotations

import math

import pytest
import torch

from harness.draws import Draws
from harness.nets.mae import n_visible
from harness.nets.maskdit import MaskDiT, ToldBlock, levels, preconditioning
from harness.nets.sizes import MaskDiTSize
from harness.testing.nets import CARD, tiny_maskdit

DRAWS = Draws(("maskdit",), torch.arange(3))
X = DRAWS.at("x").uniform(1, 8, 8)
NOISE = DRAWS.at("noise").normal(1, 8, 8)
ORDER = DRAWS.at("order").permutation(16)
SIGMA = torch.tensor([0.05, 0.2, 1.0])


@pytest.mark.parametrize("sigma", [0.002, 0.1, 0.5, 3.0, 80.0])
@pytest.mark.parametrize("data", [0.5, 0.8])
def test_the_factors_are_those_of_the_table(sigma, data):
    found = [float(one) for one in preconditioning(torch.tensor([sigma], dtype=torch.float64), data)]
    root = math.sqrt(sigma * sigma + data * data)
    expected = [(data / root) ** 2, sigma * data / root, 1 / root, math.log(sigma) / 4, (root / (sigma * data)) ** 2]
    assert found == pytest.approx(expected, rel=1e-12)
    assert found[1] ** 2 * found[4] == pytest.approx(1.0)  # the error of the output is weighted by one


def test_without_noise_the_prediction_is_the_image():
    net = tiny_maskdit().double()
    found = net(X.double(), levels(X.double(), 0.0), ORDER, 0.0)
    assert torch.allclose(net.pixels(found, X), X.double(), atol=1e-14)
    near = net.pixels(net(X.double(), levels(X.double(), 1e-6), ORDER, 0.0), X)
    assert 0.0 < float((near - X).abs().max()) < 1e-4
    assert all(bool(torch.isfinite(loss).all()) for loss in net.losses(found, X, X, levels(X, 0.0)))


def test_noise_without_end_leaves_the_network_alone():
    net, far = tiny_maskdit().double(), torch.tensor([1e9], dtype=torch.float64)
    skip, out, _, _, _ = preconditioning(far, net.sigma_data)
    assert float(skip) < 1e-15
    assert float(out) == pytest.approx(net.sigma_data)


@pytest.mark.parametrize("sigma", [0.01, 0.25, 2.0])
def test_the_input_of_the_network_has_variance_one(sigma):
    net, seen = tiny_maskdit(), []
    net.embed.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    rng = torch.Generator().manual_seed(0)
    data = net.sigma_data * torch.randn(4000, 1, 8, 8, generator=rng)  # in [-1, 1], in a manner of speaking
    noisy = (data + 1.0) / 2.0 + sigma * torch.randn(4000, 1, 8, 8, generator=rng)
    net(noisy, levels(noisy, sigma), torch.arange(16).expand(4000, -1), 0.5)
    assert float(seen[0].var()) == pytest.approx(1.0, abs=0.02)
    assert float(seen[0].mean()) == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize("targets", ["raw", "normalised"])
def test_a_removed_patch_changes_nothing_of_what_is_found(targets):
    net, inner = tiny_maskdit(targets=targets), []
    for part in (net.encoder[0], net.decoder[-1]):
        part.register_forward_hook(lambda module, inputs, found: inner.append(found))
    before = net(X, SIGMA, ORDER, 0.5)
    changed = net.patchify(X)
    changed = net.unpatchify(torch.where(before.hidden[:, :, None], 1.0 - changed, changed))
    after = net(changed, SIGMA, ORDER, 0.5)
    assert float((changed - X).abs().max()) > 0.5
    assert inner[0].shape[1] == n_visible(16, 0.5)
    assert all(torch.equal(inner[i], inner[i + 2]) for i in range(2))
    assert torch.equal(before.patches, after.patches)


def test_a_preconditioned_removed_patch_reaches_its_own_prediction_alone_and_by_the_skip():
    net = tiny_maskdit(masked="preconditioned")
    found, moved = net(X, SIGMA, ORDER, 0.5), net(X + 0.1, SIGMA, ORDER, 0.5)
    one = int(ORDER[0, -1])
    patches = net.patchify(X)
    patches[0, one] += 0.1
    nudged = net(net.unpatchify(patches), SIGMA, ORDER, 0.5)
    change = nudged.patches - found.patches
    skip = 0.25 / (0.25 + (2 * 0.05) ** 2)
    assert torch.allclose(change[0, one], torch.full((4,), 0.1 * skip), atol=1e-6)
    change[0, one] = 0.0
    assert float(change.abs().max()) == 0.0
    assert not torch.equal(moved.patches, found.patches)


def test_a_visible_patch_changes_what_is_found_everywhere():
    net = tiny_maskdit()
    patches = net.patchify(X)
    patches[:, :] = patches.scatter_add(1, ORDER[:, :1, None].expand(-1, -1, 4), torch.full((3, 1, 4), 0.5))
    change = net(net.unpatchify(patches), SIGMA, ORDER, 0.5).patches - net(X, SIGMA, ORDER, 0.5).patches
    assert bool((change.abs().amax(2) > 0).all())


def test_the_network_is_told_the_noise_level():
    net, seen = tiny_maskdit(), []
    net.predict.register_forward_hook(lambda module, inputs, found: seen.append(found))
    for sigma in (0.1, 0.2):
        factor = net.factors(levels(X, sigma)).into[0]
        net((X - 0.5) / factor + 0.5, levels(X, sigma), ORDER, 0.5)  # the same input but for what is told
    assert float((seen[0] - seen[1]).abs().max()) > 1e-2


def test_an_untrained_network_predicts_what_the_skip_says_and_its_blocks_do_nothing():
    net = MaskDiT(MaskDiTSize(use="maskdit", patch=2, dim=16, depth=2, heads=2), CARD).eval()
    found = net.pixels(net(X, SIGMA, ORDER, 0.0), X)
    skip = 0.25 / (0.25 + (2.0 * SIGMA) ** 2)
    assert torch.allclose(found - 0.5, skip[:, None, None, None] * (X - 0.5), atol=1e-6)
    block, tokens = ToldBlock(16, 2, 8, 1e-6), torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(tokens, torch.ones(3, 8)), tokens)


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("masked", ["plain", "preconditioned"])
@pytest.mark.parametrize("targets", ["raw", "normalised"])
def test_losses_are_what_a_loop_over_patches_gives(targets, masked, ratio):
    net = tiny_maskdit(targets=targets, masked=masked).double()
    clean = X.double()
    noisy = clean + SIGMA[:, None, None, None] * NOISE
    found = net(noisy, SIGMA, ORDER, ratio)
    losses = net.losses(found, clean, noisy, SIGMA)
    for image in range(3):
        sigma = 2.0 * float(SIGMA[image])
        seen, removed = [], []
        for patch in range(16):
            row, column = 2 * (patch // 4), 2 * (patch % 4)
            cut = (image, 0, slice(row, row + 2), slice(column, column + 2))
            guess = found.patches[image, patch]
            if patch in ORDER[image, : n_visible(16, ratio)]:
                seen.append(float(((2 * guess - 2 * clean[cut].flatten()) ** 2).mean()))
                continue
            aim = 2 * noisy[cut].flatten() - 1
            if targets == "normalised":
                aim = (aim - aim.mean()) / math.sqrt(float(((aim - aim.mean()) ** 2).sum() / 3) + 1e-6)
                removed.append(float(((guess - aim) ** 2).mean()))
            else:
                removed.append(float(((2 * guess - 1 - aim) ** 2).mean()) / (sigma**2 + 0.25))
        weight = (sigma**2 + 0.25) / (sigma * 0.5) ** 2
        assert float(losses[0][image]) == pytest.approx(weight * sum(seen) / len(seen), rel=1e-6)
        assert float(losses[1][image]) == pytest.approx(sum(removed) / len(removed) if removed else 0.0, rel=1e-6)


def test_removed_patches_get_the_mean_and_deviation_of_the_images_that_are_named():
    net = tiny_maskdit(targets="normalised")
    found = net(X, SIGMA, ORDER, 0.5)
    image = net.patchify(net.pixels(found, X))
    assert torch.equal(image[~found.hidden], found.patches[~found.hidden])
    like = net.patchify(X)[found.hidden]
    guess = found.patches[found.hidden]
    expected = guess * (like.var(1, keepdim=True) + 1e-6 / 4).sqrt() + like.mean(1, keepdim=True)
    assert torch.allclose(image[found.hidden], expected, atol=1e-5)
