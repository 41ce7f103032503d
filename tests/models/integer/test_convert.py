"""From floats to integers: near the float model, no sum beyond 32 bits, and what is refused."""

import dataclasses

import numpy as np
import pytest
import torch

from hvae_codec.codec.fully_convolutional.engines import engine_of
from hvae_codec.errors import SpecError
from hvae_codec.models.fully_convolutional.spec import ConvLatent
from hvae_codec.models.integer.convert import to_integers
from hvae_codec.models.integer.convolution import LIMIT, IntegerConv2d
from hvae_codec.models.integer.model import PIXEL_LIMIT
from tests.codec.fully_convolutional.models import (
    EVEN,
    even_model,
    integers_of,
    tiny_model,
    waves,
)
from tests.ops.integer import reference

pytestmark = pytest.mark.usefixtures("one_thread")

QUALITIES = [0, 77, 255]


@pytest.fixture(scope="module", params=[0, 1, 2])
def models(request):
    floats = even_model(request.param)
    return floats, integers_of(floats)


def symbols_of(model, pictures, quality, given=None):
    """The nearest symbols of each layer; those of `given` stand for those above."""
    found = []

    def choose(index, nearest):
        found.append(nearest)
        return nearest if given is None else given[index]

    with torch.inference_mode():
        engine = engine_of(model)
        engine.quantise(engine.fine_features(pictures, quality), quality, choose)
    return found


@pytest.mark.parametrize("quality", QUALITIES)
def test_symbols_are_those_of_the_float_model_but_for_a_few(models, quality):
    """Activations are off by some 2^-13 of their largest: a step is some tenths of it and more at
    the best quality. So one symbol in some hundreds lies near enough to the border of two.
    """
    floats, integers = models
    pictures = np.stack([waves(64, 96, seed=100 + n) for n in range(6)])
    expected = symbols_of(floats, pictures, quality)
    found = symbols_of(integers, pictures, quality, expected)
    assert len(found) == 4
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.dtype, ours.shape) == (np.int32, theirs.shape)
        assert np.abs(ours - theirs).max() <= 1
    assert np.abs(np.concatenate([k.ravel() for k in expected])).mean() > 0.05
    differing = sum(int((a != b).sum()) for a, b in zip(found, expected, strict=True))
    assert differing <= sum(k.size for k in expected) / 200


@pytest.mark.parametrize("quality", QUALITIES)
def test_pixels_are_within_a_level_of_the_float_models(models, quality):
    """Of the same symbols. Some hundredths of a level change what a level in 50 is rounded to."""
    floats, integers = models
    pictures = np.stack([waves(64, 96, seed=100 + n) for n in range(3)])
    symbols = symbols_of(floats, pictures, quality)
    with torch.inference_mode():
        expected, found = (
            engine.pixels(engine.coarse_state(symbols, quality), quality).numpy().astype(int)
            for engine in (engine_of(floats), engine_of(integers))
        )
    assert expected.std() > 20
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 0.02


@pytest.mark.parametrize("quality", QUALITIES)
def test_latents_and_steps_are_near_the_float_models(models, quality):
    floats, integers = models
    symbols = symbols_of(floats, np.stack([waves(64, 96)]), quality)
    with torch.inference_mode():
        expected, found = (
            engine_of(model).latents(symbols[:3], quality) for model in (floats, integers)
        )
    assert len(found) == 3
    for (z, step), (theirs, their_step) in zip(found, expected, strict=True):
        torch.testing.assert_close(step, their_step, rtol=1e-5, atol=0)
        torch.testing.assert_close(z, theirs, rtol=0, atol=float(theirs.abs().max()) / 1000)


def convolutions(model):
    return {name: one for name, one in model.named_modules() if isinstance(one, IntegerConv2d)}


def largest_sums(conv):
    """What sums of each output could reach, worked out in Python's integers."""
    weights, biases = conv.weight.flatten(1).tolist(), conv.bias.tolist()
    return [
        sum(map(abs, row)) * conv.limit + abs(bias)
        for row, bias in zip(weights, biases, strict=True)
    ]


def strange_models():
    """Float models of which a careless conversion would make sums too large, or none."""

    def changed(change):
        model = even_model(3)
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, torch.nn.Conv2d) and module.bias is not None:
                    change(module)
        return model

    def one_large(conv):
        conv.weight.mul_(0.01)
        conv.weight[:, 0, 0, 0] = 1.0

    def dead(conv):
        conv.weight[1::2] = 0.0
        conv.bias[1] = 0.0

    return {
        "large biases": changed(lambda conv: conv.bias.mul_(1000.0)),
        "no biases": changed(lambda conv: conv.bias.zero_()),
        "one weight large": changed(one_large),
        "all weights alike": changed(lambda conv: conv.weight.fill_(0.05)),
        "dead outputs": changed(dead),
        "small": changed(lambda conv: (conv.weight.mul_(1e-2), conv.bias.mul_(1e-2))),
    }


