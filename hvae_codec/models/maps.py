"""A fully convolutional hierarchical VAE for pictures of any size, built from a `MapSpec`.

The walk is that of `hvae_codec.models.hvae`, from z_L down to z_1, with three differences. Latents
are maps. A layer's prior takes its mean from the latents above through a network, and its deviation
from their *symbols* through one linear map: what an entropy coder can repeat in integers. And all
depends on a quality in [0, 1], so that one set of weights serves a range of rates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hvae_codec import ops
from hvae_codec.models.convolution import Conv2d
from hvae_codec.models.hvae import Outcome, noise_seed
from hvae_codec.models.likelihoods import GaussianLikelihood, at_least_fp32
from hvae_codec.models.map_spec import FIRST_STRIDE, MapSpec

MAX_MAGNITUDE = 31
"""A symbol's magnitude counts in contexts up to this."""
MAX_SIGNED = 3
"""A symbol with its sign counts in contexts from minus to plus this."""
FEATURES = 3
"""Features of a symbol that contexts sum: whether it is not 0, its magnitude, its sign."""
FEATURE_SCALES = (1.0, 4.0, 2.0)
"""By which the networks divide the integer features, so that weights of one size suit all."""

MIN_RAW = -2.25
"""Least raw deviation of a prior: softplus of it is a tenth of a step. At less a symbol that is not
0 would cost so much that one is enough to end training.
"""

_FIRST_STEP = 0.4
_FIRST_DEVIATIONS = (-1.5, 1.0)  # raw, at the lowest and highest quality


class ByQuality(nn.Module):
    """Values [C] that depend on the quality, piecewise linearly between knots: `table` [K, C]."""

    def __init__(self, knots: int, channels: int, first: Tensor | None = None) -> None:
        super().__init__()
        values = torch.zeros(knots) if first is None else first
        self.table = nn.Parameter(values[:, None].repeat(1, channels))

    def forward(self, weights: Tensor) -> Tensor:
        """Values [B, C, 1, 1] for the knots' weights [B, K]."""
        values: Tensor = weights @ self.table.to(weights.dtype)
        return values[:, :, None, None]


class Block(nn.Module):
    """A residual block of a 3x3 and a 1x1 convolution, its branch scaled by the quality."""

    def __init__(self, width: int, knots: int) -> None:
        super().__init__()
        self.first = Conv2d(width, width, 3, 1, 1)
        self.second = Conv2d(width, width, 1)
        with torch.no_grad():
            self.second.weight.mul_(0.5)
        self.gain = ByQuality(knots, width)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        branch = self.second(_relu(self.first(x)))
        gain = (1.0 + self.gain(weights)).to(branch.dtype)
        return torch.addcmul(x.to(branch.dtype), branch, gain)


class Blocks(nn.ModuleList):
    """Residual blocks, one after the other."""

    def __init__(self, count: int, width: int, knots: int) -> None:
        super().__init__(Block(width, knots) for _ in range(count))

    def run(self, x: Tensor, weights: Tensor) -> Tensor:
        for block in self:
            x = block(x, weights)
        return x


