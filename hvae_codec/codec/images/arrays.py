"""Images given as arrays and as tensors of PyTorch: what is one, and its pixels."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from hvae_codec.codec.images.limits import check_size
from hvae_codec.errors import AlphaError, ImageError

if TYPE_CHECKING:  # clients of a server take images too, and do not wait for torch
    import torch

ALPHA_ADVICE = (
    "the codec keeps no transparency: flatten the image on a background first, "
    'or drop alpha with picture.convert("RGB")'
)


def check_array(dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Refuse an array that is no image: AlphaError, ImageTooLargeError, ImageError."""
    if dtype != np.uint8:
        raise ImageError(f"an image must be uint8, got {dtype}: scale to 0..255 and round")
    if len(shape) == 3 and shape[2] in (2, 4):
        raise AlphaError(f"array of shape {list(shape)} has alpha; {ALPHA_ADVICE}")
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3)):
        raise ImageError(
            f"an image must have the shape [H, W], [H, W, 1] or [H, W, 3]; got {list(shape)}"
        )
    check_size(shape[1], shape[0])


def from_array(array: NDArray[Any]) -> NDArray[np.uint8]:
    """The image uint8 [H, W, C] of an array. Raises as `check_array`, and ImageError."""
    check_array(array.dtype, array.shape)
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        raise ImageError("a masked array has samples without a value: fill them first")
    plain = np.asarray(array)  # a matrix keeps two dimensions whatever it is asked for
    return np.ascontiguousarray(plain.reshape(*plain.shape[:2], -1))


def is_tensor(image: object) -> TypeGuard[torch.Tensor]:
    """Whether it is a tensor; none exists before torch is imported."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(image, torch.Tensor)


def check_tensor(tensor: torch.Tensor) -> None:
    """Refuse a tensor that has no values of its own in memory: ImageError."""
    if str(tensor.layout) != "torch.strided" or tensor.is_meta or tensor.is_nested:
        kind = "meta" if tensor.is_meta else "nested" if tensor.is_nested else str(tensor.layout)
        raise ImageError(f"an image tensor must be dense, with values; got a {kind} tensor")


def from_tensor(tensor: torch.Tensor) -> NDArray[np.uint8]:
    """The image uint8 [H, W, C] of a tensor [C, H, W]. Raises as `from_array`."""
    check_tensor(tensor)
    if str(tensor.dtype) != "torch.uint8":
        raise ImageError(f"an image must be uint8, got {tensor.dtype}: scale to 0..255 and round")
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 2, 3, 4):
        raise ImageError(f"an image tensor must be [C, H, W]; got {list(tensor.shape)}")
    try:
        array = tensor.detach().cpu().numpy()
    except (RuntimeError, TypeError) as error:  # fake, traced or mapped ones say it in many ways
        raise ImageError(
            f"a tensor of kind {type(tensor).__name__} has no values: {error}"
        ) from error
    return from_array(array.transpose(1, 2, 0))