@pytest.mark.parametrize("name", strange_models())
def test_no_sum_can_leave_32_bits(name):
    """And weights take nearly all the bits that there are, where they are not 0."""
    found = convolutions(integers_of(strange_models()[name]))
    assert len(found) == 1 + 1 + 2 * 3 + 4 * 2 * 2 + 4 * 3 + 3 + 4 * 2  # EVEN's, by hand
    for conv in found.values():
        sums = largest_sums(conv)
        assert max(sums) < 2**31
        used = [
            s > 2**30 or row.abs().max() > 2**14 for s, row in zip(sums, conv.weight, strict=True)
        ]
        assert all(used) or name == "dead outputs"


def test_the_largest_sums_that_there_are_come_out_exactly(models):
    """Inputs of the greatest magnitude with the signs of one output's weights, and against them."""
    told = 0
    for conv in convolutions(models[1]).values():
        sums = largest_sums(conv)
        output = sums.index(max(sums))
        worst = conv.weight[output].sign().short() * conv.limit
        for values in (worst, -worst):
            inputs = [one[None].contiguous() for one in values.split(conv.inputs, dim=2)]
            vectors = conv.bias, *(factor[: len(conv.bias)] for factor in conv._factors_at(0))
            # Alone, as no padding of zeros is to make sums smaller.
            g = conv.geometry.__class__(len(conv.bias), conv.geometry.kernel)
            found = reference.run(inputs, conv.weight, *vectors, g)
            assert torch.equal(found, reference.convolve(inputs, conv.weight, *vectors, g))
        told += max(sums) > 2**31 - 2**22
    assert told > 10


def test_limits_of_inputs_are_those_of_what_there_is(models):
    """Pixels 2 p - 255, and activations that bounds keep within LIMIT."""
    for name, conv in convolutions(models[1]).items():
        assert conv.limit == (PIXEL_LIMIT if name == "stem" else LIMIT)
        bounds = conv.geometry.low, conv.geometry.high
        assert bounds == ((0, 255) if name == "output" else (-LIMIT, LIMIT))
    assert (PIXEL_LIMIT, LIMIT) == (255, 16383)


def test_conversion_repeats_itself(models):
    again = integers_of(models[0])
    ours, theirs = models[1].state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_there_must_be_images():
    with pytest.raises(SpecError, match="calibration images: there are none"):
        to_integers(even_model(), [])


def test_channels_must_be_even():
    with pytest.raises(SpecError, match=r"maps-tiny: .* multiples of 2 channels, not \[3, 3\]"):
        to_integers(tiny_model(), [waves(64, 64)])


PARAMETERS = [
    "stem.weight",
    "encoder.8.0.second.bias",
    "down.16.weight",
    "up.8.bias",
    "layers.0.log_step.table",
    "layers.2.prior_mean.weight",
    "layers.1.blocks.0.gain.table",
    "output.bias",
]


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_must_be_finite(name, bad):
    model = even_model()
    with torch.no_grad():
        dict(model.named_parameters())[name].flatten()[-1:].fill_(bad)
    with pytest.raises(SpecError, match="not finite"):
        to_integers(model, [waves(64, 64)])


@pytest.mark.parametrize("name", ["stem", "encoder.4.0.second", "layers.1.mean", "up.16"])
def test_activations_must_be_finite(name):
    """Weights whose products are infinite, or of both signs, so that sums are no numbers."""
    model = even_model()
    with torch.no_grad():
        weight = model.get_submodule(name).weight
        weight.copy_(weight.sign() * 3e38)
    with pytest.raises(SpecError, match=r"reach(es)? (inf|nan)"):
        to_integers(model, [waves(64, 64)])


def test_activations_must_not_all_be_zero():
    model = even_model()
    with torch.no_grad():
        for parameter in model.stem.parameters():
            parameter.zero_()
        for block in model.encoder["4"].children():
            block.second.weight.zero_()
            block.second.bias.zero_()
    with pytest.raises(SpecError, match=r"reaches 0\.0"):
        to_integers(model, [waves(64, 64)])


def test_units_of_latents_do_not_depend_on_what_is_made_of_them():
    """Where a layer has as many channels as its network is wide, states look like latents."""
    wide = dataclasses.replace(
        EVEN,
        name="maps-wide",
        latents=(EVEN.latents[0], ConvLatent(16, 12), *EVEN.latents[2:]),
    )
    units = []
    for scale in (1.0, 1000.0):
        model = tiny_model(1, wide)
        with torch.no_grad():
            model.layers[1].into.weight.mul_(scale)
        units.append(to_integers(model, [waves(64, 64)]).layers[1].unit)
    assert torch.equal(*units)
