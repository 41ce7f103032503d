"""The networks of a codec: tiles to symbols and symbols to tiles, in chunks of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvae_codec.codec.tables import SymbolTables
from hvae_codec.models.hvae import HierarchicalVAE

CHUNK = 256
"""Tiles that go through the networks at once."""

Symbols = list[NDArray[np.int32]]
Tiles = NDArray[np.uint8]

Refine = Callable[[Tensor, list[Tensor], int], list[Tensor]]
"""From model input [B, C, H, W], its rounded symbols [B, *shape] a layer and the position of
the first of these tiles among all, to better symbols."""


class Networks:
    """Runs a trained model on tiles uint8 [T, h, w, C] of the model's size."""

    def __init__(self, model: HierarchicalVAE, tables: SymbolTables) -> None:
        self.model = model.eval()
        device = next(model.parameters()).device
        self._bounds = [
            (
                torch.from_numpy(low.astype(np.float32)).reshape(latent.shape).to(device),
                torch.from_numpy(high.astype(np.float32)).reshape(latent.shape).to(device),
            )
            for (low, high), latent in zip(tables.bounds, model.spec.latents, strict=True)
        ]

    def symbols(self, tiles: Tiles, refine: Refine | None = None) -> Symbols:
        """Symbols within the tables' support, int32 [T, D_l] a layer, top first: the posterior
        means rounded and, if `refine` is given, what it makes of them.
        """
        chunks = []
        # Tensors of inference mode can take no part in a search by gradients.
        with torch.inference_mode(refine is None), torch.no_grad():
            for index, x in enumerate(self._inputs(tiles)):
                found = self.model.quantise(x, self._bounds)
                chunks.append(
                    self._flat(found if refine is None else refine(x, found, index * CHUNK))
                )
        return _concatenated(chunks)

    @torch.inference_mode()
    def tiles(self, symbols: Sequence[NDArray[np.int32]]) -> Tiles:
        """Tiles uint8 [T, h, w, C] for int32 [T, D_l] symbols of the first layers, top first.

        Layers not given take the mode of their prior: given z_L's alone, the tiles are the preview.
        """
        chunks = []
        for start in range(0, len(symbols[0]), CHUNK):
            parts = [
                torch.from_numpy(np.ascontiguousarray(layer[start : start + CHUNK]))
                .to(self._device, torch.float32)
                .reshape(-1, *latent.shape)
                for layer, latent in zip(symbols, self.model.spec.latents, strict=False)
            ]
            chunks.append(self._pictures(self.model.dequantise(parts)))
        return np.concatenate(chunks)

    @torch.inference_mode()
    def top_posterior(self, tiles: Tiles) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and standard deviation of q(z_L|x), float32 [T, D_L] each."""
        pairs = [self.model.top_posterior(x) for x in self._inputs(tiles)]
        means, deviations = zip(*pairs, strict=True)
        return torch.cat(means).cpu().numpy(), torch.cat(deviations).cpu().numpy()

    @torch.inference_mode()
    def top_from_symbols(
        self, symbols: NDArray[np.int32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """z_L and its standard deviation under quantisation for symbols int32 [T, D_L], float32
        each.
        """
        step = self.model.step(0).flatten().cpu().numpy()
        deviation = self.model.top_step_deviation().cpu().numpy()
        mean = symbols.astype(np.float32) * step
        return mean, np.broadcast_to(deviation, mean.shape).copy()

    @torch.inference_mode()
    def sample(self, count: int, *, seed: int, temperature: float) -> Tiles:
        """Tiles uint8 [count, h, w, C] decoded from latents drawn from the prior."""
        latents = self.model.sample_latents(count, seed=seed, temperature=temperature)
        return np.concatenate(
            [
                self._pictures([z[start : start + CHUNK] for z in latents])
                for start in range(0, count, CHUNK)
            ]
        )

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _inputs(self, tiles: Tiles) -> Iterator[Tensor]:
        """Chunks of model input; an array [T, h, w, C] viewed as [T, C, h, w] is channels_last
        already.
        """
        for start in range(0, len(tiles), CHUNK):
            chunk = torch.from_numpy(np.ascontiguousarray(tiles[start : start + CHUNK]))
            yield self.model.likelihood.pixels(chunk.to(self._device).permute(0, 3, 1, 2))

    def _flat(self, symbols: list[Tensor]) -> Symbols:
        return [k.flatten(1).to(torch.int32).cpu().numpy() for k in symbols]

    def _pictures(self, latents: Sequence[Tensor]) -> Tiles:
        output = self.model.likelihood.mode(self.model.decode(latents))
        grey_levels = (output * 255.0).round_().to(torch.uint8)
        return np.ascontiguousarray(grey_levels.permute(0, 2, 3, 1).cpu().numpy())


def _concatenated(chunks: list[Symbols]) -> Symbols:
    if len(chunks) == 1:
        return chunks[0]
    return [np.concatenate(layer) for layer in zip(*chunks, strict=True)]
