"""How much memory a backward pass through all of a purifier's steps takes: no more for many steps than for few."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: steps that are few and many, and how much more the many may take
FEW, MANY, LIMIT = 10, 100, 1.5

MEASURE = """
import sys, torch
from defenses.{module} import {name} as Method
from harness.core.contracts import DataCard
from harness.core.threat import Smoothing
from harness.draws import Draws
from harness.nets import sizes
from harness.nets import cnn, mae, unet
from harness.execution.worker import memory

torch.set_num_threads(1)
torch.manual_seed(0)
card = DataCard(shape=(3, 32, 32), n_classes=10, n_test=1, sha256="0" * 64)
makers = {{
    "unet": lambda: unet.build(sizes.UNetSize(use="unet", channels=(32, 64), layers=1, groups=8), card),
    "guide": lambda: cnn.build(sizes.CNNSize(use="cnn", width=8, hidden=16), card),
    "mae": lambda: mae.build(sizes.MAESize(use="mae", patch=4, dim=96, depth=4, heads=4, decoder_dim=64), card),
}}
nets = {{role: make().eval().requires_grad_(False) for role, make in makers.items()}}
draws = Draws(("memory",), torch.arange(4))
x = draws.at("x").uniform(3, 32, 32)

def backward(steps):
    defense = Method(Method.Options(**{options}))
    defense = defense.smoothed(Smoothing()) if defense.smoothable() else defense
    at = x.clone().requires_grad_(True)
    torch.autograd.grad(defense.purify(at, nets, draws).sum(), at)

backward(2)  # what libraries hold on to is held by now
memory.tidy()
with memory.watch(torch.device("cpu")) as seen:
    backward(int(sys.argv[1]))
print(seen.peak)
"""

METHODS = {
    "diffpure": ("diffpure", "DiffPure", "dict(unet='u', t_star=steps, steps=steps)"),
    "gdmp": ("gdmp", "GDMP", "dict(unet='u', t_star=steps, steps=steps, rounds=1, guide_scale=1250, eps=0.2)"),
    "coup": ("coup", "COUP", "dict(unet='u', guide='g', t_star=100, steps=steps)"),
    "mae-pure (smooth)": ("mae_pure", "MAEPure", "dict(mae='m', steps=steps, step_size=1 / 255)"),
}


def peak(method: str, steps: int) -> float:
    """Return the peak of a backward pass through so many steps in a process of its own, in MiB."""
    module, name, options = METHODS[method]
    code = MEASURE.format(module=module, name=name, options=options)
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(steps)], capture_output=True, text=True, check=True, timeout=600
    )
    return int(done.stdout.split()[-1]) / 2**20


@pytest.mark.benchmark
@pytest.mark.parametrize("method", METHODS)
def test_a_backward_pass_takes_no_more_memory_for_many_steps(method, figure):
    few, many = peak(method, FEW), peak(method, MANY)
    figure(f"backward pass through {MANY} steps of {method}", f"{many:.0f} MiB", f"{LIMIT} of {few:.0f} MiB")
    assert few > 5, f"expected a measurable peak, got {few:.1f} MiB"
    assert many <= LIMIT * few, f"expected at most {LIMIT} times {few:.0f} MiB, got {many:.0f} MiB"
