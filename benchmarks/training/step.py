"""What do the fused ops and the library's settings save in a whole training step?

    python -m benchmarks.training.step [--device cuda] [--json FILE]

One step is forward, backward and optimiser on a batch of 256 random images. The baseline is the
step as a plain program writes it: the same networks with `torch.distributions`, fp32, contiguous
memory, Adam and the C library's allocator as they come. All other rows keep freed memory, as the
command line does.
"""

from __future__ import annotations

import statistics
import sys
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.utils.benchmark import Timer

from benchmarks.command import DEVICE, Argument, Benchmark
from benchmarks.common import apart, in_turns
from benchmarks.tables import Result, Table
from hvae_codec.models import HierarchicalVAE, Posterior, get_spec
from hvae_codec.models.likelihoods import SIGMA_X
from hvae_codec.utils.malloc import keep_freed_memory

BATCH = 256
SPEC = "ghvae-32x32x3"
PLAIN = "plain PyTorch, fp32"


def plain_nats(model: HierarchicalVAE, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Distortion and each layer's rate in nats, [B] each, by torch.distributions; Gaussian
    posteriors.
    """
    rates: list[Tensor] = []
    latents: list[Tensor] = []
    layers: Any = model.layers
    for layer in layers:
        above = torch.cat([z.flatten(1) for z in latents], dim=1) if latents else None
        mu_p, raw_p = layer.predict(above)
        mean, raw = layer.infer(x, above)
        posterior = Normal(mean, F.softplus(raw))
        prior = (
            Normal(torch.zeros_like(mean), torch.ones_like(mean))
            if mu_p is None
            else Normal(mu_p, F.softplus(raw_p))
        )
        latents.append(posterior.rsample())
        rates.append(kl_divergence(posterior, prior).flatten(1).sum(1))
    output = model.decode(latents)
    likelihood = Normal(output, SIGMA_X)
    distortion = -likelihood.log_prob(x).flatten(1).sum(1)  # type: ignore[no-untyped-call]
    return distortion, rates


def plain_model() -> HierarchicalVAE:
    """The networks in contiguous memory, of PyTorch's own layers alone."""
    model = HierarchicalVAE(get_spec(SPEC)).train()
    output: Any = model.decoder_output
    inputs, outputs = output.weight.shape[:2]
    model.decoder_output = torch.nn.ConvTranspose2d(inputs, outputs, 4, 2, 1)
    return model


def plain_step(device: str) -> Callable[[], None]:
    """fp32, contiguous, torch.distributions, PyTorch's own layers, Adam as it comes."""
    model = plain_model().to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-4)
    x = torch.rand(BATCH, *model.spec.image_shape, device=device)

    def run() -> None:
        optimiser.zero_grad()
        distortion, rates = plain_nats(model, x)
        loss = (distortion + torch.stack(rates).sum(0)).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return run


def fused_step(
    device: str, *, precision: torch.dtype, channels_last: bool, posterior: Posterior = "gaussian"
) -> Callable[[], None]:
    """The library's step."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = HierarchicalVAE(get_spec(SPEC), posterior).to(device).to(memory_format=layout)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-4, fused=True)
    x = torch.rand(BATCH, *model.spec.image_shape, device=device).to(memory_format=layout)
    seed = 0

    def run() -> None:
        nonlocal seed
        seed += 1
        optimiser.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=precision == torch.bfloat16):
            outcome = model(x, seed=seed)
        loss = outcome.distortion_nats.mean() + outcome.rates_nats.sum(1).mean()
        loss.backward()
        optimiser.step()

    return run


def make_steps(device: str) -> dict[str, Callable[[], Callable[[], None]]]:
    """What is compared, by name: each makes a step to run again and again."""
    bf16 = torch.bfloat16
    plain, same = partial(plain_step, device), partial(fused_step, device)
    return {
        PLAIN: plain,
        "the same, freed memory kept": plain,
        "fused, fp32": partial(same, precision=torch.float32, channels_last=False),
        "fused, fp32, channels_last": partial(same, precision=torch.float32, channels_last=True),
        "fused, bf16, channels_last": partial(same, precision=bf16, channels_last=True),
        "uniform, bf16, channels_last": partial(
            same, precision=bf16, channels_last=True, posterior="uniform"
        ),
    }


def seconds_a_step(name: str, device: str, budget: float) -> float:
    """Median, in this process."""
    if name != PLAIN:
        keep_freed_memory()
    run = make_steps(device)[name]()
    for _ in range(5):
        run()
    timer = Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads())
    return float(timer.blocked_autorange(min_run_time=budget).median)


def measure(arguments: Namespace) -> Result:
    """Seconds per step of the baseline and of the library's settings, and the speed-ups.

    Each in processes of its own, as the allocator's state is the process's, in turns; the median
    of the rounds.
    """
    device = arguments.device
    work = {
        name: partial(apart, seconds_a_step, name, device, arguments.budget)
        for name in make_steps(device)
    }
    taken = in_turns(work, arguments.rounds)
    medians = {name: statistics.median(values) for name, values in taken.items()}
    rows = [
        {"step": name, "seconds": median, "speedup": medians[PLAIN] / median}
        for name, median in medians.items()
    ]
    return {"device": device, "rows": rows, "threads": torch.get_num_threads()}


STEP = Table(
    "step",
    "rows",
    {
        "training step, batch 256": "{step}",
        "ms": lambda row: f"{row['seconds'] * 1e3:.1f}",
        "speed": "{speedup:.2f}x",
    },
    result="training_step",
)
BENCHMARK = Benchmark(
    __doc__,
    measure,
    (STEP,),
    (
        DEVICE,
        Argument("--budget", type=float, default=2.0, help="seconds for each measurement"),
        Argument("--rounds", type=int, default=3, help="measurements of each"),
    ),
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
