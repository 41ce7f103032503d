"""Inputs and weights of 8 bits, against Python's integers and fractions."""

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch

from hvae_codec import ops
from hvae_codec.errors import DeviceError, TensorError
from hvae_codec.ops import integer
from hvae_codec.ops.integer import Geometry, check_backend, convolve, narrow, packed, padded

pytestmark = pytest.mark.usefixtures("one_thread")


def nearest(value):
    """The nearest integer of a fraction, halves to the even one."""
    below = value.numerator // value.denominator
    rest = value - below
    up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and below % 2)
    return below + int(up)


@pytest.mark.parametrize("factor", [0.0078125, 0.5, 1.0, 0.013])
def test_narrowed_values_are_those_of_fractions(factor):
    """The product is rounded to float32 first, as NumPy does it, and then to an integer."""
    values = np.array([-32768, -16383, -16320, -64, -1, 0, 1, 3, 64, 192, 16320, 32767], np.int16)
    products = values.astype(np.float32) * np.float32(factor)
    expected = [128 + max(-127, min(127, nearest(Fraction(float(p))))) for p in products]
    found = narrow(torch.from_numpy(values), factor)
    assert found.dtype == torch.uint8
    assert found.tolist() == expected


@pytest.mark.parametrize(("channels", "outputs", "width"), [(4, 1, 1), (8, 17, 9), (12, 48, 7)])
def test_sums_are_those_of_pythons_integers(channels, outputs, width):
    """Around an image lies 0, which is stored as 128; the largest values of both signs occur."""
    rng = np.random.default_rng(channels)
    values = rng.integers(-127, 128, (1, 3, width, channels))
    weights = rng.integers(-127, 128, (outputs, 3, 3, channels))
    values[0, 0], weights[0] = 127, -127
    around = np.zeros((3 + 2, width + 2, channels), int)
    around[1:-1, 1:-1] = values[0]
    around, kernels = around.tolist(), weights.tolist()
    expected = [
        [
            [
                sum(
                    around[y + i][x + j][c] * kernel[i][j][c]
                    for i in range(3)
                    for j in range(3)
                    for c in range(channels)
                )
                for kernel in kernels
            ]
            for x in range(width)
        ]
        for y in range(3)
    ]
    # Sums up to 3 * 3 * 12 * 127^2 < 2^21 times 2^-7 are exact: results are within 16 bits.
    results = [[[nearest(Fraction(s, 128)) for s in row] for row in rows] for rows in expected]
    bias = torch.from_numpy(-128 * weights.sum(axis=(1, 2, 3))).int()
    factors = padded(torch.full((outputs,), 2.0**-7))
    for op in (convolve, integer._by_matrices):
        found = op(
            [torch.from_numpy((values + 128).astype(np.uint8))],
            packed(torch.from_numpy(weights.astype(np.int8)), (channels,)),
            padded(bias),
            factors,
            factors,
            Geometry(outputs, 3, padding=1),
            None,
        )
        assert found[0].tolist() == results


def test_channels_of_bytes_are_multiples_of_four():
    with pytest.raises(TensorError, match=r"multiples of 4 that sum to 6"):
        packed(torch.zeros(1, 1, 1, 6, dtype=torch.int8), (6,))
    with pytest.raises(ValueError, match="inputs of 6 channels; multiples of 4"):
        torch.ops.hvae.integer_convolution(
            [torch.zeros(1, 1, 1, 6, dtype=torch.uint8)],
            *(torch.zeros(16, dtype=kind) for kind in (torch.int8, torch.int32)),
            *(torch.zeros(16) for _ in range(2)),
            *(None, 1, 1, 0, 1, 1, 0, 1, False),
        )


LEVELS_PROGRAM = """
import hashlib, torch
from hvae_codec.ops.integer import *
g = torch.Generator().manual_seed(5)
draw = lambda low, high, shape, kind: torch.randint(low, high, shape, generator=g).to(kind)
digest = hashlib.sha256()
for channels, outputs, width in ((8, 5, 3), (64, 64, 29), (96, 112, 13)):
    x = narrow(draw(-16383, 16384, (2, 5, width, channels), torch.int16), 127 / 9000)
    w = draw(-127, 128, (outputs, 3, 3, channels), torch.int8)
    bias = padded((draw(-9, 9, (outputs,), torch.int64) - 128 * w.long().flatten(1).sum(1)).int())
    f = padded(torch.rand(outputs, generator=g) * 1e-2)
    y = convolve([x], packed(w, (channels,)), bias, f, f * 0.1, Geometry(outputs, 3, padding=1))
    digest.update(x.numpy().tobytes() + y.numpy().tobytes())
print(digest.hexdigest())
"""


def test_all_instruction_sets_give_the_same_bits():
    """Those that the processor lacks fall back to lower ones."""
    found = {
        level: subprocess.run(
            [sys.executable, "-c", LEVELS_PROGRAM],
            env={"HVAE_SIMD": level, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for level in ("baseline", "avx2", "avx512", "avx512vnni")
    }
    assert len(set(found.values())) == 1, found
    assert len(found["baseline"].strip()) == 64


def test_a_backend_that_sums_wrongly_is_refused(monkeypatch):
    check_backend.__wrapped__("cpu")
    honest = integer.convolve

    def saturating(inputs, *rest):
        result = honest(inputs, *rest)
        result[..., 3] = torch.clamp(result[..., 3], -5, 5)
        return result

    monkeypatch.setattr(integer, "convolve", saturating)
    with pytest.raises(DeviceError, match="cannot run on cpu: a product of known sum"):
        check_backend.__wrapped__("cpu")


def test_without_the_extension_the_results_are_the_same(monkeypatch):
    values = torch.arange(-300, 300, dtype=torch.int16).view(1, 5, 10, 12)
    weights = torch.arange(-54, 54, dtype=torch.int16).view(1, 3, 3, 12)
    packs = [packed(weights, (12,)), padded(torch.tensor([7], dtype=torch.int32))]
    factors = padded(torch.tensor([0.01]))
    arguments = ([values], *packs, factors, -factors, Geometry(1, 3, 2, 1))
    with_it = convolve(*arguments), narrow(values, 0.4)
    monkeypatch.setattr(ops, "_extension", None)
    assert all(map(torch.equal, (convolve(*arguments), narrow(values, 0.4)), with_it))
