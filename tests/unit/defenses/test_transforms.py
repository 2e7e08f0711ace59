"""The classical transforms against their definitions."""

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from defenses.transforms import JPEG, BitDepth, Blur, ResizePad
from harness.core.contracts import Setting
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.draws import Draws
from harness.testing.nets import CARD

DRAWS = Draws(("transforms",), torch.arange(40))


def images(channels=1, side=8, n=40):
    return Draws(("images",), torch.arange(n)).uniform(channels, side, side)


def smooth(channels, side=32):
    """Return images that JPEG can keep: a slope in each channel."""
    slope = torch.linspace(0.2, 0.8, side)
    return (slope[:, None] * slope[None, :]).expand(3, channels, side, side).contiguous()


def setting(defense, knowledge):
    return Setting(CARD, ThreatModel(Norm.LINF, 0.1, knowledge), defense.traits)


def test_fewer_bits_are_fewer_levels_and_the_nearest_one():
    x = images()
    for bits in (1, 3, 8):
        found = BitDepth(BitDepth.Options(bits=bits)).purify(x, {}, DRAWS)
        step = 1.0 / (2**bits - 1)
        assert len((found * (2**bits - 1)).round().unique()) == (2**bits if bits < 8 else 256)
        assert float((found - x).abs().max()) <= step / 2 + 1e-6
        assert torch.allclose(found / step, (found / step).round(), atol=1e-4)
    levels = torch.tensor([0.0, 0.49, 0.51, 1.0]).reshape(1, 1, 2, 2)
    assert BitDepth(BitDepth.Options(bits=1)).purify(levels, {}, DRAWS).flatten().tolist() == [0.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_keeps_smooth_images_and_loses_noise_the_more_the_lower_the_quality(channels):
    def lost(x, quality):
        return float((JPEG(JPEG.Options(quality=quality)).purify(x, {}, DRAWS) - x).abs().mean())

    assert lost(smooth(channels), 95) < 0.01
    noise = images(channels, 32, 3)
    assert lost(noise, 10) > lost(noise, 50) > lost(noise, 95)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_jpeg_treats_images_one_by_one(dtype):
    x = images(3, 16, 5).to(dtype)
    defense = JPEG(JPEG.Options(quality=60))
    whole = defense.purify(x, {}, DRAWS)
    assert whole.dtype == dtype
    assert torch.equal(whole, torch.cat([defense.purify(one[None], {}, DRAWS) for one in x]))


def test_blur_is_the_convolution_with_a_gaussian():
    x, sigma = images().double(), 0.8
    found = Blur(Blur.Options(sigma=sigma, kernel=5)).purify(x, {}, DRAWS)
    tail = torch.exp(-0.5 * (torch.arange(-2.0, 3.0).double() / sigma) ** 2)
    kernel = torch.outer(tail, tail) / tail.sum() ** 2
    mirrored = F.pad(x, (2, 2, 2, 2), mode="reflect")
    assert torch.allclose(found, F.conv2d(mirrored, kernel[None, None]), atol=1e-6)
    flat = torch.full_like(x, 0.3)
    assert torch.allclose(Blur(Blur.Options()).purify(flat, {}, DRAWS), flat)


def test_blur_refuses_a_kernel_that_reaches_over_the_other_edge():
    for knowledge in Knowledge:
        assert "less than twice the image's side, 8, got 17" in Blur(Blur.Options(kernel=17)).refuses(
            setting(Blur(Blur.Options(kernel=17)), knowledge)
        )
    widest = Blur(Blur.Options(kernel=15, sigma=3.0))
    assert widest.refuses(setting(widest, Knowledge.FULL)) is None
    assert bool(torch.isfinite(widest.purify(images(), {}, DRAWS)).all())


@pytest.mark.parametrize("defense", [JPEG(JPEG.Options()), BitDepth(BitDepth.Options())])
def test_step_functions_refuse_the_exact_gradient_alone(defense):
    for knowledge in Knowledge:
        why = defense.refuses(setting(defense, knowledge)) or ""
        assert ("zero almost everywhere" in why) is (knowledge is Knowledge.FULL)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_content_is_resized_and_surrounded_by_zeros(mode):
    x = 0.1 + 0.9 * images(2)
    found = ResizePad(ResizePad.Options(scale=0.5, interpolation=mode)).purify(x, {}, DRAWS)
    sides, corners = set(), set()
    for before, after in zip(x, found, strict=True):
        rows, columns = (after.sum(0).sum(axis).nonzero().flatten() for axis in (1, 0))
        side = len(rows)
        assert len(columns) == side
        top, left = int(rows[0]), int(columns[0])
        content = after[:, top : top + side, left : left + side]
        assert torch.allclose(content, F.interpolate(before[None], (side, side), mode=mode)[0], atol=1e-6)
        sides.add(side)
        corners.add((top, left))
    assert sides == {4, 5, 6, 7, 8}
    assert len(corners) > 8


def test_the_whole_size_is_the_image_itself():
    x = images(3)
    found = ResizePad(ResizePad.Options(scale=1.0)).purify(x, {}, DRAWS)
    assert torch.allclose(found, x, atol=1e-6)


def test_images_need_not_be_square():
    x = images(1, 8)[:, :, :6]
    found = ResizePad(ResizePad.Options(scale=0.7)).purify(x, {}, DRAWS)
    assert found.shape == x.shape
    assert torch.allclose(ResizePad(ResizePad.Options(scale=1.0)).purify(x, {}, DRAWS), x, atol=1e-6)


@pytest.mark.parametrize(
    ("transform", "options"),
    [
        (JPEG, {"quality": 0}),
        (JPEG, {"quality": 101}),
        (BitDepth, {"bits": 9}),
        (Blur, {"kernel": 4}),
        (Blur, {"sigma": 0}),
        (ResizePad, {"scale": 0}),
        (ResizePad, {"scale": 1.1}),
        (ResizePad, {"interpolation": "cubic"}),
    ],
)
def test_the_transforms_check_their_options(transform, options):
    with pytest.raises(ValidationError):
        transform.Options(**options)
