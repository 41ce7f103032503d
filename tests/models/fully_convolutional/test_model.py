"""The model of maps: its size, what its rates and contexts are made of, and how it moves."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hvae_codec.models.fully_convolutional.layers import MIN_RAW, AtLeast, ByQuality
from hvae_codec.models.fully_convolutional.model import ConvVAE, drawn_qualities
from hvae_codec.models.fully_convolutional.spec import ConvLatent, ConvSpec, Resolution
from hvae_codec.models.hvae import noise_seed
from hvae_codec.models.zoo import any_spec
from hvae_codec.ops.reference import uniform_noise

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = ConvSpec(
    name="tiny",
    image_shape=(3, 32, 32),
    resolutions=(Resolution(4, 8, 1, 1), Resolution(8, 12, 1, 1), Resolution(16, 16, 1, 1)),
    latents=(ConvLatent(16, 4), ConvLatent(8, 3), ConvLatent(8, 5)),
    knots=3,
)


@pytest.fixture(scope="module")
def model():
    """In fp64, with contexts, gains and steps that matter."""
    torch.manual_seed(3)
    model = ConvVAE(TINY).double().eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if ".maps." in name:
            parameter.normal_(std=0.1)
        elif name.endswith(".table"):
            parameter += 0.2 * torch.randn_like(parameter)
        elif ".mean." in name:
            parameter *= 2.0
    return model


def pictures(count=2, height=32, width=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, height, width, generator=generator, dtype=torch.float64)


QUALITIES = torch.tensor([0.2, 0.85], dtype=torch.float64)


def quantised(model, x, qualities):
    """Symbols, and the scaled means that they are the nearest integers of."""
    scaled = []

    def choose(index, values):
        assert index == len(scaled)
        scaled.append(values)
        return values.round()

    return model.quantise(model.fine_features(x, qualities), qualities, choose), scaled


def test_parameters_of_maps6_worked_out_by_hand():
    def conv(inputs, outputs, side):
        return inputs * outputs * side**2 + outputs

    def blocks(count, width):  # a 3x3 and a 1x1 convolution, and gains at 6 knots
        return count * (conv(width, width, 3) + conv(width, width, 1) + 6 * width)

    total = conv(48, 64, 3) + conv(64, 48, 3)
    total += blocks(3 + 3, 64) + blocks(3 + 1, 96) + blocks(2 + 1, 128) + blocks(2 + 2, 128)
    total += conv(64, 96, 2) + conv(96, 128, 2) + conv(128, 128, 2)
    total += conv(96, 4 * 64, 1) + conv(128, 4 * 96, 1) + conv(128, 4 * 128, 1)
    # Inputs of contexts are three features of every channel above; a coarser layer's outputs are
    # four, or sixteen, positions each.
    contexts = [
        0,
        9 * 72 * 4 * 24,
        9 * 72 * 40 + 9 * 72 * 4 * 40,
        9 * 192 * 4 * 8 + 72 * 16 * 8,
        9 * 24 * 16 + 9 * 192 * 4 * 16 + 72 * 16 * 16,
        9 * 72 * 24 + 9 * 192 * 4 * 24 + 72 * 16 * 24,
    ]
    widths, channels = [128, 128, 128, 96, 96, 96], [24, 24, 40, 8, 16, 24]
    for index, (width, c) in enumerate(zip(widths, channels, strict=True)):
        total += conv(width if index == 0 else 2 * width, width, 1) + blocks(1, width)
        total += conv(width, c, 3) * (1 if index == 0 else 2) + conv(c, width, 3)
        total += 2 * 6 * c + contexts[index]
    model = ConvVAE(any_spec("maps6-128x128x3"))
    assert sum(parameter.numel() for parameter in model.parameters()) == total
    assert round(total / 1e6, 1) == 4.0


def integer_features(k):
    """Of integers [B, C, h, w]: not 0, magnitude up to 31, value in -3..3, as networks scale them
    to [B, 3C, h, w].
    """
    k = k.to(torch.int64)
    parts = [(k != 0).double(), k.abs().minimum(torch.tensor(31)) / 4.0, k.clamp(-3, 3) / 2.0]
    return torch.cat(parts, 1)


def convolved(x, weight):
    """A convolution without bias, zero padded: for each tap a product of matrices."""
    side = weight.shape[-1]
    margin = side // 2
    _, _, height, width = x.shape
    padded = torch.zeros(*x.shape[:2], height + 2 * margin, width + 2 * margin, dtype=x.dtype)
    padded[:, :, margin : margin + height, margin : margin + width] = x
    return sum(
        torch.einsum(
            "bihw,oi->bohw",
            padded[:, :, row : row + height, column : column + width],
            weight[:, :, row, column],
        )
        for row in range(side)
        for column in range(side)
    )


def finer(x, ratio):
    """Channels [B, C r r, h, w] as positions [B, C, h r, w r]."""
    count, channels, height, width = x.shape
    split = x.reshape(count, channels // ratio**2, ratio, ratio, height, width)
    return split.permute(0, 1, 4, 2, 5, 3).reshape(count, -1, height * ratio, width * ratio)


def test_rates_are_those_of_bins_under_deviations_computed_from_integers_alone(model):
    x = pictures()
    outcome = model(x, seed=11, noise_index=2, qualities=QUALITIES)
    symbols, scaled = quantised(model, x, QUALITIES)
    position = QUALITIES[:, None] * 2.0  # three knots, at 0, 1/2 and 1
    knots = (1.0 - (position - torch.arange(3)).abs()).clamp(min=0.0)
    deviations = []
    for index, latent in enumerate(TINY.latents):
        raw = (knots @ model.layers[index].context.bias.table)[:, :, None, None]
        for stride in {above.stride for above in TINY.latents[:index]}:
            parts = [
                k
                for k, above in zip(symbols[:index], TINY.latents, strict=False)
                if above.stride == stride
            ]
            # The features of a layer stand together, those of the layers one after the other.
            features = torch.cat([integer_features(k) for k in parts], 1)
            sums = convolved(features, model.layers[index].context.maps[str(stride)].weight)
            raw = raw + finer(sums, stride // latent.stride)
        sigma = torch.log1p(raw.clamp(min=MIN_RAW).exp())
        deviations.append(sigma.std().item())
        shape = scaled[index].shape
        noise = uniform_noise(
            math.prod(shape), noise_seed(11, index), 0, 2 * math.prod(shape), torch.device("cpu")
        )
        sample = scaled[index] + noise.view(shape)
        upper, lower = ((sample + half) / sigma for half in (0.5, -0.5))
        mass = torch.special.ndtr(-lower.abs().minimum(upper.abs()))  # the nearer edge's tail
        within = torch.special.ndtr(upper) - torch.special.ndtr(lower)
        far = mass - torch.special.ndtr(-lower.abs().maximum(upper.abs()))
        nats = -torch.where((upper > 0) & (lower < 0), within, far).log().flatten(1).sum(1)
        torch.testing.assert_close(outcome.rates_nats[:, index], nats, rtol=1e-6, atol=1e-6)
    assert min(deviations) > 0.05, "contexts did not matter"


def test_distortion_is_the_density_of_the_picture_and_weights_make_qualities_alike(model):
    x = pictures()
    outcome = model(x, seed=0, qualities=QUALITIES)
    spread = 0.17 * (0.016 / 0.17) ** QUALITIES
    density = torch.distributions.Normal(outcome.output, spread[:, None, None, None]).log_prob(x)
    torch.testing.assert_close(outcome.distortion_nats, -density.flatten(1).sum(1))
    torch.testing.assert_close(outcome.weights, spread / math.sqrt(0.17 * 0.016))


def test_decoded_symbols_are_what_the_model_trains_on(model):
    x = pictures()
    symbols, _ = quantised(model, x, QUALITIES)
    assert all(torch.equal(k, k.round()) for k in symbols)
    assert all(k.abs().max() >= 2 for k in symbols)
    trained = model(x, seed=5, qualities=QUALITIES).output
    torch.testing.assert_close(model.decode(symbols, QUALITIES), trained, rtol=0, atol=1e-9)


def test_layers_that_are_not_given_are_zero_symbols(model):
    symbols, _ = quantised(model, pictures(), QUALITIES)
    for given_layers in (1, 2):
        kept = symbols[:given_layers]
        zeros = [torch.zeros_like(k) for k in symbols[given_layers:]]
        torch.testing.assert_close(
            model.decode(kept, QUALITIES), model.decode([*kept, *zeros], QUALITIES)
        )
    whole = model.dequantise(symbols, QUALITIES)
    for a, b in zip(model.dequantise(symbols[:2], QUALITIES), whole, strict=False):
        torch.testing.assert_close(a, b)


def test_a_shift_by_the_coarsest_stride_shifts_symbols_and_picture(model):
    """Far from the upper and lower borders, where padding tells places apart."""
    quality = QUALITIES[1:]
    x = pictures(1, 544, 16, seed=1)
    first, second = x[:, :, :528], x[:, :, 16:]
    symbols = [quantised(model, part, quality)[0] for part in (first, second)]
    margin = 160
    for latent, a, b in zip(TINY.latents, *symbols, strict=True):
        rows, shift = margin // latent.stride, 16 // latent.stride
        assert torch.equal(a[:, :, rows + shift : -rows], b[:, :, rows : -rows - shift])
        assert a[:, :, rows:-rows].std() > 0.1
    a, b = (model.decode(k, quality) for k in symbols)
    margin += 64
    torch.testing.assert_close(a[:, :, margin + 16 : -margin], b[:, :, margin : -margin - 16])


def test_equal_seeds_give_equal_noise(model):
    x, model = pictures(4).float(), copy.deepcopy(model).float()
    first, again, other, beside = (
        model(x, seed=seed, noise_index=index) for seed, index in ((7, 0), (7, 0), (8, 0), (7, 1))
    )
    assert torch.equal(first.rates_nats, again.rates_nats)
    assert torch.equal(first.output, again.output)
    for different in (other, beside):
        assert not torch.isclose(first.rates_nats, different.rates_nats, rtol=1e-6).any()


def test_values_by_quality_are_linear_between_their_knots(model):
    values = ByQuality(3, 2).double()
    with torch.no_grad():
        values.table.copy_(torch.tensor([[0.0, 5.0], [2.0, 1.0], [6.0, -1.0]]))
    qualities = torch.tensor([0.0, 0.25, 0.5, 0.875, 1.0], dtype=torch.float64)
    found = values(model.knot_weights(qualities)).flatten(1).tolist()
    assert found == [[0.0, 5.0], [1.0, 3.0], [2.0, 1.0], [5.0, -0.5], [6.0, -1.0]]


@given(st.integers(1, 300), st.integers(0, 2**40), st.integers(0, 5))
def test_drawn_qualities_lie_one_in_each_interval(count, seed, noise_index):
    drawn = drawn_qualities(count, seed, noise_index)
    assert (drawn.double() * count).floor().tolist() == list(range(count))
    assert torch.equal(drawn, drawn_qualities(count, seed, noise_index))
    if count > 2:
        assert not torch.equal(drawn, drawn_qualities(count, seed + 1, noise_index))


def test_below_its_bound_a_value_follows_only_the_gradient_that_lifts_it():
    x = torch.tensor([-3.0, -3.0, -2.0, -2.0, -2.25], requires_grad=True)
    bounded = AtLeast.apply(x, MIN_RAW)
    assert bounded.tolist() == [-2.25, -2.25, -2.0, -2.0, -2.25]
    bounded.backward(torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0]))
    # A descent subtracts the gradient: a positive one would lead further below the bound.
    assert x.grad.tolist() == [0.0, -1.0, 1.0, -1.0, 1.0]
