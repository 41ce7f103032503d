"""A convolution of integers with its weights, and what they must hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hvae_codec.errors import CheckpointError
from hvae_codec.ops.integer import Geometry, convolve, narrow, packed, padded

LIMIT = 2**14 - 1
"""Greatest magnitude of an activation. A bit less than int16 has leaves it to the weights, whose
magnitudes times this must sum to less than 2^31.
"""

WORD_LIMIT, BYTE_LIMIT = 2**15 - 1, 2**7 - 1
"""Greatest magnitudes of weights of 16 and 8 bits; the latter also of inputs of 8 bits."""

SLOPE = 0.1
"""Of leaky ReLU below 0."""

_LARGEST_SUM = 2**31 - 1
_LARGEST_FACTOR = 2.0**64  # beyond all use, and far from infinity, of which 0 is no multiple


class IntegerConv2d(nn.Module):
    """A convolution int16 [N, H, W, C] to int16 [N, h, w, O], of one or two inputs side by side.

    weight: int16 [O, k, k, C]. bias: int32 [O]. factor: float32 [O], which a sum is multiplied by.
    gain: float32 [K, O], at K qualities evenly spread: what the factor changes by, or None.
    narrow: float32 []; where it is there, inputs are multiplied by it and rounded to 8 bits, and
    weights have 8 bits, which takes half the time. The kernel of 3 is padded with zeros; others are
    not. leaky: whether negative results are a tenth. limit: greatest magnitude of the inputs.
    """

    weight: Tensor
    bias: Tensor
    factor: Tensor
    gain: Tensor | None
    narrow: Tensor | None

    def __init__(
        self,
        inputs: tuple[int, ...],
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        shuffle: int = 1,
        leaky: bool = False,
        knots: int = 0,
        pixels: bool = False,
        limit: int = LIMIT,
        eight_bits: bool = False,
    ) -> None:
        super().__init__()
        bounds = (0, 255) if pixels else (-LIMIT, LIMIT)
        self.inputs, self.leaky = inputs, leaky
        # Of bytes the kernel adds w * (x + 128), and takes away 128 w before.
        self.limit = 3 * (BYTE_LIMIT + 1) if eight_bits else limit
        self.weight_limit = BYTE_LIMIT if eight_bits else WORD_LIMIT
        self.geometry = Geometry(
            outputs, kernel, stride, int(kernel == 3), shuffle, *bounds, pixels
        )
        shape = (outputs, kernel, kernel, sum(inputs))
        self.register_buffer("weight", torch.zeros(shape, dtype=torch.int16))
        self.register_buffer("bias", torch.zeros(outputs, dtype=torch.int32))
        self.register_buffer("factor", torch.zeros(outputs, dtype=torch.float32))
        gain = torch.zeros(knots, outputs, dtype=torch.float32) if knots else None
        self.register_buffer("gain", gain)
        self.register_buffer("narrow", torch.ones((), dtype=torch.float32) if eight_bits else None)
        self._factors: dict[int, tuple[Tensor, Tensor]] = {}
        self._narrow = 1.0
        self.register_load_state_dict_post_hook(prepare_loaded)  # type: ignore[no-untyped-call]

    def forward(self, *inputs: Tensor, quality: int, residual: Tensor | None = None) -> Tensor:
        """The convolution at a quality of 0..255, `residual` added to it."""
        if quality not in self._factors:
            self._factors[quality] = self._factors_at(quality)
        positive, negative = self._factors[quality]
        weights, bias = self._packed
        given = list(inputs)
        if self.narrow is not None:
            given = [narrow(x, self._narrow) for x in inputs]
        return convolve(given, weights, bias, positive, negative, self.geometry, residual)

    def prepare(self) -> None:
        """Check the numbers, and bring them into the form that the op takes.

        Raises:
            CheckpointError: a weight is too large, a sum could leave 32 bits, or a factor is not
                finite or too large.
        """
        weights = self.weight.long().flatten(1)
        magnitudes = weights.abs().sum(1)
        if int(weights.abs().max()) > self.weight_limit:
            raise CheckpointError(
                f"integer weights of up to {int(weights.abs().max())}; "
                f"{self.weight_limit} is the largest allowed"
            )
        largest = int((magnitudes * self.limit + self.bias.long().abs()).max())
        if largest > _LARGEST_SUM:
            raise CheckpointError(
                f"integer weights of which a sum could reach {largest}; up to {_LARGEST_SUM} fits"
            )
        gain = torch.zeros(1) if self.gain is None else self.gain
        factors = torch.cat([self.factor, *(self.factor * (1.0 + row) for row in gain)])
        if not bool((factors.abs() <= _LARGEST_FACTOR).all()):
            raise CheckpointError(
                "integer weights with a factor that is not finite, or beyond "
                f"{_LARGEST_FACTOR:g}: {float(factors.abs().max()):g}"
            )
        weight, bias = self.weight, self.bias
        if self.narrow is not None:  # Their inputs are stored with 128 added.
            self._narrow = float(self.narrow)
            if not 0.0 < self._narrow <= LIMIT:
                raise CheckpointError(
                    f"integer weights whose inputs are narrowed by {self._narrow:g}; above 0 and "
                    f"at most {LIMIT} is allowed"
                )
            weight = weight.to(torch.int8)
            bias = (bias - 128 * weights.sum(1)).to(torch.int32)
        self._packed = packed(weight, self.inputs), padded(bias)
        self._factors.clear()

    def _apply(self, fn: Any, recurse: bool = True) -> IntegerConv2d:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.prepare()
        return self

    def _factors_at(self, quality: int) -> tuple[Tensor, Tensor]:
        """Factors of sums from 0 on and below; float64 in between, in which nothing is fused."""
        factor = self.factor.cpu().numpy().astype(np.float64)
        if self.gain is not None:
            factor *= 1.0 + at_quality(self.gain.cpu().numpy(), quality)
        positive = factor.astype(np.float32)
        negative = (factor * SLOPE).astype(np.float32) if self.leaky else positive
        both = [padded(torch.from_numpy(f)).to(self.factor.device) for f in (positive, negative)]
        return both[0], both[1]


def at_quality(
    table: np.ndarray[Any, np.dtype[np.float32]], quality: int, highest: int = 255
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Values [C] between the knots of a table [K, C], at a quality of 0 to `highest`."""
    position = quality * (len(table) - 1)
    knot = min(position // highest, len(table) - 2)
    share = (position - knot * highest) / highest
    low, high = table[knot].astype(np.float64), table[knot + 1].astype(np.float64)
    between: np.ndarray[Any, np.dtype[np.float64]] = low * (1.0 - share) + high * share
    return between


def prepare_loaded(module: Any, _: object) -> None:
    """Check what was loaded: a hook of `load_state_dict` for modules with a `prepare`."""
    module.prepare()
