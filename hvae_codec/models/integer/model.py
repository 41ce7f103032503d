"""A fully convolutional hierarchical VAE in integers: from pixels to symbols and back.

Its walk is that of `hvae_codec.models.fully_convolutional.model.ConvVAE`, of which it is made
(`hvae_codec.models.integer.convert`). Activations are int16 [N, H, W, C] with the channels side by
side. All that symbols and pixels depend on is a sum of integers, or one float32 product of an
integer that is rounded at once: so they are the same bits for every batch, number of threads,
processor and version of torch. docs/INTEGER.md is the specification.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from hvae_codec.errors import CheckpointError, SpecError
from hvae_codec.models.fully_convolutional.spec import FIRST_STRIDE, SECOND_STRIDE, ConvSpec
from hvae_codec.models.hvae import Posterior
from hvae_codec.models.integer.convolution import LIMIT, IntegerConv2d, prepare_loaded
from hvae_codec.models.likelihoods import GaussianLikelihood
from hvae_codec.utils.cancellation import check

Arithmetic = Literal["int8", "int16"]
"""Both have activations of 16 bits. With int8 the 3x3 convolutions of residual blocks, which take
most of the time, see them and have weights in 8 bits.
"""

QUALITIES = 256
"""Numbers of qualities, each with steps of its own."""

PIXEL_LIMIT = 255
"""Greatest magnitude of what the stem takes, 2 p - 255 of pixels p."""

_BEYOND = 65536.0  # no latent is so large


class IntegerConvVAE(nn.Module):
    """The integer model of `spec`; its weights are those of a checkpoint, or of a conversion."""

    posterior: Posterior = "uniform"

    def __init__(self, spec: ConvSpec, arithmetic: Arithmetic = "int16") -> None:
        super().__init__()
        check_channels(spec, arithmetic)
        self.spec = spec
        self.arithmetic: Arithmetic = arithmetic
        eight_bits = arithmetic == "int8"
        self.likelihood = GaussianLikelihood()
        widths = {resolution.stride: resolution.width for resolution in spec.resolutions}
        finest, pixels = widths[FIRST_STRIDE], 3 * FIRST_STRIDE**2
        self.stem = IntegerConv2d((pixels,), finest, 3, limit=PIXEL_LIMIT)
        self.encoder, self.decoder = nn.ModuleDict(), nn.ModuleDict()
        self.down, self.up = nn.ModuleDict(), nn.ModuleDict()
        for one in spec.resolutions:
            key = str(one.stride)
            self.encoder[key] = _blocks(one.encoder_blocks, one.width, spec.knots, eight_bits)
            self.decoder[key] = _blocks(one.decoder_blocks, one.width, spec.knots, eight_bits)
            if one.stride != FIRST_STRIDE:
                finer = widths[one.stride // 2]
                self.down[key] = IntegerConv2d((finer,), one.width, 2, 2)
                self.up[key] = IntegerConv2d((one.width,), 4 * finer, shuffle=2)
        self.layers = nn.ModuleList(
            IntegerLayer(spec, index, eight_bits) for index in spec.layer_indices
        )
        self.output = IntegerConv2d((finest,), pixels, 3, shuffle=FIRST_STRIDE, pixels=True)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.stem.weight.device

    def prepare(self) -> None:
        """Check all numbers and prepare them for use.

        Raises:
            CheckpointError: as `IntegerConv2d.prepare`, or as `IntegerLayer.prepare`.
        """
        for module in self.modules():
            if isinstance(module, IntegerConv2d | IntegerLayer):
                module.prepare()

    def fine_features(self, pixels: Tensor, quality: int) -> Tensor:
        """What the finest resolution says of pixels uint8 [N, H, W, 3]: [N, H / 8, W / 8, C]."""
        count, height, width, _ = pixels.shape
        rows, columns = height // FIRST_STRIDE, width // FIRST_STRIDE
        cells = pixels.view(count, rows, FIRST_STRIDE, columns, FIRST_STRIDE, 3).transpose(2, 3)
        values = cells.reshape(count, rows, columns, -1).to(torch.int16)
        hidden = self.stem(values.mul_(2).sub_(PIXEL_LIMIT), quality=quality)
        hidden = _run(self.encoder[str(FIRST_STRIDE)], hidden, quality)
        features: Tensor = self.down[str(SECOND_STRIDE)](hidden, quality=quality)
        return features

    def quantise(
        self, hidden: Tensor, quality: int, choose: Callable[[int, Tensor], Tensor]
    ) -> None:
        """Walk from the top layer to the bottom one, each given the symbols of those above.

        hidden: `fine_features`. `choose` takes a layer's index and nearest symbols, int32
        [N, h, w, C], and returns those that are coded.
        """
        features = self._bottom_up(hidden, quality)
        state: Tensor | None = None
        for index, layer in self._walk():
            state = self._to_stride(state, index, quality)
            mean, mu_p = layer.infer(features[layer.stride], state), layer.predict(state)
            symbols = choose(index, layer.nearest(mean, mu_p, quality))
            state = layer.absorb(layer.latents(symbols, mu_p, quality), state, quality)

    def dequantise(self, symbols: Sequence[Tensor], quality: int) -> list[Tensor]:
        """The latents of the first layers, float32 [N, h, w, C], of their symbols int32."""
        found = []
        for (_, layer), z in zip(
            self._walk(), self._top_down(symbols, quality, len(symbols))[0], strict=False
        ):
            found.append(z.float() * layer.unit)
        return found

    def step(self, index: int, quality: int) -> Tensor:
        """Quantisation step of each channel of the layer at `index`, top first; float32 [C]."""
        layer = self._walk()[index][1]
        return layer.step[quality] * layer.unit

    def coarse_state(self, symbols: Sequence[Tensor], quality: int) -> Tensor:
        """The decoder's state [N, H / 8, W / 8, C] for symbols int32 [N, h, w, C] of the first
        layers, top first; layers not given take k = 0, the mode of their prior.
        """
        _, state = self._top_down(symbols, quality, len(self.spec.latents))
        assert state is not None
        state = self._finer(state, self.spec.latents[-1].stride, SECOND_STRIDE, quality)
        return _run(self.decoder[str(SECOND_STRIDE)], state, quality)

    def pixels(self, state: Tensor, quality: int) -> Tensor:
        """Pixels uint8 [N, H, W, 3] of a `coarse_state`."""
        state = self.up[str(SECOND_STRIDE)](state, quality=quality)
        state = _run(self.decoder[str(FIRST_STRIDE)], state, quality)
        pixels: Tensor = self.output(state, quality=quality)
        return pixels

    def _walk(self) -> list[tuple[int, IntegerLayer]]:
        return [(i, one) for i, one in enumerate(self.layers) if isinstance(one, IntegerLayer)]

    def _bottom_up(self, hidden: Tensor, quality: int) -> dict[int, Tensor]:
        features = {}
        for resolution in self.spec.resolutions[1:]:
            key = str(resolution.stride)
            if resolution.stride != SECOND_STRIDE:
                hidden = self.down[key](hidden, quality=quality)
            hidden = _run(self.encoder[key], hidden, quality)
            features[resolution.stride] = hidden
        return features

    def _top_down(
        self, symbols: Sequence[Tensor], quality: int, layers: int
    ) -> tuple[list[Tensor], Tensor | None]:
        latents: list[Tensor] = []
        state: Tensor | None = None
        for index, layer in self._walk()[:layers]:
            state = self._to_stride(state, index, quality)
            mu_p = layer.predict(state)
            if index < len(symbols):
                z = layer.latents(symbols[index], mu_p, quality)
            else:
                assert mu_p is not None
                z = mu_p
            latents.append(z)
            state = layer.absorb(z, state, quality)
        return latents, state

    def _to_stride(self, state: Tensor | None, index: int, quality: int) -> Tensor | None:
        if state is None:
            return None
        stride, wanted = self.spec.latents[index - 1].stride, self.spec.latents[index].stride
        return self._finer(state, stride, wanted, quality)

    def _finer(self, state: Tensor, stride: int, wanted: int, quality: int) -> Tensor:
        while stride > wanted:
            state = _run(self.decoder[str(stride)], state, quality)
            state = self.up[str(stride)](state, quality=quality)
            stride //= 2
        return state


class IntegerLayer(nn.Module):
    """The networks of one layer's posterior and prior, and its steps.

    Latents are int16 in units of `unit`, float32 [C]. step: float32 [QUALITIES, C], units to a
    symbol.
    """

    step: Tensor
    unit: Tensor

    def __init__(self, spec: ConvSpec, index: int, eight_bits: bool) -> None:
        super().__init__()
        latent = spec.latents[index]
        width = next(r.width for r in spec.resolutions if r.stride == latent.stride)
        self.stride = latent.stride
        merged = (width,) if index == 0 else (width, width)
        self.merge = IntegerConv2d(merged, width, leaky=True)
        self.mean = IntegerConv2d((width,), latent.channels, 3)
        self.prior_mean = None if index == 0 else IntegerConv2d((width,), latent.channels, 3)
        self.into = IntegerConv2d((latent.channels,), width, 3)
        self.blocks = _blocks(1, width, spec.knots, eight_bits)
        shape = (QUALITIES, latent.channels)
        self.register_buffer("step", torch.ones(shape, dtype=torch.float32))
        self.register_buffer("unit", torch.ones(latent.channels, dtype=torch.float32))
        self.register_load_state_dict_post_hook(prepare_loaded)  # type: ignore[no-untyped-call]

    def prepare(self) -> None:
        """Check the steps.

        Raises:
            CheckpointError: one is not above 0, or it or its inverse is not finite.
        """
        both = torch.cat([self.step, self.unit[None]])
        inverse = torch.ones_like(both) / both
        if not bool((torch.isfinite(both) & torch.isfinite(inverse) & (both > 0.0)).all()):
            raise CheckpointError(
                "an integer model's steps must be above 0, and finite as their inverses are"
            )

    def infer(self, features: Tensor, state: Tensor | None) -> Tensor:
        """Mean of the posterior, int16 [N, h, w, C]."""
        inputs = (features,) if state is None else (features, state)
        mean: Tensor = self.mean(self.merge(*inputs, quality=0), quality=0)
        return mean

    def predict(self, state: Tensor | None) -> Tensor | None:
        """Mean of the prior, int16 [N, h, w, C]; None at the top, where it is 0."""
        if self.prior_mean is None or state is None:
            return None
        mean: Tensor = self.prior_mean(state, quality=0)
        return mean

    def nearest(self, mean: Tensor, mu_p: Tensor | None, quality: int) -> Tensor:
        """The nearest symbols, int32: round((mean - mu_p) / step), the quotient a product."""
        difference = mean.int() if mu_p is None else mean.int() - mu_p
        inverse = torch.ones_like(self.step[quality]) / self.step[quality]
        return difference.float().mul_(inverse).clamp_(-_BEYOND, _BEYOND).round_().int()

    def latents(self, symbols: Tensor, mu_p: Tensor | None, quality: int) -> Tensor:
        """The latents mu_p + round(k * step), int16, within +-LIMIT."""
        z = symbols.float().mul_(self.step[quality]).clamp_(-_BEYOND, _BEYOND).round_().int()
        if mu_p is not None:
            z += mu_p
        return z.clamp_(-LIMIT, LIMIT).to(torch.int16)

    def absorb(self, z: Tensor, state: Tensor | None, quality: int) -> Tensor:
        """The top-down state with this layer's latents in it."""
        return _run(self.blocks, self.into(z, quality=quality, residual=state), quality)


