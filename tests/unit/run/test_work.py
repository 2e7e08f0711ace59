"""What a worker builds from specs."""

from __future__ import annotations

import pytest

from harness.core.errors import UserError
from harness.core.spec import Spec
from harness.data.digits import Digits
from harness.run.work import dataset


def spec(content: str) -> Spec:
    return Spec.of("dataset", "digits", 1, {"n_test": 100, "split_seed": 0, "content": content})


def test_a_dataset_is_built_as_it_was_planned() -> None:
    planned = Digits(Digits.Options(n_test=100)).card
    assert dataset(spec(planned.sha256)).card == planned


def test_a_dataset_whose_content_is_not_what_was_planned_is_a_sentence() -> None:
    wanted = r"expected digits with content hash d0d0d0d0d0d0, as it was planned, got 8b3b6ae90863; put the same files"
    with pytest.raises(UserError, match=wanted):
        dataset(spec("d0" * 32))
