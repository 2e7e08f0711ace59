"""Corruptions: what each does by its definition, that draws have addresses, and which one is proposed."""

from __future__ import annotations

import colorsys
import io
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from attacks.corruption import KINDS, Corruption, Kind, corrupted
from harness.core.contracts import DataCard, Setting, Traits
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.draws import Draws

ALL = get_args(Kind)
DRAWS = Draws(("corruption",), torch.arange(6))
SEVERITIES = range(1, 6)
#: published for other purposes than to be ever stronger: first paler, then brighter; first stretched, then rippled
UNORDERED = {"saturate", "elastic_transform"}


def images(channels=3, side=32, n=6):
    """Smooth images with some texture, in whole grey levels."""
    coarse = Draws(("images",), torch.arange(n)).uniform(channels, 8, 8)
    fine = Draws(("texture",), torch.arange(n)).uniform(channels, side, side)
    smooth = torch.nn.functional.interpolate(coarse, side, mode="bilinear")
    return ((0.8 * smooth + 0.2 * fine) * 255).round() / 255


def flat(level, n=6):
    return torch.full((n, 3, 32, 32), level)


def test_there_is_a_function_for_every_kind():
    assert tuple(KINDS) == ALL
    assert len(ALL) == 15


@pytest.mark.parametrize(
    ("kind", "channels", "side"),
    [(kind, *shape) for kind in ALL for shape in ((3, 32), (1, 8), (3, 20)) if (kind, shape) != ("saturate", (1, 8))],
)
def test_images_keep_their_shape_and_range_and_are_left_alone(kind, channels, side):
    x = images(channels, side)
    before = x.clone()
    for severity in (1, 5):
        found = corrupted(x.clamp(0.1, 0.9), kind, severity, DRAWS)
        assert found.shape == x.shape
        assert found.dtype == x.dtype
        assert 0.0 <= float(found.min()) <= float(found.max()) <= 1.0
    assert torch.equal(x, before)


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind not in UNORDERED])
def test_the_severer_the_further_from_the_image(kind):
    x = images()
    sizes = [(corrupted(x, kind, severity, DRAWS) - x).flatten(1).norm(dim=1).mean().item() for severity in SEVERITIES]
    assert all(one <= other + 1e-6 for one, other in pairwise(sizes)), sizes
    assert sizes[0] > 0.0
    assert sizes[4] > 1.2 * sizes[0]


@pytest.mark.parametrize("kind", ALL)
def test_an_image_is_corrupted_alike_alone_and_within_a_batch_and_again(kind):
    x = images()
    whole = corrupted(x, kind, 3, DRAWS)
    assert torch.equal(corrupted(x, kind, 3, DRAWS), whole)
    alone = corrupted(x[2:3], kind, 3, DRAWS.take(slice(2, 3)))
    assert torch.allclose(alone, whole[2:3], atol=1e-6)
    drawn = not torch.equal(corrupted(x, kind, 3, DRAWS.at("other")), whole)
    assert drawn is (kind.endswith("_noise") or kind in ("motion_blur", "fog", "elastic_transform"))


# ---------------------------------------------------------------------- noise


@pytest.mark.parametrize(("severity", "sigma"), list(zip(SEVERITIES, (0.04, 0.06, 0.08, 0.09, 0.10), strict=True)))
def test_gaussian_noise_has_the_published_deviation(severity, sigma):
    change = corrupted(flat(0.5), "gaussian_noise", severity, DRAWS) - 0.5
    assert float(change.std()) == pytest.approx(sigma, rel=0.02)
    assert abs(float(change.mean())) < 0.05 * sigma


@pytest.mark.parametrize("level", [0.2, 0.5])
def test_speckle_noise_is_in_proportion(level):
    change = corrupted(flat(level), "speckle_noise", 3, DRAWS) - level
    assert float(change.std()) == pytest.approx(0.12 * level, rel=0.02)


@pytest.mark.parametrize(("severity", "photons"), list(zip(SEVERITIES, (500, 250, 100, 75, 50), strict=True)))
def test_shot_noise_counts_photons(severity, photons):
    found = corrupted(flat(0.4), "shot_noise", severity, DRAWS).double()
    assert torch.allclose(found * photons, (found * photons).round(), atol=1e-4)
    assert float(found.mean()) == pytest.approx(0.4, rel=0.01)
    assert float(found.var()) == pytest.approx(0.4 / photons, rel=0.05)
    assert not corrupted(flat(0.0), "shot_noise", severity, DRAWS).any()


def test_impulse_noise_strikes_a_share_with_salt_and_pepper():
    found = corrupted(flat(0.4), "impulse_noise", 5, DRAWS)
    assert float((found == 0.0).float().mean()) == pytest.approx(0.035, rel=0.1)
    assert float((found == 1.0).float().mean()) == pytest.approx(0.035, rel=0.1)
    assert float((found == 0.4).float().mean()) == pytest.approx(0.93, rel=0.01)


# ---------------------------------------------------------------------- blur


