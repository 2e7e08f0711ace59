"""Base classes: what ships has them, and what somebody wrote without one gets their defaults when it is loaded."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from harness import components
from harness.core import contracts, session
from harness.core.contracts import DataCard, Split, Traits
from harness.core.errors import UserError
from harness.core.minimum import Effort
from harness.core.registry import BASES, TABLES, entries
from harness.core.roles import Role
from harness.core.threat import BALLS, Norm, Smoothing
from harness.options import NoOptions

KINDS = sorted(TABLES.keys() - {"section"})  # whose promises its base class tells
PROTOCOLS = {kind: getattr(contracts, kind.capitalize()) for kind in KINDS}


def base_of(kind):
    module, _, name = BASES[kind].partition(":")
    return getattr(importlib.import_module(module), name)


def loaded(kind, component):
    session.register(kind, component.__name__, component, "a hash")
    return session.find(kind, f"{session.SESSION}{component.__name__}").load()


class Old:
    """What every component had before there were base classes."""

    version = 3
    Options = NoOptions

    def __init__(self, options):
        self.given = options


class OldPurifier(Old):
    def __init__(self, options):
        super().__init__(options)
        self.traits = Traits(random=True, differentiable=False)

    def refuses(self, setting):
        return "whoever comes"

    def purify(self, x, nets, draws):
        return x + 1


class OldSmoothPurifier(OldPurifier):
    inner = ("reconstruction",)
    unclipped = True
    role = "control"

    def smoothed(self, smoothing):
        return self


class OldAttack(Old):
    def propose(self, victim, x, y, threat, draws):
        return x


class OldSearch(OldAttack):
    by_example = True
    norms = (Norm.FLOW,)
    library = "numpy"

    @property
    def effort(self):
        return Effort(queries=7)


class OldClassifier(Old):
    def load(self, nets, data):
        return "a network"


class OldDataset(Old):
    card = DataCard((1, 2, 2), 2, 3, "0" * 64)

    def load(self, part):
        return Split(np.zeros((3, 1, 2, 2), np.float32), np.arange(3), np.arange(3))


class OldCertificate(Old):
    looks = 5

    def certify(self, classify, x, n_classes, draws, copies=1):
        return x, x


OLD = {  # the kinds that there were before the base classes
    "defense": OldPurifier,
    "attack": OldAttack,
    "classifier": OldClassifier,
    "dataset": OldDataset,
    "certificate": OldCertificate,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_component_that_ships_inherits_from_the_base_class_of_its_kind(kind):
    for entry in entries(kind).values():
        if entry.origin.startswith("purebench "):
            module, _, name = entry.target.partition(":")
            assert entry.load() is getattr(importlib.import_module(module), name)
            assert issubclass(entry.load(), base_of(kind)), entry.name


@pytest.mark.parametrize("kind", KINDS)
def test_a_base_class_has_whatever_may_be_asked_of_its_kind(kind):
    promised = {
        name for part in PROTOCOLS[kind].__mro__ for name in (*vars(part), *vars(part).get("__annotations__", ()))
    }
    wanted = {name for name in promised if not name.startswith("_")}
    assert wanted
    told = {name for part in base_of(kind).__mro__ for name in vars(part).get("__annotations__", ())}
    assert not {name for name in wanted - told if not hasattr(base_of(kind), name)}


@pytest.mark.parametrize("kind", sorted(OLD))
def test_what_was_written_without_a_base_class_is_what_it_was_and_has_the_rest_by_default(kind):
    component = loaded(kind, OLD[kind])
    made = component(NoOptions())
    assert (component.__name__, component.version, made.given) == (OLD[kind].__name__, 3, NoOptions())
    assert isinstance(made, OLD[kind])
    assert isinstance(made, PROTOCOLS[kind])
    assert (component.source, component.library, component.runs({})) == ("", None, None)
    assert loaded(kind, OLD[kind]) is component


def test_defaults_of_a_purifier():
    made = loaded("defense", OldPurifier)(NoOptions())
    assert made.traits == Traits(random=True, differentiable=False)
    assert made.refuses(None) == "whoever comes"
    assert made.purify(1, {}, None) == 2
    assert (made.role, made.inner, made.unclipped, made.classifier({})) == (Role.PURIFIER, (), False, None)
    assert not made.smoothable()
    with pytest.raises(NotImplementedError, match="expected OldPurifier to have a method smoothed"):
        made.smoothed(Smoothing())
    with pytest.raises(ValueError, match="expected an inner loss that OldPurifier has, got 'reconstruction'"):
        made.inner_loss("reconstruction", None, None, {}, None)


def test_what_a_purifier_says_itself_goes_before_the_defaults():
    made = loaded("defense", OldSmoothPurifier)(NoOptions())
    assert (made.role, made.inner, made.unclipped) == ("control", ("reconstruction",), True)
    assert made.smoothable()
    assert made.smoothed(Smoothing()) is made


def test_defaults_of_an_attack_and_what_it_says_itself():
    made = loaded("attack", OldAttack)(NoOptions())
    assert (made.by_example, made.norms, made.effort, made.refuses(None)) == (False, BALLS, None, None)
    other = loaded("attack", OldSearch)(NoOptions())
    assert (other.by_example, other.norms, other.effort) == (True, (Norm.FLOW,), Effort(queries=7))
    assert other.library == "numpy"


def test_defaults_of_the_others():
    assert loaded("classifier", OldClassifier)(NoOptions()).refuses(OldDataset.card) is None
    certificate = loaded("certificate", OldCertificate)(NoOptions())
    assert (certificate.looks, certificate.glance, certificate.refuses(None, None)) == (5, {}, None)
    dataset = loaded("dataset", OldDataset)(NoOptions())
    assert dataset.card is OldDataset.card
    assert len(dataset.load("test").labels) == 3


@pytest.mark.parametrize(
    ("kind", "lacks"),
    [
        ("defense", "no purify, which harness.components.Purifier describes"),
        ("attack", "no propose, which harness.components.Attack describes"),
        ("classifier", "no load, which harness.components.Classifier describes"),
        ("certificate", "no certify and no looks, which harness.components.Certificate describes"),
    ],
)
@pytest.mark.parametrize("inherits", [True, False])
def test_what_nobody_else_can_know_has_to_be_there(kind, lacks, inherits):
    bare = type("Bare", (base_of(kind),) if inherits else (Old,), {})
    with pytest.raises(UserError, match=f"expected {kind} 'session:Bare' .* but it has {lacks}; mend it"):
        loaded(kind, bare)


def test_a_component_is_a_class():
    def make(options):
        return OldPurifier(options)

    make.version, make.Options = 1, NoOptions
    with pytest.raises(UserError, match="but it is a function and no class"):
        loaded("defense", make)


def test_a_subclass_that_overrides_its_smooth_version_has_one():
    class Signs(components.Purifier):
        def smoothed(self, smoothing):
            return self

    assert Signs.smoothable()
    assert type("More", (Signs,), {}).smoothable()
    assert not components.Purifier.smoothable()
