"""What torch must know of the ops besides kernels and gradients: shapes, vmap, autocast.

Imported by `hvae_codec.ops` once the extension is loaded. In every schema `copies` says that the
rows hold that many equal stacks, one after the other, which all draw the noise of the first: it is
how `vmap` keeps its promise that each slice sees what it would see alone.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.library import register_autocast, register_autograd, register_fake, register_vmap

_DEVICES = ("cpu", "cuda")


def _rate_like(location: Tensor, batch_dims: int) -> Tensor:
    dtype = torch.float64 if location.dtype == torch.float64 else torch.float32
    return location.new_empty(location.shape[:batch_dims], dtype=dtype)


def _dense_like(tensor: Tensor) -> Tensor:
    return tensor.new_empty(tensor.shape)


def _gradients_like(location: Tensor, mu_p: Tensor | None) -> list[Tensor]:
    return [_dense_like(location) for _ in range(2 if mu_p is None else 4)]


def _register_sampling(name: str) -> None:
    """Rules of the two ops (location, scale, mu_p, raw_p, seed, offset, ...) -> (z, rate)."""
    op = getattr(torch.ops.hvae, name).default
    backward_op = getattr(torch.ops.hvae, f"{name}_backward").default

    def fake(
        location: Tensor,
        scale: Tensor,
        mu_p: Tensor | None,
        raw_p: Tensor | None,
        seed: int,
        offset: int,
        batch_dims: int,
        first_index: int,
        copies: int,
    ) -> tuple[Tensor, Tensor]:
        return _dense_like(location), _rate_like(location, batch_dims)

    def fake_backward(
        d_z: Tensor | None,
        d_rate: Tensor | None,
        location: Tensor,
        scale: Tensor,
        mu_p: Tensor | None,
        raw_p: Tensor | None,
        *_: int,
    ) -> list[Tensor]:
        return _gradients_like(location, mu_p)

    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        tensors = _batched(args[:4], in_dims[:4], info.batch_size)
        seed, offset, batch_dims, first_index, copies = args[4:]
        numbers = (seed, offset, batch_dims + 1, first_index, copies * info.batch_size)
        return op(*tensors, *numbers), (0, 0)

    def vmap_backward(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        tensors = _batched(args[:6], in_dims[:6], info.batch_size)
        seed, offset, batch_dims, first_index, copies = args[6:]
        numbers = (seed, offset, batch_dims + 1, first_index, copies * info.batch_size)
        grads = backward_op(*tensors, *numbers)
        return grads, [0] * len(grads)

    register_fake(op, fake)
    register_fake(backward_op, fake_backward)
    _refuse_double_backward(backward_op, name)
    register_vmap(op, vmap)
    register_vmap(backward_op, vmap_backward)
    for device in _DEVICES:
        register_autocast(op, device, torch.float32)


def _register_kl() -> None:
    """Rules of gaussian_kl(mu_q, raw_q, mu_p, raw_p, batch_dims) -> kl."""
    op = torch.ops.hvae.gaussian_kl.default
    backward_op = torch.ops.hvae.gaussian_kl_backward.default

    def fake(
        mu_q: Tensor, raw_q: Tensor, mu_p: Tensor | None, raw_p: Tensor | None, batch_dims: int
    ) -> Tensor:
        return _rate_like(mu_q, batch_dims)

    def fake_backward(
        d_kl: Tensor,
        mu_q: Tensor,
        raw_q: Tensor,
        mu_p: Tensor | None,
        raw_p: Tensor | None,
        batch_dims: int,
    ) -> list[Tensor]:
        return _gradients_like(mu_q, mu_p)

    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        return op(*_batched(args[:4], in_dims[:4], info.batch_size), args[4] + 1), 0

    def vmap_backward(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        tensors = _batched(args[:5], in_dims[:5], info.batch_size)
        grads = backward_op(*tensors, args[5] + 1)
        return grads, [0] * len(grads)

    register_fake(op, fake)
    register_fake(backward_op, fake_backward)
    _refuse_double_backward(backward_op, "gaussian_kl")
    register_vmap(op, vmap)
    register_vmap(backward_op, vmap_backward)
    for device in _DEVICES:
        register_autocast(op, device, torch.float32)


def _refuse_double_backward(backward_op: Any, name: str) -> None:
    def refuse(ctx: Any, *_: Any) -> None:
        raise NotImplementedError(
            f"hvae::{name} has no second derivative; use hvae_codec.ops.reference.{name}, "
            "which torch differentiates as often as you like"
        )

    register_autograd(backward_op, refuse)


def _batched(
    tensors: Sequence[Tensor | None], dims: Sequence[int | None], size: int
) -> list[Tensor | None]:
    """Each tensor with the mapped dimension in front, those not mapped repeated (not copied)."""
    moved: list[Tensor | None] = []
    for tensor, dim in zip(tensors, dims, strict=True):
        if tensor is None:
            moved.append(None)
        elif dim is None:
            moved.append(tensor.expand(size, *tensor.shape))
        else:
            moved.append(tensor.movedim(dim, 0))
    return moved


_register_sampling("gaussian_rsample_kl")
_register_sampling("uniform_rsample_nats")
_register_kl()
