"""The arithmetic of docs/INTEGER.md in plain Python: sums of ints, float32 by exact fractions."""

from fractions import Fraction

import torch

from hvae_codec.ops import integer


def as_float32(value):
    """The float32 nearest to a fraction, halves to even, as a fraction; beyond the range exact."""
    value = Fraction(value)
    if not value:
        return value
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    exponent -= Fraction(2) ** exponent > magnitude
    spacing = Fraction(2) ** max(exponent - 23, -149)
    return round(value / spacing) * spacing


def narrowed(total, positive, negative, added, low, high):
    """An int of an int: the product of two float32 to an integer, `added`, within bounds."""
    factor = Fraction(negative if total < 0 else positive)
    product = round(as_float32(as_float32(total) * factor))  # halves to even
    return min(max(product + added, low), high)


def convolve(inputs, weights, bias, positive, negative, geometry, residual=None):
    """As `hvae_codec.ops.integer.convolve`, weights [O, k, k, C] and the others [O] as they are."""
    g = geometry
    count, height, width, _ = inputs[0].shape
    values = torch.cat(inputs, dim=3).tolist()
    kernels, biases = weights.tolist(), bias.tolist()
    factors = list(zip(positive.tolist(), negative.tolist(), strict=True))
    rows = (height + 2 * g.padding - g.kernel) // g.stride + 1
    columns = (width + 2 * g.padding - g.kernel) // g.stride + 1
    r = g.shuffle
    depth = g.outputs // r**2
    shape = (count, rows * r, columns * r, depth)
    result = torch.zeros(shape, dtype=torch.uint8 if g.pixels else torch.int16)
    for n, row, column, output in (
        (n, row, column, output)
        for n in range(count)
        for row in range(rows)
        for column in range(columns)
        for output in range(g.outputs)
    ):
        total = biases[output]
        for above in range(g.kernel):
            for left in range(g.kernel):
                y = row * g.stride + above - g.padding
                x = column * g.stride + left - g.padding
                if 0 <= y < height and 0 <= x < width:
                    pairs = zip(values[n][y][x], kernels[output][above][left], strict=True)
                    total += sum(a * b for a, b in pairs)
        assert -(2**31) < total < 2**31
        cell, channel = divmod(output, depth)
        at = n, row * r + cell // r, column * r + cell % r, channel
        added = 0 if residual is None else int(residual[at])
        result[at] = narrowed(total, *factors[output], added, g.low, g.high)
    return result


def run(inputs, weights, bias, positive, negative, geometry, residual=None, op=None):
    """The op, or `_by_matrices`, of the same arguments as `convolve` here."""
    packed = integer.packed(weights, tuple(x.shape[3] for x in inputs))
    vectors = [integer.padded(one) for one in (bias, positive, negative)]
    return (op or integer.convolve)(inputs, packed, *vectors, geometry, residual)


def random_case(seed, geometry, size, channels=(4,), *, count=1, residual=False, scale=300):
    """Arguments of `convolve`: values of all 16 bits, sums within 32, results of about `scale`."""
    g = geometry
    generator = torch.Generator().manual_seed(seed)

    def drawn(low, high, shape, dtype):
        return torch.randint(low, high + 1, shape, generator=generator).to(dtype)

    total = sum(channels)
    inputs = [drawn(-32768, 32767, (count, *size, c), torch.int16) for c in channels]
    largest = min(32767, 2**30 // (32768 * g.kernel**2 * total))
    weights = drawn(-largest, largest, (g.outputs, g.kernel, g.kernel, total), torch.int16)
    bias = drawn(-(2**30) + 1, 2**30 - 1, (g.outputs,), torch.int32)
    spread = torch.rand(2, g.outputs, generator=generator) * 2.0 - 0.5  # a few below 0, too
    positive, negative = spread * scale / 2**29
    added = None
    if residual:
        shape = convolve_shape(g, count, size)
        added = drawn(-scale, scale, shape, torch.int16)
    return inputs, weights, bias, positive, negative, g, added


def convolve_shape(g, count, size):
    """Shape of the result."""
    rows, columns = ((side + 2 * g.padding - g.kernel) // g.stride + 1 for side in size)
    return count, rows * g.shuffle, columns * g.shuffle, g.outputs // g.shuffle**2