@pytest.mark.parametrize("kind", ["defocus_blur", "motion_blur", "zoom_blur", "gaussian_blur", "pixelate"])
def test_a_blur_leaves_a_flat_image_as_it_is(kind):
    level = 128 / 255
    for severity in SEVERITIES:
        assert torch.allclose(corrupted(flat(level), kind, severity, DRAWS), flat(level), atol=1e-6)


def dot():
    x = torch.zeros(6, 3, 32, 32)
    x[:, :, 16, 16] = 1.0
    return x


def test_defocus_is_a_disk():
    found = corrupted(dot(), "defocus_blur", 4, DRAWS)[0, 0]
    plus = torch.zeros(32, 32)
    plus[16, 15:18] = plus[15:18, 16] = 0.2
    assert torch.allclose(found, plus, atol=1e-4)
    square = corrupted(dot(), "defocus_blur", 5, DRAWS)[0, 0][15:18, 15:18]
    assert torch.allclose(square, torch.full((3, 3), 1 / 9), atol=1e-4)


def test_motion_is_half_a_normal_kernel_along_a_line():
    for image in corrupted(dot(), "motion_blur", 2, DRAWS):
        found = image[0].double()
        assert float(found.sum()) == pytest.approx(1.0, abs=1e-6)
        rows, columns = (found > 1e-6).nonzero().T
        assert int(columns.max()) == 16  # what lies to the right is drawn to the left, between 45 degrees up and down
        assert bool(((rows - 16).abs() <= 16 - columns + 1).all())
        weights = np.exp(-(np.arange(13) ** 2) / (2 * 1.5**2))
        assert float(found[16, 16]) == pytest.approx(weights[0] / weights.sum(), abs=1e-6)
    slopes = {
        tuple(map(tuple, (image[0] > 1e-3).nonzero().tolist())) for image in corrupted(dot(), "motion_blur", 5, DRAWS)
    }
    assert len(slopes) > 1


def test_gaussian_blur_is_torchs():
    from torchvision.transforms.functional import gaussian_blur

    x = images()
    found = corrupted(x, "gaussian_blur", 5, DRAWS)[:, :, 5:-5, 5:-5]
    assert torch.allclose(found, gaussian_blur(x, 9, 1.0)[:, :, 5:-5, 5:-5], atol=1e-4)


def test_zoom_leaves_the_middle_and_spreads_the_rest():
    x = torch.linspace(0, 1, 32).expand(6, 3, 32, 32)
    found = corrupted(x, "zoom_blur", 5, DRAWS)
    change = (found - x)[0, 0, 0]
    assert change[10:14].abs().max() < 0.01  # the published cut lies a little to the left of the middle
    assert change[0] > 0.03 < -change[-1]


# ---------------------------------------------------------------------- weather and light


def test_fog_dims_and_has_clouds_of_its_own():
    found = corrupted(flat(0.5), "fog", 5, DRAWS).double()
    assert float(found.min()) == pytest.approx(0.5 * 0.5 / 2.0, abs=1e-6)  # where there is no cloud
    assert float(found.max()) == pytest.approx(0.5, abs=1e-6)  # where it is thickest
    one, other = found[0, 0], found[1, 0]
    assert float((one - other).abs().mean()) > 0.02
    rough = float((one[:, 1:] - one[:, :-1]).abs().mean())
    assert rough < 0.3 * float((one[:, 16:] - one[:, :16]).abs().mean())  # neighbours are alike


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("brightness", lambda h, s, v: (h, s, min(v + 0.15, 1.0))),
        ("saturate", lambda h, s, v: (h, min(s * 1.5, 1.0), v)),
    ],
)
def test_colours_change_as_in_hsv(kind, change):
    x = images()[:1, :, ::4, ::4].double()
    x[0, :, 0, 0], x[0, :, 0, 1] = 0.0, 0.3  # black, and a grey
    found = corrupted(x, kind, 3, DRAWS.take(slice(0, 1)))
    for row in range(8):
        for column in range(8):
            wanted = colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*x[0, :, row, column].tolist())))
            assert found[0, :, row, column].tolist() == pytest.approx(list(wanted), abs=1e-9)


def test_saturation_may_have_an_offset_and_greys_redden():
    found = corrupted(flat(0.5), "saturate", 5, DRAWS)[0, :, 0, 0]
    assert found.tolist() == pytest.approx([0.5, 0.4, 0.4])


def test_contrast_draws_towards_the_mean_of_a_channel():
    x = images()
    mean = x.mean((2, 3), keepdim=True)
    assert torch.allclose(corrupted(x, "contrast", 4, DRAWS), mean + 0.3 * (x - mean), atol=1e-6)


# ---------------------------------------------------------------------- geometry and storage


def test_the_mildest_elastic_transform_is_affine():
    ramp = torch.linspace(0.2, 0.8, 32)
    for x in (ramp.expand(6, 3, 32, 32), ramp[:, None].expand(6, 3, 32, 32)):
        inside = corrupted(x.clone(), "elastic_transform", 1, DRAWS)[:, :, 12:-12, 12:-12]
        for axis in (2, 3):
            assert float(inside.diff(dim=axis).diff(dim=axis).abs().max()) < 1e-5
        assert float((inside - x[:, :, 12:-12, 12:-12]).abs().max()) > 0.01


