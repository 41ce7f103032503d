"""How near do the fused ops come to the limit, and what do they save? Against plain PyTorch.

    python -m benchmarks.training.kernels [--device cuda] [--dtype bfloat16] [--largest 24]
                                 [--json benchmarks/results/kernels.json] [--picture PNG]

Peers, in the same run: `torch.distributions`, the formula written by hand in PyTorch,
`torch.compile` of that, and a copy of as many bytes, which is the limit. Shapes: those of the
models at batch 64 to 4,096, and [n / 512, 512] for n = 2^20 to 2^largest elements. The bytes of an
op are those it cannot do without: each input read once, each output written once, no noise stored.

From a few million elements on, the page faults of new output tensors cost more than arithmetic, and
PyTorch's peers the same for every intermediate; THP_MEM_ALLOC_ENABLE=1 in the environment makes
PyTorch ask for huge pages and takes most of that away. What that variable is, is recorded.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.utils.benchmark import Timer

from benchmarks.common import RESULTS, environment, write_json
from benchmarks.training.step import measure_steps
from hvae_codec import ops

matplotlib.use("Agg")
import matplotlib.pyplot as plt

Outputs = tuple[Tensor, ...]
Function = Callable[..., Outputs]

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


CASES = (
    Case(
        "sample + KL",
        4,
        5,
        9,
        lambda *t: ops.gaussian_rsample_kl(*t, seed=1),
        _rsample_by_hand,
        _rsample_distributions,
    ),
    Case(
        "sample + KL, N(0, I)",
        2,
        3,
        5,
        lambda *t: ops.gaussian_rsample_kl(*t, seed=1),
        _rsample_standard_by_hand,
        _rsample_standard_distributions,
    ),
    Case("KL", 4, 4, 8, lambda *t: (ops.gaussian_kl(*t),), _kl_by_hand, _kl_distributions),
    Case(
        "uniform sample + nats",
        4,
        5,
        9,
        lambda *t: ops.uniform_rsample_nats(*t, seed=1),
        _bin_by_hand,
        _bin_distributions,
    ),
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


def measure(
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


def print_row(row: dict[str, Any]) -> None:
    rows, cols = row["shape"]
    speedup = row["speedup"]
    print(
        f"{row['op']:<22} {row['direction']:<18} {rows:>7} x {cols:<4}"
        f"{row['seconds']['fused'] * 1e6:>12.1f} us {row['bytes_per_second'] / 1e9:>8.1f} GB/s"
        f"{row['of_copy']:>7.2f} of copy {row['of_arithmetic']:>6.2f} of arithmetic"
        f"{speedup['by hand']:>7.2f}x by hand {speedup['distributions']:>7.2f}x distributions"
        f"{speedup['compiled']:>7.2f}x compiled"
    )


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Roofline by size: effective bytes per second of every function, copy as the roof."""
    names = [case.name for case in CASES]
    directions = ("forward", "forward + backward")
    figure, axes = plt.subplots(
        len(directions), len(names), figsize=(4 * len(names), 7), squeeze=False
    )
    for i, direction in enumerate(directions):
        for j, name in enumerate(names):
            chosen = [r for r in rows if (r["op"], r["direction"]) == (name, direction)]
            chosen = sorted(
                (r for r in chosen if r["shape"][1] == 512), key=lambda r: r["elements"]
            )
            for label in ("copy", "fused", "compiled", "by hand", "distributions"):
                rates = [r["bytes"] / r["seconds"][label] / 1e9 for r in chosen]
                style = "--" if label == "copy" else "-"
                axes[i][j].plot([r["elements"] for r in chosen], rates, style, label=label)
            axes[i][j].set(xscale="log", yscale="log", title=f"{name}\n{direction}")
            axes[i][j].set(xlabel="elements", ylabel="effective GB/s")
    axes[0][0].legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    print(f"picture in {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--smallest", type=int, default=20, help="log2 of elements")
    parser.add_argument("--largest", type=int, default=27, help="log2 of elements")
    parser.add_argument("--batches", type=int, nargs="*", default=list(MODEL_BATCHES))
    parser.add_argument("--budget", type=float, default=0.5, help="seconds for each measurement")
    parser.add_argument("--no-step", action="store_true", help="leave out the training step")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--picture", type=Path, default=RESULTS / "kernels.png")
    arguments = parser.parse_args()

    ops.require_extension()
    dtype = getattr(torch, arguments.dtype)
    shapes = [(batch, width) for width in MODEL_WIDTHS for batch in arguments.batches]
    shapes += [(2**k // 512, 512) for k in range(arguments.smallest, arguments.largest + 1)]
    rows = []
    for case in CASES:
        limit = arithmetic_limit(case, dtype, arguments.device, arguments.budget)
        for shape in shapes:
            for row in measure(case, shape, dtype, arguments.device, arguments.budget):
                summarise(row, limit)
                print_row(row)
                rows.append(row)
    steps = [] if arguments.no_step else measure_steps(arguments.device, 4 * arguments.budget)
    draw(rows, arguments.picture)
    if arguments.json is not None:
        result = {
            "environment": {**environment(), **ops.build_info()},
            "huge_pages": os.environ.get("THP_MEM_ALLOC_ENABLE") == "1",
            "threads": torch.get_num_threads(),
            "device": arguments.device,
            "dtype": arguments.dtype,
            "rows": rows,
            "training_step": steps,
        }
        write_json(arguments.json, result)


if __name__ == "__main__":
    main()
