"""What a defense is in a study: by its own word, else by its name or by being shown the clean image."""

from __future__ import annotations

import pytest

from harness.core.registry import find
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


def test_what_is_shown_the_clean_image_says_that_it_is_an_oracle():
    for one in catalog.components("defense"):
        if one.origin.startswith("purebench "):
            assert one.traits.oracle is (find("defense", one.name).load().role is Role.ORACLE), one.name


def test_those_that_were_recorded_before_roles_were_have_the_role_that_they_say_now():
    assert {name: find("defense", name).load().role for name in SHIPPED} == SHIPPED
