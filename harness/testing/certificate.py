"""The contract of a certificate: nothing is certified that is not so, against a classifier whose boundary is known."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import torch

from harness.components import Certificate as BaseCertificate
from harness.core.contracts import Traits
from harness.draws import Draws
from harness.testing.loaded import as_loaded
from harness.testing.nets import CARD

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Certificate, Classify

#: how far the images are from the boundary in L2, each on either side of it
DISTANCES = (0.0, 0.1, 0.3, 1.0, 3.0)

#: of the classifier: the classes on both sides of the boundary, and of the others none
BELOW, ABOVE = 2, 5

#: how a classifier answers of which nothing can be certified
WORDS = {"silent": "chooses no class", "coin": "tosses coins"}

#: rounding of radii in float32
ROUNDING = 1e-6


class Boundary:
    """A classifier with a plane between two classes: images brighter than one half on the mean, and the others.

    Smoothed by any noise that is alike in all directions it is itself, so no radius may be larger than the distance.

    Attributes:
        asked: for each image that it was asked about, the address, example and copy of its draws.
        how: ``sure``: as it is; ``silent``: its logits are never finite, so that it chooses no class; ``coin``: its
            class is one of both by lot, whatever the image.
    """

    def __init__(self, how: str = "sure") -> None:
        self.how = how
        self.asked: list[tuple[object, ...]] = []

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        """Return the class of each image ``(B, C, H, W)``, -1 where none is chosen."""
        assert x.shape[1:] == CARD.shape, f"expected to be asked about images {CARD.shape}, got {tuple(x.shape[1:])}"
        assert len(draws.examples) == len(x), (
            f"expected draws for each of the {len(x)} images that are asked about, got {len(draws.examples)}"
        )
        copies = torch.zeros_like(draws.examples) if draws.copies is None else draws.copies
        self.asked += [(draws.address, *row) for row in zip(draws.examples.tolist(), copies.tolist(), strict=True)]
        if self.how == "silent":
            return torch.full((len(x),), -1, device=x.device)
        above = draws.uniform(1)[:, 0] < 0.5 if self.how == "coin" else x.flatten(1).mean(1) > 0.5
        return torch.where(above, ABOVE, BELOW)


class CertificateContract:
    """What every certificate promises.

    To test yours:

    1. Subclass, with a name that starts with ``Test``::

           class TestMine(CertificateContract):
               def make(self):
                   return Mine(Mine.Options(sigma=0.25, n=500))

    2. Return the certificate from ``make``, with as many looks as it needs to certify images at a distance of 3.
    3. Run pytest.
    """

    def make(self) -> Certificate:
        """Return the certificate under test."""
        raise NotImplementedError("return the certificate under test from make()")

    # ------------------------------------------------------------------ what is certified

    def test_there_is_a_class_and_a_radius_for_each_image(self) -> None:
        """Classes from -1, finite radii from 0, and 0 where it abstains."""
        for how in ("sure", "silent"):
            x, _, draws = self._images()
            classes, radii = self._certify(Boundary(how), x, draws)
            for name, found in (("classes", classes), ("radii", radii)):
                assert found.shape == (len(x),), f"expected {name} ({len(x)},), got {tuple(found.shape)}"
            assert not classes.is_floating_point(), f"expected integers for classes, got {classes.dtype}"
            low, high = int(classes.min()), int(classes.max())
            assert -1 <= low <= high < CARD.n_classes, (
                f"expected classes from 0 to {CARD.n_classes - 1}, and -1 where it abstains, got {low} to {high}"
            )
            assert bool(torch.isfinite(radii).all() & (radii >= 0).all()), (
                f"expected finite radii, 0 or more, got {radii.tolist()}"
            )
            assert not bool(radii[classes < 0].any()), "expected a radius of 0 where it abstains, got a larger one"

    def test_no_radius_is_larger_than_the_distance_to_the_boundary(self) -> None:
        """Within the radius the class is the certified one: so that is the image's own, and the boundary is beyond."""
        x, distances, draws = self._images()
        classes, radii = self._certify(Boundary(), x, draws)
        own = torch.where(distances > 0, ABOVE, BELOW)
        for found, radius, distance, true in zip(classes, radii.double(), distances, own, strict=True):
            assert found in (-1, true) or not distance, (
                f"expected class {int(true)} of an image {float(distance):+.3g} from the boundary, or none, got "
                f"{int(found)} certified"
            )
            assert radius <= distance.abs() + ROUNDING, (
                f"expected a radius of at most {float(distance.abs()):.3g}, the distance to the boundary, got "
                f"{float(radius):.3g}"
            )

    def test_something_is_certified_far_from_the_boundary(self) -> None:
        """A certificate that always abstains says nothing."""
        x, distances, draws = self._images()
        _, radii = self._certify(Boundary(), x, draws)
        far = distances.abs() == max(DISTANCES)
        assert bool((radii[far] > 0).all()), (
            f"expected radii above 0 at a distance of {max(DISTANCES)} from the boundary, got {radii[far].tolist()}"
        )

    def test_it_abstains_where_nothing_can_be_said(self) -> None:
        """Of a classifier that chooses no class; and of one that tosses coins, unless random ones are refused."""
        x, _, draws = self._images()
        for how in WORDS:
            if how == "coin" and self._made().refuses(CARD, Traits(random=True, differentiable=True)) is not None:
                continue
            classes, _ = self._certify(Boundary(how), x, draws)
            assert bool((classes == -1).all()), (
                f"expected it to abstain, with -1, where the classifier {WORDS[how]}, got {classes.tolist()}"
            )

    # ------------------------------------------------------------------ how the classifier is asked

    def test_it_asks_as_often_as_it_says(self) -> None:
        """``looks`` times about each image, with draws of their own each time, and more seldom by its ``glance``."""
        x, _, draws = self._images()
        made: Any = self._made()
        asked = Boundary()
        self._certify(asked, x, draws)
        for example in draws.examples.tolist():
            times = sum(row[1] == example for row in asked.asked)
            assert times == made.looks, f"expected {made.looks} looks at each image, as it says, got {times}"
        assert len(set(asked.asked)) == len(asked.asked), (
            "expected draws of their own for each look, got the same ones twice, as if a random classifier answered "
            "independently; take draws.copied(first, stop) or another address"
        )
        params = {**made.options.model_dump(), **made.glance}
        glancing = type(made)(type(made).Options.model_validate(params))
        assert glancing.looks <= made.looks, (
            f"expected no more looks by its glance, {dict(made.glance)}, got {glancing.looks} for {made.looks}"
        )

    def test_copies_change_no_number(self) -> None:
        """How many copies of the images are asked about at once is a matter of memory."""
        x, _, draws = self._images()
        wanted = self._certify(Boundary(), x, draws)
        for copies in (3, 10_000):
            found = self._certify(Boundary(), x, draws, copies)
            assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True)), (
                f"expected the same classes and radii with {copies} copies at once as with 1, got others"
            )

    def test_an_image_is_certified_alone_as_within_a_batch(self) -> None:
        """Each image has its own noise and its own votes."""
        x, _, draws = self._images()
        wanted = self._certify(Boundary(), x, draws)
        for row in (slice(0, 1), slice(3, 6)):
            found = self._certify(Boundary(), x[row], draws.take(row))
            assert all(torch.equal(one, other[row]) for one, other in zip(found, wanted, strict=True)), (
                "expected an image to be certified alone as within a batch, got another class or radius; take every "
                "random number from draws"
            )

    # ------------------------------------------------------------------ randomness, and what is left as it was

    def test_the_same_draws_give_the_same_answer(self) -> None:
        """Bit for bit, whatever was drawn in between, also from a certificate that is built anew."""
        x, _, draws = self._images()
        first = self._certify(Boundary(), x, draws)
        torch.rand(3)
        again = self._certify(Boundary(), x, draws)
        assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True)), (
            "expected the same classes and radii from the same draws, got others; take every random number from draws"
        )

    def test_images_and_global_generators_are_left_alone(self) -> None:
        """Images are read only, and the state of torch's and Python's generators is what it was."""
        x, _, draws = self._images()
        kept, before, python = x.clone(), torch.random.get_rng_state(), random.getstate()
        self._certify(Boundary(), x, draws)
        assert torch.equal(x, kept), "expected the images as they were, but the certificate changed them in place"
        untouched = torch.equal(torch.random.get_rng_state(), before) and random.getstate() == python
        assert untouched, "expected the global generators as they were, but the certificate drew from them"

    # ------------------------------------------------------------------ planning

    def test_a_refusal_is_a_sentence(self) -> None:
        """``refuses`` returns None or says why."""
        for traits in (Traits(False, True), Traits(True, False), Traits(True, True, batchwise=True)):
            why = self._made().refuses(CARD, traits)
            assert why is None or len(why.split()) > 2, f"expected None or a sentence, got {why!r}"

    # ------------------------------------------------------------------ helpers

    def _made(self) -> Certificate:
        """Return the certificate under test as it is when it has been loaded."""
        return as_loaded(self.make(), BaseCertificate)

    def _certify(self, classify: Classify, x: Tensor, draws: Draws, copies: int = 1) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return self._made().certify(classify, x, CARD.n_classes, draws, copies=copies)

    def _images(self) -> tuple[Tensor, Tensor, Draws]:
        """Return images, how far each is above the boundary, and draws for them."""
        distances = torch.tensor([sign * one for one in DISTANCES for sign in (1.0, -1.0)], dtype=torch.float64)
        draws = Draws(("certified",), 70 + torch.arange(len(distances)))
        pattern = 0.1 * (draws.at("pattern").uniform(*CARD.shape).double() - 0.5)
        pattern -= pattern.mean((1, 2, 3), keepdim=True)
        pixels = pattern[0].numel()
        x = 0.5 + pattern + (distances / pixels**0.5).reshape(-1, 1, 1, 1)
        return x.float(), distances, draws
