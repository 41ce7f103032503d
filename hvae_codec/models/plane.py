"""One hierarchical VAE for a whole range of betas, conditioned on the beta of each layer.

Every hidden layer and every head is scaled and shifted, channel by channel, by small networks of
log(beta_L), ..., log(beta_1); what priors, posteriors and decoder take in of the latents above is
scaled. So at one choice of betas the model is an ordinary `HierarchicalVAE` with other weights:
`PlaneVAE.at` gives it, and codec, features and evaluation know no other.

J. Bae et al. 2022, "Multi-Rate VAE: Train Once, Get the Full Rate-Distortion Curve", have one beta;
here every layer has its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from hvae_codec.errors import SpecError
from hvae_codec.models.hvae import ForwardOutput, HierarchicalVAE, Posterior, noise_seed
from hvae_codec.models.layers.stages import plain_module
from hvae_codec.models.spec import Layer, ModelSpec, Reshape

MARGIN = 0.1
"""Betas are drawn from ranges wider by this share of their logarithm: the ends are learned too."""

HIDDEN = 32
"""Width of the networks that make scales and shifts of the betas."""

LOSS_OFFSET = 5.0
"""Nats added to a loss by which it is divided."""

_TOLERANCE = 1e-6  # of the ends of ranges, which grids compute
_DRAW = 1  # tells the noise of betas from that of latents

BetaRanges = tuple[tuple[float, float], ...]
"""Least and greatest beta of each layer, top first."""


class BetaInput:
    """What the modules of a model are conditioned on, during one pass: [B, L], or [1, L]."""

    def __init__(self) -> None:
        self.values: Tensor | None = None


class Modulation(nn.Module):
    """A linear function of what the betas give, for values [B, C, ...]: at first the identity."""

    def __init__(self, betas: BetaInput, layers: int, values: int) -> None:
        super().__init__()
        self.betas = betas
        last = nn.Linear(HIDDEN, values)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(nn.Linear(layers, HIDDEN), nn.SiLU(), last)

    def forward(self) -> Tensor:
        """The values for the betas of the pass, [B, values] or [1, values]."""
        if self.betas.values is None:
            raise SpecError("a model of a range of betas computes by `forward` or `at(betas)` only")
        values: Tensor = self.network(self.betas.values)
        return values


class Modulated(nn.Module):
    """A module of a row of a spec, its output scaled and shifted, its input scaled if `gate`."""

    def __init__(self, layer: Layer, betas: BetaInput, layers: int) -> None:
        super().__init__()
        assert not isinstance(layer, Reshape)
        self.module = plain_module(layer)
        self.modulation = Modulation(betas, layers, 2 * layer.outputs)
        self.gate: Modulation | None = None

    def add_gate(self) -> None:
        """Scale the input, too."""
        linear = _linear(self.module)
        inputs = linear.weight.shape[_input_axis(linear)]
        network = self.modulation.network[0]
        assert isinstance(network, nn.Linear)
        self.gate = Modulation(self.modulation.betas, network.in_features, inputs)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, ...] to [B, C', ...], as the plain module."""
        if self.gate is not None:
            x = x.flatten(1) if isinstance(_linear(self.module), nn.Linear) else x
            x = x * (1.0 + _per_channel(self.gate(), x))
        y: Tensor = self.module(x)
        scale, shift = self.modulation().chunk(2, dim=1)
        return y * (1.0 + _per_channel(scale, y)) + _per_channel(shift, y)

    @torch.no_grad()
    def fold_into(self, plain: nn.Module) -> None:
        """Give a plain module the weights with which it does the same, at the betas of now."""
        own, other = _linear(self.module), _linear(plain)
        scale, shift = self.modulation()[0].chunk(2)
        weight = own.weight * _along(1.0 + scale, own.weight, 1 - _input_axis(own))
        if self.gate is not None:
            weight = weight * _along(1.0 + self.gate()[0], weight, _input_axis(own))
        other.weight.copy_(weight)
        assert own.bias is not None
        assert other.bias is not None
        other.bias.copy_(own.bias * (1.0 + scale) + shift)


