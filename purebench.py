"""``import purebench`` is ``import harness``: what people install has that name."""

import sys

import harness

sys.modules[__name__] = harness
