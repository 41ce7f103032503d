"""A top-down hierarchical VAE of any number of layers, built from a `ModelSpec`.

Every path through the model is the same walk from z_L down to z_1, each layer seeing all latents
above it; what differs is how a layer's latent is made: sampled (training, Eq. 7), rounded (codec)
or drawn from the prior.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from hvae_codec import ops
from hvae_codec.errors import SpecError
from hvae_codec.models.layers.stages import Build, plain_module, run_stages, stages
from hvae_codec.models.likelihoods import LIKELIHOODS, at_least_fp32
from hvae_codec.models.spec import ModelSpec

Posterior = Literal["gaussian", "uniform"]
POSTERIORS: tuple[Posterior, ...] = ("gaussian", "uniform")


@dataclass(frozen=True)
class ForwardOutput:
    """What one pass over a batch of B images gives, L layers, top first.

    distortion_nats: fp32 [B], -log p(x|z_1). rates_nats: fp32 [B, L], each layer's KL[q || p] (Eq.
    7).
    output: the decoder's output [B, C, H, W], to be read by `HierarchicalVAE.likelihood`.
    weights: [B], what the loss of each image counts in a mean; None: alike.
    betas: [B, L] or [1, L], what the model was conditioned on; None: it has no such input.
    """

    distortion_nats: Tensor
    rates_nats: Tensor
    output: Tensor
    weights: Tensor | None = None
    betas: Tensor | None = None


class _LatentLayer(nn.Module):
    """The networks of one layer's posterior and prior."""

    def __init__(self, spec: ModelSpec, index: int, posterior: Posterior, build: Build) -> None:
        super().__init__()
        latent = spec.latents[index]
        self.shape = latent.shape
        self.bottom_up = latent.bottom_up
        self.precision_weighted = spec.inference == "precision" and index > 0
        self.x_branch = stages(latent.x_branch, build)
        self.z_branch = stages(latent.z_branch, build)
        self.merge = stages(latent.merge, build)
        self.mean = build(latent.head)
        # A uniform posterior has one width per dimension, learned, known to the decoder; where the
        # posterior is a product with the prior, the bottom-up deviation is still needed for its
        # mean.
        has_deviation = posterior == "gaussian" or self.precision_weighted
        self.raw = build(latent.head) if has_deviation else None
        self.prior = stages(latent.prior, build)
        self.prior_mean = None if latent.prior_head is None else build(latent.prior_head)
        self.prior_raw = None if latent.prior_head is None else build(latent.prior_head)

    def infer(self, features: Tensor, above: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Mean and raw deviation of the bottom-up posterior, each [B, *shape], in fp32."""
        hidden = run_stages(self.x_branch, features)
        if len(self.z_branch) > 0:
            assert above is not None
            hidden = torch.cat([hidden, run_stages(self.z_branch, above)], dim=1)
        hidden = run_stages(self.merge, hidden)
        raw = None if self.raw is None else self._head(self.raw, hidden)
        return self._head(self.mean, hidden), raw

    def predict(self, above: Tensor | None) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """Mean and raw deviation of the prior given the latents above; None twice means N(0, I)."""
        if self.prior_mean is None or self.prior_raw is None:
            return None, None
        assert above is not None
        hidden = run_stages(self.prior, above)
        return self._head(self.prior_mean, hidden), self._head(self.prior_raw, hidden)

    def mode(self, above: Tensor | None) -> Tensor | None:
        """The mean that `predict` gives, for less: who codes with fixed tables needs no more."""
        if self.prior_mean is None:
            return None
        assert above is not None
        return self._head(self.prior_mean, run_stages(self.prior, above))

    def _head(self, head: nn.Module, hidden: Tensor) -> Tensor:
        output: Tensor = head(hidden)
        return at_least_fp32(output.reshape(-1, *self.shape))


class HierarchicalVAE(nn.Module):
    """The model of Eq. 1 and Eq. 4 for `spec`, with Gaussian or uniform posteriors.

    Gaussian: q(z_l|.) = N(mean, softplus(raw)^2), as in the paper. Uniform: q(z_l|.) is uniform of
    width `step` around its mean, one learned step per latent dimension, and its rate is the
    information content of the bin [z - step/2, z + step/2) under the prior; at run time the latent
    is rounded to the grid of that step, so that this rate is what an entropy coder pays.
    """

    def __init__(
        self, spec: ModelSpec, posterior: Posterior = "gaussian", *, build: Build = plain_module
    ) -> None:
        """
        `build` makes the modules; they take and give what `plain_module`'s do.

        Raises:
            SpecError: `posterior` is neither "gaussian" nor "uniform".
        """
        super().__init__()
        if posterior not in POSTERIORS:
            raise SpecError(f"posterior {posterior!r}; allowed: {', '.join(POSTERIORS)}")
        self.spec = spec
        self.posterior: Posterior = posterior
        self.likelihood = LIKELIHOODS[spec.likelihood]()
        self.layers = nn.ModuleList(
            _LatentLayer(spec, index, posterior, build) for index in range(len(spec.latents))
        )
        self.decoder = stages(spec.decoder[:-1], build)
        self.decoder_output = build(spec.decoder[-1])
        log_steps = [torch.zeros(latent.shape) for latent in spec.latents]
        if posterior == "uniform":
            self.log_steps = nn.ParameterList(nn.Parameter(step) for step in log_steps)
        else:
            # Not learned and not part of the paper's model: set when a codec is made of it.
            for index, step in enumerate(log_steps):
                self.register_buffer(f"log_step_{index}", step)

    def forward(
        self, x: Tensor, *, seed: int, rounded: bool = False, noise_index: int = 0
    ) -> ForwardOutput:
        """One stochastic pass: latents sampled from the posteriors, keyed by `seed`.

        x: [B, C, H, W], pixels in [0, 1]. With `rounded` (uniform posteriors), what flows on to the
        layers below and to the decoder is the rounded latent, with the gradient of the rounding
        taken as that of a straight line, while the rate stays that of the sample: the networks then
        learn with the error that the codec will make. Calls of one seed and different `noise_index`
        draw different noise: that of a batch's following parts of B images each.
        """
        rates: list[Tensor] = []
        latents: list[Tensor] = []
        features = self._bottom_up(x)
        for index, layer in self._walk():
            above = _flat(latents)
            mu_p, raw_p = layer.predict(above)
            mean, raw = self._posterior(layer, features[layer.bottom_up], above, mu_p, raw_p)
            layer_seed = noise_seed(seed, index)
            first = noise_index * len(x) * self.spec.dims[index]
            if self.posterior == "gaussian":
                assert raw is not None
                z, nats = ops.gaussian_rsample_kl(
                    mean, raw, mu_p, raw_p, seed=layer_seed, first_index=first
                )
            else:
                step = self._step_of_rows(index, len(x))
                z, nats = ops.uniform_rsample_nats(
                    mean, step, mu_p, raw_p, seed=layer_seed, first_index=first
                )
                if rounded:
                    z = _straight_through_round(mean, step, mu_p)
            rates.append(nats)
            latents.append(z)
        output = self.decode(latents)
        distortion = self._distortion_nats(output, x)
        return ForwardOutput(distortion, torch.stack(rates, dim=1), output)

    def loss(self, output: ForwardOutput, weights: Tensor) -> Tensor:
        """The mean over images of the loss of Eq. 8, betas being `weights`, fp32 [L]; a scalar."""
        return (output.distortion_nats + output.rates_nats @ weights).mean()

    def _step_of_rows(self, index: int, batch: int) -> Tensor:
        """The step of each row of the latent of a batch, in a shape that broadcasts to it."""
        return self.step(index)

    def _distortion_nats(self, output: Tensor, x: Tensor) -> Tensor:
        return self.likelihood.distortion_nats(output, x)

    def step(self, index: int) -> Tensor:
        """Quantisation step of each dimension of the layer at `index`, top first; fp32 [*shape]."""
        if self.posterior == "uniform":
            log_step: Tensor = self.log_steps[index]
        else:
            log_step = getattr(self, f"log_step_{index}")
        return log_step.exp()

    def set_step(self, index: int, step: Tensor) -> None:
        """Give a model with Gaussian posteriors the grid to round to: `step` > 0, [*shape]."""
        getattr(self, f"log_step_{index}").copy_(step.log())

    def quantise(
        self, x: Tensor, bounds: Sequence[tuple[Tensor, Tensor]] | None = None
    ) -> list[Tensor]:
        """The integer symbols of each layer: k = round((mean - mu_p) / step), fp32 [B, *shape] of
        integers.

        Each layer is inferred from the layers above as the decoder will know them. `bounds`: the
        least and greatest symbol of each dimension ([*shape] each, one pair a layer); symbols
        outside are moved to the bound.
        """
        symbols: list[Tensor] = []
        latents: list[Tensor] = []
        features = self._bottom_up(x)
        for index, layer in self._walk():
            above = _flat(latents)
            raw_p = None
            if layer.precision_weighted:
                mu_p, raw_p = layer.predict(above)
            else:
                mu_p = layer.mode(above)
            mean, _ = self._posterior(layer, features[layer.bottom_up], above, mu_p, raw_p)
            step = self.step(index)
            k = torch.round((mean if mu_p is None else mean - mu_p) / step)
            if bounds is not None:
                k = torch.clamp(k, *bounds[index])
            symbols.append(k)
            latents.append(k * step if mu_p is None else mu_p + k * step)
        return symbols

    def dequantise(self, symbols: Sequence[Tensor]) -> list[Tensor]:
        """The latents that symbols stand for: z_l = mu_p(z_>l) + step * k.

        symbols: [B, *shape] of integers for the first layers, top first; layers not given take k =
        0, the mode of their prior.
        """
        latents: list[Tensor] = []
        for index, layer in self._walk():
            mu_p = layer.mode(_flat(latents))
            if index < len(symbols):
                z = symbols[index] * self.step(index)
                latents.append(z if mu_p is None else mu_p + z)
            else:
                assert mu_p is not None
                latents.append(mu_p)
        return latents

    def prior_mode(self, index: int, above: Sequence[Tensor]) -> Tensor | None:
        """Mean of the prior [B, *shape] of the layer at `index`, top first, given the latents above
        it, [B, *shape] each; None for the top layer, whose prior is N(0, I).
        """
        return self._walk()[index][1].mode(_flat(above))

    def decode(self, latents: Sequence[Tensor]) -> Tensor:
        """The decoder's output g(z_1) [B, C, H, W] for latents [B, *shape], top first."""
        hidden = run_stages(self.decoder, latents[-1])
        output: Tensor = self.decoder_output(hidden)
        return output

    def posteriors(self, x: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """Mean and raw deviation of each posterior, top first, each given the modes of those above.

        [B, *shape] each; the raw deviation is None where the posterior is uniform and needs none.
        """
        found: list[tuple[Tensor, Tensor | None]] = []
        features = self._bottom_up(x)
        for _, layer in self._walk():
            above = _flat([mean for mean, _ in found])
            mu_p, raw_p = layer.predict(above)
            found.append(self._posterior(layer, features[layer.bottom_up], above, mu_p, raw_p))
        return found

    def top_posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of q(z_L|x), each fp32 [B, D_L]."""
        mean, raw = self._walk()[0][1].infer(x, None)
        deviation = self.top_step_deviation() if raw is None else ops.sigma(raw)
        return mean.flatten(1), deviation.flatten(-len(self.spec.latents[0].shape)).expand_as(mean)

    def top_step_deviation(self) -> Tensor:
        """Standard deviation of a value uniform over one step of z_L, fp32 [D_L]."""
        return self.step(0).flatten() / 12**0.5

    def sample_latents(
        self, count: int, *, seed: int, temperature: float = 1.0, top: Tensor | None = None
    ) -> list[Tensor]:
        """Latents drawn from the prior, top first, [count, *shape] each.

        `temperature` scales the prior's standard deviations. `top` [count, D]: the top layer's
        latents, where they are given; those below it are drawn given them.
        """
        generator = torch.Generator("cpu").manual_seed(seed)
        weight = next(self.parameters())
        device = weight.device
        latents: list[Tensor] = []
        for _, layer in self._walk():
            mu_p, raw_p = layer.predict(_flat(latents))
            shape = (count, *layer.shape)
            drawn = torch.randn(shape, generator=generator, dtype=weight.dtype, device="cpu")
            noise = drawn.to(device) * temperature
            if top is not None and not latents:
                latents.append(top.to(device).reshape(count, *layer.shape))
                continue
            latents.append(
                noise if mu_p is None or raw_p is None else mu_p + ops.sigma(raw_p) * noise
            )
        return latents

    def _walk(self) -> list[tuple[int, _LatentLayer]]:
        return [
            (i, layer) for i, layer in enumerate(self.layers) if isinstance(layer, _LatentLayer)
        ]

    def _bottom_up(self, x: Tensor) -> dict[int, Tensor]:
        """Outputs of the shared bottom-up path by the number of stages behind them; 0: the image.

        It goes as far as some layer below the top reads it.
        """
        walk = self._walk()
        depth = max(layer.bottom_up for _, layer in walk)
        features = {0: x}
        for index, stage in enumerate(list(walk[0][1].x_branch)[:depth]):
            features[index + 1] = stage(features[index])
        return features

    def _posterior(
        self,
        layer: _LatentLayer,
        features: Tensor,
        above: Tensor | None,
        mu_p: Tensor | None,
        raw_p: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        mean, raw = layer.infer(features, above)
        if not layer.precision_weighted:
            return mean, raw
        assert raw is not None
        assert mu_p is not None
        assert raw_p is not None
        return precision_weighted(mean, raw, mu_p, raw_p)


def precision_weighted(
    mean: Tensor, raw: Tensor, mu_p: Tensor, raw_p: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and raw deviation of the normalised product of two Gaussians (Soenderby et al. 2016, Eq.
    17-18).

    All tensors of one shape; raw deviations stand for sigma = softplus(raw).
    """
    precision, precision_p = ops.sigma(raw).pow(-2), ops.sigma(raw_p).pow(-2)
    variance = 1.0 / (precision + precision_p)
    sigma = variance.sqrt()
    # log(exp(sigma) - 1), the inverse of softplus, in the form that is sound for small and large
    # sigma.
    return variance * (mean * precision + mu_p * precision_p), sigma + torch.log(
        -torch.expm1(-sigma)
    )


def noise_seed(*key: int) -> int:
    """A 63-bit seed that depends on every part of `key`, the parts being non-negative integers."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return int(state[0]) >> 1


def _flat(latents: Sequence[Tensor]) -> Tensor | None:
    """All latents above a layer as one [B, D] tensor, or None at the top."""
    if not latents:
        return None
    return (
        torch.cat([z.flatten(1) for z in latents], dim=1)
        if len(latents) > 1
        else latents[0].flatten(1)
    )


def _straight_through_round(mean: Tensor, step: Tensor, mu_p: Tensor | None) -> Tensor:
    """mu_p + step * round((mean - mu_p) / step), with round's gradient taken as one."""
    scaled = (mean if mu_p is None else mean - mu_p) / step
    k = scaled + (torch.round(scaled) - scaled).detach()
    return k * step if mu_p is None else mu_p + k * step
