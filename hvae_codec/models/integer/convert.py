"""From a trained float model to one of integers.

The float model runs on calibration images, and how large its activations become gives each tensor
its unit. Weights take as many bits as sums of 32 bits leave them: units of weights are the
least with which no sum can overflow, whatever the activations are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hvae_codec.errors import SpecError
from hvae_codec.models.fully_convolutional.layers import Block, ConvLayer
from hvae_codec.models.fully_convolutional.model import ConvVAE
from hvae_codec.models.fully_convolutional.spec import FIRST_STRIDE
from hvae_codec.models.inference import inference, loading
from hvae_codec.models.integer.convolution import BYTE_LIMIT, LIMIT, IntegerConv2d
from hvae_codec.models.integer.model import (
    PIXEL_LIMIT,
    QUALITIES,
    Arithmetic,
    IntegerBlock,
    IntegerConvVAE,
    IntegerLayer,
)

HEADROOM = 2.0
"""Times the largest activation of the calibration that a unit leaves room for."""

TYPICAL_SHARE, TYPICAL_ROOM = 0.9999, 1.3
"""Of activations in 8 bits: so many lie below 1 / 1.3 of the largest value, in typical images."""

CALIBRATION_QUALITIES = (0.0, 0.25, 0.5, 0.75, 1.0)

_MOST = 2**31 - 2**16  # what sums may reach: weights that are rounded up stay below 2^31


def to_integers(
    model: ConvVAE,
    images: Iterable[NDArray[np.uint8]],
    arithmetic: Arithmetic = "int16",
    extremes: Iterable[NDArray[np.uint8]] = (),
) -> IntegerConvVAE:
    """The integer model of a trained one.

    Args:
        model: the trained model.
        images: typical ones, uint8 [H, W, 3] with sides that are multiples of the coarsest stride.
        arithmetic: that of the integers.
        extremes: of more contrast; the 16 bits hold them, too, and the 8 bits cut them off.

    Raises:
        SpecError: an activation or weight is not finite, there are no images, or as
            `hvae_codec.models.integer.model.check_channels`.
    """
    integer = IntegerConvVAE(model.spec, arithmetic)
    if not all(bool(torch.isfinite(weight).all()) for weight in model.parameters()):
        raise SpecError(f"{model.spec.name}: weights that are not finite make no integers")
    ranges = _observed(model, images, extremes)
    return _converted(model, integer, ranges)


class _Ranges:
    """Largest magnitudes: of the streams by stride, of each convolution's result, of latents."""

    def __init__(self) -> None:
        self.up: dict[int, float] = {}
        self.down: dict[int, float] = {}
        self.result: dict[nn.Module, float] = {}
        self.typical: dict[nn.Module, float] = {}
        self.latents: dict[nn.Module, Tensor] = {}

    def largest(self, values: dict[Any, float], key: Any) -> float:
        """The largest magnitude; SpecError where there is no unit for it."""
        largest = values.get(key, 0.0)
        if not np.isfinite(largest) or largest <= 0.0:
            raise SpecError(f"an activation of the calibration reaches {largest}")
        return largest

    def unit(self, values: dict[Any, float], key: Any) -> float:
        """What one integer of 16 bits stands for."""
        return HEADROOM * self.largest(values, key) / LIMIT


@inference
def _observed(
    model: ConvVAE, images: Iterable[NDArray[np.uint8]], extremes: Iterable[NDArray[np.uint8]]
) -> _Ranges:
    """The ranges of all activations, over images and qualities."""
    ranges = _Ranges()
    typical = _typical_hooks(model, ranges)
    handles = _hooks(model, ranges)
    try:
        _run_on(model, images)
        for handle in typical:
            handle.remove()
        _run_on(model, extremes)
    finally:
        for handle in (*typical, *handles):
            handle.remove()
    if not ranges.typical:
        raise SpecError("integer networks need calibration images: there are none")
    return ranges


def _run_on(model: ConvVAE, images: Iterable[NDArray[np.uint8]]) -> None:
    for image in images:
        pixels = torch.from_numpy(image)[None].permute(0, 3, 1, 2)
        x = model.likelihood.pixels(pixels, torch.float32)
        for quality in CALIBRATION_QUALITIES:
            qualities = torch.tensor([quality], dtype=torch.float32)
            symbols = model.quantise(model.fine_features(x, qualities), qualities)
            model.fine_output(model.coarse_state(symbols, qualities), qualities)


