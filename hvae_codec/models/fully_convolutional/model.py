"""A fully convolutional hierarchical VAE for images of any size, built from a `ConvSpec`.

The walk is that of `hvae_codec.models.hvae`, from z_L down to z_1, with three differences. Latents
are maps. A layer's prior takes its mean from the latents above through a network, and its deviation
from their *symbols* through one linear map: what an entropy coder can repeat in integers. And all
depends on a quality in [0, 1], so that one set of weights serves a range of rates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvae_codec import ops
from hvae_codec.models.fully_convolutional.layers import (
    MIN_RAW,
    AtLeast,
    Blocks,
    ConvLayer,
    scaled_features,
)
from hvae_codec.models.fully_convolutional.spec import FIRST_STRIDE, SECOND_STRIDE, ConvSpec
from hvae_codec.models.hvae import ForwardOutput, Posterior, noise_seed
from hvae_codec.models.layers.bf16_convolution import Conv2d
from hvae_codec.models.likelihoods import GaussianLikelihood, at_least_fp32


def nearest(index: int, scaled: Tensor) -> Tensor:
    """The nearest integers."""
    return torch.round(scaled)


class ConvVAE(nn.Module):
    """The model of Eq. 1 and Eq. 4 for `spec`, its posteriors uniform of width `step` around their
    means, one learned step for every channel and quality, and rounded to that grid at run time.

    The likelihood is N(g(z_1), s^2 I), s falling from `spec.deviations[0]` at quality 0 to
    `spec.deviations[1]` at quality 1: with betas of 1 the loss of every quality is a negative ELBO.
    """

    posterior: Posterior = "uniform"

    def __init__(self, spec: ConvSpec) -> None:
        super().__init__()
        self.spec = spec
        self.likelihood = GaussianLikelihood()
        widths = {resolution.stride: resolution.width for resolution in spec.resolutions}
        finest, pixels = widths[FIRST_STRIDE], 3 * FIRST_STRIDE**2
        self.stem = Conv2d(pixels, finest, 3, 1, 1)
        self.encoder, self.decoder = nn.ModuleDict(), nn.ModuleDict()
        self.down, self.up = nn.ModuleDict(), nn.ModuleDict()
        for one in spec.resolutions:
            key = str(one.stride)
            self.encoder[key] = Blocks(one.encoder_blocks, one.width, spec.knots)
            self.decoder[key] = Blocks(one.decoder_blocks, one.width, spec.knots)
            if one.stride != FIRST_STRIDE:
                finer = widths[one.stride // 2]
                self.down[key] = Conv2d(finer, one.width, 2, 2)
                self.up[key] = Conv2d(one.width, 4 * finer, 1)
        self.layers = nn.ModuleList(ConvLayer(spec, index) for index in spec.layer_indices)
        self.output = Conv2d(finest, pixels, 3, 1, 1)

    def forward(
        self,
        x: Tensor,
        *,
        seed: int,
        rounded: bool = True,
        noise_index: int = 0,
        qualities: Tensor | None = None,
    ) -> ForwardOutput:
        """One stochastic pass.

        x: [B, C, H, W], pixels in [0, 1], sides multiples of the coarsest stride. Rates are those
        of samples; what flows on is rounded, with the gradient of the rounding taken as one, since
        contexts are made of integers (`rounded` is for the signature of `HierarchicalVAE`).
        `qualities` [B] in [0, 1]: by default drawn by `seed`, one from each of B equal intervals.
        The outcome's `weights` make the losses of all qualities count alike: the deviation of the
        likelihood in units of the geometric middle of its two ends.
        """
        if qualities is None:
            qualities = drawn_qualities(len(x), seed, noise_index).to(x.device)
        weights = self.knot_weights(qualities)
        features = self._bottom_up(self._first_features(x, weights), weights)
        rates: list[Tensor] = []
        symbols: dict[int, list[Tensor]] = {}
        state: Tensor | None = None
        for index, layer in self.walk():
            state = self._to_stride(state, index, weights)
            mean, mu_p = layer.infer(features[layer.stride], state), layer.predict(state)
            step = layer.log_step(weights).exp()
            scaled = ((mean if mu_p is None else mean - mu_p) / step).contiguous()
            raw = AtLeast.apply(layer.context(symbols, weights), MIN_RAW)
            first = noise_index * scaled.numel()
            _, nats = ops.uniform_rsample_nats(
                scaled,
                torch.ones_like(step[:1, :1]),
                torch.zeros_like(scaled),
                raw.expand_as(scaled).contiguous(),
                seed=noise_seed(seed, index),
                first_index=first,
            )
            rates.append(nats)
            k = scaled + (torch.round(scaled) - scaled).detach()
            symbols.setdefault(layer.stride, []).append(scaled_features(k))
            state = layer.absorb(k * step if mu_p is None else mu_p + k * step, state, weights)
        assert state is not None
        output = self._finish_fine(self._finish_coarse(state, weights), weights)
        deviation = self.deviation(qualities)
        squared = (at_least_fp32(output) - x).square().flatten(1).sum(1)
        dims = x[0].numel()
        normaliser = 0.5 * dims * (2.0 * math.pi * deviation.square()).log()
        distortion = squared / (2.0 * deviation.square()) + normaliser
        middle = math.sqrt(math.prod(self.spec.deviations))
        return ForwardOutput(distortion, torch.stack(rates, dim=1), output, deviation / middle)

    def loss(self, output: ForwardOutput, weights: Tensor) -> Tensor:
        """The mean over images of the loss of Eq. 8, betas being `weights`, fp32 [L]; a scalar.

        Losses count by the `weights` of the output.
        """
        assert output.weights is not None
        return (output.weights * (output.distortion_nats + output.rates_nats @ weights)).mean()

    def knot_weights(self, qualities: Tensor) -> Tensor:
        """What each knot contributes at qualities [B] in [0, 1]: [B, K], rows of sum 1."""
        position = qualities[:, None] * (self.spec.knots - 1)
        knots = torch.arange(self.spec.knots, device=qualities.device)
        return (1.0 - (position - knots).abs()).clamp(min=0.0)

    def deviation(self, qualities: Tensor) -> Tensor:
        """Deviation of the likelihood at qualities [B], on pixels in [0, 1]."""
        first, last = map(math.log, self.spec.deviations)
        return (first + (last - first) * qualities).exp()

    def step(self, index: int, qualities: Tensor) -> Tensor:
        """Quantisation step of each channel of the layer at `index`, top first; [B, C, 1, 1]."""
        step: Tensor = self.walk()[index][1].log_step(self.knot_weights(qualities)).exp()
        return step

    def quantise(
        self, hidden: Tensor, qualities: Tensor, choose: Callable[[int, Tensor], Tensor] = nearest
    ) -> list[Tensor]:
        """Symbols of each layer, top first, fp32 [B, C, h, w] of integers, each layer given those
        above as the decoder will know them.

        hidden: `fine_features` of the images. `choose` makes symbols of the scaled means (mean -
        mu_p) / step [B, C, h, w] of the layer at an index: by default the nearest integers.
        """
        weights = self.knot_weights(qualities)
        features = self._bottom_up(hidden, weights)
        symbols: list[Tensor] = []
        state: Tensor | None = None
        for index, layer in self.walk():
            state = self._to_stride(state, index, weights)
            mean, mu_p = layer.infer(features[layer.stride], state), layer.predict(state)
            step = layer.log_step(weights).exp()
            k = choose(index, (mean if mu_p is None else mean - mu_p) / step)
            symbols.append(k)
            state = layer.absorb(k * step if mu_p is None else mu_p + k * step, state, weights)
        return symbols

    def dequantise(self, symbols: Sequence[Tensor], qualities: Tensor) -> list[Tensor]:
        """The latents z_l = mu_p(z_>l) + step * k of the first layers, top first, [B, C, h, w]."""
        return self._top_down(symbols, qualities, len(symbols))[0]

    def decode(self, symbols: Sequence[Tensor], qualities: Tensor) -> Tensor:
        """The decoder's output [B, 3, H, W] for symbols [B, C, h, w] of the first layers, top
        first; layers not given take k = 0, the mode of their prior.
        """
        return self.fine_output(self.coarse_state(symbols, qualities), qualities)

    # The finest resolution needs nearly all of the memory, and sees few pixels around each: so it
    # runs on its own, on strips of an image where that is large.

    def fine_features(self, x: Tensor, qualities: Tensor) -> Tensor:
        """What the finest resolution says of pixels [B, 3, H, W] in [0, 1]: [B, C, H / 8, W / 8].
        It depends on `spec.encoder_halo` rows and columns of pixels around each.
        """
        return self._first_features(x, self.knot_weights(qualities))

    def coarse_state(self, symbols: Sequence[Tensor], qualities: Tensor) -> Tensor:
        """The decoder's state [B, C, H / 8, W / 8] before the finest resolution."""
        _, state = self._top_down(symbols, qualities, len(self.spec.latents))
        assert state is not None
        return self._finish_coarse(state, self.knot_weights(qualities))

    def fine_output(self, state: Tensor, qualities: Tensor) -> Tensor:
        """The decoder's output [B, 3, H, W] for its `coarse_state`.

        It depends on `spec.decoder_halo` rows and columns of the state around each.
        """
        return self._finish_fine(state, self.knot_weights(qualities))

    def walk(self) -> list[tuple[int, ConvLayer]]:
        """Index and networks of each layer, top first."""
        return [(i, layer) for i, layer in enumerate(self.layers) if isinstance(layer, ConvLayer)]

    def _top_down(
        self, symbols: Sequence[Tensor], qualities: Tensor, layers: int
    ) -> tuple[list[Tensor], Tensor | None]:
        """Latents of the first `layers` layers, and the state behind them."""
        weights = self.knot_weights(qualities)
        latents: list[Tensor] = []
        state: Tensor | None = None
        for index, layer in self.walk()[:layers]:
            state = self._to_stride(state, index, weights)
            mu_p = layer.predict(state)
            if index < len(symbols):
                z = symbols[index] * layer.log_step(weights).exp()
                z = z if mu_p is None else mu_p + z
            else:
                assert mu_p is not None
                z = mu_p
            latents.append(z)
            state = layer.absorb(z, state, weights)
        return latents, state

    def _first_features(self, x: Tensor, weights: Tensor) -> Tensor:
        hidden = self.stem(F.pixel_unshuffle(2.0 * x - 1.0, FIRST_STRIDE))
        hidden = _run(self.encoder[str(FIRST_STRIDE)], hidden, weights)
        features: Tensor = self.down[str(SECOND_STRIDE)](hidden)
        return features

    def _bottom_up(self, hidden: Tensor, weights: Tensor) -> dict[int, Tensor]:
        """Features of the image at every stride but the finest, from its `fine_features`."""
        features = {}
        for resolution in self.spec.resolutions[1:]:
            key = str(resolution.stride)
            if resolution.stride != SECOND_STRIDE:
                hidden = self.down[key](hidden)
            hidden = _run(self.encoder[key], hidden, weights)
            features[resolution.stride] = hidden
        return features

    def _to_stride(self, state: Tensor | None, index: int, weights: Tensor) -> Tensor | None:
        """The top-down state at the stride of the layer at `index`, from that of the one above."""
        if state is None:
            return None
        stride, wanted = self.spec.latents[index - 1].stride, self.spec.latents[index].stride
        return self._finer(state, stride, wanted, weights)

    def _finer(self, state: Tensor, stride: int, wanted: int, weights: Tensor) -> Tensor:
        while stride > wanted:
            state = _run(self.decoder[str(stride)], state, weights)
            state = F.pixel_shuffle(self.up[str(stride)](state), 2)
            stride //= 2
        return state

    def _finish_coarse(self, state: Tensor, weights: Tensor) -> Tensor:
        state = self._finer(state, self.spec.latents[-1].stride, SECOND_STRIDE, weights)
        return _run(self.decoder[str(SECOND_STRIDE)], state, weights)

    def _finish_fine(self, state: Tensor, weights: Tensor) -> Tensor:
        state = F.pixel_shuffle(self.up[str(SECOND_STRIDE)](state), 2)
        state = _run(self.decoder[str(FIRST_STRIDE)], state, weights)
        output = F.pixel_shuffle(self.output(state), FIRST_STRIDE)
        return 0.5 + 0.5 * at_least_fp32(output)


def drawn_qualities(count: int, seed: int, noise_index: int = 0) -> Tensor:
    """Qualities [count] in [0, 1), one from each of `count` equal intervals, drawn by the seed."""
    generator = torch.Generator("cpu").manual_seed(noise_seed(seed, noise_index, count))
    drawn = torch.rand(count, generator=generator, dtype=torch.float32, device="cpu")
    return (torch.arange(count, device="cpu") + drawn) / count


def _run(blocks: nn.Module, x: Tensor, weights: Tensor) -> Tensor:
    assert isinstance(blocks, Blocks)
    return blocks.run(x, weights)
