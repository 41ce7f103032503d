"""Convolutions of integers: the same bits on every machine, in any order of summation.

`convolve` sums products of int16 values and weights in int32, exactly. One float32 factor by the
sum's sign, rounded to the nearest integer (halves to the even one), brings a sum into 16 bits
again. docs/INTEGER.md states the arithmetic to the bit.

The compiled op (csrc/integer) runs on CPUs. Elsewhere, and without the extension, the same sums are
products of float64 matrices: integers below 2^53, which no order of summation changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hvae_codec.errors import TensorError
from hvae_codec.ops import extension_available

GROUP = 16
"""Outputs whose weights lie side by side: kGroup of csrc/integer/kernels.h."""

_LARGEST = 65536.0
"""Products are bounded by this, beyond all that a result holds: kLargest of the kernels."""


@dataclass(frozen=True)
class Geometry:
    """What a convolution does beside its numbers.

    With `shuffle` r the outputs [r][r][C] of a position are r x r positions of C channels, as in
    a pixel shuffle. `pixels`: whether results are uint8.
    """

    outputs: int
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    shuffle: int = 1
    low: int = -32768
    high: int = 32767
    pixels: bool = False


def packed(weights: Tensor, channels: tuple[int, ...]) -> Tensor:
    """Weights [O, k, k, C] as `convolve` takes them, for inputs of these channels, sum C.

    They are int16 for inputs int16, and int8 for inputs uint8.

    Raises:
        TensorError: a number of channels is odd, or no multiple of 4 for int8, or they do not sum
            to C.
    """
    outputs, rows, columns, total = weights.shape
    size = 4 // weights.element_size()  # neighbours that are summed in one lane of 32 bits
    if sum(channels) != total or any(count % size for count in channels):
        raise TensorError(
            f"inputs of {channels} channels; need multiples of {size} that sum to {total}"
        )
    parts = [part.reshape(outputs, -1) for part in torch.split(weights, list(channels), dim=3)]
    flat = torch.cat(parts, dim=1)
    flat = F.pad(flat, (0, 0, 0, -outputs % GROUP))
    lanes = rows * columns * total // size
    return flat.view(-1, GROUP, lanes, size).transpose(1, 2).contiguous()


def padded(values: Tensor) -> Tensor:
    """Values [O] of the outputs, and zeros up to whole groups."""
    return F.pad(values, (0, -len(values) % GROUP))


def convolve(
    inputs: list[Tensor],
    weights: Tensor,
    bias: Tensor,
    positive: Tensor,
    negative: Tensor,
    geometry: Geometry,
    residual: Tensor | None = None,
) -> Tensor:
    """low <= residual + round(sum * factor) <= high, int16 or uint8 [N, h, w, C'].

    Args:
        inputs: int16 [N, H, W, C], or uint8 as `narrow` makes them; one or two of one size, their
            channels side by side.
        weights: as `packed` has them.
        bias: int32, `padded`: what sums begin with, of inputs uint8 less 128 times the sum of an
            output's weights. Sums must not leave 32 bits.
        positive, negative: float32, `padded`: factors of sums from 0 on, and below.
        geometry: the rest.
        residual: int16, as large as the result.

    Raises:
        ValueError: arguments do not fit each other; the message names them.
    """
    if not extension_available() or any(x.device.type != "cpu" for x in inputs):
        return _by_matrices(inputs, weights, bias, positive, negative, geometry, residual)
    g = geometry
    result: Tensor = torch.ops.hvae.integer_convolution(
        inputs,
        weights,
        bias,
        positive,
        negative,
        residual,
        g.kernel,
        g.stride,
        g.padding,
        g.outputs,
        g.shuffle,
        g.low,
        g.high,
        g.pixels,
    )
    return result


def narrow(values: Tensor, factor: float) -> Tensor:
    """128 + round(value * factor), the rounded product within +-127: uint8 of values int16.

    factor: a number that float32 holds.
    """
    if values.device.type == "cpu" and extension_available():
        result: Tensor = torch.ops.hvae.integer_narrow(values, factor)
        return result
    products = values.float() * torch.tensor(factor, dtype=torch.float32, device=values.device)
    return (products.clamp(-127.0, 127.0).round() + 128.0).to(torch.uint8)


def _by_matrices(
    inputs: list[Tensor],
    weights: Tensor,
    bias: Tensor,
    positive: Tensor,
    negative: Tensor,
    geometry: Geometry,
    residual: Tensor | None,
) -> Tensor:
    """`convolve` by torch's own operations, on any device."""
    g = geometry
    windows = torch.cat([_windows(x, g) for x in inputs], dim=-1)
    matrix = weights.transpose(1, 2).reshape(len(bias), -1).double()
    sums = (windows @ matrix.t() + bias.double())[..., : g.outputs]
    factors = torch.where(sums < 0, negative[: g.outputs], positive[: g.outputs])
    products = sums.float() * factors
    results = products.clamp(-_LARGEST, _LARGEST).round().int()
    count, height, width, _ = results.shape
    r = g.shuffle
    cells = results.view(count, height, width, r, r, g.outputs // r**2).transpose(2, 3)
    results = cells.reshape(count, height * r, width * r, g.outputs // r**2)
    if residual is not None:
        results += residual
    return results.clamp(g.low, g.high).to(torch.uint8 if g.pixels else torch.int16)


def _windows(x: Tensor, g: Geometry) -> Tensor:
    """float64 [N, h, w, k * k * C]: what each output position sees, row after row."""
    zero = 128.0 if x.dtype == torch.uint8 else 0.0
    around = F.pad(x.double(), (0, 0, g.padding, g.padding, g.padding, g.padding), value=zero)
    rows = around.unfold(1, g.kernel, g.stride).unfold(2, g.kernel, g.stride)
    return rows.permute(0, 1, 2, 4, 5, 3).flatten(3)
