"""Builds what cannot be declared in pyproject.toml.

- `hvae_codec._integer` from csrc/integer: sums of integers for entropy coding, without torch.
- `hvae_codec._C` from csrc/: the CPU kernels once per instruction set, the CUDA kernels where they
  are asked for or a GPU is there, and the registration with torch. Kernels include no torch header,
  so they are compiled here directly, with the flags they need; torch's own build helper would also
  insist that the toolkit's version be torch's.
- `hvae_codec.v1.codec_pb2*` from proto/.

Environment: HVAE_CUDA=0 leaves CUDA out, HVAE_CUDA=1 builds it for all CUDA_ARCHITECTURES, and
HVAE_CUDA_ARCHITECTURES, such as "80 90", for those. Unset, CUDA is built for the GPUs of this
machine if PyTorch sees any and nvcc is found.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.extension import Extension

ROOT = Path(__file__).parent
PROTOCOL = Path("hvae_codec/v1/codec.proto")
WARNINGS = ["-Wall", "-Wextra", "-Werror"]
# No contraction and no library errno: results are the same bits under every instruction set.
KERNEL_FLAGS = ["-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
AVX2 = ["-mavx2", "-mfma"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
# GCC 12 takes the undefined operands in its own header of intrinsics for a mistake.
AVX512 += ["-mprefer-vector-width=512", "-Wno-maybe-uninitialized"]
CUDA_SOURCES = ("csrc/cuda/gaussian.cu", "csrc/cuda/uniform.cu")
TORCH_SOURCES = (
    "csrc/bind.cpp",
    "csrc/register.cpp",
    "csrc/autograd.cpp",
    "csrc/build_info.cpp",
    "csrc/cpu/device.cpp",
    "csrc/integer/op.cpp",
)
CUDA_ARCHITECTURES = ("80", "90", "100")


def is_x86() -> bool:
    return platform.machine().lower() in {"x86_64", "amd64"}


def simd_sources(part: str) -> dict[str, list[str]]:
    """CPU kernel source of csrc/cpu or csrc/integer -> instruction set flags."""
    sources: dict[str, list[str]] = {
        f"csrc/{part}/baseline.cpp": [],
        f"csrc/{part}/dispatch.cpp": [],
    }
    if is_x86():
        sources[f"csrc/{part}/avx2.cpp"] = AVX2
        sources[f"csrc/{part}/avx512.cpp"] = AVX512
        if part == "integer":
            sources["csrc/integer/avx512vnni.cpp"] = [*AVX512, "-mavx512vnni"]
    return sources


class CudaToolkit:
    """The toolkit behind the `nvcc` that is found; nvcc itself is asked where its parts are."""

    def __init__(self, nvcc: str, wanted: Sequence[str]) -> None:
        self.nvcc = nvcc
        report = self._ask("--dryrun", "hvae.cu")
        top = re.search(r"TOP=(\S+)", report)
        target = re.search(r"_TARGET_DIR_=(\S+)", report)
        if top is None:
            raise RuntimeError(f"{nvcc} --dryrun does not say where its toolkit is:\n{report}")
        self.home = Path(top[1]).resolve()
        self.root = self.home / target[1] if target else self.home
        release = re.search(r"release ([\d.]+)", self._ask("--version"))
        self.version = release[1] if release else "unknown"
        known = self._ask("--list-gpu-code").split()
        self.architectures = [a for a in wanted if f"sm_{a}" in known]
        if not self.architectures:
            raise SystemExit(f"{nvcc} knows none of the architectures {' '.join(wanted)}")

    def _ask(self, *arguments: str) -> str:
        done = subprocess.run([self.nvcc, *arguments], capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def code_flags(self) -> list[str]:
        """Machine code for each architecture, and PTX of the newest for those to come."""
        flags = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in self.architectures]
        newest = self.architectures[-1]
        return [*flags, f"-gencode=arch=compute_{newest},code=compute_{newest}"]

    def compile_command(self) -> list[str]:
        # The host half of nvcc's output meets pragmas that are meant for the other half.
        host = ",".join(["-fPIC", "-fvisibility=hidden", *WARNINGS, "-Wno-unknown-pragmas"])
        flags = ["-std=c++17", "-O3", "-Werror=all-warnings", f"-Xcompiler={host}"]
        return [self.nvcc, *flags, *self.code_flags()]

    def library_dir(self) -> Path:
        for name in ("lib64", "lib"):
            if list((self.root / name).glob("libcudart_static.a")):
                return self.root / name
        raise RuntimeError(f"no libcudart_static.a under {self.root}/lib64 or {self.root}/lib")


def wanted_architectures(*, required: bool) -> Sequence[str]:
    """Architectures of CUDA that are asked for, or those of this machine's GPUs."""
    if text := os.environ.get("HVAE_CUDA_ARCHITECTURES"):
        named = text.replace(";", " ").split()
        if not all(name.isdigit() for name in named):
            raise SystemExit(f"HVAE_CUDA_ARCHITECTURES is {' '.join(named)!r}; allowed: 80 90")
        return named
    if required:
        return CUDA_ARCHITECTURES
    import torch

    gpus = range(torch.cuda.device_count())
    return sorted({"{}{}".format(*torch.cuda.get_device_capability(gpu)) for gpu in gpus}, key=int)


