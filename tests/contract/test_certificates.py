"""The certificates that ship keep the contract of a certificate."""

from __future__ import annotations

from harness.certificates.smoothing import RandomisedSmoothing
from harness.core.registry import entries
from harness.testing import CertificateContract


class TestRandomisedSmoothing(CertificateContract):
    def make(self):
        return RandomisedSmoothing(RandomisedSmoothing.Options(sigma=0.25, n0=5, n=60))


class TestRandomisedSmoothingOfClippedImages(CertificateContract):
    def make(self):
        return RandomisedSmoothing(RandomisedSmoothing.Options(sigma=0.1, n0=5, n=60, clip=True))


def test_every_shipped_certificate_is_held_to_the_contract():
    cases = [case for case in globals().values() if isinstance(case, type) and case is not CertificateContract]
    shipped = {entry.load() for entry in entries("certificate").values() if entry.origin.startswith("purebench ")}
    assert shipped <= {type(case().make()) for case in cases if issubclass(case, CertificateContract)}
