"""AToP's random transforms: which patches go, how much noise comes, and what is made of what is left."""

import pytest
import torch
from torch import nn

from harness.draws import Draws
from harness.nets.mae import Reconstruction
from harness.nets.transforms import completed, masks
from harness.testing.nets import tiny_mae

MANY = Draws(("transforms",), torch.arange(400))
X = 0.2 + 0.6 * MANY.at("x").uniform(1, 8, 8)


class Copy(nn.Module):
    """Gives every patch that it sees back, and 7 for each that it does not; keeps what it was shown."""

    n_patches, patch, grid = 16, 2, (4, 4)

    def __init__(self):
        super().__init__()
        self.mae, self.seen = tiny_mae(), []

    def forward(self, x, order, mask_ratio):
        found = self.mae(x, order, mask_ratio)
        self.seen.append((x, found.hidden))
        return found._replace(patches=self.mae.patchify(x).masked_fill(found.hidden[:, :, None], 7.0))

    def pixels(self, patches, like):
        return self.mae.pixels(patches, like)


def transformed(transform, net=None, mask_ratio=0.25, sigma=0.25, **options):
    net = net or Copy()
    return net, *completed(net, X, MANY, transform=transform, mask_ratio=mask_ratio, sigma=sigma, **options)


def squares(hidden, side):
    """Of each square of patches, how many are hidden."""
    return hidden.reshape(-1, 4 // side, side, 4 // side, side).sum((2, 4))


# ---------------------------------------------------------------------- one mask


@pytest.mark.parametrize("transform", ["RT1", "RT2"])
@pytest.mark.parametrize(("mask_ratio", "removed"), [(0.25, 4), (0.5, 8), (0.3, 5), (0.01, 1), (0.9, 15)])
def test_one_mask_removes_its_share_of_the_patches(transform, mask_ratio, removed):
    net, found, image = transformed(transform, mask_ratio=mask_ratio)
    ((_, hidden),) = net.seen
    assert torch.equal(hidden, found.hidden)
    assert (hidden.sum(1) == removed).all()
    assert torch.equal((net.mae.patchify(image) == 7).all(2), hidden)


def test_every_patch_goes_as_often_as_any_other_and_each_image_has_a_mask_of_its_own():
    _, found, _ = transformed("RT2")
    share = found.hidden.float().mean(0)  # of 400 draws, each with a deviation of sqrt(3 / 16 / 400) = 0.022
    assert float((share - 0.25).abs().max()) < 4 * 0.022
    assert len(found.hidden.unique(dim=0)) > 300


@pytest.mark.parametrize("transform", ["RT1", "RT2", "RT3"])
@pytest.mark.parametrize("side", [1, 2])
def test_masks_are_made_of_squares(transform, side):
    net, _, _ = transformed(transform, patch=2 * side)
    for _, hidden in net.seen:
        assert set(squares(hidden, side).unique().tolist()) == {0, side**2}
        assert (hidden.sum(1) == 4).all()


# ---------------------------------------------------------------------- the noise


def test_noise_has_the_deviation_that_was_asked_for_and_none_is_in_the_first_transform():
    shown = {transform: transformed(transform)[0].seen[0][0] for transform in ("RT1", "RT2", "RT3")}
    assert torch.equal(shown["RT1"], X)
    for transform in ("RT2", "RT3"):
        noise = (shown[transform] - X).flatten()
        within = 4 * 0.25 / (2 * len(noise)) ** 0.5
        assert float(noise.std()) == pytest.approx(0.25, abs=within)
        assert float(noise.mean()) == pytest.approx(0.0, abs=4 * 0.25 / len(noise) ** 0.5)
        assert float((noise / 0.25).pow(4).mean()) == pytest.approx(3.0, rel=0.1)  # the fourth moment of a Gaussian
    assert float(shown["RT2"].max()) > 1.0  # not clipped


# ---------------------------------------------------------------------- masks that cover


@pytest.mark.parametrize(
    ("mask_ratio", "n"), [(0.5, 2), (1 / 3, 3), (0.25, 4), (0.2, 5), (1 / 16, 16), (0.97, 2), (0.3, 4)]
)
def test_masks_that_cover_remove_each_patch_once_from_the_same_noisy_image(mask_ratio, n):
    net, found, image = transformed("RT3", mask_ratio=mask_ratio)
    assert len(net.seen) == n
    assert torch.equal(torch.stack([hidden for _, hidden in net.seen]).sum(0), torch.ones(400, 16, dtype=torch.int64))
    sizes = {int(count) for _, hidden in net.seen for count in hidden.sum(1)}
    assert sizes == {16 // n, -(-16 // n)}
    assert all(torch.equal(shown, net.seen[0][0]) for shown, _ in net.seen)
    assert bool(found.hidden.all())
    assert bool((image == 7).all())  # nothing that was seen is in the image


def test_each_patch_is_the_one_that_was_predicted_while_it_was_hidden():
    class Numbered(Copy):
        def forward(self, x, order, mask_ratio):
            found = super().forward(x, order, mask_ratio)
            return found._replace(patches=torch.full_like(found.patches, float(len(self.seen))))

    net, found, _ = transformed("RT3", Numbered())
    for number, (_, hidden) in enumerate(net.seen, start=1):
        assert bool((found.patches[hidden] == number).all())


# ---------------------------------------------------------------------- what there is not


@pytest.mark.parametrize("patch", [1, 3, 6, 16])
def test_squares_that_the_patches_do_not_make_up_are_told(patch):
    with pytest.raises(ValueError, match=f"expected masks of squares .* got a side of {patch} pixels"):
        masks(tiny_mae(), MANY, "RT2", 0.25, patch)


@pytest.mark.parametrize(("transform", "mask_ratio"), [("RT1", 0.95), ("RT3", 1 / 17)])
def test_a_mask_that_leaves_nothing_or_removes_nothing_is_told(transform, mask_ratio):
    with pytest.raises(ValueError, match="remove some of an image's 16 squares and leave some"):
        masks(tiny_mae(), MANY, transform, mask_ratio)


def test_predictions_normalised_by_patch_get_back_what_the_net_was_shown():
    net = tiny_mae(targets="normalised")
    found, image = completed(net, X, MANY, transform="RT2", mask_ratio=0.25, sigma=0.1)
    noisy = X + 0.1 * MANY.at("noise").normal(1, 8, 8)
    assert isinstance(found, Reconstruction)
    assert torch.equal(image, net.pixels(found.patches, noisy))
    assert not torch.allclose(image, net.pixels(found.patches, X), atol=1e-2)
