"""What every worker needs, imported once in the process that workers are forked from; importing this does it."""

from __future__ import annotations

import gc
import warnings
from contextlib import suppress

# by origin: what these packages say of themselves at import is nothing that a user can mend
warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.jit|torchvision|timm|robustbench")
with suppress(Exception):  # the job that needs it says what is wrong with it
    from harness.execution.worker import jobs  # noqa: F401

# what was imported stays: a worker that looked through it for garbage would copy it, and take a third of a second
gc.collect()
gc.freeze()
