"""The integer convolution against exact arithmetic of plain Python, and what it refuses."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hvae_codec.errors import TensorError
from hvae_codec.ops import extension_available, integer
from hvae_codec.ops.integer import Geometry
from tests.ops.integer import reference

BOTH = [None, integer._by_matrices]
"""What computes: the op (None), and the matrices that stand for it elsewhere."""

# Outputs that fill no group of 16, two groups and a part, more groups than a tile of AVX-512 takes;
# widths that no tile divides: tiles are 2, 6 and 8 positions wide.
CASES = {
    "kernel 1": (Geometry(5), (3, 7), {}),
    "kernel 1, 2 inputs": (Geometry(16), (2, 9), {"channels": (2, 6)}),
    "kernel 1, batch": (Geometry(33), (1, 13), {"count": 3}),
    "kernel 2, stride 2": (Geometry(18, 2, 2), (5, 9), {"channels": (2,)}),
    "kernel 2, stride 1": (Geometry(1, 2), (3, 4), {}),
    "kernel 3, padded": (Geometry(7, 3, 1, 1), (4, 7), {"channels": (2,)}),
    "kernel 3, padded, 1x1": (Geometry(16, 3, 1, 1), (1, 1), {}),
    "kernel 3, stride 2": (Geometry(4, 3, 2, 1), (5, 8), {"channels": (4, 2)}),
    "kernel 3, padding 2": (Geometry(3, 3, 1, 2), (2, 3), {}),
    "shuffle 2": (Geometry(20, shuffle=2), (2, 7), {}),
    "shuffle 2 of 1": (Geometry(4, shuffle=2), (3, 3), {}),
    "shuffle 4 of pixels": (
        Geometry(48, 3, 1, 1, 4, 0, 255, pixels=True),
        (2, 3),
        {"channels": (2,)},
    ),
    "pixels": (Geometry(19, low=0, high=255, pixels=True), (2, 5), {}),
    "residual": (Geometry(21), (2, 7), {"residual": True}),
    "residual, whole groups": (Geometry(32), (2, 7), {"residual": True}),
    "residual, shuffle 2": (Geometry(36, 3, 1, 1, 2), (2, 3), {"residual": True}),
    "residual of pixels": (
        Geometry(6, low=0, high=255, pixels=True),
        (3, 3),
        {"residual": True},
    ),
    "bounds": (Geometry(48, low=-100, high=70), (1, 9), {}),
    "bounds of int16": (Geometry(16), (2, 9), {"scale": 60_000, "residual": True}),
    "one value alone": (Geometry(16, low=7, high=7), (1, 2), {}),
    "5 groups": (Geometry(80), (1, 9), {"channels": (2,)}),
    "6 groups, residual": (Geometry(95), (1, 7), {"residual": True, "scale": 20_000}),
    "no image": (Geometry(16), (2, 2), {"count": 0}),
}


@pytest.mark.parametrize("op", BOTH, ids=["op", "matrices"])
@pytest.mark.parametrize("name", CASES)
def test_the_values_are_those_of_exact_arithmetic(name, op):
    geometry, size, more = CASES[name]
    case = reference.random_case(len(name), geometry, size, **more)
    found, expected = reference.run(*case, op=op), reference.convolve(*case)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert torch.equal(found, expected)
    if expected.numel() > 9 and geometry.low < geometry.high:
        assert expected.unique().numel() > expected.numel() // 20  # a case that tells something


def of_sums(sums, factor, op, **bounds):
    """What becomes of sums, each that of an output without weights."""
    count = len(sums)
    factors = torch.full((count,), factor, dtype=torch.float32)
    found = reference.run(
        [torch.ones(1, 1, 1, 2, dtype=torch.int16)],
        torch.zeros(count, 1, 1, 2, dtype=torch.int16),
        torch.tensor(sums, dtype=torch.int32),
        factors,
        factors,
        Geometry(count, **bounds),
        op=op,
    )
    return found.flatten().tolist()


@pytest.mark.parametrize("op", BOTH, ids=["op", "matrices"])
@pytest.mark.parametrize(
    ("sums", "factor", "expected"),
    [
        # k + 0.5 becomes the even neighbour, above 0 and below.
        ([1, 3, 5, 7, -1, -3, -5, -7], 0.5, [0, 2, 2, 4, 0, -2, -2, -4]),
        ([1, 3, 5, -1, -3, -5], -0.5, [0, -2, -2, 0, 2, 2]),
        ([4095, 4097, 65_533, 65_535], 0.5, [2048, 2048, 32_766, 32_767]),
        # Beside a half: 0.75 and 0.25 of 1.
        ([3, 1, -3, -1], 0.25, [1, 0, -1, 0]),
        # 2^24 + 1 is no float32: 2^24 of it makes a half, which is 0; 2^24 + 3 becomes 2^24 + 4.
        ([2**24 + 1, 2**24 + 3, -(2**24) - 1], 2.0**-25, [0, 1, 0]),
        # 2^31 - 1 becomes 2^31, and its halves 16384 and 0.5.
        ([2**31 - 1, 1 - 2**31, -(2**31)], 2.0**-17, [16_384, -16_384, -16_384]),
        ([2**31 - 1, 1 - 2**31], 2.0**-32, [0, 0]),
        # Past all bounds, whatever the product is, infinity included.
        ([2**31 - 1, 1 - 2**31, 1, -1, 0], 3e38, [32_767, -32_768, 32_767, -32_768, 0]),
        ([2, -2], 40_000.0, [32_767, -32_768]),
        # Products too small for float32 are 0.
        ([1, -1, 2**31 - 1], 1e-45, [0, 0, 0]),
    ],
)
def test_sums_become_results(sums, factor, expected, op):
    assert of_sums(sums, factor, op) == expected


@pytest.mark.parametrize("op", BOTH, ids=["op", "matrices"])
def test_a_product_is_rounded_to_float32_before_it_becomes_an_integer(op):
    """Factors near k + 0.5 over the sum, of which float32 makes a half that the product is not."""
    told = 0
    for total in range(3, 400, 2):
        factor = float(torch.tensor((total // 3 + 0.5) / total, dtype=torch.float32))
        exact = total * Fraction(factor)
        expected = round(reference.as_float32(exact))
        told += expected != round(exact)
        assert of_sums([total, -total], factor, op) == [expected, -expected]
    assert told > 20


@pytest.mark.parametrize("op", BOTH, ids=["op", "matrices"])
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_may_reach_2_to_the_31(sign, op):
    """Of the largest products, 2 * 32767^2, and what is left of 2^31 - 1."""
    rest = 2**31 - 1 - 2 * 32767**2
    ones = torch.ones(16)
    found = reference.run(
        [torch.full((1, 1, 7, 2), 32767, dtype=torch.int16)],
        torch.full((16, 1, 1, 2), sign * 32767, dtype=torch.int16),
        torch.full((16,), sign * rest, dtype=torch.int32),
        ones * 2.0**-20,
        ones * 2.0**-21,
        Geometry(16),
        op=op,
    )
    assert found.unique().tolist() == [2048 if sign > 0 else -1024]


def test_a_leaky_factor_is_chosen_by_the_sign_of_the_sum():
    """0 is of the positive ones, which shows in nothing but a product that is not 0."""
    found = reference.run(
        [torch.tensor([[[[1, 0]], [[-1, 0]], [[0, 0]]]], dtype=torch.int16)],
        torch.tensor([[[[1000, 0]]]], dtype=torch.int16),
        torch.tensor([0], dtype=torch.int32),
        torch.tensor([1.0]),
        torch.tensor([0.1]),
        Geometry(1),
    )
    assert found.flatten().tolist() == [1000, -100, 0]


geometries = st.builds(
    lambda kernel, stride, padding, shuffle, depth, pixels: Geometry(
        depth * shuffle**2,
        kernel,
        stride,
        min(padding, kernel - 1),
        shuffle,
        *((0, 255) if pixels else (-16383, 16383)),
        pixels,
    ),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(0, 2),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 40),
    st.booleans(),
)


@settings(max_examples=150)
@given(
    geometries,
    st.tuples(st.integers(4, 11), st.integers(4, 19)),
    st.lists(st.integers(1, 20).map(lambda half: 2 * half), min_size=1, max_size=2),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from([5, 300, 20_000]),
    st.integers(0, 2**32),
)
def test_the_op_and_the_matrices_agree(geometry, size, channels, count, residual, scale, seed):
    case = reference.random_case(
        seed, geometry, size, tuple(channels), count=count, residual=residual, scale=scale
    )
    assert extension_available()
    assert torch.equal(reference.run(*case), reference.run(*case, op=integer._by_matrices))


def test_without_the_extension_the_matrices_stand_in(monkeypatch):
    case = reference.random_case(1, Geometry(20, 3, 1, 1), (5, 6), residual=True)
    expected = reference.run(*case)
    monkeypatch.setattr(integer, "extension_available", lambda: False)
    monkeypatch.setattr(torch.ops.hvae, "integer_convolution", None)
    assert torch.equal(reference.run(*case), expected)


def good(**changed):
    """Arguments of the registered op, by name, some of them changed."""
    geometry = Geometry(4, 3, 1, 1)
    inputs, weights, bias, positive, negative, g, residual = reference.random_case(
        3, geometry, (5, 6), (4, 2), residual=True
    )
    named = {
        "inputs": inputs,
        "weights": integer.packed(weights, (4, 2)),
        "bias": integer.padded(bias),
        "positive": integer.padded(positive),
        "negative": integer.padded(negative),
        "residual": residual,
        **{key: getattr(g, key) for key in ("kernel", "stride", "padding", "outputs", "shuffle")},
        "low": g.low,
        "high": g.high,
        "pixels": False,
    }
    return {key: changed[key](value) if key in changed else value for key, value in named.items()}


def to(value):
    return lambda _: value


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"inputs": to([])}, "0 inputs; 1 to 2"),
        ({"inputs": lambda xs: [*xs, *xs]}, "4 inputs; 1 to 2"),
        ({"inputs": lambda xs: [x.int() for x in xs]}, "inputs are int16 or uint8 .*, not Int"),
        ({"inputs": lambda xs: [x[..., ::2] for x in xs]}, "an input must be contiguous"),
        ({"inputs": lambda xs: [x[0] for x in xs]}, r"an input is \[N, H, W, C\], not"),
        ({"inputs": lambda xs: [xs[0], xs[1][:, :4].contiguous()]}, "inputs of different sizes"),
        ({"inputs": lambda xs: [xs[0], xs[1][..., :1].contiguous()]}, "inputs of 1 channels"),
        ({"inputs": lambda xs: [xs[0], xs[1][..., :0].contiguous()]}, "inputs of 0 channels"),
        ({"inputs": to([torch.zeros(1, 5, 6, 4098, dtype=torch.int16)])}, "inputs of 4098"),
        ({"inputs": lambda xs: xs[:1]}, "weights, bias and factors do not fit 4 channels"),
        ({"weights": torch.Tensor.float}, "weights must be .* Short, not Float"),
        ({"weights": lambda w: w[:, :-1].contiguous()}, "weights, bias and factors do not fit 6"),
        ({"bias": torch.Tensor.long}, "bias must be .* Int, not Long"),
        ({"bias": lambda b: b[:4]}, "weights, bias and factors do not fit"),
        ({"positive": torch.Tensor.double}, "positive must be .* Float, not Double"),
        ({"negative": lambda f: f[:15]}, "weights, bias and factors do not fit"),
        ({"residual": torch.Tensor.int}, "the residual must be .* Short, not Int"),
        ({"residual": lambda r: r[:, :4].contiguous()}, r"a residual of \[1, 4, 6, 4\] for a resu"),
        ({"residual": lambda r: r.transpose(1, 2)}, "the residual must be contiguous"),
        ({"kernel": to(0)}, "a kernel of 0"),
        ({"kernel": to(9)}, "a kernel of 9, stride 1, padding 1 does not fit 5x6"),
        ({"kernel": to(2**31), "padding": to(2**31 - 1)}, "a kernel of 2147483648"),
        ({"stride": to(0)}, "stride 0"),
        ({"stride": to(2**32)}, "stride 4294967296"),
        ({"padding": to(-1)}, "padding -1"),
        ({"padding": to(3)}, "a kernel of 3, stride 1, padding 3"),
        ({"outputs": to(17)}, "do not fit 6 channels and 17 outputs"),
        ({"outputs": to(0)}, "0 outputs"),
        ({"outputs": to(-4)}, "-4 outputs"),
        ({"shuffle": to(0)}, "4 outputs cannot be shuffled by 0"),
        ({"shuffle": to(3)}, "4 outputs cannot be shuffled by 3"),
        ({"shuffle": to(2**32)}, "4 outputs cannot be shuffled by 4294967296"),
        ({"low": to(3), "high": to(2)}, "bounds 3 to 2"),
        ({"high": to(32768)}, "bounds -32768 to 32768"),
        ({"low": to(-32769)}, "bounds -32769 to"),
        ({"pixels": to(True)}, "bounds -32768 to 32767"),
        ({"pixels": to(True), "low": to(0), "high": to(256)}, "bounds 0 to 256"),
    ],
)
def test_arguments_that_do_not_fit_are_named(changed, said):
    op = torch.ops.hvae.integer_convolution
    assert op(*good().values()).shape == (1, 5, 6, 4)
    with pytest.raises(ValueError, match=said):
        op(*good(**changed).values())


@pytest.mark.parametrize("channels", [(3, 3), (4,), (2, 2, 2), (5, 1)])
def test_weights_are_packed_for_their_channels_alone(channels):
    weights = torch.ones(4, 1, 1, 6, dtype=torch.int16)
    if channels == (2, 2, 2):
        assert integer.packed(weights, channels).shape == (1, 3, 16, 2)
        return
    with pytest.raises(TensorError, match=r"inputs of \(.*\) channels; .* sum to 6"):
        integer.packed(weights, channels)


def test_no_input_is_said_so():
    """Past the registered op, whose device is asked of the first."""
    case = reference.random_case(3, Geometry(4), (2, 2))
    with pytest.raises(ValueError, match="0 inputs"):
        integer.convolve([], *case[1:6])