def test_a_severe_elastic_transform_ripples():
    x = torch.linspace(0.2, 0.8, 32).expand(6, 3, 32, 32).clone()
    inside = corrupted(x, "elastic_transform", 5, DRAWS)[:, :, 6:-6, 6:-6]
    assert float(inside.diff(dim=3).diff(dim=3).abs().mean()) > 0.005


def test_pixels_grow_few():
    found = corrupted(images(), "pixelate", 5, DRAWS)
    assert len(torch.unique(found[0, 0], dim=0)) == torch.unique(found[0, 0], dim=1).shape[1] == 20


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_what_pillow_makes_of_it(channels):
    x = images(channels)
    found = corrupted(x, "jpeg_compression", 5, DRAWS)
    levels = (255 * x[4]).round().byte().permute(1, 2, 0).squeeze(2).numpy()
    stored = io.BytesIO()
    Image.fromarray(levels).save(stored, "JPEG", quality=40)
    wanted = torch.from_numpy(np.asarray(Image.open(stored)).copy()).reshape(32, 32, channels).permute(2, 0, 1)
    assert torch.equal((255 * found[4]).round().byte(), wanted)


# ---------------------------------------------------------------------- the attack


class Lamp:
    """Two classes: whether the mean of an image is above one half, or below it; keeps what it was asked."""

    n_classes, random = 2, False

    def __init__(self):
        self.asked, self.told = [], []

    def progress(self, fraction):
        self.told.append(fraction)

    def logits(self, x, draws):
        self.asked.append((draws.address, x))
        above = x.mean((1, 2, 3)) - 0.5
        return torch.stack([-above, above], 1)


def attack(victim, x, label, severity=5.0, **options):
    threat = ThreatModel(Norm.CORRUPTION, severity, Knowledge.FULL)
    y = torch.full((len(x),), label)
    return Corruption(Corruption.Options(**options)).propose(victim, x, y, threat, DRAWS)


def test_of_all_kinds_the_worst_is_proposed_for_each_image_and_each_is_asked_about_once():
    victim, x = Lamp(), images()
    found = attack(victim, x, 0)  # that which brightens most
    assert len(victim.asked) == 15
    candidates = torch.stack([image for _, image in victim.asked])
    best = candidates.mean((2, 3, 4)).argmax(0)
    assert torch.equal(found, candidates[best, torch.arange(6)])
    assert victim.told == [done / 15 for done in range(1, 16)]


def test_a_random_victim_is_asked_several_times_under_the_same_draws_for_all_kinds():
    victim = Lamp()
    victim.random = True
    attack(victim, images(), 0, kinds=["fog", "contrast"], reevaluate=3)
    addresses = [address for address, _ in victim.asked]
    assert addresses[:3] == addresses[3:]
    assert len(set(addresses)) == 3


def test_a_kind_is_drawn_alike_whatever_others_are_tried():
    victims = [Lamp(), Lamp()]
    attack(victims[0], images(), 0, kinds=["fog", "gaussian_noise"])
    attack(victims[1], images(), 0, kinds=["gaussian_noise", "contrast", "fog"])
    assert torch.equal(victims[0].asked[0][1], victims[1].asked[2][1])
    assert torch.equal(victims[0].asked[1][1], victims[1].asked[0][1])


def test_a_single_kind_is_proposed_and_nobody_is_asked():
    victim, x = Lamp(), images()
    found = attack(victim, x, 0, severity=2.0, kinds=["pixelate"])
    assert torch.equal(found, corrupted(x, "pixelate", 2, DRAWS))
    assert (victim.asked, victim.told) == ([], [1.0])


def test_images_without_colours_are_not_saturated():
    victim = Lamp()
    attack(victim, images(1), 0)
    assert len(victim.asked) == 14


def why(eps=3.0, shape=(3, 32, 32), kinds=()):
    card = DataCard(shape=shape, n_classes=10, n_test=64, sha256="0" * 64)
    setting = Setting(card, ThreatModel(Norm.CORRUPTION, eps, Knowledge.FULL), Traits(True, True))
    return Corruption(Corruption.Options(kinds=kinds)).refuses(setting)


def test_what_is_no_severity_or_no_small_image_is_refused():
    assert all(why(float(severity)) is None for severity in SEVERITIES)
    for eps in (0.5, 2.5, 6.0):
        assert why(eps) == (
            f"corruption takes a severity, 1 to 5 in whole steps, for eps, and the threat model has {eps:g}"
        )
    assert why(shape=(1, 8, 8)) is None
    for shape in ((3, 224, 224), (4, 32, 32)):
        assert "constants that were published for 32 x 32 pixels" in why(shape=shape)
    assert why(shape=(1, 8, 8), kinds=["saturate"]).startswith("saturate does nothing to images without colours")


def test_a_kind_twice_and_one_that_is_unknown_are_mistakes():
    with pytest.raises(ValidationError, match="expected each kind once, got fog, fog"):
        Corruption.Options(kinds=["fog", "fog"])
    with pytest.raises(ValidationError, match="gaussian_noise"):
        Corruption.Options(kinds=["mist"])
