"""Philox and both noises: known answers, statistics, bits shared by kernels and reference."""

import numpy as np
import pytest
import scipy
import torch

from hvae_codec import ops
from hvae_codec.ops import reference

INVERSE_SOFTPLUS_ONE = 0.541324854612918  # log(e - 1): sigma = 1


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # Known answers published with Random123 (file kat_vectors), philox4x32 with 10 rounds.
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            (0xFFFFFFFF,) * 4,
            (0xFFFFFFFF,) * 2,
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_words(counter, key, expected):
    words = reference.philox(tuple(torch.tensor([c]) for c in counter), key)
    assert tuple(int(w) for w in words) == expected


def test_words_follow_the_counter_layout():
    """Element i takes word i mod 4 of the block (i div 4, offset) under the seed."""
    seed, offset, index = 0x299F31D0A4093822, 0x0370734413198A2E, 4 * 0x85A308D3243F6A88 % 2**63
    words = reference.random_words(4, seed, offset, index)
    counter = (index // 4 & 0xFFFFFFFF, index // 4 >> 32, 0x13198A2E, 0x03707344)
    block = reference.philox(tuple(torch.tensor([c]) for c in counter), (0xA4093822, 0x299F31D0))
    assert words.tolist() == [int(w) for w in block]


def kernel_normals(numel, seed, offset, first_index=0):
    zeros = torch.zeros(1, numel, dtype=torch.float64)
    raw = torch.full_like(zeros, INVERSE_SOFTPLUS_ONE)
    z, _ = ops.gaussian_rsample_kl(zeros, raw, seed=seed, offset=offset, first_index=first_index)
    return z.flatten().float()


def kernel_uniforms(numel, seed, offset, first_index=0):
    zeros = torch.zeros(1, numel)
    ones = torch.ones_like(zeros)
    z, _ = ops.uniform_rsample_nats(zeros, ones, seed=seed, offset=offset, first_index=first_index)
    return z.flatten()


@pytest.mark.parametrize("numel", [1, 2, 3, 5, 63, 64, 65, 1023, 1024, 1025, 5000])
@pytest.mark.parametrize("first_index", [0, 1, 2, 3, 6, 2**34 - 3, 2**62 + 5])
def test_kernels_draw_the_reference_noise_bit_for_bit(numel, first_index):
    key = (-12345, 2**40 + 7, first_index)
    normals = reference.normal_noise(numel, *key)
    uniforms = reference.uniform_noise(numel, *key)
    assert torch.equal(kernel_uniforms(numel, *key), uniforms)
    # sigma is 1 to the last bits of float64, so rounding to float32 gives eps itself.
    assert torch.equal(kernel_normals(numel, *key), normals)


def test_normal_noise_is_standard_normal():
    noise = kernel_normals(400_000, 11, 0).numpy()
    assert scipy.stats.kstest(noise, "norm").pvalue > 1e-3
    assert abs(noise.mean()) < 4 / np.sqrt(noise.size)
    assert abs(noise.var() - 1) < 4 * np.sqrt(2 / noise.size)
    assert abs(scipy.stats.kurtosis(noise)) < 4 * np.sqrt(24 / noise.size)


def test_neighbours_are_not_correlated():
    """Box-Muller makes pairs of one block: within and across pairs nothing may show."""
    noise = kernel_normals(400_000, 5, 3).numpy()
    for lag in (1, 2, 3, 4, 8):
        for power in (1, 2):
            a, b = noise[:-lag] ** power, noise[lag:] ** power
            assert abs(np.corrcoef(a, b)[0, 1]) < 4.5 / np.sqrt(a.size)


def test_uniform_noise_is_uniform_on_its_half_open_interval():
    noise = kernel_uniforms(400_000, 12, 0).numpy()
    assert scipy.stats.kstest(noise, scipy.stats.uniform(-0.5, 1.0).cdf).pvalue > 1e-3
    assert noise.min() >= -0.5
    assert noise.max() < 0.5


def test_seed_and_offset_both_change_the_noise():
    draws = [kernel_normals(64, seed, offset) for seed in (0, 1, 2**32) for offset in (0, 1, 2**32)]
    for i, first in enumerate(draws):
        for second in draws[i + 1 :]:
            assert (first == second).sum() <= 1


def test_extreme_words_give_finite_normals():
    """The radius at the smallest and the largest u, by way of the reference's own steps."""
    words = torch.tensor([0, 1, 2, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF])
    radius = reference._radius(words)
    u = (words // 2 + 0.5).double() / 2**31
    assert torch.allclose(radius.double(), torch.sqrt(-2 * torch.log(u)), rtol=2e-7, atol=4e-4)
    assert radius.max() < 6.67


def test_directions_lie_on_the_circle_and_fill_it():
    words = torch.arange(0, 2**32, 2**20 + 1)
    cosine, sine = (part.double() for part in reference._direction(words))
    assert (cosine**2 + sine**2 - 1).abs().max() < 3e-7
    octants, _ = np.histogram(torch.atan2(sine, cosine).numpy(), bins=8, range=(-np.pi, np.pi))
    assert octants.min() > 0.97 * words.numel() / 8
