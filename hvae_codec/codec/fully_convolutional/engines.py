"""What computes the networks of a fully convolutional codec: floats, or integers.

Both take and give the same: pixels uint8 [N, H, W, 3], symbols int32 [C, N, h, w], and features of
their own in between, [N, h, w, C], of which strips along h are cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvae_codec.codec.entropy.tables import Int32Array
from hvae_codec.codec.quality_scale import MAX_NUMBER
from hvae_codec.models.build import ConvModel
from hvae_codec.models.fully_convolutional.model import ConvVAE
from hvae_codec.models.integer.model import IntegerConvVAE
from hvae_codec.ops.integer import check_backend

Choose = Callable[[int, Int32Array], Int32Array]
"""Of a layer's index and its nearest symbols [C, N, h, w], the symbols that are coded."""

Symbols = Sequence[NDArray[np.integer]]
Latents = list[tuple[Tensor, Tensor]]
"""For each layer float32 latents [N, h, w, C], and the steps [C] of its symbols."""


class Engine(Protocol):
    """Networks at a quality of 0..MAX_NUMBER."""

    def fine_features(self, pictures: NDArray[np.uint8], quality: int) -> Tensor:
        """What the finest resolution says of pixels: [N, H / 8, W / 8, C]."""

    def quantise(self, hidden: Tensor, quality: int, choose: Choose) -> None:
        """Choose the symbols of each layer, top first, given those above."""

    def latents(self, symbols: Symbols, quality: int) -> Latents:
        """The latents of the first layers, of their symbols."""

    def coarse_state(self, symbols: Symbols, quality: int) -> Tensor:
        """The decoder's state [N, H / 8, W / 8, C] before the finest resolution; layers not given
        take the mode of their prior.
        """

    def pixels(self, state: Tensor, quality: int) -> Tensor:
        """Pixels uint8 [N, H, W, 3] of a coarse state."""


def engine_of(model: ConvModel) -> Engine:
    """The engine of a model."""
    return FloatEngine(model) if isinstance(model, ConvVAE) else IntegerEngine(model)


class FloatEngine:
    """`Engine` of floats: pixels are the same up to a grey level."""

    def __init__(self, model: ConvVAE) -> None:
        self._model = model

    def fine_features(self, pictures: NDArray[np.uint8], quality: int) -> Tensor:
        """As `Engine.fine_features`."""
        tensor = _tensor(pictures, self._device).permute(0, 3, 1, 2)
        x = self._model.likelihood.pixels(tensor, torch.float32)
        hidden = self._model.fine_features(x, self._qualities(len(x), quality))
        return hidden.permute(0, 2, 3, 1)

    def quantise(self, hidden: Tensor, quality: int, choose: Choose) -> None:
        """As `Engine.quantise`."""

        def nearest(index: int, scaled: Tensor) -> Tensor:
            return self._as_input(choose(index, _symbols(torch.round(scaled).permute(1, 0, 2, 3))))

        qualities = self._qualities(len(hidden), quality)
        self._model.quantise(hidden.permute(0, 3, 1, 2), qualities, nearest)

    def latents(self, symbols: Symbols, quality: int) -> Latents:
        """As `Engine.latents`."""
        qualities = self._qualities(symbols[0].shape[1], quality)
        found = self._model.dequantise([self._as_input(layer) for layer in symbols], qualities)
        steps = [self._model.step(index, qualities)[0, :, 0, 0] for index in range(len(found))]
        return [(z.permute(0, 2, 3, 1), step) for z, step in zip(found, steps, strict=True)]

    def coarse_state(self, symbols: Symbols, quality: int) -> Tensor:
        """As `Engine.coarse_state`."""
        qualities = self._qualities(symbols[0].shape[1], quality)
        inputs = [self._as_input(layer) for layer in symbols]
        return self._model.coarse_state(inputs, qualities).permute(0, 2, 3, 1)

    def pixels(self, state: Tensor, quality: int) -> Tensor:
        """As `Engine.pixels`."""
        qualities = self._qualities(len(state), quality)
        output = self._model.fine_output(state.permute(0, 3, 1, 2), qualities)
        shown = self._model.likelihood.mode(output)
        return (shown * 255.0).round_().to(torch.uint8).permute(0, 2, 3, 1)

    @property
    def _device(self) -> torch.device:
        return next(self._model.parameters()).device

    def _qualities(self, count: int, quality: int) -> Tensor:
        return torch.full((count,), quality / MAX_NUMBER, dtype=torch.float32, device=self._device)

    def _as_input(self, symbols: NDArray[np.integer]) -> Tensor:
        array = np.ascontiguousarray(symbols.transpose(1, 2, 3, 0), np.float32)
        return torch.from_numpy(array).to(self._device).permute(0, 3, 1, 2)


class IntegerEngine:
    """`Engine` of integers: symbols and pixels are the same bits everywhere."""

    def __init__(self, model: IntegerConvVAE) -> None:
        check_backend(str(model.device))
        self._model = model

    def fine_features(self, pictures: NDArray[np.uint8], quality: int) -> Tensor:
        """As `Engine.fine_features`."""
        return self._model.fine_features(_tensor(pictures, self._model.device), quality)

    def quantise(self, hidden: Tensor, quality: int, choose: Choose) -> None:
        """As `Engine.quantise`."""

        def nearest(index: int, symbols: Tensor) -> Tensor:
            return self._as_input(choose(index, _symbols(symbols.permute(3, 0, 1, 2))))

        self._model.quantise(hidden, quality, nearest)

    def latents(self, symbols: Symbols, quality: int) -> Latents:
        """As `Engine.latents`."""
        found = self._model.dequantise([self._as_input(layer) for layer in symbols], quality)
        return [(z, self._model.step(index, quality)) for index, z in enumerate(found)]

    def coarse_state(self, symbols: Symbols, quality: int) -> Tensor:
        """As `Engine.coarse_state`."""
        return self._model.coarse_state([self._as_input(layer) for layer in symbols], quality)

    def pixels(self, state: Tensor, quality: int) -> Tensor:
        """As `Engine.pixels`."""
        return self._model.pixels(state.contiguous(), quality)

    def _as_input(self, symbols: NDArray[np.integer]) -> Tensor:
        array = np.ascontiguousarray(symbols.transpose(1, 2, 3, 0), np.int32)
        return torch.from_numpy(array).to(self._model.device)


def _tensor(pictures: NDArray[np.uint8], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pictures)).to(device)


def _symbols(values: Tensor) -> Int32Array:
    """Integers of a tensor, int32 [C, N, h, w]."""
    array: Int32Array = values.to(torch.int32).cpu().numpy()
    return array
