"""The parts that a `ConvVAE` is made of: residual blocks, contexts, and the networks of a layer.

All of them depend on a quality, by values that are piecewise linear in it: calls take the weights
[B, K] of its knots.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hvae_codec.models.fully_convolutional.spec import (
    FEATURE_SCALES,
    FEATURES,
    MAX_MAGNITUDE,
    MAX_SIGNED,
    ConvSpec,
)
from hvae_codec.models.layers.bf16_convolution import Conv2d
from hvae_codec.models.likelihoods import at_least_fp32
from hvae_codec.utils.cancellation import check

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
            check()
            x = block(x, weights)
        return x


class Context(nn.Module):
    """The raw deviation of a layer's prior: a linear map of the features of symbols above it.

    Of layers of its own stride and twice that it sees 3x3 positions, of coarser ones the one it
    lies in. It runs in integers as well (`hvae_codec.codec.entropy.contexts`).
    """

    def __init__(self, spec: ConvSpec, index: int) -> None:
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


class ConvLayer(nn.Module):
    """The networks of one layer's posterior and prior."""

    def __init__(self, spec: ConvSpec, index: int) -> None:
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


class AtLeast(torch.autograd.Function):
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
