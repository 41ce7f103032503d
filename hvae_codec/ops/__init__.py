"""Fused diagonal-Gaussian KL, bin information and reparameterised sampling: the face of csrc/.

The compiled extension `hvae_codec._C` computes each op in one pass on CPU and CUDA. Without it the
same functions run through `hvae_codec.ops.reference`, slower, with the same noise.

Common to all ops:

- Tensors are float32, float64, bfloat16 or float16, all of one dtype and device. The others
  broadcast to the shape of the first. Half precisions are computed in float32. Under autocast
  everything is computed and returned in float32.
- sigma = max(softplus(raw), SIGMA_FLOOR); below the floor raw has no gradient. A prior that is left
  out is N(0, I).
- Rates are in nats, summed over all but the first `batch_dims` dimensions, float32 (float64 for
  float64 input).
- Noise is a function of (seed, offset, element index) alone, bit for bit: the same on every device
  and for every number of threads. A batch that is cut in parts keeps its noise if each part says
  with `first_index` which element of the whole it begins with. A CUDA graph replays the numbers it
  was captured with, hence its noise too.
- Rates and gradients are deterministic: no number of threads and no batch split changes their bits.
- Values that are not finite are not looked for, as that would cost a pass (and on CUDA a wait): NaN
  and infinity come out in z and in the rate of the rows they are in. Inside `checked()` every op
  looks and raises `TensorError` naming the argument.
- Gradients are of first order; a second derivative is refused, `hvae_codec.ops.reference`
  has it.
"""

import contextlib
import functools
import importlib
from collections.abc import Iterator
from types import ModuleType

import torch
from torch import Tensor

from hvae_codec.errors import ExtensionMissingError, TensorError
from hvae_codec.ops import reference
from hvae_codec.ops.reference import SIGMA_FLOOR, sigma

_extension: ModuleType | None = None
_import_error: ImportError | None = None
try:
    _extension = importlib.import_module("hvae_codec._C")
except ImportError as error:
    _import_error = error
else:
    from hvae_codec.ops import torch_rules  # noqa: F401

__all__ = [
    "SIGMA_FLOOR",
    "build_info",
    "checked",
    "extension_available",
    "gaussian_kl",
    "gaussian_rsample_kl",
    "require_extension",
    "sigma",
    "uniform_rsample_nats",
]

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_AUTOCAST_DEVICES = ("cpu", "cuda")
_checking = False


def gaussian_rsample_kl(
    mu_q: Tensor,
    raw_q: Tensor,
    mu_p: Tensor | None = None,
    raw_p: Tensor | None = None,
    *,
    seed: int,
    offset: int = 0,
    batch_dims: int = 1,
    first_index: int = 0,
) -> tuple[Tensor, Tensor]:
    """Sample of a diagonal Gaussian posterior, and its KL divergence from a Gaussian prior.

    Args:
        mu_q, raw_q: posterior N(mu_q, sigma_q^2), shape [*batch, ...]; raw_q broadcasts to mu_q.
        mu_p, raw_p: prior N(mu_p, sigma_p^2), broadcast to mu_q; both or neither.
        seed, offset: key of the noise, any 64-bit integers; count `offset` up from call to call.
        batch_dims: how many leading dimensions the rate keeps.
        first_index: index of the first element within the whole that this call is a part of.

    Returns:
        z = mu_q + sigma_q eps, shape and dtype of mu_q, and KL[q || p] in nats, shape [*batch].

    Raises:
        TensorError: dtype, shape or device do not fit; the message names the argument.

    Kingma & Welling, "Auto-Encoding Variational Bayes" (2014), section 2.4 and appendix B.
    """
    names = ("mu_q", "raw_q", "mu_p", "raw_p")
    location, scale, mean, raw = _prepare(names, (mu_q, raw_q, mu_p, raw_p), batch_dims)
    _check_key(seed, offset, first_index)
    if _extension is None:
        return reference.gaussian_rsample_kl(
            location, scale, mean, raw, seed, offset, batch_dims, first_index
        )
    result: tuple[Tensor, Tensor] = torch.ops.hvae.gaussian_rsample_kl(
        location, scale, mean, raw, seed, offset, batch_dims, first_index, 1
    )
    return result


def gaussian_kl(
    mu_q: Tensor,
    raw_q: Tensor,
    mu_p: Tensor | None = None,
    raw_p: Tensor | None = None,
    *,
    batch_dims: int = 1,
) -> Tensor:
    """KL[q || p] in nats, shape [*batch]; as `gaussian_rsample_kl` without the sample."""
    names = ("mu_q", "raw_q", "mu_p", "raw_p")
    location, scale, mean, raw = _prepare(names, (mu_q, raw_q, mu_p, raw_p), batch_dims)
    if _extension is None:
        return reference.gaussian_kl(location, scale, mean, raw, batch_dims)
    result: Tensor = torch.ops.hvae.gaussian_kl(location, scale, mean, raw, batch_dims)
    return result


