"""Common corruptions (Hendrycks and Dietterich 2019), with the constants published for 32 x 32 pixels (CIFAR-10-C).

The constants are those of the authors' script ``make_cifar_c.py``. What differs: results are not cut to whole grey
levels, noise comes from addressed draws, and in ``elastic_transform`` images go on beyond their edges as in
``harness.bounds.warp``. Left out are ``frost``, which needs photographs, ``snow`` and ``spatter``, which need OpenCV,
and ``glass_blur``, whose published pixels are copied where they were to be swapped. Lengths in pixels are used as they
are on images of other sizes, but for ``elastic_transform``, whose lengths are shares of the side.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from attacks.candidates import REEVALUATE, Candidates
from harness.components import Attack
from harness.core.minimum import Effort
from harness.core.threat import Norm
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from harness.core.contracts import Setting, Victim
    from harness.core.threat import ThreatModel
    from harness.draws import Draws

    #: real numbers ``(B, C, H, W)``
    Images = np.ndarray[Any, np.dtype[np.float64]]
    #: images in [0, 1], the place of the severity in a list of constants, and draws, to images of any range
    Corrupts = Callable[[Images, int, Draws], Images]

Kind = Literal[
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "speckle_noise",
    "defocus_blur",
    "motion_blur",
    "zoom_blur",
    "gaussian_blur",
    "fog",
    "brightness",
    "contrast",
    "saturate",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
]

#: the longest side for which constants of 32 x 32 pixels mean anything
LARGEST = 64

#: kinds that do nothing to an image without colours
COLOURED = ("saturate",)


class Corruption(Attack):
    """Proposes for each image the corruption, of some kinds, that the victim is furthest from getting right.

    Each kind is drawn once and the victim is asked about each, a random one several times, so this is no search:
    severity says how strong a corruption is, and eps of a threat model of norm ``corruption`` is that severity. Whether
    an image is a corrupted one cannot be told from its pixels. The judge checks range and finiteness, and cannot check
    the budget.
    """

    version: ClassVar[int] = 2
    by_example: ClassVar[bool] = True
    norms: ClassVar[tuple[Norm, ...]] = (Norm.CORRUPTION,)

    class Options(BaseOptions):
        """Which corruptions."""

        kinds: tuple[Kind, ...] = Field(
            (), description="those that are tried; one alone is proposed unasked; default: all that suit the images"
        )
        reevaluate: int = Field(20, ge=1, description=REEVALUATE)

        @model_validator(mode="after")
        def _each_once(self) -> Corruption.Options:
            if len(set(self.kinds)) < len(self.kinds):
                raise ValueError(f"expected each kind once, got {', '.join(self.kinds)}")
            return self

    options: Options

    @property
    def effort(self) -> Effort:
        """A look at each kind."""
        return Effort(queries=len(self.options.kinds or get_args(Kind)))

    def refuses(self, setting: Setting) -> str | None:
        """Refuse what is no severity, and images that the constants are not for."""
        severity, (channels, *sides) = setting.threat.eps, setting.data.shape
        if severity not in range(1, 6):
            return f"corruption takes a severity, 1 to 5 in whole steps, for eps, and the threat model has {severity:g}"
        if max(sides) > LARGEST or channels not in (1, 3):
            return (
                f"corruption has the constants that were published for 32 x 32 pixels, grey or in three colours, and "
                f"the dataset has images {setting.data.shape}"
            )
        idle = [kind for kind in self.options.kinds if kind in COLOURED]
        if channels == 1 and idle:
            return f"{idle[0]} does nothing to images without colours; leave it out of the kinds"
        return None

    def propose(self, victim: Victim, x: Tensor, y: Tensor, threat: ThreatModel, draws: Draws) -> Tensor:
        """Return for each image the corruption that is right least often, and of these that of the largest margin."""
        import torch

        suiting = [kind for kind in get_args(Kind) if x.shape[1] > 1 or kind not in COLOURED]
        kinds = self.options.kinds or tuple(suiting)
        best = corrupted(x, kinds[0], int(threat.eps), draws)
        if len(kinds) == 1:
            victim.progress(1.0)
            return best
        kept = Candidates(victim, best, y, draws.at("ask"), self.options.reevaluate)
        everywhere = torch.arange(len(x), device=x.device)
        for done, kind in enumerate(kinds, start=1):
            if done > 1:
                kept.offer(corrupted(x, kind, int(threat.eps), draws), everywhere)
            victim.progress(done / len(kinds))
        return kept.best


def corrupted(x: Tensor, kind: Kind, severity: int, draws: Draws) -> Tensor:
    """Return images ``(B, C, H, W)`` in [0, 1], corrupted; the draws of a kind do not depend on its severity."""
    import torch

    images = x.detach().cpu().numpy().astype(np.float64)
    found = KINDS[kind](images, severity - 1, draws.at("kind", kind)).clip(0.0, 1.0)
    return torch.from_numpy(np.ascontiguousarray(found)).to(x.device, x.dtype)


# ---------------------------------------------------------------------- noise


def _numbers(drawn: Tensor) -> Images:
    numbers: Images = drawn.cpu().numpy().astype(np.float64)
    return numbers


def gaussian_noise(x: Images, place: int, draws: Draws) -> Images:
    """Add normal noise."""
    return x + (0.04, 0.06, 0.08, 0.09, 0.10)[place] * _numbers(draws.normal(*x.shape[1:]))


def speckle_noise(x: Images, place: int, draws: Draws) -> Images:
    """Add normal noise in proportion to each pixel."""
    return x + x * (0.06, 0.1, 0.12, 0.16, 0.2)[place] * _numbers(draws.normal(*x.shape[1:]))


def shot_noise(x: Images, place: int, draws: Draws) -> Images:
    """Count photons: Poisson numbers, from uniform ones by the inverse of their distribution."""
    from scipy.stats import poisson

    photons = (500, 250, 100, 75, 50)[place]
    uniform = _numbers(draws.uniform(*x.shape[1:])) + 2.0**-25  # in (0, 1): 24 bits, in the middle of their steps
    counted: Images = poisson.ppf(uniform, x * photons)
    return counted / photons


def impulse_noise(x: Images, place: int, draws: Draws) -> Images:
    """Replace some numbers by 0 or 1, salt and pepper."""
    struck = _numbers(draws.at("where").uniform(*x.shape[1:])) < (0.01, 0.02, 0.03, 0.05, 0.07)[place]
    salt = _numbers(draws.at("salt").uniform(*x.shape[1:])) < 0.5
    return np.where(struck, np.where(salt, 1.0, 0.0), x)


# ---------------------------------------------------------------------- blur


def gaussian_blur(x: Images, place: int, draws: Draws) -> Images:
    """Blur by a normal kernel."""
    from scipy.ndimage import gaussian_filter

    sigma = (0.4, 0.6, 0.7, 0.8, 1.0)[place]
    blurred: Images = gaussian_filter(x, (0, 0, sigma, sigma), mode="nearest", truncate=4.0)
    return blurred


def defocus_blur(x: Images, place: int, draws: Draws) -> Images:
    """Blur by a disk whose edge is smoothed."""
    from scipy.ndimage import convolve

    radius, alias = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))[place]
    rows, columns = np.mgrid[-3:4, -3:4]
    disk = (rows**2 + columns**2 <= radius**2).astype(float)
    taps = np.exp(-(np.arange(-1, 2) ** 2) / (2 * alias**2))
    taps /= taps.sum()
    kernel = convolve(disk / disk.sum(), np.outer(taps, taps), mode="constant")
    blurred: Images = convolve(x, kernel[None, None], mode="mirror")
    return blurred


def motion_blur(x: Images, place: int, draws: Draws) -> Images:
    """Blur along a line, by half of a normal kernel, as ImageMagick does: whole pixels, edges repeated."""
    radius, sigma = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))[place]
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    angle = np.deg2rad(90.0 * _numbers(draws.uniform()) - 45.0)
    height, width = x.shape[2:]
    blurred = np.zeros_like(x)
    for distance, weight in enumerate(weights):
        down, right = (np.ceil(distance * way(angle) - 0.5).astype(int) for way in (np.sin, np.cos))
        rows = (np.arange(height) + down[:, None]).clip(0, height - 1)
        columns = (np.arange(width) + right[:, None]).clip(0, width - 1)
        batch = np.arange(len(x))[:, None, None]
        # advanced indices on both sides of a slice come first: (B, H, W, C)
        blurred += weight * x[batch, :, rows[:, :, None], columns[:, None, :]].transpose(0, 3, 1, 2)
    return blurred


def zoom_blur(x: Images, place: int, draws: Draws) -> Images:
    """Average the image with ever larger ones."""
    from scipy.ndimage import zoom

    factors = np.arange(1.0, (1.06, 1.11, 1.16, 1.21, 1.26)[place], 0.01)
    height, width = x.shape[2:]
    total = x.copy()
    for factor in factors:
        cut = [int(np.ceil(side / factor)) for side in (height, width)]
        above, left = (height - cut[0]) // 2, (width - cut[1]) // 2
        larger = zoom(x[:, :, above : above + cut[0], left : left + cut[1]], (1, 1, factor, factor), order=1)
        above, left = (larger.shape[2] - height) // 2, (larger.shape[3] - width) // 2
        total += larger[:, :, above : above + height, left : left + width]
    return total / (len(factors) + 1)


# ---------------------------------------------------------------------- weather and light


def fog(x: Images, place: int, draws: Draws) -> Images:
    """Add a cloud and dim the sum to the image's own brightness."""
    amount, decay = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))[place]
    cloud = _plasma(max(x.shape[2:]), decay, draws)[:, None, : x.shape[2], : x.shape[3]]
    brightest: Images = x.max((1, 2, 3), keepdims=True)
    return (x + amount * cloud) * brightest / (brightest + amount)


