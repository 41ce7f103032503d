"""Muon against singular values and torch's own; which parameters it takes; state that resumes."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from hvae_codec.errors import CheckpointError
from hvae_codec.models.build import build_model
from hvae_codec.models.zoo import SPECS
from hvae_codec.training.optimisers.muon import Muon, orthogonalised
from hvae_codec.training.optimisers.optimiser import OPTIMISERS, Optimiser, is_matrix, matrix_view

pytestmark = pytest.mark.usefixtures("one_thread")


def expected_update(matrix):
    """U f(S) V^T in float64 by singular values: f is the quintic of Jordan et al., five times."""
    left, values, right = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
    values = values / np.sqrt((values**2).sum())
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return left * values @ right


@pytest.mark.parametrize("shape", [(8, 8), (8, 72), (40, 6), (1, 9), (5, 1)])
def test_orthogonalised_moves_singular_values_as_the_polynomial_does(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = orthogonalised(matrix)
    np.testing.assert_allclose(found.numpy(), expected_update(matrix), atol=2e-5)
    assert found.shape == matrix.shape


def test_orthogonalised_keeps_small_singular_values_exact():
    """Over six decades, where products in bfloat16 are off by some percent."""
    generator = torch.Generator().manual_seed(2)
    left, right = (torch.linalg.qr(torch.randn(n, n, generator=generator))[0] for n in (12, 40))
    matrix = left @ torch.diag(torch.logspace(0, -6, 12)) @ right[:12]
    np.testing.assert_allclose(orthogonalised(matrix).numpy(), expected_update(matrix), atol=1e-3)


def test_orthogonalised_takes_stacks_and_zeros():
    stack = torch.randn(3, 6, 20, generator=torch.Generator().manual_seed(3))
    stack[1] = 0.0
    found = orthogonalised(stack)
    assert torch.equal(found[1], torch.zeros(6, 20))
    for index in (0, 2):
        torch.testing.assert_close(found[index], orthogonalised(stack[index]))


def test_steps_are_those_of_torchs_muon():
    """torch's rounds to bfloat16 on the way: 2 % of an update."""
    generator = torch.Generator().manual_seed(4)
    first = torch.randn(24, 60, generator=generator)
    ours, theirs = (nn.Parameter(first.clone()) for _ in range(2))
    optimisers = (
        Muon([ours], lr=0.01),
        torch.optim.Muon([theirs], lr=0.01, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(6):
        gradient = torch.randn(24, 60, generator=generator)
        for parameter, optimiser in zip((ours, theirs), optimisers, strict=True):
            parameter.grad = gradient.clone()
            optimiser.step()
    moved = (theirs - first).norm()
    assert (ours - theirs).norm() < 0.02 * moved
    # Five sixths of singular values of 1: a root mean square near 0.2 learning rates a step.
    assert 0.5 < moved / (6 * 0.01 * 0.2 * np.sqrt(24 * 60)) < 1.2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_momentum_is_the_running_mean_in_every_type(dtype):
    """Of a constant gradient of norm 2 sqrt(24); findings/torch_muon_bf16_momentum.sh."""
    matrix = nn.Parameter(torch.zeros(4, 6, dtype=dtype))
    optimiser = Muon([matrix], lr=0.1, momentum=0.9)
    for step in range(1, 4):
        matrix.grad = torch.full((4, 6), 2.0, dtype=dtype)
        optimiser.step()
        norm = optimiser.state[matrix]["momentum_buffer"].float().norm().item()
        assert norm == pytest.approx(2.0 * 24**0.5 * (1.0 - 0.9**step), rel=0.01)


def test_muon_refuses_vectors():
    with pytest.raises(ValueError, match=r"matrices, not a shape of \(3,\)"):
        Muon([nn.Parameter(torch.zeros(3))])


def test_which_parameters_are_matrices():
    """Weights of convolutions and linear layers, but for contexts; no values per quality."""
    maps = build_model(SPECS["maps6-32x32x3"], "uniform")
    taken = {name for name, parameter in maps.named_parameters() if is_matrix(name, parameter)}
    weights = {
        f"{name}.weight" for name, module in maps.named_modules() if isinstance(module, nn.Conv2d)
    }
    contexts = {name for name in weights if name.startswith("layers.") and ".context." in name}
    # One for each stride above a layer, or of its own in a layer above it.
    assert len(contexts) == 1 + 2 + 2 + 3 + 3
    assert taken == weights - contexts
    flat = build_model(SPECS["ghvae-32x32x3"], "gaussian")
    taken = {name for name, parameter in flat.named_parameters() if is_matrix(name, parameter)}
    assert taken == {name for name, _ in flat.named_parameters() if name.endswith("weight")}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_matrix_views_share_memory_in_either_layout(layout):
    weight = nn.Parameter(torch.randn(4, 3, 2, 2).contiguous(memory_format=layout))
    matrix = matrix_view(weight)
    assert matrix.shape == (4, 12)
    matrix[1].fill_(7.0)
    assert (weight[1] == 7.0).all()
    assert not (weight[0] == 7.0).any()


def test_other_layouts_are_refused():
    weight = nn.Parameter(torch.randn(2, 2, 3, 4).permute(3, 2, 1, 0))
    with pytest.raises(ValueError, match="contiguous or channels_last"):
        matrix_view(weight)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 2, 1), nn.Flatten())


