"""The same bits for every instruction set and number of threads, and for a batch that is cut."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hvae_codec import ops
from hvae_codec.ops.integer import Geometry
from tests.ops.integer import reference
from tests.ops.integer.test_values import CASES

ROOT = Path(__file__).parents[3]
LEVELS = ["baseline", "avx2", "avx512", None]
"""Of HVAE_SIMD; without it the best is taken, which may be more than avx512."""


def print_hashes():
    """The build's instruction set and, for 1 and 2 threads, a hash of the results of all cases."""
    hashes = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        digest = hashlib.sha256()
        for name, (geometry, size, more) in CASES.items():
            case = reference.random_case(len(name), geometry, size, **more)
            digest.update(reference.run(*case).numpy().tobytes())
        # Large enough that threads share it.
        case = reference.random_case(7, Geometry(96, 3, 1, 1), (41, 53), (64, 32), residual=True)
        digest.update(reference.run(*case).numpy().tobytes())
        hashes.append(digest.hexdigest())
    print(ops.build_info()["simd_level"], *hashes)


def expected_hash():
    """Of exact arithmetic, but for the large case: that of matrices of float64."""
    digest = hashlib.sha256()
    for name, (geometry, size, more) in CASES.items():
        case = reference.random_case(len(name), geometry, size, **more)
        digest.update(reference.convolve(*case).numpy().tobytes())
    case = reference.random_case(7, Geometry(96, 3, 1, 1), (41, 53), (64, 32), residual=True)
    digest.update(reference.run(*case, op=reference.integer._by_matrices).numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def expected():
    return expected_hash()


@pytest.mark.parametrize("level", LEVELS)
def test_instruction_sets_and_threads_change_no_bit(level, expected):
    environment = {key: value for key, value in os.environ.items() if key != "HVAE_SIMD"}
    if level is not None:
        environment["HVAE_SIMD"] = level
    program = f"import {__name__} as cases; cases.print_hashes()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found, *hashes = done.stdout.split()
    assert hashes == [expected, expected]
    if level is not None and found != level:
        pytest.skip(f"the processor has no {level}; {found} was run")


def test_a_batch_may_be_cut():
    geometry = Geometry(36, 3, 1, 1, 2)
    inputs, *rest, residual = reference.random_case(
        5, geometry, (7, 9), (4, 6), count=5, residual=True
    )
    whole = reference.run(inputs, *rest, residual)
    alone = [
        reference.run([x[n : n + 1] for x in inputs], *rest, residual[n : n + 1]) for n in range(5)
    ]
    assert torch.equal(torch.cat(alone), whole)
