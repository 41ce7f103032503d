"""How near do the fused ops come to the limit, and what do they save? Against plain PyTorch.

    python -m benchmarks.training.kernels [--device cuda] [--dtype bfloat16] [--largest 24]
                                          [--json benchmarks/results/kernels.json]

Peers, in the same run: `torch.distributions`, the formula written by hand in PyTorch,
`torch.compile` of that, and a copy of as many bytes, which is the limit. Shapes: those of the
models at batch 64 to 4,096, and [n / 512, 512] for n = 2^20 to 2^largest elements. The bytes of an
op are those it cannot do without: each input read once, each output written once, no noise stored.

From a few million elements on, the page faults of new output tensors cost more than arithmetic, and
PyTorch's peers the same for every intermediate; THP_MEM_ALLOC_ENABLE=1 in the environment makes
PyTorch ask for huge pages and takes most of that away. What that variable is, is recorded.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.utils.benchmark import Timer

from benchmarks.command import DEVICE, Argument, Benchmark
from benchmarks.common import figure
from benchmarks.tables import Result, Table
from hvae_codec import ops
from hvae_codec.utils.progress import progress

Outputs = tuple[Tensor, ...]
Function = Callable[..., Outputs]

DTYPES = ("float32", "bfloat16", "float16")
MODEL_WIDTHS = (32, 512)  # z2 and z1 of the 32x32 models
MODEL_BATCHES = (64, 256, 1024, 4096)
CACHED_ELEMENTS = 2**17  # fits in cache: what is left there is arithmetic


@dataclass(frozen=True)
class Case:
    """One op and its peers, each a function of the op's input tensors; values moved per element."""

    name: str
    inputs: int
    forward_values: int
    backward_values: int
    fused: Function
    by_hand: Function
    distributions: Function


def _rate_by_hand(mu_q: Tensor, sigma_q: Tensor, mu_p: Tensor, sigma_p: Tensor) -> Tensor:
    ratio = (sigma_q / sigma_p).square()
    distance = ((mu_q - mu_p) / sigma_p).square()
    return (0.5 * (ratio + distance - 1 - ratio.log())).sum(-1)


def _rsample_by_hand(mu_q: Tensor, raw_q: Tensor, mu_p: Tensor, raw_p: Tensor) -> Outputs:
    sigma_q, sigma_p = F.softplus(raw_q), F.softplus(raw_p)
    z = mu_q + sigma_q * torch.randn_like(mu_q)
    return z, _rate_by_hand(mu_q, sigma_q, mu_p, sigma_p)


def _rsample_standard_by_hand(mu_q: Tensor, raw_q: Tensor) -> Outputs:
    sigma_q = F.softplus(raw_q)
    kl = 0.5 * (sigma_q.square() + mu_q.square() - 1) - sigma_q.log()
    return mu_q + sigma_q * torch.randn_like(mu_q), kl.sum(-1)


def _kl_by_hand(mu_q: Tensor, raw_q: Tensor, mu_p: Tensor, raw_p: Tensor) -> Outputs:
    return (_rate_by_hand(mu_q, F.softplus(raw_q), mu_p, F.softplus(raw_p)),)


def _bin_by_hand(mean: Tensor, step: Tensor, mu_p: Tensor, raw_p: Tensor) -> Outputs:
    """As codecs write it: a difference of two cumulative distributions, held above 1e-9."""
    sigma = F.softplus(raw_p)
    z = mean + step * (torch.rand_like(mean) - 0.5)
    upper = torch.special.ndtr((z + 0.5 * step - mu_p) / sigma)
    lower = torch.special.ndtr((z - 0.5 * step - mu_p) / sigma)
    return z, -(upper - lower).clamp_min(1e-9).log().sum(-1)


def _rsample_distributions(mu_q: Tensor, raw_q: Tensor, mu_p: Tensor, raw_p: Tensor) -> Outputs:
    q, p = Normal(mu_q, F.softplus(raw_q)), Normal(mu_p, F.softplus(raw_p))
    return q.rsample(), kl_divergence(q, p).sum(-1)


def _rsample_standard_distributions(mu_q: Tensor, raw_q: Tensor) -> Outputs:
    q = Normal(mu_q, F.softplus(raw_q))
    p = Normal(torch.zeros_like(mu_q), torch.ones_like(mu_q))
    return q.rsample(), kl_divergence(q, p).sum(-1)


def _kl_distributions(mu_q: Tensor, raw_q: Tensor, mu_p: Tensor, raw_p: Tensor) -> Outputs:
    q, p = Normal(mu_q, F.softplus(raw_q)), Normal(mu_p, F.softplus(raw_p))
    return (kl_divergence(q, p).sum(-1),)


