"""The CUDA kernels on a CUDA device; benchmarks/gpu_check.sh runs these where there is one."""

import numpy as np
import pytest
import torch

import hvae_codec
from hvae_codec import ops
from hvae_codec.ops import reference
from tests.codec.fully_convolutional.models import save_integers, waves

pytestmark = pytest.mark.cuda

TOLERANCE = {
    torch.float32: 3e-6,
    torch.float64: 1e-13,
    torch.bfloat16: 1e-2,
    torch.float16: 2e-3,
}
OPS = [ops.gaussian_rsample_kl, ops.uniform_rsample_nats]
SHAPES = [(1, 1), (5, 3), (256, 32), (256, 512), (4, 33), (2, 1025), (2, 8193), (1, 200_000)]


def make(op, shape, dtype, prior=True):
    torch.manual_seed(3)
    tensors = [torch.randn(shape, dtype=torch.float64) / 2 for _ in range(4)]
    if op is ops.uniform_rsample_nats:
        tensors[1] = tensors[1].exp()
    return [t.to(dtype) for t in (tensors if prior else tensors[:2])]


def run(op, tensors, weights, **key):
    leaves = [t.detach().requires_grad_() for t in tensors]
    outputs = op(*leaves, seed=7, offset=8, **key)
    return [*(o.detach() for o in outputs), *torch.autograd.grad(outputs, leaves, weights)]


def weights_for(tensor):
    rate = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    return [
        torch.randn(tensor.shape).to(tensor),
        torch.randn(tensor.shape[0]).to(tensor.device, rate),
    ]


def to_cuda(tensors):
    return [t.cuda() for t in tensors]


def relative(value, expected):
    value, expected = value.double().cpu(), expected.double().cpu()
    return float((value - expected).abs().max() / expected.abs().max().clamp_min(1.0))


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("prior", [True, False])
def test_cuda_agrees_with_cpu(op, dtype, shape, prior):
    tensors = make(op, shape, dtype, prior)
    weights = weights_for(tensors[0])
    on_cpu = run(op, tensors, weights)
    on_cuda = run(op, to_cuda(tensors), to_cuda(weights))
    for got, want in zip(on_cuda, on_cpu, strict=True):
        assert got.is_cuda
        assert relative(got, want) <= TOLERANCE[want.dtype]


@pytest.mark.parametrize("first_index", [0, 1, 4 * 2**32 - 7])
@pytest.mark.parametrize("cols", [1, 7, 32, 100_000])
def test_noise_has_the_bits_of_the_reference(first_index, cols):
    zeros = torch.zeros(3, cols, dtype=torch.float64, device="cuda")
    key = {"seed": -5, "offset": 2**40, "first_index": first_index}
    u, _ = ops.uniform_rsample_nats(zeros, zeros + 1, **key)
    eps, _ = ops.gaussian_rsample_kl(zeros, zeros + 0.541324854612918, **key)
    numbers = (3 * cols, -5, 2**40, first_index)
    assert torch.equal(u.flatten().float().cpu(), reference.uniform_noise(*numbers))
    assert torch.equal(eps.flatten().float().cpu(), reference.normal_noise(*numbers))


@pytest.mark.parametrize("op", OPS)
def test_repeated_and_split_calls_have_the_same_bits(op):
    tensors = to_cuda(make(op, (512, 512), torch.float32))
    weights = weights_for(tensors[0])
    whole = run(op, tensors, weights)
    assert all(map(torch.equal, whole, run(op, tensors, weights)))
    part = run(op, [t[100:] for t in tensors], [w[100:] for w in weights], first_index=100 * 512)
    for all_rows, rest in zip(whole, part, strict=True):
        assert torch.equal(all_rows[100:], rest)


@pytest.mark.parametrize("op", OPS)
def test_layouts_do_not_matter(op):
    tensors = to_cuda(make(op, (64, 48), torch.float32))
    expected = op(*tensors, seed=1)
    for laid in (
        [t.t().contiguous().t() for t in tensors],
        [torch.cat([t.new_zeros(1), t.flatten()])[1:].view(64, 48) for t in tensors],
        [torch.stack([t, t], -1)[..., 1] for t in tensors],
    ):
        assert all(map(torch.equal, op(*laid, seed=1), expected))


@pytest.mark.parametrize("op", OPS)
def test_graph_capture(op):
    tensors = to_cuda(make(op, (128, 512), torch.float32))
    expected = op(*tensors, seed=1)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        op(*tensors, seed=1)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = op(*tensors, seed=1)
    for output in captured:
        output.zero_()
    graph.replay()
    assert all(map(torch.equal, captured, expected))


def test_work_is_queued_on_the_current_stream():
    """A long wait in a side stream, then inputs written there: the op must come after them."""
    mu = torch.zeros(256, 512, device="cuda")
    raw = torch.zeros_like(mu)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)
        mu.fill_(1.0)
        kl = ops.gaussian_kl(mu, raw)
    stream.synchronize()
    assert torch.equal(kl, ops.gaussian_kl(torch.ones_like(mu), raw))


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_launch_forward_and_one_backward(op, dtype):
    leaves = [t.requires_grad_() for t in to_cuda(make(op, (128, 512), dtype))]
    weights = weights_for(leaves[0])
    torch.autograd.grad(op(*leaves, seed=1), leaves, weights)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        torch.autograd.grad(op(*leaves, seed=1), leaves, weights)
        torch.cuda.synchronize()
    kernels = [e.key for e in profile.key_averages() if "kernel" in e.key.lower()]
    assert len(kernels) == 2, kernels
    assert all("hvae" in key for key in kernels)


def test_more_than_32_bits_of_elements():
    rows, cols = 2**12 + 1, 2**19 + 4
    mu = torch.zeros(rows, cols, dtype=torch.bfloat16, device="cuda")
    raw = torch.full((1, cols), 0.5413, dtype=torch.bfloat16, device="cuda").expand(rows, cols)
    z, kl = ops.gaussian_rsample_kl(mu, raw, seed=3)
    first = (rows - 1) * cols
    last, last_kl = ops.gaussian_rsample_kl(mu[-1:], raw[-1:], seed=3, first_index=first)
    assert first > 2**31
    assert torch.equal(z[-1:], last)
    assert torch.equal(kl[-1:], last_kl)
    eps = reference.normal_noise(64, 3, 0, first)
    torch.testing.assert_close(z[-1, :64].float().cpu(), eps, rtol=1e-2, atol=1e-2)


def test_gradcheck():
    tensors = [t.requires_grad_() for t in to_cuda(make(OPS[0], (2, 3), torch.float64))]
    assert torch.autograd.gradcheck(lambda *t: ops.gaussian_rsample_kl(*t, seed=2), tensors)


def test_opcheck():
    tensors = [t.requires_grad_() for t in to_cuda(make(OPS[0], (2, 8), torch.float32))]
    torch.library.opcheck(torch.ops.hvae.gaussian_rsample_kl.default, (*tensors, 1, 2, 1, 0, 1))


def test_integer_codecs_give_the_bits_of_the_cpu(tmp_path):
    save_integers(tmp_path / "even.safetensors")
    codecs = [hvae_codec.load_file(tmp_path / "integers.safetensors") for _ in range(2)]
    codecs[1].model.to("cuda")
    on_cuda = type(codecs[1])(codecs[1].checkpoint)
    pictures = [waves(70, 90, seed=seed) for seed in range(5)]
    files = [codec.encode_batch(pictures) for codec in (codecs[0], on_cuda)]
    assert files[0] == files[1]
    for ours, theirs in zip(*(c.decode_batch(files[0]) for c in (codecs[0], on_cuda)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