def find_cuda() -> CudaToolkit | None:
    wish = os.environ.get("HVAE_CUDA", "")
    if wish not in {"", "0", "1"}:
        raise SystemExit(f"HVAE_CUDA is {wish!r}; allowed: 0 (leave out), 1 (require)")
    import torch

    wanted = wanted_architectures(required=wish == "1")
    if wish == "0" or not wanted or (wish == "" and torch.version.cuda is None):
        return None
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path=f"{home}/bin")
    if nvcc is None:
        if wish == "1" or os.environ.get("HVAE_CUDA_ARCHITECTURES"):
            raise SystemExit(f"CUDA is asked for, but there is no nvcc on PATH or in {home}/bin")
        return None
    return CudaToolkit(nvcc, wanted)


class BuildExtension(build_ext):
    """Compiles each source with its own flags, in parallel, and links them with torch."""

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name))
        # One folder for all builds: that of an editable install is temporary, and a wheel after it
        # takes the same objects.
        objects_dir = ROOT / "build" / "objects"
        objects_dir.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        if ext.name == "hvae_codec._integer":
            commands = integer_commands(objects_dir)
            link = link_alone(list(commands), target)
        else:
            cuda = find_cuda()
            print(f"hvae_codec._C: CUDA {cuda.version if cuda else 'left out'}", flush=True)
            commands = compile_commands(objects_dir, cuda)
            link = link_command(list(commands), target, cuda)
        changed = max(path.stat().st_mtime for path in [*ROOT.glob("csrc/**/*.*"), Path(__file__)])
        run_all([c for made, c in commands.items() if not is_newer(made, changed)])
        subprocess.run(link, check=True)


def is_newer(made: Path, changed: float) -> bool:
    return made.exists() and made.stat().st_mtime > changed


def compiler() -> str:
    return os.environ.get("CXX", "c++")


def is_gcc() -> bool:
    """Clang's OpenMP is another library than the one torch is built with."""
    ask = [compiler(), "-dM", "-E", "-x", "c++", os.devnull]
    macros = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
    return "__GNUC__" in macros and "__clang__" not in macros


def torch_include_flags() -> list[str]:
    """As system headers, so that our warnings can be errors."""
    import sysconfig

    from torch.utils.cpp_extension import include_paths

    paths = [*include_paths(), sysconfig.get_paths()["include"]]
    return [flag for path in paths for flag in ("-isystem", path)]


def base_command() -> list[str]:
    """The compiler, with what all sources but those of CUDA have in common."""
    x86 = ["-DHVAE_X86"] if is_x86() else []
    return [compiler(), "-std=c++17", "-fPIC", "-fvisibility=hidden", *WARNINGS, *x86]


def made_by(objects_dir: Path, source: str, command: list[str]) -> tuple[Path, list[str]]:
    """A source's object file, and the command that makes it."""
    stem = source.removeprefix("csrc/").replace("/", "_")
    # The name tells commands apart: a change of flags, compiler or torch makes another object.
    version = hashlib.sha256(" ".join(command).encode()).hexdigest()[:8]
    made = objects_dir / f"{stem}.{version}.o"
    return made, [*command, "-c", source, "-o", str(made)]


def kernel_commands(objects_dir: Path, part: str) -> dict[Path, list[str]]:
    """Object file -> command, of the CPU kernels of csrc/cpu or csrc/integer."""
    return dict(
        made_by(objects_dir, source, [*base_command(), *KERNEL_FLAGS, *flags])
        for source, flags in simd_sources(part).items()
    )


def integer_commands(objects_dir: Path) -> dict[Path, list[str]]:
    """Object file -> command, of the extension without torch."""
    import sysconfig

    import pybind11

    flags = [
        "-O2",
        "-isystem",
        pybind11.get_include(),
        "-isystem",
        sysconfig.get_paths()["include"],
    ]
    module = made_by(objects_dir, "csrc/integer/module.cpp", [*base_command(), *flags])
    return {**kernel_commands(objects_dir, "integer"), module[0]: module[1]}


