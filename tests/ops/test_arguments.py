"""What the ops take and refuse: layouts, empty and single tensors, errors, values not finite."""

import math

import pytest
import torch

from hvae_codec import ops
from hvae_codec.errors import ExtensionMissingError, TensorError
from hvae_codec.ops import reference

INF, NAN = math.inf, math.nan


def rows(*shape, dtype=torch.float32):
    return torch.randn(*shape, dtype=dtype)


def layouts():
    """Name -> four tensors [6, 5, 8], each kind laid out differently in memory."""
    plain = [rows(6, 5, 8) for _ in range(4)]
    padded = rows(6, 5, 16)
    return {
        "contiguous": plain,
        "transposed": [rows(8, 5, 6).permute(2, 1, 0) for _ in range(4)],
        "every second column": [rows(6, 5, 16)[..., ::2] for _ in range(4)],
        "halves of one tensor": [padded[..., :8], padded[..., 8:], *plain[2:]],
        "off by one element": [rows(241)[1:].view(6, 5, 8) for _ in range(4)],
        "one prior row": [*plain[:2], rows(8), rows(8)],
        "prior per model": [*plain[:2], rows(6, 1, 8), rows(6, 1, 8)],
        "prior per batch": [*plain[:2], rows(5, 8), rows(1, 5, 8)],
        "scalars": [plain[0], torch.tensor(0.3), torch.tensor(0.1), torch.tensor(-0.2)],
        "flipped copy": [plain[0].flip(0), plain[1].flip(2), *plain[2:]],
    }


@pytest.mark.parametrize("name", layouts())
@pytest.mark.parametrize("batch_dims", [0, 1, 2, 3])
def test_layouts_do_not_matter(name, batch_dims):
    torch.manual_seed(0)
    tensors = layouts()[name]
    dense = [t.expand(6, 5, 8).contiguous().requires_grad_() for t in tensors]
    laid = [t.detach().requires_grad_() for t in tensors]
    steps = [torch.exp(t) for t in (dense[1], laid[1])]
    for op, first, second in (
        (ops.gaussian_rsample_kl, dense, laid),
        (
            ops.uniform_rsample_nats,
            [dense[0], steps[0], *dense[2:]],
            [laid[0], steps[1], *laid[2:]],
        ),
    ):
        z, rate = op(*first, seed=4, batch_dims=batch_dims)
        z2, rate2 = op(*second, seed=4, batch_dims=batch_dims)
        assert rate.shape == (6, 5, 8)[:batch_dims]
        assert torch.equal(z, z2)
        assert torch.equal(rate, rate2)
        grads = torch.autograd.grad(z.sum() + (rate * rate).sum(), dense)
        grads2 = torch.autograd.grad(z2.sum() + (rate2 * rate2).sum(), laid)
        for whole, part in zip(grads, grads2, strict=True):
            torch.testing.assert_close(whole.sum_to_size(part.shape), part, rtol=1e-4, atol=1e-4)


def test_a_gradient_may_come_back_in_any_layout():
    mu, raw = rows(4, 6).requires_grad_(), rows(4, 6).requires_grad_()
    z, _ = ops.gaussian_rsample_kl(mu, raw, seed=1)
    transposed = rows(6, 4).t()
    one = torch.autograd.grad(z, (mu, raw), transposed, retain_graph=True)
    two = torch.autograd.grad(z, (mu, raw), transposed.contiguous(), retain_graph=True)
    assert all(map(torch.equal, one, two))
    scalar = torch.autograd.grad(z.sum(), (mu, raw))
    ones = torch.autograd.grad(
        ops.gaussian_rsample_kl(mu, raw, seed=1)[0], (mu, raw), rows(4, 6) * 0 + 1
    )
    assert all(map(torch.equal, scalar, ones))


@pytest.mark.parametrize("shape", [(0,), (0, 5), (4, 0), (0, 0), (2, 0, 3)])
def test_empty_tensors(shape):
    tensors = [rows(*shape).requires_grad_() for _ in range(4)]
    for z, rate in (
        ops.gaussian_rsample_kl(*tensors, seed=1),
        ops.uniform_rsample_nats(*tensors, seed=1),
    ):
        assert z.shape == shape
        assert torch.equal(rate, torch.zeros(shape[:1]))
        (z.sum() + rate.sum()).backward()
    assert all(t.grad.shape == shape for t in tensors)


def test_one_element_without_dimensions():
    z, kl = ops.gaussian_rsample_kl(torch.tensor(1.0), torch.tensor(0.5), seed=1, batch_dims=0)
    assert z.shape == kl.shape == ()


def test_rows_may_lie_more_than_32_bits_apart():
    """Memory that is reserved but, but for three rows, never touched."""
    reserved = torch.empty(2 * 2**31 + 8, dtype=torch.bfloat16)
    mu = reserved.as_strided((3, 8), (2**31, 1))
    mu.copy_(torch.arange(24).view(3, 8))
    kl = ops.gaussian_kl(mu, torch.full((3, 8), 0.5, dtype=torch.bfloat16))
    dense = ops.gaussian_kl(mu.contiguous(), torch.full((3, 8), 0.5, dtype=torch.bfloat16))
    assert torch.equal(kl, dense)
    assert (kl.diff() > 0).all()


GOOD = {"mu_q": (4, 6), "raw_q": (4, 6), "mu_p": (4, 6), "raw_p": (4, 6)}


