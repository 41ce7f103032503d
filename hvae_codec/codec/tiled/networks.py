"""The networks of a codec: tiles to symbols and symbols to tiles, in chunks of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvae_codec import ops
from hvae_codec.codec.entropy.tables import SymbolTables
from hvae_codec.models.fast_inference import direct
from hvae_codec.models.hvae import HierarchicalVAE
from hvae_codec.models.inference import full_precision, inference
from hvae_codec.models.likelihoods import dtype_of
from hvae_codec.utils.cancellation import check

CHUNK = 128
"""Tiles that go through the networks at once. Of 32x32 pixels this many are a little faster on CPU
cores than half or twice as many, which is when they leave a core's cache."""

Symbols = list[NDArray[np.int32]]
Tiles = NDArray[np.uint8]

Moments = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Mean and standard deviation of one layer, [T, D_l] each."""

Refine = Callable[[Tensor, list[Tensor], int], list[Tensor]]
"""From model input [B, C, H, W], its rounded symbols [B, *shape] a layer and the position of
the first of these tiles among all, to better symbols."""


class Networks:
    """Runs a trained model on tiles uint8 [T, h, w, C] of the model's size."""

    def __init__(self, model: HierarchicalVAE, tables: SymbolTables) -> None:
        self.model = model.eval()
        self._direct = direct(self.model)
        self._dtype = dtype_of(model)
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
        with full_precision(), torch.inference_mode(refine is None), torch.no_grad():
            for index, x in enumerate(self._inputs(tiles)):
                found = self._direct.quantise(x, self._bounds)
                chunks.append(
                    self._flat(found if refine is None else refine(x, found, index * CHUNK))
                )
        return _concatenated(chunks)

    @inference
    def tiles(self, symbols: Sequence[NDArray[np.integer]]) -> Tiles:
        """Tiles uint8 [T, h, w, C] for int32 [T, D_l] symbols of the first layers, top first.

        Layers not given take the mode of their prior: given z_L's alone, the tiles are the preview.
        """
        parts = [self._parts(symbols, start) for start in range(0, len(symbols[0]), CHUNK)]
        return np.concatenate([self._pictures(self._direct.dequantise(part)) for part in parts])

    @inference
    def posteriors(self, tiles: Tiles, layers: int) -> list[Moments]:
        """Mean and standard deviation of the first `layers` posteriors, float32 [T, D_l] each, each
        given the modes of those above it; of L layers, 1 asks the least of the networks.
        """
        model = self._direct
        uniform = model.posterior == "uniform"
        chunks: list[list[tuple[Tensor, Tensor]]] = []
        for x in self._inputs(tiles):
            if layers == 1:
                chunks.append([model.top_posterior(x)])
                continue
            found = []
            for index, (mean, raw) in enumerate(model.posteriors(x)[:layers]):
                flat = mean.flatten(1)
                if uniform or raw is None:
                    found.append((flat, self._step_deviation(index).expand_as(flat)))
                else:
                    found.append((flat, ops.sigma(raw).flatten(1)))
            chunks.append(found)
        return _joined(chunks)

    @inference
    def latents(self, symbols: Sequence[NDArray[np.integer]]) -> list[Moments]:
        """Latents and their standard deviation under quantisation, float32 [T, D_l] each, for int32
        [T, D_l] symbols of the first layers, top first: z_l = mu_p(z_>l) + step * k.
        """
        if len(symbols) == 1:  # no network takes part
            step = self.model.step(0).flatten().cpu().numpy()
            mean = symbols[0].astype(np.float32) * step
            deviation = self._step_deviation(0).cpu().numpy()
            return [(mean, np.broadcast_to(deviation, mean.shape).copy())]
        chunks: list[list[tuple[Tensor, Tensor]]] = []
        for start in range(0, len(symbols[0]), CHUNK):
            found = self._direct.dequantise(self._parts(symbols, start))[: len(symbols)]
            flat = [z.flatten(1) for z in found]
            chunks.append([(z, self._step_deviation(i).expand_as(z)) for i, z in enumerate(flat)])
        return _joined(chunks)

    @inference
    def sample(
        self, count: int, *, seed: int, temperature: float, top: NDArray[np.float32] | None = None
    ) -> Tiles:
        """Tiles uint8 [count, h, w, C] decoded from latents drawn from the prior, or below `top`
        [count, D] of the top layer.
        """
        given = None if top is None else torch.from_numpy(top)
        latents = self._direct.sample_latents(count, seed=seed, temperature=temperature, top=given)
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
            check()
            chunk = torch.from_numpy(np.ascontiguousarray(tiles[start : start + CHUNK]))
            images = chunk.to(self._device).permute(0, 3, 1, 2)
            yield self.model.likelihood.pixels(images, self._dtype)

    def _parts(self, symbols: Sequence[NDArray[np.integer]], start: int) -> list[Tensor]:
        """A chunk of symbols as the model takes them, fp32 [B, *shape] a layer."""
        check()
        return [
            torch.from_numpy(np.ascontiguousarray(layer[start : start + CHUNK]))
            .to(self._device, torch.float32)
            .reshape(-1, *latent.shape)
            for layer, latent in zip(symbols, self.model.spec.latents, strict=False)
        ]

    def _step_deviation(self, index: int) -> Tensor:
        """Standard deviation of a value uniform over one step of a layer, fp32 [D_l]."""
        return self.model.step(index).flatten() / 12**0.5

    def _flat(self, symbols: list[Tensor]) -> Symbols:
        return [k.flatten(1).to(torch.int32).cpu().numpy() for k in symbols]

    def _pictures(self, latents: Sequence[Tensor]) -> Tiles:
        check()
        output = self.model.likelihood.mode(self._direct.decode(latents))
        values = (output * 255.0).round_().to(torch.uint8)
        return np.ascontiguousarray(values.permute(0, 2, 3, 1).cpu().numpy())


def _concatenated(chunks: list[Symbols]) -> Symbols:
    if len(chunks) == 1:
        return chunks[0]
    return [np.concatenate(layer) for layer in zip(*chunks, strict=True)]


def _joined(chunks: list[list[tuple[Tensor, Tensor]]]) -> list[Moments]:
    """One pair a layer from a list of chunks, each with a pair a layer."""
    joined = []
    for layer in zip(*chunks, strict=True):
        means, deviations = zip(*layer, strict=True)
        joined.append((torch.cat(means).cpu().numpy(), torch.cat(deviations).cpu().numpy()))
    return joined
