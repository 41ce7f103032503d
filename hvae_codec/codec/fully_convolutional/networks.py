"""The networks of a fully convolutional codec: images to symbols and symbols to images of any size.

The finest resolution runs on strips of an image with the rows around them that it looks at, all
others on the whole image: so memory is bounded where it matters, there are no seams, and strips
give what the whole would (up to the last bits of floats).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvae_codec.codec.bitstream.conv_files import ConvFileCoder
from hvae_codec.codec.entropy.contexts import ContextIds
from hvae_codec.codec.entropy.tables import Int32Array
from hvae_codec.codec.fully_convolutional.engines import engine_of
from hvae_codec.models.build import ConvModel
from hvae_codec.models.fully_convolutional.spec import SECOND_STRIDE
from hvae_codec.models.inference import full_precision, inference
from hvae_codec.utils.cancellation import check

STRIP_PIXELS = 1 << 20
"""Pixels that go through the finest resolution at once, about."""

Pixels = NDArray[np.uint8]


class ConvNetworks:
    """Runs a trained model on images uint8 [N, H, W, 3] of one size and one quality."""

    def __init__(self, model: ConvModel, coder: ConvFileCoder) -> None:
        self.model = model.eval()
        self._engine = engine_of(self.model)
        self._coder = coder

    @inference
    def symbols(self, pictures: Pixels, quality: int) -> tuple[list[Int32Array], list[ContextIds]]:
        """Symbols within their tables, int32 [C, N, h, w] a layer, top first, and their levels."""
        layers = self._coder.tables.layers
        found: list[Int32Array] = []
        found_levels: list[ContextIds] = []
        walk = self._coder.coder.walk(quality)

        def choose(index: int, k: Int32Array) -> Int32Array:
            levels = walk.levels((k.shape[1], k.shape[2], k.shape[3]))
            clipped = layers[index].clip(k, levels)
            walk.add(clipped)
            found.append(clipped)
            found_levels.append(levels)
            return clipped

        self._engine.quantise(self._fine_features(pictures, quality), quality, choose)
        return found, found_levels

    @inference
    def strips(
        self, symbols: Sequence[NDArray[np.integer]], quality: int, height: int, width: int
    ) -> Iterator[Pixels]:
        """Images of symbols [C, N, h, w] of the first layers, in strips uint8 [N, h, width, 3]
        from the top; layers not given take the mode of their prior.
        """
        state = self._engine.coarse_state(symbols, quality)
        return self._finished(state, quality, height, width)

    def pictures(
        self, symbols: Sequence[NDArray[np.integer]], quality: int, height: int, width: int
    ) -> Pixels:
        """`strips` put together: uint8 [N, height, width, 3]."""
        parts = list(self.strips(symbols, quality, height, width))
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    @inference
    def latents(
        self, symbols: Sequence[NDArray[np.integer]], quality: int
    ) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Mean and deviation of the latents of the first layers averaged over their maps, float32
        [N, C] each: z_l = mu_p(z_>l) + step * k, uniform over a step.
        """
        pooled = []
        for z, step in self._engine.latents(symbols, quality):
            positions = z.shape[1] * z.shape[2]
            deviation = (step / (12.0 * positions) ** 0.5).expand(len(z), -1)
            pooled.append((z.mean(dim=(1, 2)).cpu().numpy(), deviation.cpu().numpy()))
        return pooled

    @inference
    def sample(self, count: int, quality: int, *, seed: int, temperature: float) -> Pixels:
        """Images uint8 [count, H, W, 3] of the size the model trained on, drawn from the prior:
        symbols drawn from the tables of their levels.
        """
        height, width = self.model.spec.image_shape[1:]
        walk = self._coder.coder.walk(quality)
        generator = np.random.default_rng(seed)
        symbols: list[Int32Array] = []
        for layer, shape in zip(
            self._coder.tables.layers,
            self._coder.shapes(count, height, width),
            strict=True,
        ):
            levels = walk.levels(shape)
            symbols.append(layer.draw(levels, generator, temperature))
            walk.add(symbols[-1])
        return self.pictures(symbols, quality, height, width)

    def _fine_features(self, pictures: Pixels, quality: int) -> Tensor:
        """`Engine.fine_features` of whole images, edges repeated up to the coarsest stride."""
        count, height, width, _ = pictures.shape
        coarsest, halo = self.model.spec.coarsest, self.model.spec.encoder_halo
        below, right = -height % coarsest, -width % coarsest
        padded = height + below
        rows = _rows_at_once(count, width + right)
        parts = []
        for top in range(0, padded, rows):
            check()
            bottom = min(top + rows, padded)
            above, under = min(top, halo), min(padded - bottom, halo)
            first, last = min(top - above, height - 1), min(bottom + under, height)
            strip = pictures[:, first:last]
            missing = bottom + under - (top - above) - strip.shape[1]
            if missing or right:
                strip = np.pad(strip, ((0, 0), (0, missing), (0, right), (0, 0)), mode="edge")
            hidden = self._engine.fine_features(strip, quality)
            start = above // SECOND_STRIDE
            parts.append(hidden[:, start : start + (bottom - top) // SECOND_STRIDE])
        return parts[0].contiguous() if len(parts) == 1 else torch.cat(parts, dim=1)

    def _finished(self, state: Tensor, quality: int, height: int, width: int) -> Iterator[Pixels]:
        """Strips of the images of a coarse state."""
        halo = self.model.spec.decoder_halo
        rows = _rows_at_once(len(state), width) // SECOND_STRIDE
        for top in range(0, -(-height // SECOND_STRIDE), rows):
            bottom = min(top + rows, state.shape[1])
            above = min(top, halo)
            check()
            with full_precision(), torch.inference_mode():
                part = self._engine.pixels(state[:, top - above : bottom + halo], quality)
                start = above * SECOND_STRIDE
                stop = min(
                    start + (bottom - top) * SECOND_STRIDE, height - top * SECOND_STRIDE + start
                )
                shown = part[:, start:stop, :width].cpu().numpy()
            yield np.ascontiguousarray(shown)


def _rows_at_once(count: int, width: int) -> int:
    """Rows of pixels in a strip: a multiple of 64, twice the coarsest stride."""
    return max(1, STRIP_PIXELS // (count * width * 64)) * 64
