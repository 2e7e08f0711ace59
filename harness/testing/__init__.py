"""What is correct, as tests that ship: inherit them for an attack or a defense of your own.

Nothing here needs pytest to be imported; pytest finds the ``test_*`` methods of a subclass whose name starts with
``Test``.
"""

from harness.testing.attack import AttackContract
from harness.testing.defense import DefenseContract

__all__ = ["AttackContract", "DefenseContract"]