def _typical_hooks(model: ConvVAE, ranges: _Ranges) -> list[Any]:
    """Hooks on what goes into the blocks, that widen the ranges of 8 bits."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        magnitudes = inputs[0].abs().flatten()
        rank = max(1, math.ceil(TYPICAL_SHARE * len(magnitudes)))
        large = float(magnitudes.kthvalue(rank).values)
        ranges.typical[module] = max(ranges.typical.get(module, 0.0), large)

    blocks = [block for block in model.modules() if isinstance(block, Block)]
    return [block.first.register_forward_pre_hook(hook) for block in blocks]


def _hooks(model: ConvVAE, ranges: _Ranges) -> list[Any]:
    """Hooks that widen the ranges by all that passes."""

    def widen(values: dict[Any, float], key: Any, tensor: Tensor) -> None:
        largest = float(tensor.abs().max())
        values[key] = float(np.maximum(values.get(key, 0.0), largest))  # NaN stays NaN

    def stream(values: dict[Any, float], stride: int) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            widen(values, stride, output)
            widen(values, stride, inputs[0])

        return hook

    def result(values: dict[Any, float], key: Any) -> Any:
        return lambda _, inputs, output: widen(values, key, output)

    def widen_latents(layer: nn.Module, tensor: Tensor) -> None:
        largest = tensor.abs().amax(dim=(0, 2, 3))
        before = ranges.latents.get(layer, largest)
        ranges.latents[layer] = torch.maximum(before, largest)

    def means(layer: nn.Module) -> Any:
        return lambda _, inputs, output: widen_latents(layer, output)

    def latents(layer: nn.Module) -> Any:
        return lambda _, inputs: widen_latents(layer, inputs[0])

    handles = [model.stem.register_forward_hook(result(ranges.up, FIRST_STRIDE))]
    for resolution in model.spec.resolutions:
        stride, key = resolution.stride, str(resolution.stride)
        for values, blocks in ((ranges.up, model.encoder[key]), (ranges.down, model.decoder[key])):
            handles += [
                block.register_forward_hook(stream(values, stride)) for block in blocks.children()
            ]
        if stride != FIRST_STRIDE:
            handles.append(model.down[key].register_forward_hook(result(ranges.up, stride)))
            handles.append(model.up[key].register_forward_hook(result(ranges.down, stride // 2)))
    for layer in model.layers:
        assert isinstance(layer, ConvLayer)
        handles += [
            block.register_forward_hook(stream(ranges.down, layer.stride)) for block in layer.blocks
        ]
        handles.append(layer.merge.register_forward_hook(result(ranges.result, layer.merge)))
        networks = [layer.mean, *([layer.prior_mean] if layer.prior_mean else [])]
        handles += [one.register_forward_hook(means(layer)) for one in networks]
        handles.append(layer.into.register_forward_pre_hook(latents(layer)))
    for block in model.modules():
        if isinstance(block, Block):
            handles.append(block.first.register_forward_hook(result(ranges.result, block.first)))
    return handles


@loading
def _converted(model: ConvVAE, integer: IntegerConvVAE, ranges: _Ranges) -> IntegerConvVAE:
    up = {one.stride: ranges.unit(ranges.up, one.stride) for one in model.spec.resolutions}
    down = {one.stride: ranges.unit(ranges.down, one.stride) for one in model.spec.resolutions}

    def blocks(ours: nn.Module, theirs: nn.Module, unit: float) -> None:
        for block, other in zip(ours.children(), theirs.children(), strict=True):
            assert isinstance(block, IntegerBlock)
            assert isinstance(other, Block)
            inner = ranges.unit(ranges.result, other.first)
            typical = TYPICAL_ROOM * ranges.largest(ranges.typical, other.first)
            _fill(block.first, other.first, unit, inner, largest=typical)
            _fill(block.second, other.second, inner, unit)
            assert block.second.gain is not None
            block.second.gain.copy_(other.gain.table)

    r = FIRST_STRIDE
    _fill(integer.stem, model.stem, 1.0 / PIXEL_LIMIT, up[r], unshuffle=r)
    for one in model.spec.resolutions:
        stride, key = one.stride, str(one.stride)
        blocks(integer.encoder[key], model.encoder[key], up[stride])
        blocks(integer.decoder[key], model.decoder[key], down[stride])
        if stride != FIRST_STRIDE:
            _fill(integer.down[key], model.down[key], up[stride // 2], up[stride])
            _fill(integer.up[key], model.up[key], down[stride], down[stride // 2], shuffle=2)
    for index, (layer, other) in enumerate(zip(integer.layers, model.layers, strict=True)):
        assert isinstance(layer, IntegerLayer)
        assert isinstance(other, ConvLayer)
        latents = ranges.latents[other].double() * HEADROOM / LIMIT
        if not bool(torch.isfinite(latents).all()):
            raise SpecError(f"latents of the calibration reach {float(latents.max())}")
        latents.clamp_(min=1e-9)
        above = [up[layer.stride]] if index == 0 else [up[layer.stride], down[layer.stride]]
        width = other.into.out_channels
        inputs = torch.tensor(above, dtype=torch.float64).repeat_interleave(width)
        merged = ranges.unit(ranges.result, other.merge)
        _fill(layer.merge, other.merge, inputs, merged)
        _fill(layer.mean, other.mean, merged, latents)
        if layer.prior_mean is not None:
            assert other.prior_mean is not None
            _fill(layer.prior_mean, other.prior_mean, down[layer.stride], latents)
        _fill(layer.into, other.into, latents, down[layer.stride])
        blocks(layer.blocks, other.blocks, down[layer.stride])
        qualities = torch.arange(QUALITIES, dtype=torch.float64) / (QUALITIES - 1)
        weights = model.knot_weights(qualities).float()
        steps = other.log_step(weights).double().exp()[:, :, 0, 0]
        layer.step.copy_((steps / latents).float())
        layer.unit.copy_(latents.float())
    # The output is of pixels in -1..1, of which 127.5 are a level.
    _fill(integer.output, model.output, down[r], 1.0 / 127.5, shuffle=r, offset=1.0)
    integer.prepare()
    return integer.eval()


def _fill(
    to: nn.Module,
    conv: nn.Module,
    unit_in: float | Tensor,
    unit_out: float | Tensor,
    *,
    shuffle: int = 1,
    unshuffle: int = 1,
    offset: float = 0.0,
    largest: float = 0.0,
) -> None:
    """The integers of a float convolution, of inputs and results in their units.

    shuffle, unshuffle: outputs or inputs are those of a pixel shuffle [c][r][r], which are to be
    [r][r][c]. offset: what the results have added to them, in floats. largest: of the inputs where
    they are in 8 bits.
    """
    assert isinstance(to, IntegerConv2d)
    assert isinstance(conv, nn.Conv2d)
    weight = conv.weight.detach().double().cpu()
    assert conv.bias is not None
    bias = conv.bias.detach().double().cpu() + offset
    inputs = torch.as_tensor(unit_in, dtype=torch.float64).expand(weight.shape[1])
    if to.narrow is not None:
        assert isinstance(unit_in, float)
        to.narrow.fill_(unit_in * BYTE_LIMIT / largest)
        inputs = inputs / to.narrow.double()
    weight = weight * inputs[None, :, None, None]
    weight = weight[:, _cells_first(weight.shape[1], unshuffle)]
    order = _cells_first(len(weight), shuffle)
    weight, bias = weight[order].permute(0, 2, 3, 1), bias[order]
    sums = weight.abs().flatten(1).sum(1)
    rounding = 0.5 * weight[0].numel() * to.limit
    unit = torch.maximum(
        (sums * to.limit + bias.abs()) / (_MOST - rounding),
        weight.abs().flatten(1).amax(1) / to.weight_limit,
    ).clamp(min=1e-30)
    to.weight.copy_((weight / unit[:, None, None, None]).round().to(torch.int16))
    to.bias.copy_((bias / unit).round().to(torch.int32))
    results = torch.as_tensor(unit_out, dtype=torch.float64).expand(len(weight))
    to.factor.copy_((unit / results).float())


def _cells_first(count: int, r: int) -> Tensor:
    """Positions of channels [c][r][r], in the order [r][r][c]."""
    return torch.arange(count).view(-1, r * r).t().reshape(-1)
