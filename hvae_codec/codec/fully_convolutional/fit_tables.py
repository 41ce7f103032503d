"""From a trained fully convolutional model to its tables: contexts in integers, and a table for
every level.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from hvae_codec.codec.entropy.context_coder import ContextIterator
from hvae_codec.codec.entropy.context_tables import ContextLayer, ContextTables
from hvae_codec.codec.entropy.contexts import LayerContext, context_of
from hvae_codec.codec.entropy.tables import TOTAL, Int32Array, LayerTables, support_size
from hvae_codec.codec.quality_scale import MAX_NUMBER
from hvae_codec.models.fully_convolutional.layers import MIN_RAW
from hvae_codec.models.fully_convolutional.model import ConvVAE
from hvae_codec.models.fully_convolutional.spec import FEATURE_SCALES, FEATURES
from hvae_codec.models.inference import inference
from hvae_codec.models.likelihoods import dtype_of
from hvae_codec.utils.progress import progress

LEVELS = 64
"""Levels of a layer: deviations of 0.1 steps to LARGEST_DEVIATION, evenly spread by ratio."""

LARGEST_DEVIATION = 100.0
"""In steps; symbols beyond what so wide a prior makes likely are rare at any quality."""

_REACH = 12.0  # deviations that a table reaches on each side
_PRIOR_COUNT = 64.0  # symbols that a level's Gaussian counts for beside those observed


@inference
def fit_context_tables(
    model: ConvVAE, images: Iterable[NDArray[np.uint8]], qualities: int = 6, seed: int = 0
) -> ContextTables:
    """Tables fitted to the symbols of training images, each of `qualities` random qualities.

    images: uint8 [H, W, 3], or some of one size, [N, H, W, 3], which then share qualities; sides
        are multiples of the model's coarsest stride.

    A table is the counts of its level plus a little of the Gaussian that the level stands for, so
    that levels that never occurred have tables too.
    """
    model.eval()
    contexts = [_context(model, index) for index in model.spec.layer_indices]
    first = ContextTables([_gaussian_layer(context) for context in contexts])
    counts = [np.zeros(len(layer.tables.frequency), np.int64) for layer in first.layers]
    generator = np.random.default_rng(seed)
    for picture in progress("fitting tables", list(images), unit="images", leave=False):
        for quality in generator.integers(0, MAX_NUMBER + 1, size=qualities):
            _count(model, first, counts, picture, int(quality))
    return ContextTables(
        [
            ContextLayer(layer.context, _blended(layer.tables, own))
            for layer, own in zip(first.layers, counts, strict=True)
        ]
    )


@torch.no_grad()
def round_weights(model: ConvVAE) -> None:
    """Round the weights to what half precision holds, so that a checkpoint takes half the bytes."""
    for parameter in model.parameters():
        parameter.copy_(parameter.half())


def level_deviations() -> NDArray[np.float64]:
    """The deviation, in steps, that each level stands for; float64 [LEVELS]."""
    return np.geomspace(_softplus(MIN_RAW), LARGEST_DEVIATION, LEVELS)


def _context(model: ConvVAE, index: int) -> LayerContext:
    """A layer's context with the weights of the model, of which integers are made."""
    context = model.walk()[index][1].context
    deviations = level_deviations()
    between = np.sqrt(deviations[1:] * deviations[:-1])
    weights = {}
    for stride, conv in context.maps.items():
        assert isinstance(conv.weight, torch.Tensor)
        array = conv.weight.detach().double().cpu().numpy()
        weights[int(stride)] = _by_feature(array, _channels_above(model, index, int(stride)))
    return context_of(
        model.spec,
        index,
        context.bias.table.detach().double().cpu().numpy(),
        weights,
        np.log(np.expm1(between)),
    )


def _channels_above(model: ConvVAE, index: int, stride: int) -> list[int]:
    """Channels of each of the layers of a stride above the one at `index`."""
    return [above.channels for above in model.spec.latents[:index] if above.stride == stride]


def _by_feature(weights: NDArray[np.float64], channels: list[int]) -> NDArray[np.float64]:
    """Weights [outputs, inputs, n, n] of scaled features as weights of the integers themselves."""
    divisors: NDArray[np.float64] = np.concatenate(
        [np.repeat(FEATURE_SCALES, count) for count in channels]
    )
    assert len(divisors) == weights.shape[1] == FEATURES * sum(channels)
    scaled: NDArray[np.float64] = weights / divisors[None, :, None, None]
    return scaled


def _gaussian_layer(context: LayerContext) -> ContextLayer:
    """A layer whose tables are those of the Gaussians that its levels stand for."""
    lows, tables = [], []
    for deviation in level_deviations():
        reach = int(np.ceil(_REACH * deviation)) + 2
        size = support_size(2 * reach + 1)
        low = -(size // 2)
        edges = np.arange(low, low + size + 1) - 0.5
        lows.append(low)
        tables.append(_integer_table(np.diff(_normal_cdf(edges / deviation))))
    return ContextLayer(context, _layer_tables(lows, tables))


def _count(
    model: ConvVAE,
    tables: ContextTables,
    counts: list[NDArray[np.int64]],
    picture: NDArray[np.uint8],
    quality: int,
) -> None:
    """Add the symbols of an image, or of some, to the counts of all entries of the tables."""
    device = next(model.parameters()).device
    pictures = torch.tensor(picture.reshape(-1, *picture.shape[-3:]), device=device)
    x = model.likelihood.pixels(pictures.permute(0, 3, 1, 2), dtype_of(model))
    q = torch.full((len(x),), quality / MAX_NUMBER, dtype=torch.float32, device=device)
    walk = ContextIterator(tables, quality)
    symbols = model.quantise(model.fine_features(x, q), q)
    for layer, own, k in zip(tables.layers, counts, symbols, strict=True):
        array = k.permute(1, 0, 2, 3).to(torch.int32).cpu().numpy()
        levels = walk.levels((array.shape[1], array.shape[2], array.shape[3]))
        clipped = layer.clip(array, levels)
        walk.add(clipped)
        entries = layer.tables.offset[levels] + clipped - layer.tables.low[levels]
        own += np.bincount(entries.reshape(-1), minlength=len(own))


def _blended(first: LayerTables, counts: NDArray[np.int64]) -> LayerTables:
    tables = []
    for level, observed in enumerate(np.split(counts, first.offset[1:])):
        expected = first.frequencies_of(level) / TOTAL
        tables.append(_integer_table(observed + _PRIOR_COUNT * expected))
    return _layer_tables([int(low) for low in first.low], tables)


def _layer_tables(lows: list[int], tables: list[Int32Array]) -> LayerTables:
    return LayerTables(
        low=np.array(lows, np.int32),
        size=np.array([len(table) for table in tables], np.int32),
        frequency=np.concatenate(tables),
    )


def _integer_table(weights: NDArray[np.floating]) -> Int32Array:
    """Weights [n] to frequencies [n], each >= 1, sum TOTAL, by largest remainder."""
    share = (TOTAL - len(weights)) * weights / weights.sum()
    whole = np.floor(share).astype(np.int64)
    left = TOTAL - len(weights) - int(whole.sum())
    whole[np.argsort(whole - share, kind="stable")[:left]] += 1
    table: Int32Array = (whole + 1).astype(np.int32)
    return table


def _softplus(raw: float) -> float:
    return float(np.log1p(np.exp(raw)))


def _normal_cdf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    values: NDArray[np.float64] = torch.special.ndtr(torch.from_numpy(x)).numpy()
    return values
