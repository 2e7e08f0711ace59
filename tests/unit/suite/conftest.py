"""Components with nothing inside, so that these tests stand on the suite alone."""

import sys
import textwrap
from types import ModuleType
from typing import ClassVar, Literal

import pytest
from pydantic import Field

from harness.components import Attack, Certificate, Classifier, Dataset, Purifier
from harness.core import registry
from harness.core.contracts import DataCard, Traits
from harness.core.threat import Knowledge
from harness.options import Eps, Number, Options, Recipe
from harness.suite.load import read_suite


class Dots(Dataset):
    """Images that nobody has seen.

    The second paragraph is not part of the summary.
    """

    version: ClassVar[int] = 1
    sha256: ClassVar[str] = "d0" * 32

    class Options(Options):
        n_test: int = Field(50, ge=1, description="images kept for evaluation")

    @property
    def card(self):
        return DataCard(shape=(1, 4, 4), n_classes=2, n_test=self.options.n_test, sha256=self.sha256)


class Trained(Classifier):
    """A classifier from a recipe."""

    version: ClassVar[int] = 1

    class Options(Options):
        recipe: Recipe

    def load(self, nets, data): ...


class Plain(Purifier):
    """No defense."""

    def purify(self, x, nets, draws): ...


class Blur(Purifier):
    """Refuses exact gradients."""

    version: ClassVar[int] = 1

    class Options(Options):
        net: Recipe = Field(description="what to blur with")
        strength: Number = Field(0.5, gt=0, le=1, description="how much")
        mode: Literal["soft", "hard"] = Field("soft", description="which way")
        sizes: tuple[int, ...] = Field((1, 2), description="of the windows")

    @property
    def traits(self):
        return Traits(random=True, differentiable=False, optimises=self.options.mode == "hard")

    def refuses(self, setting):
        return "a blur has no gradient." if setting.threat.knowledge is Knowledge.FULL else None

    def purify(self, x, nets, draws): ...


class Push(Attack):
    """Pushes pixels."""

    version: ClassVar[int] = 1

    class Options(Options):
        steps: int = Field(10, ge=1, description="how often")
        step_size: Eps | None = Field(None, description="how far")
        random_start: bool = Field(True, description="whether to begin anywhere")

    def refuses(self, setting):
        return "more steps than the budget allows" if self.options.steps > 1000 else None

    def propose(self, victim, x, y, threat, draws): ...


class Vote(Certificate):
    """Certifies what it is told to."""

    version: ClassVar[int] = 1

    class Options(Options):
        sigma: Number = Field(0.25, gt=0, description="of the noise")
        net: Recipe | None = Field(None, description="a network to look with")

    def refuses(self, data, traits):
        return "nothing follows from batch-mates" if traits.batchwise else None

    looks = 1

    def certify(self, classify, x, n_classes, draws, copies=1): ...


STAND_INS = {
    "dataset": {"dots": Dots},
    "classifier": {"trained": Trained},
    "defense": {"none": Plain, "blur": Blur},
    "attack": {"push": Push},
    "certificate": {"vote": Vote},
}

RECIPE = """
name: small-{net}
dataset: {{use: dots}}
net: {{use: {net}}}
objective: {{use: {objective}}}
steps: 10
"""

SUITE = """
name: demo
title: A demonstration
datasets:
  - name: dots
classifiers:
  - name: small
    use: trained
    params: {recipe: cnn.yaml}
defenses:
  - name: none
  - name: blur
    params: {net: mae.yaml}
attacks:
  - name: push
    params: {steps: 5}
threat_models:
  - name: hidden
    use: Linf
    params: {eps: 8/255, knowledge: oblivious}
  - name: known
    use: Linf
    params: {eps: 8/255, knowledge: bpda}
evaluation:
  n_examples: 40
  repeats: 3
  shard_size: 16
"""


@pytest.fixture(autouse=True)
def components(monkeypatch):
    """The registered components; a test may add to them."""
    module = ModuleType("purebench_stand_ins")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    tables = {}
    for kind, table in STAND_INS.items():
        tables[kind] = {}
        for name, component in table.items():
            setattr(module, component.__name__, component)
            target = f"{module.__name__}:{component.__name__}"
            tables[kind][name] = registry.RegistryEntry(kind, name, target, "purebench 0")
    tables |= {kind: dict(registry.entries(kind)) for kind in ("network", "objective", "metric")}
    monkeypatch.setattr(registry, "entries", tables.__getitem__)
    return tables


@pytest.fixture
def folder(tmp_path):
    """A folder with the two recipes that the suite names."""
    (tmp_path / "cnn.yaml").write_text(RECIPE.format(net="cnn", objective="classify"), encoding="utf-8")
    (tmp_path / "mae.yaml").write_text(RECIPE.format(net="mae", objective="reconstruct"), encoding="utf-8")
    return tmp_path


@pytest.fixture
def suite_text():
    return SUITE


@pytest.fixture
def read(folder):
    """Read a suite text; a second argument is put at its end."""

    def read_it(text=SUITE, more=""):
        return read_suite(textwrap.dedent(text) + textwrap.dedent(more), "suite.yaml", folder)

    return read_it


@pytest.fixture
def complaints(read):
    """Read a suite that has mistakes and return them as lines of text."""
    from harness.core.errors import UserError

    def complain(text=SUITE, more=""):
        with pytest.raises(UserError) as caught:
            read(text, more)
        return [str(problem) for problem in caught.value.problems]

    return complain
