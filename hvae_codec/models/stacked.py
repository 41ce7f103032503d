"""M models of one spec as one model, with a leading model dimension on every parameter.

A batch of B images, shared by all models, becomes M * B rows, those of the first model first:
activations are [M * B, ...], parameters [M, ...]. What has no parameters (activations, latents,
rates) then is `HierarchicalVAE`'s own code; only the layers with parameters differ, and they are
here. Row m * B + b has the noise that model m alone draws with `noise_index` m.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvae_codec.models.hvae import HierarchicalVAE, Posterior
from hvae_codec.models.layers.stages import FEW_CHANNELS
from hvae_codec.models.layers.subpixel import SubPixelTransposed, cells_to_picture, subpixel_kernel
from hvae_codec.models.spec import FC, Conv, ConvTransp, Layer, ModelSpec, Reshape

EACH_FROM_CHANNELS = 32
"""On a CPU, from so many input channels on, M convolutions one after the other are faster than one
of M groups: a model's maps fill a vector and stay in the cache."""

_Convolve = Callable[..., Tensor]


class StackedVAE(HierarchicalVAE):
    """M = `models` hierarchical VAEs with weights of their own that see the same images.

    Parameters have the names that `HierarchicalVAE`'s have, and one more dimension, M, in front.
    `forward` takes images [B, C, H, W] and gives a `ForwardOutput` of M * B rows.
    """

    def __init__(self, spec: ModelSpec, models: int, posterior: Posterior = "gaussian") -> None:
        self.models = models
        super().__init__(spec, posterior, build=self._module)
        if posterior == "uniform":
            self.log_steps = nn.ParameterList(
                nn.Parameter(step.detach().expand(models, *step.shape).clone())
                for step in self.log_steps
            )
        for latent, (_, layer) in zip(spec.latents, self._walk(), strict=True):
            kernels = [
                each for each in layer.x_branch.modules() if isinstance(each, _StackedKernel)
            ]
            if latent.bottom_up == 0:
                kernels[0].shared_input = True

    def _module(self, layer: Layer) -> nn.Module:
        match layer:
            case Conv(inputs, outputs, kernel, stride, padding):
                return StackedConv(self.models, inputs, outputs, kernel, stride, padding)
            case ConvTransp(inputs, outputs, kernel, stride, padding):
                geometry = (kernel, stride, padding)
                if outputs <= FEW_CHANNELS and geometry == SubPixelTransposed.GEOMETRY:
                    return StackedSubPixel(self.models, inputs, outputs)
                return StackedConv(self.models, inputs, outputs, *geometry, transposed=True)
            case FC(inputs, outputs):
                return nn.Sequential(nn.Flatten(), StackedLinear(self.models, inputs, outputs))
            case Reshape(shape):
                return nn.Unflatten(1, shape)

    def load_slices(self, first: int, slices: Sequence[HierarchicalVAE]) -> None:
        """Give the models from `first` on the weights of as many single ones."""
        own = dict(self.named_parameters())
        with torch.no_grad():
            for index, single in enumerate(slices, first):
                for name, parameter in single.named_parameters():
                    own[name][index].copy_(parameter)

    def slice_state(self, index: int) -> dict[str, Tensor]:
        """The state dict of a `HierarchicalVAE` that is the model at `index`, on the CPU."""
        own = {name: value[index] for name, value in self.named_parameters()}
        state = {**dict(self.named_buffers()), **own}
        return {name: value.detach().cpu().clone() for name, value in state.items()}

    def clear_slice(self, index: int) -> None:
        """Set all parameters of the model at `index`, and their gradients, to zero."""
        with torch.no_grad():
            for parameter in self.parameters():
                parameter[index].zero_()
                if parameter.grad is not None:
                    parameter.grad[index].zero_()

    def repeated(self, x: Tensor) -> Tensor:
        """What the M * B rows have for images: x [B, ...] M times, [M * B, ...]."""
        return x.expand(self.models, *x.shape).flatten(0, 1)

    def _step_of_rows(self, index: int, batch: int) -> Tensor:
        return self.step(index).repeat_interleave(batch, dim=0)

    def _distortion_nats(self, output: Tensor, x: Tensor) -> Tensor:
        return self.likelihood.distortion_nats(output, self.repeated(x))