def losses(model, optimiser, steps, first=0):
    found = []
    for step in range(first, first + steps):
        x = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(step))
        loss = (model(x) - x.mean()).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step(0.01)
        found.append(loss.item())
    return found


@pytest.mark.parametrize(("name", "steps"), [("muon", 3), ("soap", 13)])
def test_the_layout_of_memory_does_not_matter(name, steps):
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        model = net().to(memory_format=layout)
        losses(model, Optimiser(model, name), steps)
        found.append([parameter.detach() for parameter in model.parameters()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_restored_optimiser_continues_to_the_bit(name):
    """Before the next update of the bases of SOAP."""
    model = net()
    optimiser = Optimiser(model, name)
    losses(model, optimiser, 18)
    tensors = {key: value.clone() for key, value in optimiser.state_tensors().items()}
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    expected = losses(model, optimiser, 5, first=18)
    other = net()
    other.load_state_dict(weights)
    restored = Optimiser(other, name)
    restored.load_state_tensors(tensors)
    assert losses(other, restored, 5, first=18) == expected
    kept = {"muon": ["momentum_buffer"], "soap": ["step", "exp_avg", "exp_avg_sq"]}.get(name, [])
    if name == "soap":
        kept += [f"{what}_{side}" for what in ("gram", "basis") for side in ("rows", "columns")]
    of_matrices = {key for key in tensors if not key.startswith("adam.")}
    assert of_matrices == {f"{name}.{what}.{i}.weight" for what in kept for i in (0, 2)}


@pytest.mark.parametrize(
    ("saved", "now"), list(itertools.permutations(("adam", "muon", "soap"), 2))
)
def test_the_state_of_another_optimiser_is_refused(saved, now):
    model = net()
    optimiser = Optimiser(model, saved)
    losses(model, optimiser, 1)
    with pytest.raises(CheckpointError, match=rf"another optimiser.*{saved}\.\w+\.0\.weight"):
        Optimiser(net(), now).load_state_tensors(optimiser.state_tensors())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("soap.gram_rows.0.weight", torch.zeros(4, 4), r"shape \(4, 4\), not \(5, 5\)"),
        ("soap.momentum_buffer.0.weight", torch.zeros(5, 27), r"shape \(5, 27\), not none"),
        ("adam.exp_avg.0.bias", torch.zeros(6), r"shape \(6,\), not \(5,\)"),
    ],
)
def test_a_state_of_other_shapes_is_refused(name, value, message):
    with pytest.raises(CheckpointError, match=message):
        Optimiser(net(), "soap").load_state_tensors({name: value})


def test_adamw_decays_weights_that_have_no_gradient():
    """By the learning rate times 0.01, whatever the gradient: W. Loshchilov, F. Hutter 2019."""
    model = nn.Linear(2, 2)
    before = model.weight.detach().clone()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    Optimiser(model, "adamw").step(0.5)
    torch.testing.assert_close(model.weight.detach(), before * (1 - 0.5 * 0.01))
