"""What torch does with the ops: opcheck, compile, export, vmap, autocast, meta, derivatives."""

import pytest
import torch
from torch.library import opcheck

from hvae_codec import ops
from hvae_codec.ops import reference

HVAE = torch.ops.hvae


def tensors(*shape, count=4, grad=True):
    torch.manual_seed(2)
    made = [torch.randn(shape, dtype=torch.float64) for _ in range(count)]
    made[1] = made[1].exp()
    return [t.requires_grad_(grad) for t in made]


@pytest.mark.parametrize("name", ["gaussian_rsample_kl", "uniform_rsample_nats"])
@pytest.mark.parametrize("prior", [True, False])
def test_opcheck_of_sampling(name, prior):
    location, scale, mu_p, raw_p = tensors(4, 6)
    prior_tensors = (mu_p, raw_p) if prior else (None, None)
    numbers = (1, 2, 1, 0, 1)
    opcheck(getattr(HVAE, name).default, (location, scale, *prior_tensors, *numbers))
    saved = [None if t is None else t.detach() for t in (location, scale, *prior_tensors)]
    grads = (torch.randn_like(location), torch.randn(4, dtype=torch.float64))
    backward = getattr(HVAE, f"{name}_backward").default
    opcheck(backward, (*grads, *saved, *numbers))
    opcheck(backward, (None, grads[1], *saved, *numbers))


def test_opcheck_of_kl():
    inputs = tensors(2, 3, 4)
    opcheck(HVAE.gaussian_kl.default, (*inputs, 2))
    opcheck(HVAE.gaussian_kl.default, (*inputs[:2], None, None, 0))
    detached = [t.detach() for t in inputs]
    opcheck(HVAE.gaussian_kl_backward.default, (torch.randn(2, dtype=torch.float64), *detached, 1))


