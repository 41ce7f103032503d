"""Optimisers of a training run: Adam or AdamW on all parameters, or Muon or SOAP on the matrices.

To Muon and SOAP a convolution is the matrix [outputs, inputs * height * width]: they are given
views of the weights, which share their memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from hvae_codec.errors import CheckpointError
from hvae_codec.training.optimisers.muon import Muon
from hvae_codec.training.optimisers.soap import Soap

OptimiserName = Literal["adam", "adamw", "muon", "soap"]
OPTIMISERS: tuple[OptimiserName, ...] = get_args(OptimiserName)

STATE_PREFIXES = ("adam.", "muon.", "soap.")
"""What the names of `Optimiser.state_tensors` begin with."""

WEIGHT_DECAY = 0.01
"""Of AdamW, relative to the learning rate; the others have none."""

_OF_ADAM = (".context.", ".modulation.", ".gate.", "steps.")


def is_matrix(name: str, parameter: Tensor) -> bool:
    """Whether Muon or SOAP takes this parameter of one model, else Adam.

    They take the weights of convolutions and linear layers. Tables of values per quality and steps
    of quantisation are no matrices. Contexts of priors are linear maps of few, sparse features,
    which Adam fits better; so are the small networks of betas.
    """
    of_adam = name.endswith(".table") or any(part in name for part in _OF_ADAM)
    return parameter.dim() >= 2 and not of_adam


def matrix_view(parameter: Tensor, *, stacked: bool = False) -> Tensor:
    """The parameter [outputs, inputs, ...] as a matrix [outputs, rest] that shares its memory.

    Columns are in the order of memory: neither update depends on it. stacked: the
    parameter is [M, outputs, inputs, ...] of M models, and contiguous; they give M matrices.

    Raises:
        ValueError: the memory is laid out otherwise than contiguous or channels_last.
    """
    weight = parameter.detach()
    if stacked:
        return weight.view(*weight.shape[:2], -1)
    if not weight.is_contiguous() and weight.dim() == 4:
        weight = weight.permute(0, 2, 3, 1)
    if not weight.is_contiguous():
        raise ValueError(
            f"a weight of shape {tuple(parameter.shape)} has strides {parameter.stride()}; "
            "Muon and SOAP need contiguous or channels_last memory"
        )
    return weight.view(len(weight), -1)


class Optimiser:
    """Up to two of torch's optimisers over the parameters of a model, stepped as one.

    The learning rate of a parameter is that of the step; of values per quality, `table_factor`
    times that. stacked: the parameters are those of many models, [M, ...] each.
    """

    def __init__(
        self,
        model: nn.Module,
        name: OptimiserName,
        table_factor: float = 1.0,
        *,
        stacked: bool = False,
    ) -> None:
        self._parameters = dict(model.named_parameters())
        self._matrices: dict[str, nn.Parameter] = {}
        if name in ("muon", "soap"):
            self._matrices = {
                key: nn.Parameter(matrix_view(parameter, stacked=stacked))
                for key, parameter in self._parameters.items()
                if is_matrix(key, parameter[0] if stacked else parameter)
            }
        groups: dict[float, list[Tensor]] = {}
        for key, parameter in self._parameters.items():
            if key not in self._matrices:
                factor = table_factor if key.endswith(".table") else 1.0
                groups.setdefault(factor, []).append(parameter)
        adam_groups = [{"params": some, "factor": factor} for factor, some in groups.items()]
        self._adam: torch.optim.Adam = (
            torch.optim.AdamW(adam_groups, weight_decay=WEIGHT_DECAY, fused=True)
            if name == "adamw"
            else torch.optim.Adam(adam_groups, fused=True)
        )
        self._matrix_optimiser: Muon | Soap | None = None
        if self._matrices:
            kind = Muon if name == "muon" else Soap
            self._matrix_optimiser = kind(
                [{"params": list(self._matrices.values()), "factor": 1.0}]
            )
        self._name = name

    def step(self, learning_rate: float) -> None:
        """Move all parameters along their gradients, by this learning rate times their factors."""
        for key, matrix in self._matrices.items():
            gradient = self._parameters[key].grad
            parameter = self._parameters[key]
            matrix.grad = None if gradient is None else _like(gradient, parameter, matrix)
        for optimiser in (self._adam, self._matrix_optimiser):
            if optimiser is not None:
                for group in optimiser.param_groups:
                    group["lr"] = learning_rate * group["factor"]
                optimiser.step()

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in (*self._parameters.values(), *self._matrices.values()):
            parameter.grad = None

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that the next step depends on beside the parameters, by name."""
        tensors: dict[str, Tensor] = {}
        for key, parameter in self._parameters.items():
            own = self._adam.state.get(parameter, {})
            tensors |= {f"adam.{moment}.{key}": value for moment, value in own.items()}
        if self._matrix_optimiser is not None:
            for key, matrix in self._matrices.items():
                own = self._matrix_optimiser.state.get(matrix, {})
                tensors |= {f"{self._name}.{moment}.{key}": value for moment, value in own.items()}
        return tensors

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state_tensors` gave of an optimiser of the same kind.

        Raises:
            CheckpointError: a tensor belongs to another kind of optimiser, or to other parameters.
        """
        for full, value in tensors.items():
            kind, moment, key = full.split(".", 2)
            if kind == self._name and self._matrix_optimiser is not None and key in self._matrices:
                owner: Tensor = self._matrices[key]
                state = self._matrix_optimiser.state[owner]
                blank = self._matrix_optimiser.new_state(owner)
            elif kind == "adam" and key in self._parameters and key not in self._matrices:
                owner = self._parameters[key]
                state = self._adam.state[owner]
                blank = {"step": torch.zeros(()), "exp_avg": owner, "exp_avg_sq": owner}
            else:
                raise CheckpointError(f"the state of another optimiser or model: it has {full}")
            expected = blank.get(moment)
            if expected is None or value.shape != expected.shape:
                shape = "none" if expected is None else tuple(expected.shape)
                raise CheckpointError(f"{full} has shape {tuple(value.shape)}, not {shape}")
            # The kernels want moments laid out in memory as their parameter is.
            state[moment] = value if moment == "step" else torch.empty_like(expected).copy_(value)


def _like(gradient: Tensor, parameter: Tensor, matrix: Tensor) -> Tensor:
    """The gradient in the shape of the matrix, columns in the order of the parameter's memory."""
    if parameter.is_contiguous() or parameter.dim() != 4:
        return gradient.reshape(matrix.shape)
    return gradient.permute(0, 2, 3, 1).reshape(matrix.shape)
