"""Which table a symbol of a map takes: an integer function of symbols decoded before it.

A layer's symbols all take their tables at once, from the layers above. For each symbol one number
is summed: the features of symbols above and around it (`symbol_features` of the models),
times integer weights, plus a bias that depends on the file's quality. How many thresholds it
reaches is the symbol's level, and every level has a table.

Sums are exact. `hvae_codec._integer` adds integers. Where it is not built, or weights are larger
than it takes, sums are products of matrices of integers that the floating-point type holds, in
whatever order a library adds. docs/FORMAT.md states the arithmetic.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from hvae_codec.codec.quality_scale import MAX_NUMBER
from hvae_codec.errors import CheckpointError
from hvae_codec.models.fully_convolutional.spec import FEATURES, MAX_MAGNITUDE, MAX_SIGNED, ConvSpec
from hvae_codec.utils.forking import no_fork

_integer: ModuleType | None = None
with suppress(ImportError):
    _integer = importlib.import_module("hvae_codec._integer")

MAX_LEVELS = 128
"""Most levels, and tables, of a layer."""

SCALE = 4096
"""Integers that stand for one unit of raw deviation."""

_GRAIN_BITS = 8
GRAIN = 1 << _GRAIN_BITS
"""Thresholds are multiples of this, so that a level is looked up by the sum divided by it."""

MAX_SPAN = 1 << 16
"""Most multiples of GRAIN between the first and the last threshold."""

_EXACT_IN_SINGLE, _EXACT_IN_DOUBLE = 1 << 24, 1 << 53
_SLAB_VALUES = 1 << 22  # of the features of a layer, at once

Int32Array = NDArray[np.int32]
ContextIds = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class LayerContext:
    """How the levels of one layer's symbols are found.

    channels, stride: the layer's.
    bias: int32 [K, channels], at K qualities evenly spread over 0..MAX_NUMBER.
    weights: by stride of the layers above, int32 [channels * r * r, FEATURES * C, n, n] for C
        channels above, r = that stride / own stride and n = 3 for r up to 2, else 1.
    thresholds: int32 [levels - 1], rising, multiples of GRAIN.

    Raises CheckpointError if any of this does not hold.
    """

    channels: int
    stride: int
    bias: Int32Array
    weights: Mapping[int, Int32Array]
    thresholds: Int32Array

    def __post_init__(self) -> None:
        arrays = {"bias": self.bias, "thresholds": self.thresholds}
        arrays |= {f"weights.{stride}": array for stride, array in self.weights.items()}
        for name, array in arrays.items():
            if not isinstance(array, np.ndarray) or array.dtype != np.int32:
                raise CheckpointError(f"contexts: {name} must be int32")
        if self.bias.ndim != 2 or len(self.bias) < 2 or self.bias.shape[1] != self.channels:
            raise CheckpointError(
                f"contexts: bias must be [2 or more, {self.channels}], not {self.bias.shape}"
            )
        if self.thresholds.ndim != 1 or not 1 <= len(self.thresholds) < MAX_LEVELS:
            raise CheckpointError(f"contexts: need 1 to {MAX_LEVELS - 1} thresholds")
        if (np.diff(self.thresholds.astype(np.int64)) <= 0).any():
            raise CheckpointError("contexts: thresholds must rise")
        span = int(self.thresholds[-1]) - int(self.thresholds[0])
        if (self.thresholds % GRAIN != 0).any() or span > MAX_SPAN * GRAIN:
            raise CheckpointError(
                f"contexts: thresholds must be multiples of {GRAIN}, over {MAX_SPAN} of them"
            )
        if self._largest_sum >= _EXACT_IN_DOUBLE:
            raise CheckpointError("contexts: weights so large that sums would not be exact")

    @property
    def level_count(self) -> int:
        """Levels, one more than thresholds."""
        return len(self.thresholds) + 1

    def check_inputs(self, stride: int, channels: int) -> None:
        """Raises CheckpointError unless the weights of `stride` are for so many channels."""
        found = self.weights[stride].shape[1]
        if found != FEATURES * channels:
            raise CheckpointError(
                f"contexts: weights of stride {stride} take {found} features, not those of "
                f"{channels} channels"
            )

    def levels(
        self, features: Mapping[int, SymbolFeatures], quality: int, shape: tuple[int, int, int]
    ) -> ContextIds:
        """The level of every symbol, uint8 [channels, N, h, w].

        features: by stride, those of the layers above (`SymbolFeatures`).
        shape: (N, h, w) of the layer.
        """
        n, height, width = shape
        bias = self._bias_at(quality)
        if not self.weights:
            alone = self._levels_of(bias.astype(np.float64))
            return np.broadcast_to(alone[:, None, None, None], (self.channels, *shape)).copy()
        if _integer is not None and self._packed_weights is not None:
            sums = np.empty((*shape, self.channels), np.int32)
            sums[:] = bias
            for stride, (kernel, packed) in self._packed_weights.items():
                above = features[stride].side_by_side()
                _integer.add_sums(sums, above, packed, kernel, stride // self.stride)
            return np.ascontiguousarray(self._levels_of_integers(sums).transpose(3, 0, 1, 2))
        levels = np.empty((self.channels, *shape), np.uint8)
        ratio = max(self.weights) // self.stride
        widest = max(array.shape[0] * array.shape[1] for array in self.weights.values())
        values = max(1, widest // 8)
        images = max(1, _SLAB_VALUES // (values * height * width))
        rows = max(1, _SLAB_VALUES // (values * width * ratio)) * ratio
        for first in range(0, n, images):
            last = min(first + images, n)
            for top in range(0, height, rows):
                bottom = min(top + rows, height)
                part = np.empty((self.channels, last - first, bottom - top, width), self._dtype)
                part[:] = bias[:, None, None, None]
                for stride, weights in self._weights_as_floats.items():
                    window = features[stride].window(
                        first, last, top * self.stride // stride, bottom * self.stride // stride
                    )
                    part += _finer(_summed(weights, window), stride // self.stride)
                levels[:, first:last, top:bottom] = self._levels_of(part)
        return levels

    @cached_property
    def _largest_sum(self) -> int:
        """Beyond what any sum, or part of one, can be, in magnitude."""
        total = np.abs(self.bias.astype(np.int64)).max(axis=0).astype(object)
        for stride, weights in self.weights.items():
            ratio = stride // self.stride
            kernel = 3 if ratio <= 2 else 1
            if weights.ndim != 4:
                raise CheckpointError(f"contexts: weights of stride {stride} must have rank 4")
            per_feature = weights.shape[1] // FEATURES
            expected = (self.channels * ratio**2, FEATURES * per_feature, kernel, kernel)
            if weights.shape != expected or per_feature == 0 or stride != ratio * self.stride:
                raise CheckpointError(
                    f"contexts: weights of stride {stride} must be {expected}, not {weights.shape}"
                )
            sums = MAX_MAGNITUDE * np.abs(weights.astype(np.int64)).sum(axis=(1, 2, 3))
            total = total + sums.reshape(self.channels, ratio**2).max(axis=1)
        return int(total.max())

    @cached_property
    def _dtype(self) -> type[np.float32] | type[np.float64]:
        """The narrower type that holds every partial sum exactly."""
        return np.float32 if self._largest_sum < _EXACT_IN_SINGLE else np.float64

    @cached_property
    def _weights_as_floats(self) -> dict[int, NDArray[np.floating]]:
        """[n, n, outputs, inputs] each."""
        return {
            stride: np.ascontiguousarray(array.transpose(2, 3, 0, 1).astype(self._dtype))
            for stride, array in sorted(self.weights.items())
        }

    @cached_property
    def _packed_weights(self) -> dict[int, tuple[int, NDArray[np.int16]]] | None:
        """By stride, the kernel and the weights as `hvae_codec._integer` takes them; None where
        they or their sums are too large for it.
        """
        largest = max(int(np.abs(array.astype(np.int64)).max()) for array in self.weights.values())
        if largest >= 1 << 15 or self._largest_sum >= 1 << 31:
            return None
        return {
            stride: (array.shape[2], _packed(array, stride // self.stride))
            for stride, array in sorted(self.weights.items())
        }

    @cached_property
    def _level_by_grain(self) -> NDArray[np.uint8]:
        """The level of sums from below the first threshold to above the last, a GRAIN each."""
        grains = np.arange(self._first_grain, int(self.thresholds[-1]) // GRAIN + 1) * GRAIN
        return np.searchsorted(self.thresholds, grains, side="right").astype(np.uint8)

    @property
    def _first_grain(self) -> int:
        return int(self.thresholds[0]) // GRAIN - 1

    def _levels_of_integers(self, sums: Int32Array) -> NDArray[np.uint8]:
        """As `_levels_of`, with little memory beside the sums, which are changed."""
        sums >>= _GRAIN_BITS
        sums -= self._first_grain
        found = np.empty(sums.shape, np.uint8)
        flat, levels = sums.reshape(-1), found.reshape(-1)
        for start in range(0, len(flat), _SLAB_VALUES):
            some = slice(start, start + _SLAB_VALUES)
            levels[some] = self._level_by_grain.take(flat[some], mode="clip")
        return found

    def _levels_of(self, sums: NDArray[np.floating]) -> NDArray[np.uint8]:
        # Division by a power of two is exact, so this is the integer division rounded down.
        grains = np.floor(sums * (1.0 / GRAIN)) - self._first_grain
        last = len(self._level_by_grain) - 1
        found: NDArray[np.uint8] = self._level_by_grain[np.clip(grains, 0, last).astype(np.intp)]
        return found

    def _bias_at(self, quality: int) -> NDArray[np.int64]:
        """The bias between its knots, rounded down, int64 [channels]."""
        if not 0 <= quality <= MAX_NUMBER:
            raise ValueError(f"a quality lies in 0..{MAX_NUMBER}, not {quality}")
        position = quality * (len(self.bias) - 1)
        knot = min(position // MAX_NUMBER, len(self.bias) - 2)
        share = position - knot * MAX_NUMBER
        low, high = self.bias[knot].astype(np.int64), self.bias[knot + 1].astype(np.int64)
        between: NDArray[np.int64] = (low * (MAX_NUMBER - share) + high * share) // MAX_NUMBER
        return between


class SymbolFeatures:
    """The features of the symbols of the layers of one stride, in the order that contexts take
    them: layer after layer, of each whether its symbols are not 0, their magnitudes, their signs.
    """

    def __init__(self) -> None:
        self._layers: list[NDArray[np.int8]] = []
        self._side_by_side: NDArray[np.int16] | None = None

    def add(self, symbols: NDArray[np.integer]) -> None:
        """The symbols [C, N, h, w] of one more layer."""
        self._layers.append(np.clip(symbols, -MAX_MAGNITUDE, MAX_MAGNITUDE).astype(np.int8))
        self._side_by_side = None

    def side_by_side(self) -> NDArray[np.int16]:
        """int16 [N, h, w, inputs], and a last one of zeros where that makes their number even."""
        if self._side_by_side is None:
            moved = [np.ascontiguousarray(np.moveaxis(layer, 0, -1)) for layer in self._layers]
            parts = [_features(layer, axis=3) for layer in moved]
            if sum(part.shape[3] for part in parts) % 2:
                parts.append(np.zeros_like(parts[0][..., :1]))
            self._side_by_side = np.concatenate(parts, axis=3, dtype=np.int16)
        return self._side_by_side

    def window(self, first: int, last: int, top: int, bottom: int) -> NDArray[np.int8]:
        """Of images first..last - 1, rows top - 1..bottom, with a column of zeros on each side and
        zeros beyond the map: int8 [inputs, images, rows, columns].
        """
        height = self._layers[0].shape[2]
        rows = slice(max(top - 1, 0), min(bottom + 1, height))
        beyond = (max(1 - top, 0), max(bottom + 1 - height, 0))
        parts = [_features(layer[:, first:last, rows], axis=0) for layer in self._layers]
        return np.pad(np.concatenate(parts), ((0, 0), (0, 0), beyond, (1, 1)))


def _features(symbols: NDArray[np.int8], axis: int) -> NDArray[np.int8]:
    """The features of symbols up to MAX_MAGNITUDE, one after the other along an axis."""
    magnitude = np.abs(symbols)
    signed = np.clip(symbols, -MAX_SIGNED, MAX_SIGNED)
    return np.concatenate([np.minimum(magnitude, 1), magnitude, signed], axis=axis)


def _packed(weights: Int32Array, ratio: int) -> NDArray[np.int16]:
    """Weights [C * r * r, inputs, n, n] as the kernels take them: [groups, pairs, GROUP, 2].

    Outputs are in the order [r, r, C], and their inputs in that of rows, columns, channels.
    """
    assert _integer is not None
    outputs, inputs, kernel, _ = weights.shape
    cells = weights.reshape(-1, ratio**2, inputs, kernel, kernel).swapaxes(0, 1)
    flat = cells.transpose(0, 1, 3, 4, 2).reshape(outputs, kernel**2, inputs)
    group: int = _integer.GROUP
    even = np.pad(flat, ((0, -outputs % group), (0, 0), (0, inputs % 2))).astype(np.int16)
    pairs = even.reshape(-1, group, kernel**2 * (inputs + inputs % 2) // 2, 2)
    return np.ascontiguousarray(pairs.swapaxes(1, 2))


def _summed(weights: NDArray[np.floating], window: NDArray[np.int8]) -> NDArray[np.floating]:
    """The convolution [outputs, N, h, w] of a window [inputs, N, h + 2, w + 2]."""
    kernel, _, outputs, inputs = weights.shape
    n, height, width = window.shape[1], window.shape[2] - 2, window.shape[3] - 2
    margin = 1 - kernel // 2
    values = window.astype(weights.dtype)
    total = np.zeros((outputs, n * height * width), weights.dtype)
    for row in range(kernel):
        for column in range(kernel):
            top, left = row + margin, column + margin
            shifted = values[:, :, top : top + height, left : left + width].reshape(inputs, -1)
            with no_fork():
                total += weights[row, column] @ shifted
    return total.reshape(outputs, n, height, width)


def _finer(sums: NDArray[np.floating], ratio: int) -> NDArray[np.floating]:
    """[C * r * r, N, h, w] as [C, N, h * r, w * r]: of the r * r sums of a position, row after row,
    one for each of the finer positions in it.
    """
    if ratio == 1:
        return sums
    channels, n, height, width = sums.shape
    blocks = sums.reshape(channels // ratio**2, ratio, ratio, n, height, width)
    return blocks.transpose(0, 3, 4, 1, 5, 2).reshape(-1, n, height * ratio, width * ratio)


def context_of(
    spec: ConvSpec,
    index: int,
    bias: NDArray[np.floating],
    weights: Mapping[int, NDArray[np.floating]],
    levels: NDArray[np.floating],
) -> LayerContext:
    """The context of the layer at `index` in integers, from floats in units of the raw deviation.

    bias: [K, C]. weights: as `LayerContext` has them, per feature as it is. levels: the raw
    deviations, rising, at which levels change.
    """
    latent = spec.latents[index]
    grains = np.unique(np.rint(levels * SCALE / GRAIN).astype(np.int32))
    return LayerContext(
        channels=latent.channels,
        stride=latent.stride,
        bias=np.rint(bias * SCALE).astype(np.int32),
        weights={
            key: np.ascontiguousarray(np.rint(array * SCALE), np.int32)
            for key, array in weights.items()
        },
        thresholds=grains * GRAIN,
    )