class IntegerBlock(nn.Module):
    """A residual block of a 3x3 and a 1x1 convolution, its branch scaled by the quality."""

    def __init__(self, width: int, knots: int, eight_bits: bool) -> None:
        super().__init__()
        self.first = IntegerConv2d((width,), width, 3, leaky=True, eight_bits=eight_bits)
        self.second = IntegerConv2d((width,), width, knots=knots)

    def forward(self, x: Tensor, quality: int) -> Tensor:
        """[N, H, W, C] to the same."""
        hidden = self.first(x, quality=0)
        result: Tensor = self.second(hidden, quality=quality, residual=x)
        return result


def check_channels(spec: ConvSpec, arithmetic: Arithmetic) -> None:
    """Check that a model of `spec` can be one of integers.

    Raises:
        SpecError: a number of channels of a latent is odd, or of a network that or no multiple of 4
            for int8; or there is no such arithmetic.
    """
    if arithmetic not in get_args(Arithmetic):
        raise SpecError(f"no integer arithmetic {arithmetic!r}; there are {get_args(Arithmetic)}")
    multiple = 4 if arithmetic == "int8" else 2
    for what, counts, factor in (
        ("networks", [one.width for one in spec.resolutions], multiple),
        ("latents", [one.channels for one in spec.latents], 2),
    ):
        if wrong := [count for count in counts if count % factor]:
            raise SpecError(
                f"{spec.name}: {what} of {arithmetic} take multiples of {factor} channels, "
                f"not {wrong}"
            )


def _blocks(count: int, width: int, knots: int, eight_bits: bool) -> nn.ModuleList:
    return nn.ModuleList(IntegerBlock(width, knots, eight_bits) for _ in range(count))


def _run(blocks: nn.Module, x: Tensor, quality: int) -> Tensor:
    assert isinstance(blocks, nn.ModuleList)
    for block in blocks:
        check()
        x = block(x, quality)
    return x
