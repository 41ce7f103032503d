"""The specification of every op of `hvae_codec.ops`, in plain PyTorch.

This module is what the compiled kernels are tested against, and what runs where they are missing.
It is written to be read: each function is its formula, and autograd differentiates it.

Noise is Philox-4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) in
integer arithmetic. The step from random words to a normal variate uses only additions,
multiplications and square roots of float32, each rounded once, so that every backend yields the
same bits; `csrc/math/noise.h` is its twin.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

SIGMA_FLOOR = 1e-6
"""Smallest standard deviation: sigma = max(softplus(raw), SIGMA_FLOOR)."""

_WORD = 0xFFFFFFFF
_PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_PHILOX_WEYL = (0x9E3779B9, 0xBB67AE85)
_PHILOX_ROUNDS = 10

_SQRT_HALF_BITS = 0x3F3504F3
_LN2_HIGH = 0.693145751953125  # 16 significant bits: exact times any exponent
_LN2_LOW = 1.428606765330187e-06
# log(1 + f) = f + f^2 P(f) on [sqrt(1/2) - 1, sqrt(2) - 1], error 4e-9; highest power first.
_LOG_COEFFICIENTS = (
    -0.07824258,
    0.13003944,
    -0.13207956,
    0.14163585,
    -0.1661128,
    0.20003012,
    -0.25001514,
    0.33333308,
    -0.49999988,
)
# sin(pi a / 4) = a S(a^2) and cos(pi a / 4) = C(a^2) on [0, 1], errors 2.5e-9 and 5e-11.
_SIN_COEFFICIENTS = (-3.595451e-05, 0.002490007, -0.080745436, 0.7853982)
_COS_COEFFICIENTS = (3.5298112e-06, -0.00032593863, 0.015854325, -0.30842513, 1.0)


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> list[Tensor]:
    """Philox-4x32-10 of a counter of four 32-bit words (int64 tensors) under a 64-bit key."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_PHILOX_ROUNDS):
        high0, low0 = _multiply_words(_PHILOX_MULTIPLIERS[0], c0)
        high1, low1 = _multiply_words(_PHILOX_MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0 = (k0 + _PHILOX_WEYL[0]) & _WORD
        k1 = (k1 + _PHILOX_WEYL[1]) & _WORD
    return [c0, c1, c2, c3]


def random_words(
    numel: int, seed: int, offset: int, first_index: int = 0, device: torch.device | None = None
) -> Tensor:
    """Random 32-bit words, int64 [numel], of elements first_index, first_index + 1, ...

    Element i takes word i mod 4 of Philox(counter = (i div 4, offset), key = seed), each 64 bits.
    """
    first_block = first_index // 4
    blocks = torch.arange(first_block, (first_index + numel + 3) // 4, device=device)
    offset_words = (offset & _WORD, (offset >> 32) & _WORD)
    counter = (
        blocks & _WORD,
        (blocks >> 32) & _WORD,
        torch.full_like(blocks, offset_words[0]),
        torch.full_like(blocks, offset_words[1]),
    )
    words = torch.stack(philox(counter, (seed & _WORD, (seed >> 32) & _WORD)), dim=-1)
    skipped = first_index - 4 * first_block
    return words.flatten()[skipped : skipped + numel]


def uniform_noise(
    numel: int, seed: int, offset: int, first_index: int = 0, device: torch.device | None = None
) -> Tensor:
    """u in [-1/2, 1/2), float32 [numel]: the upper 24 bits of each word, exactly."""
    words = random_words(numel, seed, offset, first_index, device)
    return (words >> 8).to(torch.float32) * 2.0**-24 - 0.5


def normal_noise(
    numel: int, seed: int, offset: int, first_index: int = 0, device: torch.device | None = None
) -> Tensor:
    """eps ~ N(0, 1), float32 [numel]: Box-Muller on the words of elements (2j, 2j + 1)."""
    leading = first_index % 2
    even_numel = (leading + numel + 1) // 2 * 2
    words = random_words(even_numel, seed, offset, first_index - leading, device).view(-1, 2)
    radius = _radius(words[:, 0])
    cosine, sine = _direction(words[:, 1])
    pairs = torch.stack((radius * cosine, radius * sine), dim=-1)
    return pairs.flatten()[leading : leading + numel]


def gaussian_rsample_kl(
    mu_q: Tensor,
    raw_q: Tensor,
    mu_p: Tensor | None,
    raw_p: Tensor | None,
    seed: int,
    offset: int,
    batch_dims: int,
    first_index: int = 0,
) -> tuple[Tensor, Tensor]:
    """z = mu_q + sigma_q eps and KL[q || p] in nats; see `hvae_codec.ops.gaussian_rsample_kl`."""
    eps = normal_noise(mu_q.numel(), seed, offset, first_index, mu_q.device).view(mu_q.shape)
    mean = _compute(mu_q)
    z = (mean + sigma(_compute(raw_q)) * eps).to(mu_q.dtype)
    return z, gaussian_kl(mu_q, raw_q, mu_p, raw_p, batch_dims)


def gaussian_kl(
    mu_q: Tensor, raw_q: Tensor, mu_p: Tensor | None, raw_p: Tensor | None, batch_dims: int
) -> Tensor:
    """KL[q || p] in nats = (r^2 + t^2 - 1) / 2 - log r.

    Here r = sigma_q / sigma_p and t = (mu_q - mu_p) / sigma_p.
    """
    ratio = sigma(_compute(raw_q))
    distance = _compute(mu_q)
    if mu_p is not None:
        distance = distance - _compute(mu_p)
    if raw_p is not None:
        sigma_p = sigma(_compute(raw_p))
        ratio, distance = ratio / sigma_p, distance / sigma_p
    kl = 0.5 * ((ratio - 1) * (ratio + 1) + distance * distance) - torch.log(ratio)
    return kl.flatten(batch_dims).sum(-1)


def uniform_rsample_nats(
    mean: Tensor,
    step: Tensor,
    mu_p: Tensor | None,
    raw_p: Tensor | None,
    seed: int,
    offset: int,
    batch_dims: int,
    first_index: int = 0,
) -> tuple[Tensor, Tensor]:
    """z = mean + step u and -log of the bin's mass; see `hvae_codec.ops.uniform_rsample_nats`."""
    u = uniform_noise(mean.numel(), seed, offset, first_index, mean.device).view(mean.shape)
    width = _compute(step)
    z = _compute(mean) + width * u
    distance = z if mu_p is None else z - _compute(mu_p)
    if raw_p is not None:
        sigma_p = sigma(_compute(raw_p))
        distance, width = distance / sigma_p, width / sigma_p
    nats = -log_bin_mass(distance, 0.5 * width)
    return z.to(mean.dtype), nats.flatten(batch_dims).sum(-1)


def log_bin_mass(centre: Tensor, half_width: Tensor) -> Tensor:
    """log[Phi(c + h) - Phi(c - h)] of N(0, 1), accurate in both tails and for narrow bins.

    By symmetry c >= 0. Three exact forms, each where nothing cancels. Narrow (h and c h at most
    1/2): the Hermite series of the density; wide (else, c < h): 1 minus two tails; tail (else):
    exp(-(c - h)^2 / 2) times a difference of scaled complementary error functions.
    """
    c, h = centre.abs(), half_width
    narrow = (h <= 0.5) & (c * h <= 0.5)
    wide = ~narrow & (c < h)
    tail = ~narrow & ~wide
    one = torch.ones_like(c)
    # Masked branches see harmless arguments, so that no NaN leaks into the gradient.
    series = _log_mass_series(torch.where(narrow, c, one), torch.where(narrow, h, 0.25 * one))
    central = _log_mass_wide(torch.where(wide, c, one), torch.where(wide, h, 2 * one))
    outer = _log_mass_tail(torch.where(tail, c, 3 * one), torch.where(tail, h, one))
    return torch.where(narrow, series, torch.where(wide, central, outer))


def _log_mass_series(c: Tensor, h: Tensor) -> Tensor:
    """log of phi(c) * 2h * sum_k h^2k He_2k(c) / (2k + 1)!."""
    ch, hh = c * h, h * h
    previous, term = torch.ones_like(c), ch  # h^n He_n(c) / n! for n = 0, 1
    excess = torch.zeros_like(c)
    for n in range(2, 25):
        previous, term = term, (ch * term - hh * previous) / n
        if n % 2 == 0:
            excess = excess + term / (n + 1)
    return -0.5 * c * c + torch.log(h) + 0.5 * math.log(2 / math.pi) + torch.log1p(excess)


def _log_mass_wide(c: Tensor, h: Tensor) -> Tensor:
    half = math.sqrt(0.5)
    return torch.log1p(-0.5 * (torch.erfc((h - c) * half) + torch.erfc((h + c) * half)))


def _log_mass_tail(c: Tensor, h: Tensor) -> Tensor:
    half = math.sqrt(0.5)
    near, far = torch.special.erfcx((c - h) * half), torch.special.erfcx((c + h) * half)
    difference = near - torch.exp(-2 * c * h) * far
    return -0.5 * (c - h) ** 2 + torch.log(difference) - math.log(2)


def _multiply_words(constant: int, word: Tensor) -> tuple[Tensor, Tensor]:
    """Upper and lower 32 bits of the 64-bit product; int64 wraps, which leaves the bits right."""
    product = word * constant
    return (product >> 32) & _WORD, product & _WORD


def _radius(word: Tensor) -> Tensor:
    """sqrt(-2 log u) with u = (word div 2 + 1/2) / 2^31 in (0, 1]."""
    u = (word >> 1).to(torch.float32) * 2.0**-31 + 2.0**-32
    bits = u.view(torch.int32)
    exponent = (bits - _SQRT_HALF_BITS) >> 23
    f = (bits - (exponent << 23)).view(torch.float32) - 1.0
    power = exponent.to(torch.float32)
    log_u = (f * f * _polynomial(f, _LOG_COEFFICIENTS) + power * _LN2_LOW) + f + power * _LN2_HIGH
    # torch's float32 root may be one unit off (a vendor library); by way of float64 it is right.
    return torch.sqrt((log_u * -2.0).to(torch.float64)).to(torch.float32)


def _direction(word: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of a uniform angle: 29 bits within an octant, three choose the octant."""
    a = ((word & 0x1FFFFFFF) >> 5).to(torch.float32) * 2.0**-24 + 2.0**-25
    square = a * a
    sine = a * _polynomial(square, _SIN_COEFFICIENTS)
    cosine = _polynomial(square, _COS_COEFFICIENTS)
    swap = (word & 0x20000000) != 0
    first, second = torch.where(swap, sine, cosine), torch.where(swap, cosine, sine)
    first = torch.where((word & 0x40000000) != 0, -first, first)
    second = torch.where((word & 0x80000000) != 0, -second, second)
    return first, second


def _polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """Horner's rule, each product and each sum rounded."""
    value = torch.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value


def _compute(x: Tensor) -> Tensor:
    """Half precisions are computed in float32; float32 and float64 in themselves."""
    return x if x.dtype == torch.float64 else x.to(torch.float32)


def sigma(raw: Tensor) -> Tensor:
    """Standard deviation max(softplus(raw), SIGMA_FLOOR) of a raw network output, same shape."""
    return F.softplus(raw, threshold=50.0).clamp_min(SIGMA_FLOOR)