def _plasma(side: int, decay: float, draws: Draws) -> Images:
    """Return clouds ``(B, n, n)`` in [0, 1], by the diamond-square algorithm on a torus (Fournier et al. 1982).

    In each round the middles of squares, then those of their edges, become the mean of their four neighbours and a
    uniform displacement, whose size shrinks by the square of ``decay``.
    """
    n = 1 << (side - 1).bit_length()
    field = np.zeros((len(draws.examples), n, n))
    step, size = n, 100.0

    def displaced(neighbours: Images, what: str) -> Images:
        drawn = 2.0 * _numbers(draws.at(what, step).uniform(*neighbours.shape[1:])) - 1.0
        return neighbours / 4 + size**2 * drawn

    while step >= 2:
        half = step // 2
        corners = field[:, ::step, ::step]
        below = corners + np.roll(corners, -1, 1)
        middles = field[:, half::step, half::step] = displaced(below + np.roll(below, -1, 2), "middle")
        beside = corners + np.roll(corners, -1, 2) + middles + np.roll(middles, 1, 1)
        field[:, ::step, half::step] = displaced(beside, "row")
        under = below + middles + np.roll(middles, 1, 2)
        field[:, half::step, ::step] = displaced(under, "column")
        step, size = half, size / decay
    field -= field.min((1, 2), keepdims=True)
    cloud: Images = field / field.max((1, 2), keepdims=True)
    return cloud


