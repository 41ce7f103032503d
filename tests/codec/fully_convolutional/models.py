"""Models of maps for tests: random tables without networks, and tiny trained-looking networks."""

import dataclasses

import numpy as np
import torch

from hvae_codec.codec.checkpoint import save_checkpoint
from hvae_codec.codec.entropy.context_tables import ContextLayer, ContextTables
from hvae_codec.codec.entropy.contexts import GRAIN, LayerContext
from hvae_codec.codec.entropy.tables import TOTAL, LayerTables
from hvae_codec.codec.fully_convolutional.fit_tables import fit_context_tables
from hvae_codec.models.fully_convolutional.model import ConvVAE
from hvae_codec.models.fully_convolutional.spec import ConvLatent, ConvSpec, Resolution
from hvae_codec.models.integer.convert import to_integers


def random_tables(rng, latents, largest_weight):
    """Contexts and tables of layers of these (stride, channels), weights up to largest_weight."""
    return ContextTables(
        [_random_layer(rng, latents[: i + 1], largest_weight) for i in range(len(latents))]
    )


def _random_layer(rng, latents, largest):
    stride, channels = latents[-1]
    weights = {}
    for coarser in sorted({s for s, _ in latents[:-1]}):
        ratio = coarser // stride
        side = 3 if ratio <= 2 else 1
        count = 3 * sum(c for s, c in latents[:-1] if s == coarser)
        shape = (channels * ratio**2, count, side, side)
        values = rng.integers(-largest, largest + 1, shape) * (rng.random(shape) < 0.7)
        weights[coarser] = values.astype(np.int32)
    levels = int(rng.integers(2, 9))
    reach = max(1, min(20 * largest // GRAIN, 2**14))
    grains = rng.choice(np.arange(-reach, reach + 8), levels - 1, replace=False)
    bias = rng.integers(-20 * largest, 20 * largest + 1, (int(rng.integers(2, 5)), channels))
    thresholds = np.sort(grains).astype(np.int32) * GRAIN
    context = LayerContext(channels, stride, bias.astype(np.int32), weights, thresholds)
    return ContextLayer(context, _random_layer_tables(rng, levels))


def _random_layer_tables(rng, levels):
    sizes = rng.choice([1, 2, 2, 3, 5, 17, 80], levels)
    frequencies = []
    for size in sizes:
        cuts = np.sort(rng.choice(np.arange(1, TOTAL), size - 1, replace=False))
        frequencies.append(np.diff(np.concatenate([[0], cuts, [TOTAL]])))
    low = -(sizes // 2) + rng.integers(-2, 3, levels)
    return LayerTables(
        low.astype(np.int32), sizes.astype(np.int32), np.concatenate(frequencies).astype(np.int32)
    )


def random_symbols(rng, coder, quality, shapes):
    """Symbols int32 [C, N, h, w] a layer, each uniform over the table of its level."""
    walk, symbols = coder.walk(quality), []
    for layer, shape in zip(coder.tables.layers, shapes, strict=True):
        levels = walk.levels(shape)
        index = (rng.random(levels.shape) * layer.tables.size[levels]).astype(np.int32)
        symbols.append(layer.tables.low[levels] + index)
        walk.add(symbols[-1])
    return symbols


def waves(height, width, channels=3, seed=0):
    """A smooth picture with a little noise, uint8 [height, width, channels]."""
    rng = np.random.default_rng(seed)
    y, x, _ = np.mgrid[:height, :width, :1] / 9.0
    turn, across, shift = rng.uniform(-2, 2, (3, channels))
    values = (
        128 + 80 * np.sin(turn * y + across * x + 3 * shift) + rng.normal(0, 9, (height, width, 1))
    )
    return np.clip(values, 0, 255).astype(np.uint8)


TINY = ConvSpec(
    name="maps-tiny",
    image_shape=(3, 32, 32),
    resolutions=tuple(Resolution(s, w, 1, 1) for s, w in ((4, 8), (8, 12), (16, 12), (32, 16))),
    latents=(ConvLatent(32, 4), ConvLatent(16, 3), ConvLatent(8, 2), ConvLatent(8, 3)),
    knots=3,
)
EVEN = dataclasses.replace(
    TINY,
    name="maps-even",
    latents=(ConvLatent(32, 4), ConvLatent(16, 6), ConvLatent(8, 2), ConvLatent(8, 4)),
)
"""As TINY, of even numbers of channels, which integer networks take."""


def tiny_model(seed=0, spec=TINY):
    """A model of random weights whose symbols are not all 0 and whose contexts matter."""
    torch.manual_seed(seed)
    model = ConvVAE(spec)
    with torch.no_grad():
        for _, layer in model.walk():
            layer.mean.weight.mul_(4.0)
            for conv in layer.context.maps.values():
                conv.weight.normal_(std=0.1)
    return model.eval()


def save_tiny(path, seed=0, quality=50):
    """A checkpoint of `tiny_model` at `path` (.safetensors) with tables fitted to `waves`."""
    model = tiny_model(seed)
    tables = fit_context_tables(model, [waves(64, 64, seed=n) for n in range(3)], qualities=3)
    measured = {"payload_bytes": 1.0, "psnr_db": 1.0, "rates_nats": [1.0] * len(TINY.latents)}
    card = {"name": "tiny", "quality": quality, "measured": measured}
    return save_checkpoint(path, model, tables, card)


def even_model(seed=0):
    """A `tiny_model` of EVEN whose gains matter."""
    model = tiny_model(seed, EVEN)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gain.table"):
                parameter += 0.2 * torch.randn_like(parameter)
    return model


def integers_of(model):
    """The integer model of a float one, calibrated by `waves`."""
    return to_integers(model, [waves(64, 64, seed=n) for n in range(4)])


def save_integers(path, seed=0):
    """Checkpoints of `even_model` at `path` (.safetensors) and, of integers, beside it: both."""
    model = even_model(seed)
    tables = fit_context_tables(model, [waves(64, 64, seed=n) for n in range(3)], qualities=3)
    measured = {"payload_bytes": 1.0, "psnr_db": 1.0, "rates_nats": [1.0] * len(EVEN.latents)}
    card = {"name": "even", "quality": 50, "measured": measured}
    floats = save_checkpoint(path, model, tables, card)
    beside = path.with_name("integers.safetensors")
    return floats, save_checkpoint(beside, integers_of(model), tables, {**card, "name": "integers"})


def assert_equal_symbols(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype == np.int32
        np.testing.assert_array_equal(a, b)


def assert_within_a_level(a, b):
    """Equal but for the last bits of floats, which other batches, threads or strips change."""
    assert a.shape == b.shape
    assert a.dtype == b.dtype == np.uint8
    difference = np.abs(a.astype(int) - b)
    assert difference.max(initial=0) <= 1
    assert (difference > 0).mean() < 0.001


def assert_same_image(codec, a, b):
    """`assert_within_a_level` for either family: softening a seam may double a level."""
    if codec.number is not None:
        assert_within_a_level(a, b)
        return
    assert a.shape == b.shape
    assert a.dtype == b.dtype == np.uint8
    difference = np.abs(a.astype(int) - b)
    assert difference.max(initial=0) <= 2
    assert (difference > 0).mean() < 0.01
