"""How the extension was built, and that the sources hold what the build promises."""

import os
import re
import shutil
import struct
from pathlib import Path

import pytest
import torch

from hvae_codec import ops
from hvae_codec.ops.reference import SIGMA_FLOOR

ROOT = Path(__file__).parents[2]
OPS = ["gaussian_rsample_kl", "gaussian_kl", "uniform_rsample_nats"]


def test_build_info_names_compiler_torch_and_instruction_set():
    info = ops.build_info()
    names = {"compiler", "torch", "cuda_toolkit", "cuda_architectures", "simd_level", "cpu_threads"}
    names.add("integer_simd_level")
    assert set(info) == names
    assert re.match(r"(gcc|clang) \d+", info["compiler"])
    assert info["torch"] == torch.__version__
    assert info["simd_level"] in {"baseline", "avx2", "avx512"}
    assert info["integer_simd_level"] in {"baseline", "avx2", "avx512", "avx512vnni"}
    assert (info["cpu_threads"] == "torch's") == info["compiler"].startswith("gcc")


@pytest.mark.parametrize("name", [*OPS, *(f"{name}_backward" for name in OPS)])
def test_devices_of_each_op(name):
    """CPU always; CUDA exactly where the build found a toolkit."""
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    assert has(f"hvae::{name}", "CPU")
    assert has(f"hvae::{name}", "CUDA") == (ops.build_info()["cuda_toolkit"] != "none")


@pytest.mark.skipif(
    shutil.which("nvcc") is None or os.environ.get("HVAE_CUDA") == "0",
    reason="no nvcc, or HVAE_CUDA=0: make builds without CUDA",
)
def test_a_toolkit_is_used_where_there_is_one():
    assert ops.build_info()["cuda_toolkit"] != "none"
    assert "sm_90" in ops.build_info()["cuda_architectures"].split()


def device_code(library):
    """(kind, architecture) of every piece of device code in a file: kind 1 is PTX, 2 machine code.

    A fat binary is a 16-byte header (magic, version, header size, size of the rest) and entries,
    each with its kind, header size, size and, at byte 28, the architecture.
    """
    data = Path(library).read_bytes()
    for match in re.finditer(re.escape(bytes.fromhex("50ed55ba01001000")), data):
        start = match.start() + 16
        end = start + struct.unpack_from("<Q", data, match.start() + 8)[0]
        while start < end:
            kind, _, header, size = struct.unpack_from("<HHIQ", data, start)
            yield kind, struct.unpack_from("<I", data, start + 28)[0]
            start += header + size


def test_the_library_holds_the_device_code_it_names():
    """Machine code of every architecture, and PTX of the newest; twice, for two source files."""
    named = re.findall(r"sm_(\d+)", ops.build_info()["cuda_architectures"])
    expected = [(2, int(name)) for name in named] + [(1, int(name)) for name in named[-1:]]
    assert sorted(device_code(ops._extension.__file__)) == sorted(2 * expected)


def test_kernels_include_no_torch():
    sources = [
        path
        for folder in ("math", "cpu", "cuda", "integer")
        for path in (ROOT / "csrc" / folder).iterdir()
        if path.name not in {"device.cpp", "op.cpp"}  # the one file of each that meets torch
    ]
    assert len(sources) > 10
    for path in sources:
        included = re.findall(r'#include [<"]([^>"]+)', path.read_text())
        assert not [name for name in included if name.startswith(("torch/", "ATen/", "c10/"))]


def test_the_floor_is_one_number():
    source = (ROOT / "csrc/math/gaussian.h").read_text()
    (stated,) = re.findall(r"kSigmaFloor = ([^;]+);", source)
    assert float(stated) == SIGMA_FLOOR
