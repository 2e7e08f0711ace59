"""What a defense is in a study: by its own word, else by its name or by being shown the clean image."""

from __future__ import annotations

import pytest

from harness.core.roles import SHIPPED, Role, role_of
from harness.suite import catalog


@pytest.mark.parametrize(
    ("use", "traits", "role"),
    [
        ("mae-pure", None, "reconstruction"),
        ("mae-pure", {"oracle": False}, "reconstruction"),
        ("amv-oracle", {"oracle": True}, "oracle"),
        ("my-lab/oracle", {"oracle": True}, "oracle"),
        ("my-lab/oracle", None, "purifier"),
        ("my-lab/mine", {"role": "reconstruction"}, "reconstruction"),
        ("file:Mine", {"role": "control", "oracle": False}, "control"),
        ("none", {"role": "no such"}, "reference"),
    ],
)
def test_whose_word_counts(use, traits, role):
    assert role_of(use, traits) is Role(role)


def test_what_is_shown_the_clean_image_is_an_oracle_by_name_too_and_each_name_is_one():
    there = {one.name: one for one in catalog.components("defense") if one.origin.startswith("purebench ")}
    assert SHIPPED.keys() <= there.keys()
    for name, one in there.items():
        assert one.traits is not None
        assert one.traits.oracle is (role_of(name) is Role.ORACLE)
