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
from hvae_codec.codec.quality_scale import MAX_NUMBER
from hvae_codec.models.fully_convolutional.model import ConvVAE
from hvae_codec.models.fully_convolutional.spec import SECOND_STRIDE
from hvae_codec.models.inference import full_precision, inference
from hvae_codec.utils.cancellation import check

STRIP_PIXELS = 1 << 20
"""Pixels that go through the finest resolution at once, about."""

Pixels = NDArray[np.uint8]


class ConvNetworks:
    """Runs a trained model on images uint8 [N, H, W, 3] of one size and one quality."""

    def __init__(self, model: ConvVAE, coder: ConvFileCoder) -> None:
        self.model = model.eval()
        self._coder = coder

    @inference
    def symbols(self, pictures: Pixels, quality: int) -> tuple[list[Int32Array], list[ContextIds]]:
        """Symbols within their tables, int32 [C, N, h, w] a layer, top first, and their levels."""
        layers = self._coder.tables.layers
        found: list[Int32Array] = []
        found_levels: list[ContextIds] = []
        walk = self._coder.coder.walk(quality)

        def choose(index: int, scaled: Tensor) -> Tensor:
            k = torch.round(scaled).permute(1, 0, 2, 3).to(torch.int32).cpu().numpy()
            levels = walk.levels((k.shape[1], k.shape[2], k.shape[3]))
            clipped = layers[index].clip(k, levels)
            walk.add(clipped)
            found.append(clipped)
            found_levels.append(levels)
            return self._as_input(clipped)

        hidden = self._fine_features(pictures, quality)
        self.model.quantise(hidden, self._qualities(len(pictures), quality), choose)
        return found, found_levels

    @inference
    def strips(
        self, symbols: Sequence[NDArray[np.integer]], quality: int, height: int, width: int
    ) -> Iterator[Pixels]:
        """Images of symbols [C, N, h, w] of the first layers, in strips uint8 [N, h, width, 3]
        from the top; layers not given take the mode of their prior.
        """
        count = symbols[0].shape[1]
        qualities = self._qualities(count, quality)
        state = self.model.coarse_state([self._as_input(layer) for layer in symbols], qualities)
        return self._finished(state, qualities, height, width)

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
        count = symbols[0].shape[1]
        qualities = self._qualities(count, quality)
        inputs = [self._as_input(layer) for layer in symbols]
        pooled = []
        for index, z in enumerate(self.model.dequantise(inputs, qualities)):
            step = self.model.step(index, qualities)[:, :, 0, 0]
            positions = z.shape[2] * z.shape[3]
            deviation = step / (12.0 * positions) ** 0.5
            pooled.append((z.mean(dim=(2, 3)).cpu().numpy(), deviation.cpu().numpy()))
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

    def _qualities(self, count: int, quality: int) -> Tensor:
        return torch.full((count,), quality / MAX_NUMBER, dtype=torch.float32, device=self._device)

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _as_input(self, symbols: NDArray[np.integer]) -> Tensor:
        """Symbols [C, N, h, w] as the model takes them, fp32 [N, C, h, w]."""
        array = np.ascontiguousarray(symbols.transpose(1, 2, 3, 0), np.float32)
        return torch.from_numpy(array).to(self._device).permute(0, 3, 1, 2)

    def _fine_features(self, pictures: Pixels, quality: int) -> Tensor:
        """`ConvVAE.fine_features` of whole images, edges repeated up to the coarsest stride."""
        count, height, width, _ = pictures.shape
        qualities = self._qualities(count, quality)
        coarsest, halo = self.model.spec.coarsest, self.model.encoder_halo
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
            x = self._pixels(strip)
            hidden = self.model.fine_features(x, qualities)
            start = above // SECOND_STRIDE
            parts.append(hidden[:, :, start : start + (bottom - top) // SECOND_STRIDE])
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)

    def _pixels(self, pictures: Pixels) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(pictures)).to(self._device)
        return self.model.likelihood.pixels(tensor.permute(0, 3, 1, 2), torch.float32)

    def _finished(
        self, state: Tensor, qualities: Tensor, height: int, width: int
    ) -> Iterator[Pixels]:
        """Strips of the images of a coarse state."""
        halo = self.model.decoder_halo
        rows = _rows_at_once(len(state), width) // SECOND_STRIDE
        for top in range(0, -(-height // SECOND_STRIDE), rows):
            bottom = min(top + rows, state.shape[2])
            above = min(top, halo)
            check()
            with full_precision(), torch.inference_mode():
                part = state[:, :, top - above : bottom + halo]
                output = self.model.fine_output(part, qualities)
                start = above * SECOND_STRIDE
                stop = min(
                    start + (bottom - top) * SECOND_STRIDE, height - top * SECOND_STRIDE + start
                )
                shown = self.model.likelihood.mode(output[:, :, start:stop, :width])
                values = (shown * 255.0).round_().to(torch.uint8)
                strip = np.ascontiguousarray(values.permute(0, 2, 3, 1).cpu().numpy())
            yield strip


def _rows_at_once(count: int, width: int) -> int:
    """Rows of pixels in a strip: a multiple of 64, twice the coarsest stride."""
    return max(1, STRIP_PIXELS // (count * width * 64)) * 64
