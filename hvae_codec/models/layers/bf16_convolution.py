"""Convolutions that train faster in bfloat16 on a CPU.

There the library takes more time for the gradients of the weights than for all else that the layers
do. Such a gradient is a product of two matrices, for which the library is fast: every window of the
layer's larger side, a row each, and the smaller side. That takes half the time, copying out the
windows included (benchmarks/training/step.py).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

MIN_CHANNELS = 16
"""With fewer on either side the product is too narrow to gain."""
WINDOW_BYTES = 2**22
"""About so many are copied out at a time: more would have left the cache when they are read."""


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` with zero padding, neither dilated nor grouped: [B, C, H, W] to [B, C', h, w]."""

    def forward(self, input: Tensor) -> Tensor:
        """The convolution; its gradients as `convolve` has them where it trains in bfloat16."""
        if not trains_in_bfloat16(input):
            return super().forward(input)
        stride, padding = self.stride[0], int(self.padding[0])
        return convolve(input, self.weight, self.bias, stride, padding)


class ConvTranspose2d(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` with zero padding, neither dilated nor grouped: [B, C, h, w] to
    [B, C', H, W].
    """

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """The convolution; its gradients as `convolve` has them where it trains in bfloat16."""
        if output_size is not None or not trains_in_bfloat16(input):
            return super().forward(input, output_size)
        stride, padding = self.stride[0], int(self.padding[0])
        return convolve(input, self.weight, self.bias, stride, padding, transposed=True)


def trains_in_bfloat16(x: Tensor) -> bool:
    """Whether what is computed of x now is for a gradient, and in bfloat16 on a CPU."""
    return (
        x.device.type == "cpu"
        and torch.is_grad_enabled()
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: int,
    *,
    transposed: bool = False,
) -> Tensor:
    """`F.conv2d`, or `F.conv_transpose2d`, of x [B, C, H, W] in bfloat16; the weight's gradient as
    a matrix product where there are channels enough. Weight and bias may be float32, and then their
    gradients are.
    """
    result: Tensor = _Convolution.apply(x.bfloat16(), weight, bias, stride, padding, transposed)
    return result


class _Convolution(torch.autograd.Function):
    """In bfloat16, with float32 parameters."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: int,
        padding: int,
        transposed: bool,
    ) -> Tensor:
        weight = weight.bfloat16()
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding, transposed
        bias = None if bias is None else bias.bfloat16()
        strides, paddings = [stride, stride], [padding, padding]
        return torch.convolution(x, weight, bias, strides, paddings, [1, 1], transposed, [0, 0], 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, transposed = ctx.geometry
        small, large = (x, gradient) if transposed else (gradient, x)
        by_product = min(weight.shape[:2]) >= MIN_CHANNELS
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        mask = [needs_x, needs_weight and not by_product, needs_bias and not by_product]
        to_x, to_weight, to_bias = torch.ops.aten.convolution_backward(
            gradient,
            x,
            weight,
            [gradient.shape[1]],
            [stride, stride],
            [padding, padding],
            [1, 1],
            transposed,
            [0, 0],
            1,
            mask,
        )
        if needs_weight and by_product:
            to_weight = weight_gradient(small, large, weight.shape[2], stride, padding)
        if needs_bias and by_product:
            to_bias = _rows(gradient).sum(0)
        return to_x, to_weight, to_bias, None, None, None


def weight_gradient(small: Tensor, large: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """Gradient fp32 [C, C', kernel, kernel] of a convolution's weight, `small` [B, C, h, w] being
    the gradient of its output and `large` [B, C', H, W] its input; of a transposed convolution's,
    with the two in the other order.
    """
    padded = F.pad(large.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
    padded = padded.contiguous()
    count, _, height, width = small.shape
    image, row, column, _ = padded.stride()
    windows = padded.as_strided(
        # A row of a window is one run of memory: its pixels' channels, side by side.
        (count, height, width, kernel, kernel * large.shape[1]),
        (image, stride * row, stride * column, row, 1),
    )
    at_once = max(1, WINDOW_BYTES // (windows[0].numel() * windows.element_size()))
    size = kernel**2 * large.shape[1]
    products = [
        some.reshape(-1, size).t() @ _rows(others)
        for some, others in zip(
            torch.split(windows, at_once), torch.split(small, at_once), strict=True
        )
    ]
    total: Tensor = products[0].float()
    for product in products[1:]:
        total += product
    return total.view(kernel, kernel, large.shape[1], small.shape[1]).permute(3, 2, 0, 1)


def _rows(x: Tensor) -> Tensor:
    """[B, C, H, W] as a matrix with a row for each pixel."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