def brightness(x: Images, place: int, draws: Draws) -> Images:
    """Raise the value of each colour (HSV), at the same hue and saturation."""
    value: Images = x.max(1, keepdims=True)
    raised = (value + (0.05, 0.1, 0.15, 0.2, 0.3)[place]).clip(0.0, 1.0)
    return np.where(value > 0, x * raised / np.where(value > 0, value, 1.0), raised)


def contrast(x: Images, place: int, draws: Draws) -> Images:
    """Draw every channel towards its mean."""
    mean: Images = x.mean((2, 3), keepdims=True)
    return (x - mean) * (0.75, 0.5, 0.4, 0.3, 0.15)[place] + mean


def saturate(x: Images, place: int, draws: Draws) -> Images:
    """Change the saturation of each colour (HSV), at the same hue and value; a grey has the hue of red."""
    factor, offset = ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))[place]
    value: Images = x.max(1, keepdims=True)
    chroma = value - x.min(1, keepdims=True)
    coloured = chroma > 0
    saturation = np.where(coloured, chroma / np.where(coloured, value, 1.0), 0.0)
    changed: Images = (saturation * factor + offset).clip(0.0, 1.0)
    lack = np.where(coloured, (value - x) / np.where(coloured, chroma, 1.0), np.array([0.0, 1.0, 1.0])[:, None, None])
    return value - value * changed * lack