@pytest.mark.parametrize("name", ["raw_q", "mu_p", "raw_p"])
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda t: t.double(), "torch.float64"),
        (lambda t: t.int(), "torch.int32"),
        (lambda t: t[:, :5], r"\(4, 5\)"),
        (lambda t: t[None], r"\(1, 4, 6\)"),
        (lambda t: t.to("meta"), "meta"),
        (lambda t: t.tolist(), "list"),
    ],
)
def test_errors_name_the_argument(name, spoil, said):
    tensors = {key: rows(*shape) for key, shape in GOOD.items()}
    tensors[name] = spoil(tensors[name])
    with pytest.raises(TensorError, match=f"^{name} .*{said}"):
        ops.gaussian_rsample_kl(**tensors, seed=1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"mu_p": rows(4, 6)}, "mu_p and raw_p must both be given"),
        ({"batch_dims": 3}, "batch_dims is 3; mean of shape .* allows 0 to 2"),
        ({"batch_dims": -1}, "batch_dims is -1"),
        ({"seed": 2**63}, "seed is 9223372036854775808"),
        ({"offset": -(2**63) - 1}, "offset is"),
        ({"first_index": -1}, "first_index is -1"),
        ({"step": None}, "step must be a tensor, not NoneType"),
        ({"mean": 3.0}, "mean must be a tensor, not float"),
    ],
)
def test_errors_of_the_other_arguments(arguments, said):
    given = {"mean": rows(4, 6), "step": rows(4, 6), "seed": 1, **arguments}
    with pytest.raises(TensorError, match=said):
        ops.uniform_rsample_nats(**given)


def test_the_registered_op_guards_its_memory_too():
    """Called past the Python face, with tensors that do not fit each other."""
    op = torch.ops.hvae.gaussian_rsample_kl
    with pytest.raises(ValueError, match="the scale has shape"):
        op(rows(4, 6), rows(4, 5), None, None, 1, 0, 1, 0, 1)
    with pytest.raises(ValueError, match="raw_p is Double"):
        op(rows(4, 6), rows(4, 6), rows(4, 6), rows(4, 6).double(), 1, 0, 1, 0, 1)
    with pytest.raises(ValueError, match="batch_dims is 3"):
        op(rows(4, 6), rows(4, 6), None, None, 1, 0, 3, 0, 1)
    with pytest.raises(ValueError, match="copies is 3"):
        op(rows(4, 6), rows(4, 6), None, None, 1, 0, 1, 0, 3)
    with pytest.raises(ValueError, match="Int"):
        op(rows(4, 6).int(), rows(4, 6).int(), None, None, 1, 0, 1, 0, 1)
    backward = torch.ops.hvae.gaussian_rsample_kl_backward
    with pytest.raises(ValueError, match="gradient of the rate has 3 elements"):
        backward(None, rows(3), rows(4, 6), rows(4, 6), None, None, 1, 0, 1, 0, 1)


@pytest.mark.parametrize("bad", [INF, -INF, NAN])
@pytest.mark.parametrize("name", ["mu_q", "raw_q", "mu_p", "raw_p"])
def test_values_that_are_not_finite_show_in_their_row_only(name, bad):
    tensors = {key: rows(*shape) for key, shape in GOOD.items()}
    tensors[name][2, 3] = bad
    z, kl = ops.gaussian_rsample_kl(**tensors, seed=1)
    z_ref, _ = reference.gaussian_rsample_kl(*tensors.values(), 1, 0, 1)
    floored = name.startswith("raw") and bad == -INF  # softplus(-inf) = 0: the floor, a number
    assert bool(kl[2].isfinite()) is floored
    assert bool(kl[[0, 1, 3]].isfinite().all())
    torch.testing.assert_close(z, z_ref, equal_nan=True)


@pytest.mark.parametrize("bad", [INF, -INF, NAN])
@pytest.mark.parametrize("name", ["mean", "step", "mu_p", "raw_p"])
def test_bins_that_are_not_finite_show_in_their_row_only(name, bad):
    tensors = {key: rows(4, 6) for key in ("mean", "step", "mu_p", "raw_p")}
    tensors["step"] = tensors["step"].exp()
    tensors[name][2, 3] = bad
    _, nats = ops.uniform_rsample_nats(**tensors, seed=1)
    floored = name == "raw_p" and bad == -INF
    assert bool(nats[2].isfinite()) is floored
    assert bool(nats[[0, 1, 3]].isfinite().all())


def test_checked_names_the_argument_that_is_not_finite():
    tensors = {key: rows(*shape) for key, shape in GOOD.items()}
    for name in tensors:
        spoiled = {**tensors, name: tensors[name].clone()}
        spoiled[name][1, 1] = NAN
        with ops.checked(), pytest.raises(TensorError, match=f"^{name} .*not finite"):
            ops.gaussian_rsample_kl(**spoiled, seed=1)
        assert ops.gaussian_rsample_kl(**spoiled, seed=1)[1].isnan().any()
    with ops.checked(), pytest.raises(TensorError, match=r"step .*not positive"):
        ops.uniform_rsample_nats(rows(2, 3), torch.zeros(3), seed=1)
    with ops.checked():
        ops.gaussian_rsample_kl(**tensors, seed=1)


def test_a_missing_extension_says_how_to_build_it(monkeypatch):
    monkeypatch.setattr(ops, "_extension", None)
    assert not ops.extension_available()
    with pytest.raises(ExtensionMissingError, match="pip install --no-build-isolation"):
        ops.require_extension()
    with pytest.raises(ExtensionMissingError):
        ops.build_info()