def _bin_distributions(mean: Tensor, step: Tensor, mu_p: Tensor, raw_p: Tensor) -> Outputs:
    prior = Normal(mu_p, F.softplus(raw_p))
    z = mean + step * (torch.rand_like(mean) - 0.5)
    upper = prior.cdf(z + 0.5 * step)  # type: ignore[no-untyped-call]
    mass: Tensor = upper - prior.cdf(z - 0.5 * step)  # type: ignore[no-untyped-call]
    return z, -mass.clamp_min(1e-9).log().sum(-1)


def _rsample(*tensors: Tensor) -> Outputs:
    return ops.gaussian_rsample_kl(*tensors, seed=1)


def _kl(*tensors: Tensor) -> Outputs:
    return (ops.gaussian_kl(*tensors),)


def _bin(*tensors: Tensor) -> Outputs:
    return ops.uniform_rsample_nats(*tensors, seed=1)


_STANDARD = (_rsample_standard_by_hand, _rsample_standard_distributions)
CASES = (
    Case("sample + KL", 4, 5, 9, _rsample, _rsample_by_hand, _rsample_distributions),
    Case("sample + KL, N(0, I)", 2, 3, 5, _rsample, *_STANDARD),
    Case("KL", 4, 4, 8, _kl, _kl_by_hand, _kl_distributions),
    Case("uniform sample + nats", 4, 5, 9, _bin, _bin_by_hand, _bin_distributions),
)


def make_inputs(
    case: Case, shape: tuple[int, int], dtype: torch.dtype, device: str
) -> list[Tensor]:
    """Values as in a trained model: deviations of 0.1 to 1, steps all positive."""
    tensors = [torch.randn(shape, device=device).to(dtype) for _ in range(case.inputs)]
    tensors[1] = torch.rand(shape, device=device).add_(0.2).to(dtype)
    return [t.requires_grad_() for t in tensors]


def both_ways(function: Function, inputs: Sequence[Tensor]) -> Callable[[], None]:
    """Forward and backward; the gradients that come back are made once."""
    weights = [torch.ones_like(output) for output in function(*inputs)]

    def run() -> None:
        torch.autograd.grad(function(*inputs), inputs, weights)

    return run


def forward_only(function: Function, inputs: Sequence[Tensor]) -> Callable[[], None]:
    """Without recording for autograd."""

    def run() -> None:
        with torch.no_grad():
            function(*inputs)

    return run


def seconds(run: Callable[[], None], budget: float) -> float:
    """Median time of a call; CUDA is waited for."""
    run()
    timer = Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads())
    return float(timer.blocked_autorange(min_run_time=budget).median)