# ---------------------------------------------------------------------- geometry and storage


def elastic_transform(x: Images, place: int, draws: Draws) -> Images:
    """Move three points at random and the image with them, affinely; then every pixel, smoothly."""
    import torch
    from scipy.ndimage import gaussian_filter

    from harness.bounds import warp

    height, width = x.shape[2:]
    side = min(height, width)
    shares = ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))[place]
    length, sigma, spread = (side * share for share in shares)
    middle, arm = np.array([height // 2, width // 2]), side // 3
    before = middle + arm * np.array([[1, 1], [-1, 1], [-1, -1]])
    after = before + spread * (2.0 * _numbers(draws.at("affine").uniform(3, 2)) - 1.0)
    back = np.linalg.solve(np.concatenate([after, np.ones((len(x), 3, 1))], 2), np.broadcast_to(before, after.shape))
    rows, columns = np.mgrid[:height, :width].astype(float)
    here = np.stack([rows, columns, np.ones_like(rows)], 2)
    flows = [(np.einsum("hwk,bkd->bdhw", here, back) - np.stack([rows, columns]))]
    if length:
        noise = 2.0 * _numbers(draws.at("elastic").uniform(2, height, width)) - 1.0
        flows.append(length * gaussian_filter(noise, (0, 0, sigma, sigma), mode="reflect", truncate=3.0))
    moved = torch.from_numpy(x)
    for flow in flows:
        moved = warp(moved, torch.from_numpy(flow))
    return moved.numpy()


def pixelate(x: Images, place: int, draws: Draws) -> Images:
    """Make the image smaller and large again, without smoothing."""
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[place]

    def change(image: Image.Image) -> Image.Image:
        small = (int(image.width * share), int(image.height * share))
        return image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BOX)

    return _by_image(x, change)


def jpeg_compression(x: Images, place: int, draws: Draws) -> Images:
    """Store the image as JPEG."""
    quality = (80, 65, 58, 50, 40)[place]

    def change(image: Image.Image) -> Image.Image:
        stored = io.BytesIO()
        image.save(stored, "JPEG", quality=quality)
        return Image.open(stored)

    return _by_image(x, change)


def _by_image(x: Images, change: Callable[[Image.Image], Image.Image]) -> Images:
    """Change images one by one, in whole grey levels."""
    levels = (255.0 * x).round().astype(np.uint8)
    changed = []
    for image in levels.transpose(0, 2, 3, 1):
        made = np.asarray(change(Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image)))
        changed.append(made[:, :, None] if made.ndim == 2 else made)
    return np.stack(changed).transpose(0, 3, 1, 2) / 255.0


KINDS: dict[Kind, Corrupts] = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "speckle_noise": speckle_noise,
    "defocus_blur": defocus_blur,
    "motion_blur": motion_blur,
    "zoom_blur": zoom_blur,
    "gaussian_blur": gaussian_blur,
    "fog": fog,
    "brightness": brightness,
    "contrast": contrast,
    "saturate": saturate,
    "elastic_transform": elastic_transform,
    "pixelate": pixelate,
    "jpeg_compression": jpeg_compression,
}
