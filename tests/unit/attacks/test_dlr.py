"""What attacks on the DLR find against a linear victim of three classes, whose largest DLR is known."""

from __future__ import annotations

import pytest
from scipy.optimize import brentq

from attacks.apgd import APGD
from attacks.losses import dlr
from attacks.pgd import PGD
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.testing.victims import LinearVictim

DUAL = {Norm.LINF: 1, Norm.L2: 2}


def largest(victim, x, y, norm, eps):
    """The largest DLR in the ball, for each image whose order of classes stays as it is.

    With the classes true, next and last it is (next - true) / (true - last): at least r where some change brings
    (next - true) - r (true - last) to 0 or more, and the most that a linear function can be changed by is eps times
    the dual norm of its gradient. That is a root in r.
    """
    weight = victim.net[2].weight.detach().double()
    logits = victim.net(x).detach().double()
    found = []
    for row, true in zip(logits, y.tolist(), strict=True):
        next_, last = row.argsort(descending=True)[1:].tolist()

        def most(r, row=row, true=true, next_=next_, last=last):
            value = row[next_] - row[true] - r * (row[true] - row[last])
            gradient = weight[next_] - weight[true] - r * (weight[true] - weight[last])
            return float(value + eps * gradient.norm(DUAL[norm]))

        found.append(brentq(most, -1.0, 0.0))
    return found


@pytest.mark.parametrize("norm", list(DUAL))
@pytest.mark.parametrize(
    "make",
    [
        lambda: PGD(PGD.Options(loss="dlr", steps=200, step_size=0.02)),
        lambda: APGD(APGD.Options(loss="dlr", steps=200)),
    ],
    ids=["pgd", "apgd"],
)
def test_the_largest_dlr_is_found(make, norm):
    victim = LinearVictim(n_classes=3)
    x, y, draws = victim.images()
    eps = 0.5 * victim.distance(norm)
    best = largest(victim, x, y, norm, eps)
    found = make().propose(victim, x, y, ThreatModel(norm, eps, Knowledge.OBLIVIOUS), draws)
    before, after = (dlr(victim.net(one).detach(), y) for one in (x, found))
    assert bool((after < 0).all())
    assert after.tolist() == pytest.approx(best, rel=0.02)
    assert bool((after > before + 0.1).all())