class Context(nn.Module):
    """The raw deviation of a layer's prior: a linear map of the features of symbols above it.

    Of layers of its own stride and twice that it sees 3x3 positions, of coarser ones the one it
    lies in. It runs in integers as well (`hvae_codec.codec.contexts`).
    """

    def __init__(self, spec: MapSpec, index: int) -> None:
        super().__init__()
        latent = spec.latents[index]
        self.stride = latent.stride
        first = torch.linspace(*_FIRST_DEVIATIONS, spec.knots)
        self.bias = ByQuality(spec.knots, latent.channels, first)
        self.maps = nn.ModuleDict()
        for stride in sorted({above.stride for above in spec.latents[:index]}):
            inputs = sum(a.channels for a in spec.latents[:index] if a.stride == stride)
            ratio = stride // latent.stride
            kernel = 1 if ratio > 2 else 3
            conv = Conv2d(
                FEATURES * inputs, latent.channels * ratio**2, kernel, 1, kernel // 2, bias=False
            )
            nn.init.normal_(conv.weight, std=0.003)
            self.maps[str(stride)] = conv

    def forward(self, features: dict[int, list[Tensor]], weights: Tensor) -> Tensor:
        """Raw deviations, to broadcast to [B, C, h, w], for the `symbol_features` of the layers
        above, by stride, each divided by FEATURE_SCALES.
        """
        raw: Tensor = self.bias(weights)
        for stride, conv in self.maps.items():
            sums = conv(torch.cat(features[int(stride)], dim=1))
            raw = raw + at_least_fp32(F.pixel_shuffle(sums, int(stride) // self.stride))
        return raw


class MapLayer(nn.Module):
    """The networks of one layer's posterior and prior."""

    def __init__(self, spec: MapSpec, index: int) -> None:
        super().__init__()
        latent = spec.latents[index]
        width = next(r.width for r in spec.resolutions if r.stride == latent.stride)
        self.stride = latent.stride
        self.merge = Conv2d(width if index == 0 else 2 * width, width, 1)
        self.mean = Conv2d(width, latent.channels, 3, 1, 1)
        self.prior_mean = None if index == 0 else Conv2d(width, latent.channels, 3, 1, 1)
        with torch.no_grad():
            self.mean.weight.mul_(2.0)
            if self.prior_mean is not None:
                self.prior_mean.weight.mul_(0.1)
        self.context = Context(spec, index)
        lowest, highest = spec.deviations
        logs = torch.linspace(math.log(lowest), math.log(highest), spec.knots)
        self.log_step = ByQuality(
            spec.knots, latent.channels, logs - logs.mean() + math.log(_FIRST_STEP)
        )
        self.into = Conv2d(latent.channels, width, 3, 1, 1)
        self.blocks = Blocks(1, width, spec.knots)

    def infer(self, features: Tensor, state: Tensor | None) -> Tensor:
        """Mean of the posterior, fp32 [B, C, h, w], from the bottom-up features and the top-down
        state above.
        """
        both = features if state is None else torch.cat([features, state], dim=1)
        return at_least_fp32(self.mean(_relu(self.merge(both))))

    def predict(self, state: Tensor | None) -> Tensor | None:
        """Mean of the prior, fp32 [B, C, h, w]; None at the top, where it is 0."""
        if self.prior_mean is None or state is None:
            return None
        return at_least_fp32(self.prior_mean(state))

    def absorb(self, z: Tensor, state: Tensor | None, weights: Tensor) -> Tensor:
        """The top-down state with this layer's latents in it."""
        added: Tensor = self.into(z)
        return self.blocks.run(added if state is None else state + added, weights)


class MapVAE(nn.Module):
    """The model of Eq. 1 and Eq. 4 for `spec`, its posteriors uniform of width `step` around their
    means, one learned step for every channel and quality, and rounded to that grid at run time.

    The likelihood is N(g(z_1), s^2 I), s falling from `spec.deviations[0]` at quality 0 to
    `spec.deviations[1]` at quality 1: with betas of 1 the loss of every quality is a negative ELBO.
    """

    def __init__(self, spec: MapSpec) -> None:
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
        self.layers = nn.ModuleList(MapLayer(spec, index) for index in spec.layer_indices)
        self.output = Conv2d(finest, pixels, 3, 1, 1)

    def forward(
        self,
        x: Tensor,
        *,
        seed: int,
        rounded: bool = True,
        noise_index: int = 0,
        qualities: Tensor | None = None,
    ) -> Outcome:
        """One stochastic pass.

        x: [B, C, H, W], pixels in [0, 1], sides multiples of the coarsest stride. Rates are those
        of samples; what flows on is rounded, with the gradient of the rounding taken as one, since
        contexts are made of integers (`rounded` is for the signature of `HierarchicalVAE`).
        `qualities` [B] in [0, 1]: by default drawn by `seed`, one from each of B equal intervals.
        The outcome's `weights` make the losses of all qualities count alike.
        """
        if qualities is None:
            qualities = drawn_qualities(len(x), seed, noise_index).to(x.device)
        weights = self.knot_weights(qualities)
        features = self._bottom_up(x, weights)
        rates: list[Tensor] = []
        symbols: dict[int, list[Tensor]] = {}
        state: Tensor | None = None
        for index, layer in self.walk():
            state = self._to_stride(state, index, weights)
            mean, mu_p = layer.infer(features[layer.stride], state), layer.predict(state)
            step = layer.log_step(weights).exp()
            scaled = ((mean if mu_p is None else mean - mu_p) / step).contiguous()
            raw = _AtLeast.apply(layer.context(symbols, weights), MIN_RAW)
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
        output = self._finish(state, weights)
        deviation = self.deviation(qualities)
        squared = (at_least_fp32(output) - x).square().flatten(1).sum(1)
        dims = x[0].numel()
        normaliser = 0.5 * dims * (2.0 * math.pi * deviation.square()).log()
        distortion = squared / (2.0 * deviation.square()) + normaliser
        return Outcome(distortion, torch.stack(rates, dim=1), output, deviation)

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

    def quantise(self, x: Tensor, qualities: Tensor, bound: int | None = None) -> list[Tensor]:
        """Symbols k = round((mean - mu_p) / step) of each layer, top first, fp32 [B, C, h, w] of
        integers, each layer given those above as the decoder will know them.

        `bound`: symbols of a greater magnitude are moved to it.
        """
        weights = self.knot_weights(qualities)
        features = self._bottom_up(x, weights)
        symbols: list[Tensor] = []
        state: Tensor | None = None
        for index, layer in self.walk():
            state = self._to_stride(state, index, weights)
            mean, mu_p = layer.infer(features[layer.stride], state), layer.predict(state)
            step = layer.log_step(weights).exp()
            k = torch.round((mean if mu_p is None else mean - mu_p) / step)
            if bound is not None:
                k = k.clamp(-bound, bound)
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
        _, state = self._top_down(symbols, qualities, len(self.spec.latents))
        return self._finish(state, self.knot_weights(qualities))

    def walk(self) -> list[tuple[int, MapLayer]]:
        """Index and networks of each layer, top first."""
        return [(i, layer) for i, layer in enumerate(self.layers) if isinstance(layer, MapLayer)]

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

    def _bottom_up(self, x: Tensor, weights: Tensor) -> dict[int, Tensor]:
        """Features of the picture at every stride."""
        hidden = self.stem(F.pixel_unshuffle(2.0 * x - 1.0, FIRST_STRIDE))
        features = {}
        for resolution in self.spec.resolutions:
            key = str(resolution.stride)
            if resolution.stride != FIRST_STRIDE:
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

    def _finish(self, state: Tensor | None, weights: Tensor) -> Tensor:
        """The decoder's output from the top-down state behind z_1."""
        assert state is not None
        state = self._finer(state, self.spec.latents[-1].stride, FIRST_STRIDE, weights)
        state = _run(self.decoder[str(FIRST_STRIDE)], state, weights)
        output = F.pixel_shuffle(self.output(state), FIRST_STRIDE)
        return 0.5 + 0.5 * at_least_fp32(output)


def symbol_features(k: Tensor) -> Tensor:
    """The integers that contexts sum, [B, FEATURES * C, h, w], for symbols [B, C, h, w]: whether a
    symbol is not 0, its magnitude up to MAX_MAGNITUDE, itself from -MAX_SIGNED to MAX_SIGNED.
    """
    magnitude = k.abs()
    parts = [
        magnitude.clamp(max=1),
        magnitude.clamp(max=MAX_MAGNITUDE),
        k.clamp(-MAX_SIGNED, MAX_SIGNED),
    ]
    return torch.cat(parts, dim=1)


def scaled_features(k: Tensor) -> Tensor:
    """`symbol_features`, each divided by its FEATURE_SCALES."""
    parts = symbol_features(k).chunk(FEATURES, dim=1)
    return torch.cat([p / s for p, s in zip(parts, FEATURE_SCALES, strict=True)], dim=1)


def drawn_qualities(count: int, seed: int, noise_index: int = 0) -> Tensor:
    """Qualities [count] in [0, 1), one from each of `count` equal intervals, drawn by the seed."""
    generator = torch.Generator().manual_seed(noise_seed(seed, noise_index, count))
    return (torch.arange(count) + torch.rand(count, generator=generator)) / count


class _AtLeast(torch.autograd.Function):
    """max(x, bound), whose gradient also passes below the bound where it leads back up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x >= bound)
        return x.clamp(min=bound)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (above,) = ctx.saved_tensors
        return torch.where(above | (gradient < 0), gradient, torch.zeros_like(gradient)), None


def _relu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.1, inplace=True)


def _run(blocks: nn.Module, x: Tensor, weights: Tensor) -> Tensor:
    assert isinstance(blocks, Blocks)
    return blocks.run(x, weights)
