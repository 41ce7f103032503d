"""A trained model with less of Python around its operations, for a few images at a time.

A call of a module looks for hooks, and one of a container goes through it: of a single image of
32x32 that is up to a fifth of the time that the networks of a codec take, of six a tenth
(`benchmarks/results/shorter_networks.json`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvae_codec.models.hvae import HierarchicalVAE
from hvae_codec.models.layers.bf16_convolution import Conv2d, ConvTranspose2d
from hvae_codec.models.layers.subpixel import SubPixelTransposed

Operation = Callable[[Tensor], Tensor]


def direct(model: HierarchicalVAE) -> HierarchicalVAE:
    """A twin that shares the model's parameters and buffers, for inference: its results are the
    same, bit for bit. Hooks of modules do not run in it.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    twin = copy.deepcopy(model, shared)
    _shorten(twin)
    return twin


class _Direct(nn.Module):
    """A module's operations, one after the other, in its place."""

    def __init__(self, module: nn.Module, operations: list[Operation]) -> None:
        super().__init__()
        self.module = module
        self._operations = operations

    def __call__(self, x: Tensor) -> Tensor:
        for operation in self._operations:
            x = operation(x)
        return x


def _shorten(module: nn.Module) -> None:
    """Replace all of a module's children whose operations are known."""
    for name, child in module.named_children():
        operations = _operations(child)
        if operations is None:
            _shorten(child)
        else:
            module.register_module(name, _Direct(child, operations))


def _operations(module: nn.Module) -> list[Operation] | None:
    """What a module does to its input without gradients; None: that is not known."""
    match module:
        case nn.Sequential():
            parts = [_operations(part) for part in module]
            known = [part for part in parts if part is not None]
            return None if len(known) < len(parts) else [each for part in known for each in part]
        case SubPixelTransposed() | nn.Flatten() | nn.Unflatten():
            return [module.forward]
        case Conv2d(weight=weight, bias=bias, stride=stride, padding=tuple(padding)):
            return [lambda x: torch.conv2d(x, weight, bias, stride, padding)]
        case ConvTranspose2d(weight=weight, bias=bias, stride=stride, padding=tuple(padding)):
            return [lambda x: torch.conv_transpose2d(x, weight, bias, stride, padding)]
        case nn.Linear(weight=weight, bias=bias):
            return [lambda x: F.linear(x, weight, bias)]
        case nn.ReLU(inplace=True):
            return [torch.relu_]
    return None
