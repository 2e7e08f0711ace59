"""A contract is worth something only if it can fail: each broken certificate fails at the right test."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from harness.certificates.smoothing import RandomisedSmoothing
from harness.testing import CertificateContract


class Good(RandomisedSmoothing):
    """What the broken ones differ from."""


class Made(Good):
    """A certificate whose answer is changed."""

    def certify(self, classify, x, n_classes, draws, copies=1):
        return self.changed(*super().certify(classify, x, n_classes, draws, copies))

    def changed(self, classes, radii):
        return classes, radii


class OfClasses(Made):
    def changed(self, classes, radii):
        return classes[:, None], radii


class Shares(Made):
    def changed(self, classes, radii):
        return classes.double(), radii


class FromOne(Made):
    def changed(self, classes, radii):
        return torch.where(classes < 0, -1, classes + 5), radii


class Endless(Made):
    def changed(self, classes, radii):
        return classes, torch.where(radii > 0, torch.inf, radii)


class Unabstaining(Made):
    """Says -1, and a radius all the same."""

    def changed(self, classes, radii):
        return classes, radii + 1e-9


class Wide(Made):
    def changed(self, classes, radii):
        return classes, 4.0 * radii


class Contrary(Made):
    def changed(self, classes, radii):
        return torch.where(classes < 0, -1, 7 - classes), radii


class Mute(Made):
    def changed(self, classes, radii):
        return torch.full_like(classes, -1), torch.zeros_like(radii)


class Guessing(Made):
    """Says a class where it has none, with a radius of nothing."""

    def changed(self, classes, radii):
        return classes.clamp_min(0), radii


class Credulous(Good):
    """Asks a random classifier once and believes it."""

    looks = 1

    def certify(self, classify, x, n_classes, draws, copies=1):
        classes = classify(x, draws)
        return classes, torch.where(classes < 0, 0.0, (x.flatten(1).mean(1) - 0.5).abs() * 8 - 1e-4).clamp_min(0.0)


class Modest(Good):
    """Asks more often than it says."""

    @property
    def looks(self):
        return self.options.n


class Repeating(Good):
    """Asks with the same draws each time."""

    def certify(self, classify, x, n_classes, draws, copies=1):
        return super().certify(lambda x, its: classify(x, replace(its, copies=None)), x, n_classes, draws, copies)


class Staring(Good):
    """Its glance is longer than its look."""

    glance = {"n0": 1000}  # noqa: RUF012


class Crowded(Good):
    """Its radii depend on how many copies are asked about at once."""

    def certify(self, classify, x, n_classes, draws, copies=1):
        classes, radii = super().certify(classify, x, n_classes, draws, copies)
        return classes, radii / copies


class Mixing(Good):
    """Takes the mean radius of the batch."""

    def certify(self, classify, x, n_classes, draws, copies=1):
        classes, radii = super().certify(classify, x, n_classes, draws, copies)
        return classes, torch.where(classes < 0, 0.0, radii.mean())


class Drawing(Good):
    """Draws noise from torch's own generator, and rounds nothing."""

    def certify(self, classify, x, n_classes, draws, copies=1):
        classes, radii = super().certify(classify, x, n_classes, draws, copies)
        return classes, radii * torch.rand(1)


class Darkening(Good):
    def certify(self, classify, x, n_classes, draws, copies=1):
        answer = super().certify(classify, x, n_classes, draws, copies)
        x *= 0.5
        return answer


class Seeding(Good):
    def certify(self, classify, x, n_classes, draws, copies=1):
        torch.manual_seed(0)
        return super().certify(classify, x, n_classes, draws, copies)


class Curt(Good):
    def refuses(self, data, traits):
        return "no"


EACH, DISTANCE = "there_is_a_class_and_a_radius_for_each_image", "no_radius_is_larger_than_the_distance_to_the_boundary"
ASKS, ALONE = "it_asks_as_often_as_it_says", "an_image_is_certified_alone_as_within_a_batch"
ABSTAINS, LEFT = "it_abstains_where_nothing_can_be_said", "images_and_global_generators_are_left_alone"
BROKEN = [
    (OfClasses, EACH, r"expected classes \(10,\), got \(10, 1\)"),
    (Shares, EACH, "expected integers for classes, got torch.float64"),
    (FromOne, EACH, "expected classes from 0 to 9, and -1 where it abstains, got -1 to 10"),
    (Endless, EACH, "expected finite radii, 0 or more"),
    (Unabstaining, EACH, "expected a radius of 0 where it abstains"),
    (Wide, DISTANCE, "expected a radius of at most .*, the distance to the boundary, got"),
    (Contrary, DISTANCE, "expected class 5 of an image .* from the boundary, or none, got 2 certified"),
    (Mute, "something_is_certified_far_from_the_boundary", "expected radii above 0 at a distance of 3.0"),
    (Guessing, ABSTAINS, "to abstain, with -1, where the classifier chooses no class"),
    (Credulous, ABSTAINS, "to abstain, with -1, where the classifier tosses coins"),
    (Modest, ASKS, "expected 60 looks at each image, as it says, got 65"),
    (Repeating, ASKS, "expected draws of their own for each look, got the same ones twice"),
    (Staring, ASKS, r"expected no more looks by its glance, \{'n0': 1000\}, got 1060 for 65"),
    (Crowded, "copies_change_no_number", "expected the same classes and radii with 3 copies at once as with 1"),
    (Mixing, ALONE, "expected an image to be certified alone as within a batch"),
    (Drawing, "the_same_draws_give_the_same_answer", "expected the same classes and radii from the same draws"),
    (Darkening, LEFT, "expected the images as they were"),
    (Seeding, LEFT, "expected the global generators as they were"),
    (Curt, "a_refusal_is_a_sentence", "expected None or a sentence, got 'no'"),
]
TESTS = sorted(name for name in dir(CertificateContract) if name.startswith("test_"))


def contract_of(certificate):
    class Contract(CertificateContract):
        def make(self):
            return certificate(certificate.Options(sigma=0.25, n0=5, n=60))

    return Contract()


@pytest.fixture(autouse=True)
def _generators_as_they_were():
    with torch.random.fork_rng():
        yield


@pytest.mark.parametrize(("certificate", "test", "sentence"), BROKEN)
def test_a_broken_certificate_fails(certificate, test, sentence):
    with pytest.raises(AssertionError, match=sentence):
        getattr(contract_of(certificate), f"test_{test}")()


@pytest.mark.parametrize("test", TESTS)
def test_what_they_differ_from_passes(test):
    getattr(contract_of(Good), test)()


def test_every_test_of_the_contract_is_seen_to_fail():
    assert {f"test_{test}" for _, test, _ in BROKEN} == set(TESTS)
