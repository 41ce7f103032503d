"""The arithmetic of the CUDA kernels, executed on the host: noise indexing, layouts, summation.

device_on_host.cpp compiles the very functions that nvcc compiles for the device and runs them lane
by lane; what it computes must be what the CPU kernels compute.
"""

import ctypes
import os
import subprocess
from ctypes import POINTER, Structure, byref, c_bool, c_int, c_int64, c_uint64, c_void_p
from pathlib import Path

import pytest
import torch

from hvae_codec import ops
from hvae_codec.ops import reference

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]  # order of hvae::DType
TOLERANCE = {
    torch.float32: 3e-6,
    torch.float64: 1e-13,
    torch.bfloat16: 1e-2,
    torch.float16: 2e-3,
}


class Operand(Structure):
    _fields_ = [("data", c_void_p), ("outer", c_int64), ("inner", c_int64), ("col", c_int64)]


class Extent(Structure):
    _fields_ = [
        ("rows", c_int64),
        ("cols", c_int64),
        ("inner", c_int64),
        ("noise_rows", c_int64),
        ("first_index", c_uint64),
    ]


class Seed(Structure):
    _fields_ = [("seed", c_uint64), ("offset", c_uint64)]


class Inputs(Structure):
    _fields_ = [(name, Operand) for name in ("location", "scale", "mu_p", "raw_p")]


class ForwardOutputs(Structure):
    _fields_ = [(name, c_void_p) for name in ("z", "partials", "rate")]


class BackwardInputs(Structure):
    _fields_ = [("saved", Inputs), ("d_z", Operand), ("d_rate", Operand)]


