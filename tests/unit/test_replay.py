"""A replayed step has the gradient of the step, and keeps none of its activations."""

import torch

from harness.replay import replayed, stored_graph


def bent(x, y):
    return torch.sin(3 * x) * y + x**2


def draws(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_gradient_is_that_of_the_stored_graph():
    x, y = draws(2, 5).requires_grad_(True), draws(2, 5).requires_grad_(True)

    def many(x, y):
        for _ in range(4):
            x = replayed(bent, x, y)
        return x.sum()

    with stored_graph():
        wanted = torch.autograd.grad(many(x, y), (x, y))
    found = torch.autograd.grad(many(x, y), (x, y))
    assert all(torch.allclose(a, b, rtol=1e-14) for a, b in zip(found, wanted, strict=True))
    assert torch.autograd.gradcheck(lambda x, y: replayed(bent, x, y), (x, y))


def test_a_step_may_return_several_and_leave_some_without_a_gradient():
    x, y = draws(3).requires_grad_(True), draws(3)

    def step(x, y):
        return x * y, y.clone(), x.detach() + 1

    first, second, third = replayed(step, x, y)
    (found,) = torch.autograd.grad((first + second + third).sum(), x)
    assert torch.equal(found, y)


def test_a_step_may_have_a_gradient_within():
    def step(x):
        with torch.enable_grad():
            at = x if x.requires_grad and torch.is_grad_enabled() else x.detach().requires_grad_(True)
            attached = at is x
            (down,) = torch.autograd.grad((at**4).sum(), at, create_graph=attached)
        return x - 0.1 * down

    x = draws(4).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: replayed(step, replayed(step, x)), (x,))


def test_the_step_is_run_once_without_gradients_and_twice_with_them():
    calls = []

    def step(x):
        calls.append(torch.is_grad_enabled())
        return x**2

    x = draws(3)
    replayed(step, x)
    assert calls == [True]  # as it is called, since nothing asks for a gradient
    calls.clear()
    at = x.clone().requires_grad_(True)
    torch.autograd.grad(replayed(step, at).sum(), at)
    assert calls == [False, True]


def test_the_activations_are_not_kept():
    kept = []

    def deep(x):
        for _ in range(10):
            x = torch.sin(x)
        return x

    def run():
        kept.clear()
        x = draws(7).requires_grad_(True)
        with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one.shape) or one, lambda one: one):
            replayed(deep, x)
        return len(kept)

    assert run() == 1
    with stored_graph():
        assert run() == 10