def compile_commands(objects_dir: Path, cuda: CudaToolkit | None) -> dict[Path, list[str]]:
    """Object file -> command, of the extension with torch."""
    import torch

    commands = {**kernel_commands(objects_dir, "cpu"), **kernel_commands(objects_dir, "integer")}

    def add(source: str, command: list[str]) -> None:
        made, line = made_by(objects_dir, source, command)
        commands[made] = line

    if cuda is not None:
        for source in CUDA_SOURCES:
            add(source, cuda.compile_command())

    torch_flags = ["-std=c++20", "-O2"]  # newer torch headers need it, older ones allow it
    torch_flags += torch_include_flags()
    # Without it at::parallel_for is a plain loop. Nothing is linked for it: the symbols are those
    # of the OpenMP library that torch has loaded, so there is one pool of threads.
    torch_flags += ["-fopenmp"] if is_gcc() else []
    torch_flags += [f"-DHVAE_TORCH_VERSION={torch.__version__}"]
    torch_flags += ["-DHVAE_CUDA", "-isystem", str(cuda.root / "include")] if cuda else []
    torch_flags += [f"-DHVAE_CUDA_VERSION={cuda.version if cuda else 'none'}"]
    names = " ".join(f"sm_{a}" for a in cuda.architectures) if cuda else "none"
    torch_flags += [f"-DHVAE_CUDA_ARCHITECTURES={names}"]
    for source in [*TORCH_SOURCES, *(["csrc/cuda/device.cpp"] if cuda else [])]:
        add(source, [*base_command(), *torch_flags])
    return commands


def run_all(commands: list[list[str]]) -> None:
    """Runs commands, as many at a time as there are processors (MAX_JOBS lowers it)."""
    from concurrent.futures import ThreadPoolExecutor

    jobs = int(os.environ.get("MAX_JOBS", 0)) or os.cpu_count() or 1
    with ThreadPoolExecutor(jobs) as pool:
        for done in pool.map(lambda c: subprocess.run(c, check=False, cwd=ROOT), commands):
            if done.returncode != 0:
                raise SystemExit(f"compilation failed: {' '.join(map(str, done.args))}")


def link_alone(objects: list[Path], target: Path) -> list[str]:
    return [compiler(), "-shared", *map(str, objects), "-o", str(target)]


def link_command(objects: list[Path], target: Path, cuda: CudaToolkit | None) -> list[str]:
    from torch.utils.cpp_extension import library_paths

    command = link_alone(objects, target)
    command += [f"-L{path}" for path in library_paths()]
    command += ["-ltorch", "-ltorch_cpu", "-ltorch_python", "-lc10"]
    if cuda is not None:
        command += ["-lc10_cuda", f"-L{cuda.library_dir()}", "-lcudart_static", "-lrt", "-ldl"]
    return command


class BuildPython(build_py):
    """Generates the protobuf modules before the packages are gathered."""

    def run(self) -> None:
        generate_protocol()
        super().run()


def generate_protocol() -> None:
    if not (ROOT / "proto" / PROTOCOL).exists():
        print(f"warning: proto/{PROTOCOL} is missing: no gRPC modules are built", file=sys.stderr)
        return
    try:
        import google.api  # of googleapis-common-protos, with the .proto files beside the modules
        import grpc_tools
    except ImportError as error:
        print(
            f"warning: {error}, so the gRPC modules (hvae_codec.v1) are not built; `pip install "
            "grpcio-tools googleapis-common-protos` and install again to get the service",
            file=sys.stderr,
        )
        return
    bundled = Path(grpc_tools.__file__).parent / "_proto"
    shared = Path(google.api.__path__[0]).parents[1]
    includes = [f"-I{folder}" for folder in ("proto", bundled, shared)]
    outputs = ["--python_out=.", "--grpc_python_out=.", "--pyi_out=."]
    command = [sys.executable, "-m", "grpc_tools.protoc", *includes, *outputs, str(PROTOCOL)]
    subprocess.run(command, check=True, cwd=ROOT)


def server_packages() -> list[str]:
    """The packages of server/, which are installed as hvae_codec.server."""
    return ["hvae_codec.server", *(f"hvae_codec.server.{name}" for name in find_packages("server"))]


setup(
    packages=[*find_packages(include=["hvae_codec", "hvae_codec.*"]), *server_packages()],
    package_dir={"hvae_codec.server": "server"},
    package_data={
        "hvae_codec": ["py.typed", "checkpoints/*.safetensors", "checkpoints/*.json"],
        "hvae_codec.reporting.html": ["page.html", "page.css", "page.js", "plots.js"],
        "hvae_codec.reporting.rate_distortion": ["page.html", "page.css", "page.js"],
        "hvae_codec.server.status_page": ["page.html", "page.css", "page.js"],
    },
    ext_modules=[
        Extension("hvae_codec._C", sources=[]),
        Extension("hvae_codec._integer", sources=[]),
    ],
    cmdclass={"build_ext": BuildExtension, "build_py": BuildPython},
)