def uniform_rsample_nats(
    mean: Tensor,
    step: Tensor,
    mu_p: Tensor | None = None,
    raw_p: Tensor | None = None,
    *,
    seed: int,
    offset: int = 0,
    batch_dims: int = 1,
    first_index: int = 0,
) -> tuple[Tensor, Tensor]:
    """Sample of a uniform posterior of width `step`, and the information content of its bin.

    Args:
        mean, step: posterior U(mean - step/2, mean + step/2), shape [*batch, ...]; step > 0
            broadcasts to mean, so one learned vector can serve a whole batch.
        mu_p, raw_p: prior N(mu_p, sigma_p^2), broadcast to mean; both or neither.
        seed, offset, batch_dims, first_index: as in `gaussian_rsample_kl`.

    Returns:
        z = mean + step u with u in [-1/2, 1/2), shape and dtype of mean, and
        -log[Phi((z + step/2 - mu_p) / sigma_p) - Phi((z - step/2 - mu_p) / sigma_p)] in nats, shape
        [*batch]. A step of 0 has infinite information, a negative one NaN.

    Raises:
        TensorError: dtype, shape or device do not fit; the message names the argument.

    The bound of Ballé et al., "End-to-end optimized image compression" (2017), section 3, with a
    width of its own for every dimension.
    """
    names = ("mean", "step", "mu_p", "raw_p")
    location, width, mu, raw = _prepare(names, (mean, step, mu_p, raw_p), batch_dims)
    _check_key(seed, offset, first_index)
    if _extension is None:
        return reference.uniform_rsample_nats(
            location, width, mu, raw, seed, offset, batch_dims, first_index
        )
    result: tuple[Tensor, Tensor] = torch.ops.hvae.uniform_rsample_nats(
        location, width, mu, raw, seed, offset, batch_dims, first_index, 1
    )
    return result


def extension_available() -> bool:
    """Whether the compiled ops are in use."""
    return _extension is not None


def require_extension() -> None:
    """Raises ExtensionMissingError, saying how to build it, where the extension is missing."""
    if _extension is None:
        raise ExtensionMissingError(
            f"the compiled extension hvae_codec._C cannot be loaded ({_import_error}); build it "
            "with a C++ compiler by `pip install --no-build-isolation -e .` in the source tree"
        ) from _import_error


def build_info() -> dict[str, str]:
    """How the extension was built and what it uses; raises ExtensionMissingError without it.

    Keys: compiler, torch, cuda_toolkit and cuda_architectures ("none" without CUDA), simd_level,
    integer_simd_level (of the integer kernels), cpu_threads ("torch's", or "one" where the
    compiler's OpenMP is not torch's).
    """
    require_extension()
    assert _extension is not None
    return dict(_extension.build_info())


@contextlib.contextmanager
def checked() -> Iterator[None]:
    """Within this context every op verifies that all values are finite and that step > 0.

    For debugging: each call costs a pass over its inputs, and on CUDA a synchronisation. Not for
    use inside compiled functions.
    """
    global _checking
    before, _checking = _checking, True
    try:
        yield
    finally:
        _checking = before


def _prepare(
    names: tuple[str, ...], tensors: tuple[Tensor | None, ...], batch_dims: int
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Checks the arguments and brings them to one dtype and shape."""
    first = tensors[0]
    if not isinstance(first, Tensor):
        raise TensorError(f"{names[0]} must be a tensor, not {type(first).__name__}")
    if (tensors[2] is None) != (tensors[3] is None):
        raise TensorError(f"{names[2]} and {names[3]} must both be given, or neither")
    if not 0 <= batch_dims <= first.dim():
        raise TensorError(
            f"batch_dims is {batch_dims}; {names[0]} of shape {tuple(first.shape)} allows 0 to "
            f"{first.dim()}"
        )
    device = first.device.type
    autocast = device in _AUTOCAST_DEVICES and torch.is_autocast_enabled(device)
    fit = functools.partial(_fit, first=first, first_name=names[0], autocast=autocast)
    location, scale, mean, raw = (
        None if t is None and n in names[2:] else fit(n, t)
        for n, t in zip(names, tensors, strict=True)
    )
    assert location is not None
    assert scale is not None
    return location, scale, mean, raw


def _check_key(seed: int, offset: int, first_index: int) -> None:
    for name, number in (("seed", seed), ("offset", offset)):
        if not -(2**63) <= number < 2**63:
            raise TensorError(f"{name} is {number}; it must fit in 64 bits with a sign")
    if not 0 <= first_index < 2**63:
        raise TensorError(f"first_index is {first_index}; allowed: 0 to 2^63 - 1")


def _fit(
    name: str, tensor: Tensor | None, *, first: Tensor, first_name: str, autocast: bool
) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise TensorError(f"{name} must be a tensor, not {type(tensor).__name__}")
    if tensor.dtype not in _DTYPES:
        raise TensorError(f"{name} is {tensor.dtype}; allowed: float32, float64, bfloat16, float16")
    if tensor.device != first.device:
        raise TensorError(f"{name} is on {tensor.device}, but {first_name} is on {first.device}")
    if autocast and tensor.dtype != torch.float64:
        tensor = tensor.to(torch.float32)
    elif tensor.dtype != first.dtype:
        raise TensorError(f"{name} is {tensor.dtype}, but {first_name} is {first.dtype}")
    # Fewer dimensions first: comparing sizes would tie an exported batch to them.
    if tensor.dim() != first.dim() or tensor.shape != first.shape:
        try:
            tensor = tensor.expand(first.shape)
        except RuntimeError as error:
            raise TensorError(
                f"{name} has shape {tuple(tensor.shape)}, which does not broadcast to the "
                f"{tuple(first.shape)} of {first_name}"
            ) from error
    if _checking:
        _check_values(name, tensor)
    return tensor


def _check_values(name: str, tensor: Tensor) -> None:
    if not bool(torch.isfinite(tensor).all()):
        raise TensorError(f"{name} holds values that are not finite")
    if name == "step" and not bool((tensor > 0).all()):
        raise TensorError("step holds values that are not positive")
