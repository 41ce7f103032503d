"""gaussian_rsample_kl and gaussian_kl: closed forms, mpmath, the reference, gradients."""

import math

import mpmath
import pytest
import torch
from torch.nn import functional as F

from hvae_codec import ops
from hvae_codec.ops import reference

DTYPES = {
    torch.float64: 1e-13,
    torch.float32: 2e-6,
    torch.bfloat16: 1e-2,
    torch.float16: 2e-3,
}
SHAPES = [(1, 1), (3, 5), (256, 32), (7, 33), (2, 1024), (2, 1025), (3, 2500), (4, 3, 4, 5)]


def raw_of(sigma):
    """The raw value whose softplus is sigma."""
    return math.log(math.expm1(sigma))


def make(shape, dtype, count=4, scale=1.0):
    generator = torch.Generator().manual_seed(17)
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(count)]
    return [(scale * t).to(dtype).requires_grad_() for t in tensors]


def relative(value, expected):
    """Largest error, against the largest value or 1: what cancels to nearly 0 is no yardstick."""
    value, expected = value.detach().double(), expected.detach().double()
    return float((value - expected).abs().max() / expected.abs().max().clamp_min(1.0))


@pytest.mark.parametrize(
    ("q", "p", "expected"),
    [  # (mean, sigma) of q and p; KL by hand
        ((0.0, 1.0), (0.0, 1.0), 0.0),
        ((1.0, 1.0), (0.0, 1.0), 0.5),
        ((0.0, 2.0), (0.0, 1.0), 1.5 - math.log(2)),
        ((0.0, 1.0), (0.0, 2.0), math.log(2) + 0.125 - 0.5),
        ((3.0, 0.5), (1.0, 4.0), math.log(8) + (0.25 + 4.0) / 32 - 0.5),
    ],
)
def test_known_divergences(q, p, expected):
    values = [q[0], raw_of(q[1]), p[0], raw_of(p[1])]
    tensors = [torch.full((1, 3), v, dtype=torch.float64) for v in values]
    assert ops.gaussian_kl(*tensors).item() == pytest.approx(3 * expected, abs=1e-14)
    if p == (0.0, 1.0):
        assert ops.gaussian_kl(*tensors[:2]).item() == pytest.approx(3 * expected, abs=1e-14)


def test_float64_agrees_with_mpmath():
    mpmath.mp.dps = 40
    grid = [-12.0, -3.5, -0.1, 0.0, 0.7, 4.0, 30.0]
    values = torch.cartesian_prod(*(torch.tensor(grid, dtype=torch.float64) for _ in range(4)))
    kl = ops.gaussian_kl(*values.unbind(-1), batch_dims=1)
    for row, got in zip(values[::13].tolist(), kl[::13].tolist(), strict=True):
        mu_q, raw_q, mu_p, raw_p = map(mpmath.mpf, row)
        sigma_q, sigma_p = (mpmath.log1p(mpmath.exp(r)) for r in (raw_q, raw_p))
        ratio, distance = sigma_q / sigma_p, (mu_q - mu_p) / sigma_p
        exact = (ratio**2 + distance**2 - 1) / 2 - mpmath.log(ratio)
        assert abs(got - exact) <= 1e-12 * max(1, abs(exact))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("prior", [True, False])
def test_kernel_agrees_with_reference_and_its_gradient(dtype, shape, prior):
    tensors = make(shape, dtype)
    inputs = tensors if prior else [*tensors[:2], None, None]
    z, kl = ops.gaussian_rsample_kl(*inputs, seed=3, offset=9)
    z_ref, kl_ref = reference.gaussian_rsample_kl(*inputs, 3, 9, 1)
    tolerance = DTYPES[dtype]
    assert (z.dtype, z.shape) == (dtype, z_ref.shape)
    assert kl.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert relative(z, z_ref) <= tolerance
    assert relative(kl, kl_ref) <= max(
        DTYPES[torch.float32] if dtype != torch.float64 else 0, 1e-13
    )

    torch.manual_seed(4)
    weights = [torch.randn(t.shape, dtype=torch.float64).to(t.dtype) for t in (z, kl)]
    wanted = [t for t in inputs if t is not None]
    grads = torch.autograd.grad((z, kl), wanted, weights)
    # The reference accumulates its gradient in the stored type: compare with it in more precision.
    precise = [t.detach().to(torch.promote_types(t.dtype, torch.float32)) for t in wanted]
    precise = [t.requires_grad_() for t in precise]
    arguments = precise if prior else [*precise, None, None]
    outputs = reference.gaussian_rsample_kl(*arguments, 3, 9, 1)
    weights = [w.to(o.dtype) for w, o in zip(weights, outputs, strict=True)]
    expected = torch.autograd.grad(outputs, precise, weights)
    for got, want in zip(grads, expected, strict=True):
        assert relative(got, want) <= tolerance


def test_kl_alone_equals_kl_with_sample():
    inputs = make((5, 70), torch.float32)
    _, kl = ops.gaussian_rsample_kl(*inputs, seed=1)
    assert torch.equal(kl, ops.gaussian_kl(*inputs))
    for got, want in zip(
        torch.autograd.grad(ops.gaussian_kl(*inputs).sum(), inputs),
        torch.autograd.grad(kl.sum(), inputs),
        strict=True,
    ):
        assert torch.equal(got, want)


@pytest.mark.parametrize("prior", [True, False])
def test_gradcheck(prior):
    inputs = make((2, 3), torch.float64)[: 4 if prior else 2]
    assert torch.autograd.gradcheck(
        lambda *t: ops.gaussian_rsample_kl(*t, seed=2, offset=5), inputs
    )
    assert torch.autograd.gradcheck(ops.gaussian_kl, inputs)


def test_float32_sigma_is_accurate_over_the_whole_range():
    """Softplus shows in z - mu = sigma eps; every raw from the floor to where it is linear."""
    raw = torch.linspace(-13.8, 90, 20_001)
    z, _ = ops.gaussian_rsample_kl(torch.zeros(1, raw.numel()), raw[None], seed=4)
    eps = reference.normal_noise(raw.numel(), 4, 0).double()
    expected = F.softplus(raw.double(), threshold=50.0) * eps
    assert ((z[0].double() - expected) / expected).abs().max() < 4e-7


def test_sigma_has_a_floor_without_gradient():
    raw = torch.tensor([[-40.0, -20.0, 1.0]], dtype=torch.float64, requires_grad=True)
    kl = ops.gaussian_kl(torch.zeros_like(raw), raw)
    floor = ops.SIGMA_FLOOR
    sigmas = [floor, floor, math.log1p(math.e)]
    expected = sum((s * s - 1) / 2 - math.log(s) for s in sigmas)
    assert kl.item() == pytest.approx(expected, rel=1e-14)
    kl.sum().backward()
    assert raw.grad[0, :2].tolist() == [0.0, 0.0]
    assert raw.grad[0, 2] != 0


def test_small_divergences_are_not_negative_beyond_rounding():
    mu = torch.randn(64, 512) * 1e-3
    raw = torch.full_like(mu, raw_of(1.0))
    kl = ops.gaussian_kl(mu, raw)
    exact = 0.5 * (mu.double() ** 2).sum(-1)
    assert torch.allclose(kl.double(), exact, atol=512 * 1e-7)
