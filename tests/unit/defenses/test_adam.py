"""Adam written out against the library's, and under the derivative."""

import torch

from defenses.adam import Moments, adam


def gradient(value):
    return torch.cos(3 * value) + 0.1 * value**2


def test_it_is_the_librarys():
    value = torch.linspace(-1, 1, 7, dtype=torch.float64)
    theirs = value.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([theirs], lr=0.05, betas=(0.8, 0.99))
    moments = Moments.none(value)
    for _ in range(20):
        value, moments = adam(value, gradient(value), moments, 0.05, (0.8, 0.99))
        theirs.grad = gradient(theirs.detach())
        optimiser.step()
    assert torch.allclose(value, theirs.detach(), atol=1e-12)


def test_it_leaves_alone_what_it_is_given():
    value, moments = torch.ones(3), Moments.none(torch.ones(3))
    adam(value, torch.ones(3), moments, 0.1)
    assert torch.equal(value, torch.ones(3))
    assert torch.equal(moments.first, torch.zeros(3))
    assert moments.steps == 0


def test_nothing_moves_where_no_gradient_comes():
    value, moments = torch.ones(2), Moments.none(torch.ones(2))
    stepped, _ = adam(value, torch.tensor([0.0, 1.0]), moments, 0.1)
    assert torch.allclose(stepped, torch.tensor([1.0, 0.9]))


def test_steps_have_the_derivative_of_finite_differences():
    def of(value):
        moments = Moments.none(value)
        for _ in range(4):
            value, moments = adam(value, gradient(value), moments, 0.05)
        return value

    start = torch.linspace(-0.9, 0.9, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(of, (start,), eps=1e-7, atol=1e-6, rtol=1e-5)


def test_a_gradient_that_is_zero_leaves_the_derivative_finite():
    start = torch.tensor([0.5, 1.0], requires_grad=True)
    stepped, _ = adam(start, start * torch.tensor([0.0, 1.0]), Moments.none(start), 0.1)
    (found,) = torch.autograd.grad(stepped.sum(), start)
    assert torch.isfinite(found).all()
