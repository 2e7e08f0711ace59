"""Common ground of all tests: one thread, and no test writes to the user's cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# a loaded machine is no failure, and the same code meets the same examples
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")

# a distribution of its own, installed and tested by integration/test_plugin.py
collect_ignore = ["plugin_example"]


@pytest.fixture(scope="session", autouse=True)
def _artifacts_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PUREBENCH_HOME", str(tmp_path_factory.mktemp("purebench-home")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
