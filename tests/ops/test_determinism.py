"""The same bits for every number of threads, batch split and, for the noise, instruction set."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from hvae_codec import ops
from hvae_codec.ops import reference

SHAPES = [(300, 512), (41, 33), (3, 70_001), (1, 200_000)]


def call(op, inputs, weights, **key):
    leaves = [t.detach().requires_grad_() for t in inputs]
    outputs = op(*leaves, seed=7, **key)
    return (*(o.detach() for o in outputs), *torch.autograd.grad(outputs, leaves, weights))


def inputs_of(op, shape):
    torch.manual_seed(5)
    inputs = [torch.randn(shape) for _ in range(4)]
    if op is ops.uniform_rsample_nats:
        inputs[1] = inputs[1].exp()
    return inputs, [torch.randn(shape), torch.randn(shape[:1])]


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("op", [ops.gaussian_rsample_kl, ops.uniform_rsample_nats])
@pytest.mark.parametrize("shape", SHAPES)
def test_threads_do_not_change_a_bit(op, shape, threads):
    inputs, weights = inputs_of(op, shape)
    results = []
    for count in (1, 2, 3):
        threads(count)
        results.append(call(op, inputs, weights))
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


@pytest.mark.parametrize("op", [ops.gaussian_rsample_kl, ops.uniform_rsample_nats])
@pytest.mark.parametrize("shape", SHAPES[:3])
@pytest.mark.parametrize("cut", [1, 2])
def test_a_batch_may_be_cut(op, shape, cut):
    inputs, weights = inputs_of(op, shape)
    whole = call(op, inputs, weights)
    parts = [
        call(
            op,
            [t[part] for t in inputs],
            [w[part] for w in weights],
            first_index=(part.start or 0) * shape[1],
        )
        for part in (slice(None, cut), slice(cut, None))
    ]
    for one, *pieces in zip(whole, *parts, strict=True):
        assert torch.equal(one, torch.cat(pieces))


@pytest.mark.parametrize("level", ["baseline", "avx2"])
def test_lower_instruction_sets_draw_the_same_noise(level, tmp_path):
    """And agree in the rates to rounding. A level that is lacking falls back to a lower one."""
    program = f"""
import torch
from safetensors.torch import save_file
from hvae_codec import ops
zeros = torch.zeros(3, 1001)
u, nats = ops.uniform_rsample_nats(zeros, zeros + 1, seed=9)
eps, kl = ops.gaussian_rsample_kl(zeros.double(), zeros.double() + 0.541324854612918, seed=9)
half, _ = ops.gaussian_rsample_kl(zeros.half(), zeros.half() + 0.5, seed=9)
save_file(dict(u=u, nats=nats, eps=eps, kl=kl, half=half), {str(tmp_path / "results")!r})
print(ops.build_info()["simd_level"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "HVAE_SIMD": level},
        capture_output=True,
        text=True,
        check=True,
    )
    found = load_file(tmp_path / "results")
    assert done.stdout.strip() in {"baseline", level}
    assert torch.equal(found["u"].flatten(), reference.uniform_noise(3003, 9, 0))
    assert torch.equal(found["eps"].flatten().float(), reference.normal_noise(3003, 9, 0))
    assert found["kl"].abs().max() < 1e-12
    zeros = torch.zeros(3, 1001)
    _, nats = ops.uniform_rsample_nats(zeros, zeros + 1, seed=9)
    torch.testing.assert_close(found["nats"], nats, rtol=1e-6, atol=0)
    half, _ = ops.gaussian_rsample_kl(zeros.half(), zeros.half() + 0.5, seed=9)
    torch.testing.assert_close(found["half"], half, rtol=1e-3, atol=0)
