"""SOAP: Adam in the eigenbases of a matrix's running Gram matrices.

N. Vyas et al. 2024, "SOAP: Improving and Stabilizing Shampoo using Adam". Three points differ. The
mean gradient is kept in the eigenbases, and turned with them, where algorithm 3 turns it there in
every step: the steps are the same for fewer products. The first bases are those of several
gradients: the Gram matrix of one has too low a rank. A small ramp on the diagonal determines the
basis of what null space remains: a model in a stack moves as it does alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

BASIS_STEPS = 10
"""Steps from one update of the bases to the next (the paper's)."""

LARGEST_SIDE = 256
"""Longer sides are not turned: on CPUs their QR decomposition costs more than it gains."""

_EPSILON = 1e-8
_RAMP = 1e-6


class Soap(torch.optim.Optimizer):
    """Adam of matrices [..., rows, columns], each in the eigenbases of its own gradients.

    The first `basis_steps` steps are those of Adam; the bases are then set, and its means begin
    anew. betas: shares of the mean gradient, and of its mean square and the Gram matrices, that a
    step keeps. basis_steps: steps from one update of the bases to the next. largest_side: rows or
    columns, if more, are not turned.

    Raises:
        ValueError: a parameter has fewer than two dimensions, or basis_steps is below 1.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        basis_steps: int = BASIS_STEPS,
        largest_side: int = LARGEST_SIDE,
    ) -> None:
        if basis_steps < 1:
            raise ValueError(f"basis_steps {basis_steps}; at least 1 is allowed")
        super().__init__(params, {"lr": lr, "betas": betas})
        self.basis_steps = basis_steps
        self.largest_side = largest_side
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.dim() < 2:
                    raise ValueError(f"SOAP takes matrices, not a shape of {tuple(matrix.shape)}")

    def new_state(self, matrix: Tensor) -> dict[str, Tensor]:
        """What is kept of a matrix before its first step; Gram matrices and bases [..., n, n]."""
        state = {
            "step": torch.zeros(()),
            "exp_avg": torch.zeros_like(matrix),
            "exp_avg_sq": torch.zeros_like(matrix),
        }
        for side, length in (("rows", matrix.shape[-2]), ("columns", matrix.shape[-1])):
            if length <= self.largest_side:
                gram = matrix.new_zeros(*matrix.shape[:-2], length, length)
                state[f"gram_{side}"] = gram
                state[f"basis_{side}"] = torch.eye(length).to(gram).expand_as(gram).clone()
        return state

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state.update(self.new_state(matrix))
                steps = int(state["step"].add_(1).item())
                count = steps if steps <= self.basis_steps else steps - self.basis_steps
                update = _adam(matrix.grad, state, group["betas"], count)
                matrix.add_(update, alpha=-group["lr"])
                _follow(matrix.grad, state, group["betas"][1])
                if steps == self.basis_steps:
                    _set_bases(state)
                elif steps % self.basis_steps == 0:
                    _turn_bases(state)


def _adam(
    gradient: Tensor, state: dict[str, Tensor], betas: tuple[float, float], count: int
) -> Tensor:
    """The step of Adam after `count` gradients, taken in the bases, in learning rates."""
    rows, columns = state.get("basis_rows"), state.get("basis_columns")
    turned = _product(None if rows is None else rows.mT, gradient, columns)
    mean = state["exp_avg"].lerp_(turned, 1.0 - betas[0])
    square = state["exp_avg_sq"].lerp_(turned.square(), 1.0 - betas[1])
    size = (square / (1.0 - betas[1] ** count)).sqrt_().add_(_EPSILON)
    step = (mean / size).div_(1.0 - betas[0] ** count)
    return _product(rows, step, None if columns is None else columns.mT)


def _follow(gradient: Tensor, state: dict[str, Tensor], kept: float) -> None:
    """Move the Gram matrices towards those of the gradient."""
    for side, wide in (("rows", gradient), ("columns", gradient.mT)):
        if (gram := state.get(f"gram_{side}")) is not None:
            gram.lerp_(wide @ wide.mT, 1.0 - kept)


def _set_bases(state: dict[str, Tensor]) -> None:
    """Eigenvectors of the Gram matrices, of the greatest eigenvalue first; new means in them."""
    for side in ("rows", "columns"):
        if (gram := state.get(f"gram_{side}")) is not None:
            # LAPACK refuses what is not finite; the loop reports it when the weights follow.
            finite = _determined(gram).nan_to_num(0.0, 0.0, 0.0)
            state[f"basis_{side}"] = torch.linalg.eigh(finite).eigenvectors.flip(-1).contiguous()
    state["exp_avg"].zero_()
    state["exp_avg_sq"].zero_()


def _turn_bases(state: dict[str, Tensor]) -> None:
    """One power iteration of the bases (algorithm 4), and the mean gradient turned with them."""
    turns: dict[str, Tensor] = {}
    for side in ("rows", "columns"):
        if (gram := state.get(f"gram_{side}")) is not None:
            old = state[f"basis_{side}"]
            new = torch.linalg.qr(_determined(gram) @ old).Q
            turns[side] = new.mT @ old
            state[f"basis_{side}"] = new.contiguous()
    columns = turns.get("columns")
    mean = _product(turns.get("rows"), state["exp_avg"], None if columns is None else columns.mT)
    state["exp_avg"] = mean.contiguous()


def _determined(gram: Tensor) -> Tensor:
    """The Gram matrix plus a ramp, of millionths of its mean eigenvalue, on the diagonal."""
    ramp = torch.linspace(_RAMP, 2.0 * _RAMP, gram.shape[-1]).to(gram)
    mean = gram.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True)
    return gram + torch.diag_embed(mean * ramp)


def _product(left: Tensor | None, matrix: Tensor, right: Tensor | None) -> Tensor:
    """left @ matrix @ right, where None is the identity."""
    turned = matrix if left is None else left @ matrix
    return turned if right is None else turned @ right