class StackedLinear(nn.Module):
    """M linear layers: [M * B, inputs] to [M * B, outputs]."""

    def __init__(self, models: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(models, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(models, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """x_m W_m^T + b_m of each model m."""
        rows = x.reshape(len(self.weight), -1, x.shape[-1])
        return torch.baddbmm(self.bias.unsqueeze(1), rows, self.weight.mT).flatten(0, 1)


class _StackedKernel(nn.Module):
    """Weights and bias of M convolutions, and the two ways to apply them.

    `shared_input`: what comes is one batch [B, C, H, W] for all models, not M of them.
    """

    shared_input = False

    def __init__(self, weight: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(weight))
        self.bias = nn.Parameter(torch.zeros(weight[0], outputs))

    def _apply_kernel(
        self, convolve: _Convolve, x: Tensor, weight: Tensor, bias: Tensor, transposed: bool
    ) -> Tensor:
        """[M * B, C, H, W] of x, of one weight [M, ...] and bias [M, C] each.

        `convolve(x, weight, bias, groups)` is one convolution.
        """
        device = x.device.type
        if torch.is_autocast_enabled(device):  # all models' weights at once
            half = torch.get_autocast_dtype(device)
            x, weight, bias = x.to(half), weight.to(half), bias.to(half)
        inputs = weight.shape[1 if transposed else 2]
        if device == "cpu" and inputs >= EACH_FROM_CHANNELS:
            return self._each(convolve, x, weight, bias)
        return self._grouped(convolve, x, weight, bias)

    def _each(self, convolve: _Convolve, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        models = len(weight)
        parts = [x] * models if self.shared_input else x.chunk(models)
        layout = torch.channels_last if _is_channels_last(x) else torch.contiguous_format
        whole = weight.flatten(0, 1).contiguous(memory_format=layout).view(weight.shape)
        slices = zip(parts, whole.unbind(), bias.unbind(), strict=True)
        return torch.cat([convolve(part, w, b, 1) for part, w, b in slices])

    def _grouped(self, convolve: _Convolve, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        models = len(weight)
        if self.shared_input:  # one dense convolution to the channels of all models
            channels, groups = x, 1
        else:
            rows = x.reshape(models, -1, *x.shape[1:])
            channels, groups = rows.transpose(0, 1).flatten(1, 2), models
        output = convolve(channels, weight.flatten(0, 1), bias.flatten(), groups)
        rows = output.reshape(len(output), models, -1, *output.shape[2:])
        return rows.transpose(0, 1).flatten(0, 1)


class StackedConv(_StackedKernel):
    """M convolutions, all of them transposed or none: [M * B, inputs, H, W] to
    [M * B, outputs, h, w].
    """

    def __init__(
        self,
        models: int,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int,
        padding: int,
        *,
        transposed: bool = False,
    ) -> None:
        channels = (inputs, outputs) if transposed else (outputs, inputs)
        super().__init__((models, *channels, kernel, kernel), outputs)
        self.stride, self.padding, self.transposed = stride, padding, transposed

    def forward(self, x: Tensor) -> Tensor:
        """Each model's convolution of its own rows."""
        one = F.conv_transpose2d if self.transposed else F.conv2d

        def convolve(x: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Tensor:
            return one(x, weight, bias, self.stride, self.padding, groups=groups)

        return self._apply_kernel(convolve, x, self.weight, self.bias, self.transposed)


class StackedSubPixel(_StackedKernel):
    """M `SubPixelTransposed`: [M * B, inputs, h, w] to [M * B, outputs, 2 h, 2 w]."""

    def __init__(self, models: int, inputs: int, outputs: int) -> None:
        kernel = SubPixelTransposed.GEOMETRY[0]
        super().__init__((models, inputs, outputs, kernel, kernel), outputs)

    def forward(self, x: Tensor) -> Tensor:
        """As `SubPixelTransposed`."""

        def convolve(x: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Tensor:
            return F.conv2d(x, weight, bias, padding=1, groups=groups)

        kernel, bias = subpixel_kernel(self.weight), self.bias.repeat(1, 4)
        return cells_to_picture(self._apply_kernel(convolve, x, kernel, bias, transposed=False))


def _is_channels_last(x: Tensor) -> bool:
    return bool(x.is_contiguous(memory_format=torch.channels_last))