class PlaneVAE(HierarchicalVAE):
    """The model of `spec` for all betas within `ranges`.

    Raises:
        SpecError: there is not one range per layer, or a range is not of betas above 0.
    """

    def __init__(
        self, spec: ModelSpec, posterior: Posterior = "gaussian", *, ranges: BetaRanges
    ) -> None:
        layers = len(spec.latents)
        check_ranges(ranges, layers, spec.name)
        betas = BetaInput()

        def build(layer: Layer) -> nn.Module:
            if isinstance(layer, Reshape):
                return plain_module(layer)
            return Modulated(layer, betas, layers)

        super().__init__(spec, posterior, build=build)
        self.ranges = ranges
        self._betas = betas
        self.decoder_output = plain_module(spec.decoder[-1])
        for branch in self._branches_of_latents():
            _modulated(branch).add_gate()
        self.steps = nn.ModuleList()
        if posterior == "uniform":
            self.steps.extend(Modulation(betas, layers, dims) for dims in spec.dims)

    def forward(
        self,
        x: Tensor,
        *,
        seed: int,
        rounded: bool = False,
        noise_index: int = 0,
        betas: Tensor | None = None,
    ) -> ForwardOutput:
        """As `HierarchicalVAE.forward`, at betas [B, L] or [1, L], top first.

        By default each image has betas of its own: drawn by `seed`, their logarithms uniform over
        the ranges and a tenth beyond, each layer's one from each of B equal intervals.
        """
        if betas is None:
            betas = self.drawn_betas(len(x), seed, noise_index).to(x.device)
        self._betas.values = self._scaled(betas)
        try:
            output = super().forward(x, seed=seed, rounded=rounded, noise_index=noise_index)
        finally:
            self._betas.values = None
        return replace(output, betas=betas)

    def loss(self, output: ForwardOutput, weights: Tensor) -> Tensor:
        """The mean over images of the loss of Eq. 8, each divided by its own value, at its betas.

        Without the division those of large betas, ten times as large, would decide alone: z_L then
        learns nothing at any beta. weights: fp32 [L], factors on the betas.
        """
        assert output.betas is not None
        least = self.likelihood.least_nats(math.prod(self.spec.image_shape))
        rates = (output.rates_nats * (output.betas * weights)).sum(dim=1)
        losses = output.distortion_nats - least + rates
        return (losses / (losses.detach() + LOSS_OFFSET)).mean()

    def drawn_betas(self, count: int, seed: int, noise_index: int = 0) -> Tensor:
        """Betas fp32 [count, L] for training, drawn by the seed."""
        generator = torch.Generator("cpu").manual_seed(noise_seed(seed, noise_index, count, _DRAW))
        columns = []
        for low, high in self.ranges:
            drawn = torch.rand(count, generator=generator, dtype=torch.float32, device="cpu")
            order = torch.randperm(count, generator=generator, device="cpu")
            share = (order + drawn) / count * (1.0 + MARGIN) - 0.5 * MARGIN
            columns.append((math.log(low) + math.log(high / low) * share).exp())
        return torch.stack(columns, dim=1)

    @torch.no_grad()
    def at(self, betas: Sequence[float]) -> HierarchicalVAE:
        """The ordinary model that this one is at these betas, top first, in evaluation mode.

        Raises:
            SpecError: there is not one beta per layer, or one lies outside its range.
        """
        check_point(betas, self.ranges)
        model = HierarchicalVAE(self.spec, self.posterior)
        self._betas.values = self._scaled(torch.tensor([list(betas)], dtype=torch.float32))
        try:
            for name, module in self.named_modules():
                if isinstance(module, Modulated):
                    module.fold_into(model.get_submodule(name))
            model.decoder_output.load_state_dict(self.decoder_output.state_dict())
            for index in range(len(self.steps)):
                model.log_steps[index].copy_(self.step(index)[0].log())
        finally:
            self._betas.values = None
        return model.eval()

    def step(self, index: int) -> Tensor:
        """Quantisation step of each dimension of the layer at `index`; fp32 [B or 1, *shape]."""
        if not self.steps:
            return super().step(index)
        log_step = self.log_steps[index]
        change = self.steps[index]()
        step: Tensor = (log_step + change.view(-1, *log_step.shape)).exp()
        return step

    def _scaled(self, betas: Tensor) -> Tensor:
        """Logarithms of betas [B, L], -1 to 1 within the ranges."""
        ends = torch.tensor(self.ranges, device=betas.device).log()
        low, high = ends[:, 0], ends[:, 1]
        return 2.0 * (betas.log() - low) / (high - low).clamp(min=1e-6) - 1.0

    def _branches_of_latents(self) -> list[nn.Module]:
        """The first modules of the branches that take latents in."""
        branches: list[nn.ModuleList] = [self.decoder]
        for _, layer in self._walk():
            branches += [layer.z_branch, layer.prior]
        return [branch[0] for branch in branches if len(branch) > 0]


def check_ranges(ranges: BetaRanges, layers: int, name: str) -> None:
    """Raise SpecError unless there is a range of betas above 0 for each layer."""
    if len(ranges) != layers:
        raise SpecError(f"{len(ranges)} ranges of betas given; {name} has {layers} layers")
    for low, high in ranges:
        if not 0.0 < low < high < math.inf:
            raise SpecError(
                f"betas from {low:g} to {high:g}; allowed: from above 0 to a greater finite one"
            )


def check_point(betas: Sequence[float], ranges: BetaRanges) -> None:
    """Raise SpecError unless there is one beta per layer, each within its range."""
    allowed = ", ".join(f"{low:g} to {high:g}" for low, high in ranges)
    if len(betas) != len(ranges):
        raise SpecError(f"{len(betas)} betas given; allowed: one per layer, {allowed}")
    for beta, (low, high) in zip(betas, ranges, strict=True):
        if not low * (1.0 - _TOLERANCE) <= beta <= high * (1.0 + _TOLERANCE):
            raise SpecError(f"betas {', '.join(map(str, betas))}; allowed: {allowed}")


def _modulated(stage: nn.Module) -> Modulated:
    """The conditioned module of a stage, which its activation follows."""
    assert isinstance(stage, nn.Sequential)
    module = stage[0]
    assert isinstance(module, Modulated)
    return module


def _linear(module: nn.Module) -> nn.Linear | nn.Conv2d | nn.ConvTranspose2d:
    """What holds the weights of a plain module."""
    inner = module[-1] if isinstance(module, nn.Sequential) else module
    assert isinstance(inner, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
    return inner


def _input_axis(linear: nn.Module) -> int:
    return 0 if isinstance(linear, nn.ConvTranspose2d) else 1


def _along(values: Tensor, like: Tensor, axis: int) -> Tensor:
    """[C] in the shape that broadcasts along this axis of `like`."""
    return values.view([-1 if i == axis else 1 for i in range(like.dim())])


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    """[B, C] in the shape that broadcasts to [B, C, ...]."""
    return values.view(*values.shape, *[1] * (like.dim() - 2))
