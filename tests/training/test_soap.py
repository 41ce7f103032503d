"""SOAP against algorithm 3 of its paper in NumPy, model by model; what it refuses and survives."""

import numpy as np
import pytest
import torch
from torch import nn

from hvae_codec.training.optimisers.soap import Soap

pytestmark = pytest.mark.usefixtures("one_thread")


def expected_path(first, gradients, rate, beta_1, beta_2, basis_steps, turned):
    """The matrix after each gradient; `turned`: whether rows and columns have a basis."""
    rows, columns = first.shape
    weight, mean, square = first.copy(), np.zeros_like(first), np.zeros_like(first)
    grams = [np.zeros((rows, rows)), np.zeros((columns, columns))]
    bases = [np.eye(rows), np.eye(columns)]
    count = 0
    for step, gradient in enumerate(gradients, start=1):
        count += 1
        left, right = bases
        mean = beta_1 * mean + (1 - beta_1) * gradient
        square = beta_2 * square + (1 - beta_2) * (left.T @ gradient @ right) ** 2
        turned_mean = left.T @ mean @ right / (1 - beta_1**count)
        update = turned_mean / (np.sqrt(square / (1 - beta_2**count)) + 1e-8)
        weight = weight - rate * (left @ update @ right.T)
        for side, outer in enumerate((gradient @ gradient.T, gradient.T @ gradient)):
            grams[side] = beta_2 * grams[side] + (1 - beta_2) * outer
            length = len(grams[side])
            ramp = np.trace(grams[side]) / length * np.linspace(1e-6, 2e-6, length)
            if turned[side] and step == basis_steps:
                bases[side] = np.linalg.eigh(grams[side] + np.diag(ramp))[1][:, ::-1]
            elif turned[side] and step % basis_steps == 0:
                bases[side] = np.linalg.qr((grams[side] + np.diag(ramp)) @ bases[side])[0]
        if step == basis_steps:
            count, mean, square = 0, np.zeros_like(first), np.zeros_like(first)
        yield weight


@pytest.mark.parametrize(
    ("shape", "largest_side", "turned"),
    [
        ((6, 6), 6, (True, True)),
        ((4, 9), 9, (True, True)),
        ((5, 30), 8, (True, False)),
        ((30, 5), 8, (False, True)),
    ],
)
def test_steps_are_those_of_the_paper(shape, largest_side, turned):
    """Also where three gradients leave a Gram matrix with eigenvalues of 0."""
    draw = np.random.default_rng(1).normal
    first, gradients = draw(size=shape), [draw(size=shape) for _ in range(11)]
    weight = nn.Parameter(torch.from_numpy(first.copy()))
    optimiser = Soap([weight], 0.02, (0.9, 0.8), basis_steps=3, largest_side=largest_side)
    path = expected_path(first, gradients, 0.02, 0.9, 0.8, 3, turned)
    for gradient, expected in zip(gradients, path, strict=True):
        weight.grad = torch.from_numpy(gradient.copy())
        optimiser.step()
        np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-9, atol=1e-11)


def test_the_first_steps_and_sides_that_are_too_long_are_adams():
    noise = torch.randn(4, 7, generator=torch.manual_seed(2))
    ours, theirs = (nn.Parameter(torch.ones(4, 7)) for _ in range(2))
    soap = Soap([ours], 0.1, (0.9, 0.99), largest_side=3)
    adam = torch.optim.Adam([theirs], 0.1, (0.9, 0.99))
    for _ in range(10):
        for parameter, optimiser in ((ours, soap), (theirs, adam)):
            parameter.grad = (parameter.detach() - 3.0 * noise).square() - 1.0
            optimiser.step()
    torch.testing.assert_close(ours, theirs)


def moved(gradients, **options):
    weight = nn.Parameter(torch.zeros_like(gradients[0]))
    optimiser = Soap([weight], 0.1, basis_steps=2, **options)
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimiser.step()
    return weight.detach()


def test_each_matrix_of_a_stack_moves_as_it_does_alone():
    """One of them has gradients of 0 alone, and stays."""
    gradients = torch.randn(7, 3, 5, 5, dtype=torch.float64, generator=torch.manual_seed(3))
    gradients[:, 1] = 0.0
    stack = moved(gradients)
    assert not stack[1].any()
    for index in (0, 2):
        torch.testing.assert_close(stack[index], moved(gradients[:, index]), rtol=1e-9, atol=1e-12)


def test_a_gradient_that_is_not_finite_spoils_its_own_matrix_alone():
    gradients = torch.randn(5, 2, 4, 4, generator=torch.manual_seed(4))
    gradients[0, 0, 1, 1] = torch.inf
    found = moved(gradients)
    assert not found[0].isfinite().all()
    assert found[1].isfinite().all()


@pytest.mark.parametrize(
    ("matrix", "options", "message"),
    [
        (torch.zeros(3), {}, r"matrices, not a shape of \(3,\)"),
        (torch.zeros(3, 3), {"basis_steps": 0}, "basis_steps 0; at least 1"),
    ],
)
def test_soap_refuses(matrix, options, message):
    with pytest.raises(ValueError, match=message):
        Soap([nn.Parameter(matrix)], **options)
