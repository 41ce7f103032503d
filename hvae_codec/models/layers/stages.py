"""Modules of the rows of a spec, one after the other."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from hvae_codec.models.layers.bf16_convolution import Conv2d, ConvTranspose2d
from hvae_codec.models.layers.subpixel import SubPixelTransposed
from hvae_codec.models.spec import FC, Conv, ConvTransp, Layer, Layers, Reshape

FEW_CHANNELS = 4
"""Up to so many output channels a transposed convolution is computed by sub-pixels."""

Build = Callable[[Layer], nn.Module]
"""What makes the module of a row of a spec."""


def plain_module(layer: Layer) -> nn.Module:
    """PyTorch's module of a row of a spec."""
    match layer:
        case Conv(inputs, outputs, kernel, stride, padding):
            return Conv2d(inputs, outputs, kernel, stride, padding)
        case ConvTransp(inputs, outputs, kernel, stride, padding):
            if outputs <= FEW_CHANNELS and (kernel, stride, padding) == SubPixelTransposed.GEOMETRY:
                return SubPixelTransposed(inputs, outputs)
            return ConvTranspose2d(inputs, outputs, kernel, stride, padding)
        case FC(inputs, outputs):
            return nn.Sequential(nn.Flatten(), nn.Linear(inputs, outputs))
        case Reshape(shape):
            return nn.Unflatten(1, shape)


def stages(layers: Layers, build: Build) -> nn.ModuleList:
    """One module a layer, each but a reshape followed by ReLU."""
    return nn.ModuleList(
        build(layer)
        if isinstance(layer, Reshape)
        else nn.Sequential(build(layer), nn.ReLU(inplace=True))
        for layer in layers
    )


def run_stages(stages: nn.ModuleList, x: Tensor) -> Tensor:
    """The modules one after the other."""
    for stage in stages:
        x = stage(x)
    return x
