"""The table of defenses: every one says what it is and where it comes from."""

import inspect

import pytest

from defenses import TABLE
from harness.suite.catalog import components

DEFENSES = {one.name: one for one in components("defense") if "/" not in one.name}


def test_the_table_is_in_order():
    assert list(TABLE) == sorted(TABLE) == sorted(DEFENSES)


@pytest.mark.parametrize("name", TABLE)
def test_a_defense_has_a_summary_a_source_traits_and_a_word_on_every_option(name):
    one = DEFENSES[name]
    assert not one.fault
    assert len(one.summary.split()) > 2
    assert one.summary.endswith(".")
    assert len(one.source.split()) > 2
    assert one.traits is not None
    assert all(option.description for option in one.options if name != "none")


@pytest.mark.parametrize("name", TABLE)
def test_its_module_can_be_imported_without_torch(name):
    module = inspect.getsource(__import__(TABLE[name].partition(":")[0], fromlist=["_"]))
    top = [line for line in module.splitlines() if line.startswith(("import ", "from "))]
    assert not any(line.split()[1].startswith(("torch", "PIL", "numpy", "harness.nets")) for line in top)