def copy_seconds(values: float, dtype: torch.dtype, device: str, budget: float) -> float:
    """Time to copy so many values' bytes in all, half of them read and half written."""
    source = torch.ones(max(1, int(values) // 2), dtype=dtype, device=device)
    target = torch.empty_like(source)

    def run() -> None:
        target.copy_(source)

    return seconds(run, budget)


def measure_case(
    case: Case, shape: tuple[int, int], dtype: torch.dtype, device: str, budget: float
) -> list[dict[str, Any]]:
    """Rows for forward and for forward with backward, at one shape: seconds of op and peers."""
    torch._dynamo.reset()  # one static graph a shape: the best the compiler can do
    functions = {
        "fused": case.fused,
        "by hand": case.by_hand,
        "distributions": case.distributions,
        "compiled": torch.compile(case.by_hand, dynamic=False),
    }
    inputs = make_inputs(case, shape, dtype, device)
    rows = []
    for direction, wrap, values in (
        ("forward", forward_only, case.forward_values),
        ("forward + backward", both_ways, case.forward_values + case.backward_values),
    ):
        elements = shape[0] * shape[1]
        row: dict[str, Any] = {
            "op": case.name,
            "direction": direction,
            "shape": list(shape),
            "elements": elements,
            "bytes": elements * values * dtype.itemsize,
        }
        row["seconds"] = {n: seconds(wrap(f, inputs), budget) for n, f in functions.items()}
        row["seconds"]["copy"] = copy_seconds(elements * values, dtype, device, budget)
        rows.append(row)
    return rows


def arithmetic_limit(
    case: Case, dtype: torch.dtype, device: str, budget: float
) -> dict[str, float]:
    """Elements per second where memory is no limit, forward and forward + backward."""
    inputs = make_inputs(case, (CACHED_ELEMENTS // 512, 512), dtype, device)
    return {
        "forward": CACHED_ELEMENTS / seconds(forward_only(case.fused, inputs), budget),
        "forward + backward": CACHED_ELEMENTS / seconds(both_ways(case.fused, inputs), budget),
    }


def summarise(row: dict[str, Any], limit: dict[str, float]) -> None:
    """Adds the ratios: speed against copy, against each peer, against the arithmetic's limit."""
    times = row["seconds"]
    row["bytes_per_second"] = row["bytes"] / times["fused"]
    row["of_copy"] = times["copy"] / times["fused"]
    row["of_arithmetic"] = row["elements"] / times["fused"] / limit[row["direction"]]
    row["speedup"] = {
        n: times[n] / times["fused"] for n in ("by hand", "distributions", "compiled")
    }


def measure(arguments: Namespace) -> Result:
    """Every op at every shape."""
    ops.require_extension()
    dtype, device, budget = getattr(torch, arguments.dtype), arguments.device, arguments.budget
    shapes = [(batch, width) for width in MODEL_WIDTHS for batch in arguments.batches]
    shapes += [(2**k // 512, 512) for k in range(arguments.smallest, arguments.largest + 1)]
    rows = []
    for case in CASES:
        limit = arithmetic_limit(case, dtype, device, budget)
        for shape in progress(case.name, shapes, leave=False):
            rows += measure_case(case, shape, dtype, device, budget)
            for row in rows[-2:]:
                summarise(row, limit)
    return {
        "huge_pages": os.environ.get("THP_MEM_ALLOC_ENABLE") == "1",
        "threads": torch.get_num_threads(),
        "device": device,
        "dtype": arguments.dtype,
        "rows": rows,
        "environment": ops.build_info(),
    }


def draw(result: Result, path: Path) -> None:
    """Roofline by size: effective bytes per second of every function, copy as the roof."""
    names = [case.name for case in CASES]
    directions = ("forward", "forward + backward")
    with figure(path, 2, len(names), figsize=(4 * len(names), 7), dpi=120) as (_, axes):
        for i, direction in enumerate(directions):
            for j, name in enumerate(names):
                chosen = [
                    row
                    for row in sorted(result["rows"], key=lambda row: int(row["elements"]))
                    if (row["op"], row["direction"], row["shape"][1]) == (name, direction, 512)
                ]
                for label in ("copy", "fused", "compiled", "by hand", "distributions"):
                    rates = [row["bytes"] / row["seconds"][label] / 1e9 for row in chosen]
                    style = "--" if label == "copy" else "-"
                    axes[i][j].plot([r["elements"] for r in chosen], rates, style, label=label)
                axes[i][j].set(xscale="log", yscale="log", title=f"{name}\n{direction}")
                axes[i][j].set(xlabel="elements", ylabel="effective GB/s")
        axes[0][0].legend()


def in_a_page(result: Result) -> list[Result]:
    """Forward and backward at some of the shapes."""
    shapes = ([256, 32], [256, 512], [32768, 512])
    return [r for r in result["rows"] if r["direction"] != "forward" and r["shape"] in shapes]


KERNELS = Table(
    "kernels",
    in_a_page,
    {
        "op": "{op}",
        "shape": "{shape[0]} x {shape[1]}",
        "time": lambda row: f"{row['seconds']['fused'] * 1e3:.2f} ms",
        "plain PyTorch": "{speedup[by hand]:.1f}x",
        "torch.compile": "{speedup[compiled]:.1f}x",
    },
    note="fp32, {threads} threads of an {environment[processor]}; times slower than the op.",
)
EVERY_SHAPE = Table(
    "every shape",
    "rows",
    {
        "op": "{op}, {direction}, {shape[0]} x {shape[1]}",
        "us": lambda row: f"{row['seconds']['fused'] * 1e6:.1f}",
        "GB/s": lambda row: f"{row['bytes_per_second'] / 1e9:.1f}",
        "of copy": "{of_copy:.2f}",
        "of arithmetic": "{of_arithmetic:.2f}",
        "by hand": "{speedup[by hand]:.2f}x",
        "distributions": "{speedup[distributions]:.2f}x",
        "compiled": "{speedup[compiled]:.2f}x",
    },
)
BENCHMARK = Benchmark(
    __doc__,
    measure,
    (EVERY_SHAPE, KERNELS),
    (
        DEVICE,
        Argument("--dtype", default="float32", choices=DTYPES),
        Argument("--smallest", type=int, default=20, help="log2 of elements"),
        Argument("--largest", type=int, default=27, help="log2 of elements"),
        Argument("--batches", type=int, nargs="*", default=list(MODEL_BATCHES)),
        Argument("--budget", type=float, default=0.5, help="seconds for each measurement"),
    ),
    draw=draw,
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
