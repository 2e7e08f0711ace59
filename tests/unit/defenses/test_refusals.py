"""What shipped defenses say of an attacker whom they refuse is true: of the way out at least, that there is one."""

import re

import pytest

from harness.core.contracts import Setting
from harness.core.registry import entries
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.suite.grid import _followed, _mode_refusal
from harness.testing.nets import CARD

SHIPPED = sorted(name for name, entry in entries("defense").items() if entry.origin.startswith("purebench "))


def built(name):
    defense = entries("defense")[name].load()
    roles = defense.Options.recipe_fields()
    told = [role for role in roles if defense.Options.model_fields[role].is_required()]
    return defense(defense.Options(**dict.fromkeys(told, "tiny")))


def refusal(name, knowledge):
    defense = built(name)
    setting = Setting(CARD, ThreatModel(Norm.LINF, 0.1, knowledge), defense.traits)
    return defense.refuses(setting) or _mode_refusal(name, defense, setting, None)


@pytest.mark.parametrize("name", SHIPPED)
def test_who_is_told_to_use_another_knowledge_can_use_it(name):
    for knowledge in (Knowledge.BPDA, Knowledge.FULL, Knowledge.SMOOTH):
        reason = refusal(name, knowledge)
        if reason is None:
            continue
        named = re.search(r"use knowledge: (\w+)(?:, or (\w+))?", reason)
        assert named, reason
        for other in filter(None, named.groups()):
            assert refusal(name, Knowledge(other)) is None, reason


@pytest.mark.parametrize("name", SHIPPED)
def test_signs_are_smoothed_where_there_are_any_and_rounding_is_said_to_be_none(name):
    defense, reason = built(name), refusal(name, Knowledge.SMOOTH)
    assert (reason is None) is defense.smoothable()
    rounds = name in ("bit-depth", "jpeg")
    assert ("rounds" in (reason or "")) is rounds
    followed = [one.value for one in _followed(defense, CARD)]
    assert followed == [word for word in ("full", "smooth") if refusal(name, Knowledge(word)) is None]


def test_those_that_move_by_signs_are_followed_through_them():
    smooth = {name for name in SHIPPED if Knowledge.SMOOTH in _followed(built(name), CARD)}
    assert smooth == {name for name in SHIPPED if built(name).smoothable()}
    assert {"mae-pure", "rmae-pure", "maskdit-pure", "rmaskdit-pure", "soap"} <= smooth