def test_compile_as_one_graph_for_changing_seeds_and_batches():
    def loss(mean, step, mu_p, raw_p, seed):
        z, nats = ops.uniform_rsample_nats(mean * 2, step, mu_p, raw_p, seed=seed, offset=seed + 1)
        z2, kl = ops.gaussian_rsample_kl(mean, step, seed=seed)
        return (z + z2).sum() + (nats + kl).sum()

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=True)
    for seed, batch in ((1, 4), (2, 4), (30, 5), (400, 7)):
        inputs = tensors(batch, 6)
        expected = torch.autograd.grad(loss(*inputs, seed), inputs)
        got = torch.autograd.grad(compiled(*inputs, seed), inputs)
        for one, two in zip(got, expected, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_inductor_compiles_it():
    def double(mean, step):
        z, nats = ops.uniform_rsample_nats(mean, step, seed=3)
        return z * 2, nats

    mean, step, *_ = tensors(4, 6, grad=False)
    compiled = torch.compile(double, fullgraph=True)
    assert all(map(torch.equal, compiled(mean, step), double(mean, step)))


def test_export_with_a_free_batch():
    class Sampler(torch.nn.Module):
        def forward(self, mean, step):
            return ops.uniform_rsample_nats(mean, step, seed=7)

    mean, step, *_ = tensors(4, 6, grad=False)
    shapes = {"mean": {0: torch.export.Dim("batch")}, "step": {}}
    program = torch.export.export(Sampler(), (mean, step[0]), dynamic_shapes=shapes)
    larger = torch.randn(9, 6, dtype=torch.float64)
    expected = ops.uniform_rsample_nats(larger, step[0], seed=7)
    assert all(map(torch.equal, program.module()(larger, step[0]), expected))


@pytest.mark.parametrize("name", ["gaussian_rsample_kl", "uniform_rsample_nats"])
def test_vmap_gives_each_slice_what_it_gets_alone(name):
    op = getattr(ops, name)
    location, scale, mu_p, raw_p = tensors(3, 4, 6)

    def one(location, scale, mu_p):
        return op(location, scale, mu_p, raw_p[0], seed=5, offset=1)

    mapped = torch.vmap(one, in_dims=(0, 1, None))(location, scale.transpose(0, 1), mu_p[0])
    alone = [one(location[i], scale[i], mu_p[0]) for i in range(3)]
    stacked = [torch.stack(parts) for parts in zip(*alone, strict=True)]
    assert all(map(torch.equal, mapped, stacked))
    weights = [torch.randn_like(t) for t in mapped]
    leaves = (location, scale, mu_p, raw_p)
    for one_grad, two_grad in zip(
        torch.autograd.grad(mapped, leaves, weights),
        torch.autograd.grad(stacked, leaves, weights),
        strict=True,
    ):
        torch.testing.assert_close(one_grad, two_grad, rtol=1e-12, atol=1e-12)


def test_vmap_in_vmap_and_of_kl():
    location, scale, *_ = tensors(2, 3, 4, 6, grad=False)

    def one(location, scale):
        return ops.gaussian_rsample_kl(location, scale, seed=5)[0], ops.gaussian_kl(location, scale)

    z, kl = torch.vmap(torch.vmap(one))(location, scale)
    for i in range(2):
        for j in range(3):
            expected = one(location[i, j], scale[i, j])
            assert torch.equal(z[i, j], expected[0])
            assert torch.equal(kl[i, j], expected[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_computes_in_float32(dtype):
    location, scale, *_ = (t.detach() for t in tensors(4, 6))
    half, full = location.to(dtype), scale.float()
    with torch.autocast("cpu", dtype=dtype):
        z, nats = ops.uniform_rsample_nats(half, full, seed=1)
        direct, _ = HVAE.gaussian_rsample_kl(half, full, None, None, 1, 0, 1, 0, 1)
        _, kl = ops.gaussian_rsample_kl(half, full, seed=1)
        alone = ops.gaussian_kl(half, full)
        double, _ = ops.gaussian_rsample_kl(location, scale, seed=1)
    assert {z.dtype, nats.dtype, direct.dtype, kl.dtype, alone.dtype} == {torch.float32}
    assert double.dtype == torch.float64
    assert torch.equal(z, ops.uniform_rsample_nats(half.float(), full, seed=1)[0])


def test_meta_tensors_have_the_right_shapes():
    location = torch.empty(3, 5, 7, dtype=torch.bfloat16, device="meta")
    z, kl = ops.gaussian_rsample_kl(location, location, seed=1, batch_dims=2)
    assert (z.shape, z.dtype) == (location.shape, torch.bfloat16)
    assert (kl.shape, kl.dtype) == ((3, 5), torch.float32)


@pytest.mark.parametrize("name", ["gaussian_rsample_kl", "uniform_rsample_nats"])
def test_second_derivatives_are_refused_and_the_reference_has_them(name):
    inputs = tensors(2, 3)
    _, rate = getattr(ops, name)(*inputs, seed=1)
    (grad,) = torch.autograd.grad(rate.sum(), inputs[0], create_graph=True)
    with pytest.raises(NotImplementedError, match=f"{name} has no second derivative"):
        torch.autograd.grad(grad.sum(), inputs[1])
    _, rate = getattr(reference, name)(*inputs, 1, 0, 1)
    (grad,) = torch.autograd.grad(rate.sum(), inputs[0], create_graph=True)
    assert torch.autograd.grad(grad.sum(), inputs[0])[0].isfinite().all()


def test_only_the_inputs_are_kept_for_backward():
    inputs = tensors(4, 6)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        ops.gaussian_rsample_kl(*inputs, seed=1)
    assert sorted(t.data_ptr() for t in kept) == sorted(t.data_ptr() for t in inputs)


def test_the_reference_stands_in_for_a_missing_extension(monkeypatch):
    inputs = tensors(4, 6, grad=False)
    with_kernels = [
        *ops.gaussian_rsample_kl(*inputs, seed=3, offset=1, first_index=5),
        ops.gaussian_kl(*inputs),
        *ops.uniform_rsample_nats(*inputs, seed=3, offset=1, first_index=5),
    ]
    monkeypatch.setattr(ops, "_extension", None)
    without = [
        *ops.gaussian_rsample_kl(*inputs, seed=3, offset=1, first_index=5),
        ops.gaussian_kl(*inputs),
        *ops.uniform_rsample_nats(*inputs, seed=3, offset=1, first_index=5),
    ]
    for one, two in zip(with_kernels, without, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-13, atol=1e-13)
