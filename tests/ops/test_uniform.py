"""uniform_rsample_nats: mpmath in both tails, the reference, gradients, a shared step."""

import mpmath
import pytest
import torch

from hvae_codec import ops
from hvae_codec.ops import reference

DTYPES = {
    torch.float64: 2e-13,
    torch.float32: 3e-6,
    torch.bfloat16: 1e-2,
    torch.float16: 2e-3,
}
# Bins (centre, width) / sigma: centre of the prior, both tails, needles, and wider than the prior.
CENTRES = [0.0, 1e-4, 0.3, 0.49, 0.51, 1.0, 2.5, 4.0, 8.0, 20.0, 300.0]
WIDTHS = [1e-6, 1e-3, 0.05, 0.3, 0.99, 1.01, 2.0, 5.0, 40.0]


def relative(value, expected):
    """Largest error, against the largest value or 1: what cancels to nearly 0 is no yardstick."""
    value, expected = value.detach().double(), expected.detach().double()
    return float((value - expected).abs().max() / expected.abs().max().clamp_min(1.0))


def exact_nats(centre, width):
    """-log of the mass of N(0, 1) between centre - width/2 and centre + width/2, 60 digits."""
    mpmath.mp.dps = 60
    centre, half = abs(mpmath.mpf(centre)), mpmath.mpf(width) / 2
    root = mpmath.sqrt(2)
    low, high = (centre - half) / root, (centre + half) / root
    return -mpmath.log((mpmath.erfc(low) - mpmath.erfc(high)) / 2)


def nats_without_noise(centres, widths, dtype, sign):
    """Moves each mean so that its sample falls exactly on the wanted centre (up to rounding)."""
    u = reference.uniform_noise(centres.numel(), 5, 0).double()
    mean = (sign * centres - widths * u).to(dtype)
    step = widths.to(dtype)
    z, nats = ops.uniform_rsample_nats(mean, step, seed=5, batch_dims=1)
    return z.double(), step.double(), nats.double()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_information_agrees_with_mpmath(sign, dtype, tolerance):
    grid = torch.cartesian_prod(
        torch.tensor(CENTRES, dtype=torch.float64), torch.tensor(WIDTHS, dtype=torch.float64)
    )
    z, step, nats = nats_without_noise(grid[:, 0], grid[:, 1], dtype, sign)
    for centre, width, got in zip(z.tolist(), step.tolist(), nats.tolist(), strict=True):
        exact = exact_nats(centre, width)
        # z is rounded when it is returned: allow for what one rounding of it changes.
        slack = (abs(centre) + width) * (6e-8 if dtype == torch.float32 else 2e-16)
        bound = tolerance * max(mpmath.mpf(1), exact) + slack * abs(centre)
        assert abs(got - exact) <= bound, (centre, width, got, exact)


def test_wide_bins_keep_their_small_information():
    """A bin that holds nearly everything: its nats are the two tails, not a rounded 1 - mass."""
    widths = torch.tensor([4.0, 6.0, 8.0, 10.0], dtype=torch.float32)
    u = reference.uniform_noise(4, 5, 0)
    _, nats = ops.uniform_rsample_nats(-(widths * u), widths, seed=5)
    for width, got in zip(widths.tolist(), nats.tolist(), strict=True):
        assert got == pytest.approx(float(exact_nats(0.0, width)), rel=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (64, 32), (2, 1025), (3, 2, 4, 5)])
@pytest.mark.parametrize("prior", [True, False])
def test_kernel_agrees_with_reference_and_its_gradient(dtype, shape, prior):
    generator = torch.Generator().manual_seed(1)
    mean, mu_p, raw_p = (
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for _ in range(3)
    )
    step = torch.exp(torch.randn(shape[1:], generator=generator, dtype=torch.float64) - 1)
    step = step.to(dtype).requires_grad_()
    extra = [mu_p, raw_p] if prior else []
    z, nats = ops.uniform_rsample_nats(mean, step, *extra, seed=3, offset=2)

    precise = torch.promote_types(dtype, torch.float32)
    leaves = [t.detach().to(precise).requires_grad_() for t in (mean, step, *extra)]
    arguments = [leaves[0], leaves[1].expand(shape), *(leaves[2:] or (None, None))]
    z_ref, nats_ref = reference.uniform_rsample_nats(*arguments, 3, 2, 1)
    assert z.dtype == dtype
    assert relative(z, z_ref) <= DTYPES[dtype]
    assert relative(nats, nats_ref) <= max(DTYPES[precise], 1e-13)

    torch.manual_seed(4)
    weights = [torch.randn(t.shape, dtype=torch.float64).to(t.dtype) for t in (z, nats)]
    grads = torch.autograd.grad((z, nats), [mean, step, *extra], weights)
    weights = [w.to(precise) for w in weights]
    expected = torch.autograd.grad((z_ref, nats_ref), leaves, weights)
    for got, want in zip(grads, expected, strict=True):
        assert got.shape == want.shape
        assert relative(got, want) <= DTYPES[dtype]


@pytest.mark.parametrize("prior", [True, False])
def test_gradcheck(prior):
    """Three rows, one in each form of the bin: narrow, wide, tail."""
    mean = torch.tensor([[0.2, 0.3], [0.1, -0.6], [5.0, -4.0]], dtype=torch.float64)
    step = torch.tensor([[0.3, 0.2], [3.0, 2.5], [1.5, 0.8]], dtype=torch.float64)
    mu_p, raw_p = torch.full_like(mean, 0.1), torch.full_like(mean, 0.4)
    inputs = [t.requires_grad_() for t in ((mean, step, mu_p, raw_p) if prior else (mean, step))]
    assert torch.autograd.gradcheck(
        lambda *t: ops.uniform_rsample_nats(*t, seed=2, offset=5), inputs
    )


@pytest.mark.parametrize("width", [1e-5, 1e-2, 0.5, 3.0])
@pytest.mark.parametrize("centre", [1e-3, 0.4, 3.0, 12.0])
def test_float32_gradient_of_needles_and_tails(width, centre):
    """Against (phi(low) - phi(high)) / mass in 60 digits: in float32 the difference cancels."""
    u = float(reference.uniform_noise(1, 8, 0))
    mean = torch.tensor([[centre - width * u]], requires_grad=True)
    step = torch.tensor([[width]])
    z, nats = ops.uniform_rsample_nats(mean, step, seed=8)
    nats.sum().backward()
    mass = mpmath.exp(-exact_nats(z.item(), step.item()))
    half = mpmath.mpf(step.item()) / 2
    exact = (mpmath.npdf(z.item() - half) - mpmath.npdf(z.item() + half)) / mass
    assert mean.grad.item() == pytest.approx(float(exact), rel=2e-5)


def test_sample_stays_in_its_bin():
    mean = torch.randn(200, 50, dtype=torch.float64)
    step = torch.rand(50, dtype=torch.float64) + 0.01
    z, _ = ops.uniform_rsample_nats(mean, step, seed=3)
    relative_position = (z - mean) / step
    assert relative_position.min() >= -0.5 - 1e-12
    assert relative_position.max() < 0.5


@pytest.mark.parametrize(("width", "expected"), [(0.0, float("inf")), (-0.5, float("nan"))])
@pytest.mark.parametrize("centre", [0.0, 3.0])
def test_impossible_widths_do_not_pass_for_numbers(width, expected, centre):
    _, nats = ops.uniform_rsample_nats(
        torch.full((1, 1), centre), torch.full((1, 1), width), seed=1
    )
    torch.testing.assert_close(nats, torch.tensor([expected]), equal_nan=True)
