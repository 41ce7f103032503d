"""How many models of a sweep fit into memory as one stack."""

from __future__ import annotations

import os

import torch
from torch import nn

from hvae_codec.errors import SweepError
from hvae_codec.models.hvae import HierarchicalVAE
from hvae_codec.models.zoo import get_spec
from hvae_codec.training.recipe import Recipe

SHARE = 0.5
"""Of the memory that is free, what a sweep takes."""

MOST_ON_CPU = 32
"""More models a stack save a CPU nothing: its calls are long enough."""

_BYTES_A_PARAMETER = 16  # weight, gradient and Adam's two moments
_BYTES_AN_ACTIVATION = 12  # value, gradient and a copy in another layout or precision


def model_bytes(recipe: Recipe) -> int:
    """Memory, in bytes, that one more model of a stack takes in training; an estimate."""
    spec = get_spec(recipe.spec)
    model = HierarchicalVAE(spec, recipe.posterior)
    activations = 0

    def count(module: nn.Module, inputs: object, output: object) -> None:
        nonlocal activations
        if isinstance(output, torch.Tensor) and not list(module.children()):
            activations += output.numel()

    hooks = [module.register_forward_hook(count) for module in model.modules()]
    with torch.inference_mode():
        model(torch.zeros(1, *spec.image_shape), seed=0)
    for hook in hooks:
        hook.remove()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return parameters * _BYTES_A_PARAMETER + activations * recipe.batch_size * _BYTES_AN_ACTIVATION


def fitting_chunk(recipe: Recipe, models: int, device: str, workers: int = 1) -> int:
    """Models a stack, so that `workers` stacks at a time fit into what is free now.

    Chunks are as equal as they can be, and no fewer than the workers.

    Raises:
        SweepError: not even one model fits.
    """
    free = _free_bytes(device)
    fitting = int(free * SHARE / workers / model_bytes(recipe))
    if fitting < 1:
        raise SweepError(
            f"{free / 2**20:.0f} MiB are free on {device}, too few to train one model of "
            f"{recipe.spec} with minibatches of {recipe.batch_size}"
        )
    if not device.startswith("cuda"):
        fitting = min(fitting, MOST_ON_CPU)
    chunks = max(-(-models // fitting), min(workers, models))
    return -(-models // chunks)


def _free_bytes(device: str) -> int:
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
