"""What is correct, as tests that ship: inherit them for a component of your own.

Nothing here needs pytest to be imported; pytest finds the ``test_*`` methods of a subclass whose name starts with
``Test``.
"""

from harness.testing.attack import AttackContract
from harness.testing.certificate import CertificateContract
from harness.testing.classifier import ClassifierContract
from harness.testing.dataset import DatasetContract
from harness.testing.defense import DefenseContract
from harness.testing.metric import MetricContract
from harness.testing.network import NetworkContract
from harness.testing.objective import ObjectiveContract
from harness.testing.section import SectionContract

__all__ = [
    "AttackContract",
    "CertificateContract",
    "ClassifierContract",
    "DatasetContract",
    "DefenseContract",
    "MetricContract",
    "NetworkContract",
    "ObjectiveContract",
    "SectionContract",
]