class BackwardOutputs(Structure):
    _fields_ = [(name, c_void_p) for name in ("location", "scale", "mu_p", "raw_p")]


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    library = tmp_path_factory.mktemp("device") / "device_on_host.so"
    command = [os.environ.get("CXX", "c++"), "-std=c++17", "-O0", "-shared", "-fPIC"]
    command += ["-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wextra", "-Werror"]
    command += [str(Path(__file__).parent / "device_on_host.cpp"), "-o", str(library)]
    subprocess.run(command, check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.forward.restype = loaded.backward.restype = c_bool
    loaded.forward.argtypes = [c_bool, c_int, *[c_void_p] * 4]
    loaded.backward.argtypes = [c_bool, c_int, *[c_void_p] * 4]
    loaded.pieces.restype = c_int64
    loaded.locate.argtypes = [c_void_p, c_void_p, c_int64, POINTER(c_int64)]
    return loaded


def operand(tensor):
    """A tensor [rows, cols] of any strides; None where it is absent."""
    if tensor is None:
        return Operand(None, 0, 0, 0)
    return Operand(tensor.data_ptr(), 0, tensor.stride(0), tensor.stride(1))


def extent_of(tensor, first_index=0, copies=1):
    rows, cols = tensor.shape
    return Extent(rows, cols, rows, rows // copies, first_index)


def rate_dtype(dtype):
    return torch.float64 if dtype == torch.float64 else torch.float32


def run_forward(device, gaussian, inputs, seed, first_index=0, copies=1):
    location = inputs[0]
    extent = extent_of(location, first_index, copies)
    z = torch.empty(location.shape, dtype=location.dtype)
    rate = torch.empty(location.shape[0], dtype=rate_dtype(location.dtype))
    partials = rate.new_empty(location.shape[0] * device.pieces(byref(extent)))
    outputs = ForwardOutputs(z.data_ptr(), partials.data_ptr(), rate.data_ptr())
    operands = Inputs(*map(operand, inputs))
    dtype = DTYPES.index(location.dtype)
    key = Seed(*seed)
    aligned = device.forward(
        gaussian, dtype, byref(extent), byref(operands), byref(key), byref(outputs)
    )
    return z, rate, aligned


def run_backward(device, gaussian, d_z, d_rate, inputs, seed):
    location = inputs[0]
    extent = extent_of(location)
    grads = [torch.empty(location.shape, dtype=location.dtype) for t in inputs if t is not None]
    pointers = [g.data_ptr() for g in grads] + [None] * (4 - len(grads))
    rate = Operand(None if d_rate is None else d_rate.data_ptr(), location.shape[0], 1, 0)
    given = BackwardInputs(Inputs(*map(operand, inputs)), operand(d_z), rate)
    outputs = BackwardOutputs(*pointers)
    key = Seed(*seed)
    dtype = DTYPES.index(location.dtype)
    device.backward(gaussian, dtype, byref(extent), byref(given), byref(key), byref(outputs))
    return grads


def make(gaussian, shape, dtype, prior):
    torch.manual_seed(3)
    tensors = [torch.randn(shape, dtype=torch.float64) / 2 for _ in range(4)]
    if not gaussian:
        tensors[1] = tensors[1].exp()
    tensors = [t.to(dtype) for t in tensors]
    return tensors if prior else [*tensors[:2], None, None]


def relative(value, expected):
    value, expected = value.double(), expected.double()
    return float((value - expected).abs().max() / expected.abs().max().clamp_min(1.0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gaussian", [True, False])
@pytest.mark.parametrize("prior", [True, False])
@pytest.mark.parametrize(
    "shape", [(1, 1), (5, 3), (9, 32), (4, 33), (3, 512), (2, 1025), (2, 8193), (1, 20_000)]
)
def test_device_code_agrees_with_the_cpu_kernels(device, dtype, gaussian, prior, shape):
    inputs = make(gaussian, shape, dtype, prior)
    z, rate, aligned = run_forward(device, gaussian, inputs, (7, 8))
    assert aligned == (shape[1] % (8 if dtype.itemsize == 2 else 4) == 0)
    op = ops.gaussian_rsample_kl if gaussian else ops.uniform_rsample_nats
    leaves = [None if t is None else t.clone().requires_grad_() for t in inputs]
    z_cpu, rate_cpu = op(*leaves, seed=7, offset=8)
    assert relative(z, z_cpu.detach()) <= TOLERANCE[dtype]
    assert relative(rate, rate_cpu.detach()) <= TOLERANCE[rate.dtype]

    d_z, d_rate = torch.randn(shape).to(dtype), torch.randn(shape[0]).to(rate.dtype)
    grads = run_backward(device, gaussian, d_z, d_rate, inputs, (7, 8))
    wanted = [t for t in leaves if t is not None]
    expected = torch.autograd.grad((z_cpu, rate_cpu), wanted, (d_z, d_rate))
    for got, want in zip(grads, expected, strict=True):
        assert relative(got, want) <= TOLERANCE[dtype]


@pytest.mark.parametrize("first_index", [0, 1, 5, 4 * 2**32 - 7])
@pytest.mark.parametrize("cols", [1, 7, 32, 1000])
def test_device_noise_has_the_bits_of_the_reference(device, first_index, cols):
    zeros = torch.zeros(3, cols, dtype=torch.float64)
    ones = torch.ones_like(zeros)
    key = (2**63 + 5, 77)
    u, *_ = run_forward(device, False, [zeros, ones, None, None], key, first_index)
    expected = reference.uniform_noise(3 * cols, key[0], key[1], first_index)
    assert torch.equal(u.flatten().float(), expected)
    raw = torch.full_like(zeros, 0.541324854612918)  # sigma = 1
    eps, *_ = run_forward(device, True, [zeros, raw, None, None], key, first_index)
    expected = reference.normal_noise(3 * cols, key[0], key[1], first_index)
    assert torch.equal(eps.flatten().float(), expected)


@pytest.mark.parametrize("gaussian", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_unaligned_code_gives_the_bits_of_aligned_code(device, gaussian, dtype):
    """Same values one element further in memory, with a wide row stride, and transposed."""
    inputs = make(gaussian, (6, 64), dtype, True)
    z, rate, aligned = run_forward(device, gaussian, inputs, (1, 2))
    assert aligned
    shifted = [torch.cat([t.new_zeros(1), t.flatten()])[1:].view(6, 64) for t in inputs]
    strided = [torch.stack([t, t], dim=-1)[..., 0] for t in inputs]
    transposed = [t.t().contiguous().t() for t in inputs]
    for other in (shifted, strided, transposed):
        z2, rate2, aligned = run_forward(device, gaussian, other, (1, 2))
        assert not aligned
        assert torch.equal(z, z2)
        assert torch.equal(rate, rate2)


def test_broadcast_rows_stay_aligned(device):
    inputs = make(True, (6, 64), torch.float32, True)
    inputs[2:] = [t[:1].expand(6, 64) for t in inputs[2:]]
    z, rate, aligned = run_forward(device, True, inputs, (1, 2))
    dense, dense_rate, _ = run_forward(device, True, [t.contiguous() for t in inputs], (1, 2))
    assert aligned
    assert torch.equal(z, dense)
    assert torch.equal(rate, dense_rate)


@pytest.mark.parametrize("cols", [64, 37])
def test_batch_splits_and_copies_keep_the_bits(device, cols):
    inputs = make(True, (6, cols), torch.float32, True)
    z, rate, _ = run_forward(device, True, inputs, (1, 2))
    part = [t[2:].clone() for t in inputs]
    z2, rate2, _ = run_forward(device, True, part, (1, 2), first_index=2 * cols)
    assert torch.equal(z[2:], z2)
    assert torch.equal(rate[2:], rate2)
    z3, *_ = run_forward(device, True, inputs, (1, 2), copies=3)
    for copy in range(3):
        piece = [t[2 * copy : 2 * copy + 2].clone() for t in inputs]
        assert torch.equal(z3[2 * copy : 2 * copy + 2], run_forward(device, True, piece, (1, 2))[0])


def test_indices_beyond_32_bits(device):
    """Places in calls too large to store: item, columns, noise index and offset by hand."""
    found = (c_int64 * 5)()
    extent = Extent(2**33, 3, 2**20, 2**33, 10)
    strided = Operand(None, 2**21 * 5, 5, 1)
    device.locate(byref(extent), byref(strided), 2**32 + 2**21 + 1, found)
    row = 2**32 + 2**21 + 1
    assert list(found) == [row, 0, 3, 10 + 3 * row, (2**12 + 2) * 2**21 * 5 + 5]
    extent = Extent(2, 2**33 + 1, 2, 2, 0)
    device.locate(byref(extent), byref(Operand(None, 0, 2**40, 1)), 2**20 + 1 + 2**20, found)
    assert list(found) == [1, 2**33 - 2**13 + 2**13, 2**33 + 1, 2**33 + 1, 2**40]
    device.locate(byref(extent), byref(Operand(None, 0, 2**40, 1)), 2**20 + 1, found)
    assert list(found) == [1, 0, 2**13, 2**33 + 1, 2**40]
