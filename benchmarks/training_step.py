"""What do the fused ops and the library's settings save in a whole training step?

    python -m benchmarks.training_step [--device cuda] [--json FILE]

One step is forward, backward and optimiser on a batch of 256 random pictures. The baseline is the
step as a plain program writes it: the same networks with `torch.distributions`, fp32, contiguous
memory, Adam and the C library's allocator as they come. All other rows keep freed memory, as the
command line does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.utils.benchmark import Timer

from benchmarks.common import environment, write_json
from hvae_codec.memory import keep_freed_memory
from hvae_codec.models import HierarchicalVAE, Posterior, get_spec
from hvae_codec.models.likelihoods import SIGMA_X

BATCH = 256
SPEC = "ghvae-32x32x3"


def plain_loss(model: HierarchicalVAE, x: Tensor) -> Tensor:
    """Eq. 8 with all betas one, Gaussian posteriors, by torch.distributions; nats per image."""
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
    loss: Tensor = (distortion + torch.stack(rates).sum(0)).mean()
    return loss


def plain_step(device: str) -> Callable[[], None]:
    """fp32, contiguous, torch.distributions, PyTorch's own layers, Adam as it comes."""
    model = HierarchicalVAE(get_spec(SPEC)).train()
    output: Any = model.decoder_output
    inputs, outputs = output.weight.shape[:2]
    model.decoder_output = torch.nn.ConvTranspose2d(inputs, outputs, 4, 2, 1)
    model.to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-4)
    x = torch.rand(BATCH, *model.spec.image_shape, device=device)

    def run() -> None:
        optimiser.zero_grad()
        plain_loss(model, x).backward()  # type: ignore[no-untyped-call]
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


def measure_steps(device: str, budget: float) -> list[dict[str, Any]]:
    """Seconds per step of the baseline and of the library's settings, and the speed-ups."""
    bf16 = torch.bfloat16
    runs = {
        "plain PyTorch, fp32": plain_step(device),
        "the same, freed memory kept": plain_step(device),
        "fused, fp32": fused_step(device, precision=torch.float32, channels_last=False),
        "fused, fp32, channels_last": fused_step(
            device, precision=torch.float32, channels_last=True
        ),
        "fused, bf16, channels_last": fused_step(device, precision=bf16, channels_last=True),
        "uniform, bf16, channels_last": fused_step(
            device, precision=bf16, channels_last=True, posterior="uniform"
        ),
    }
    rows: list[dict[str, Any]] = []
    for index, (name, run) in enumerate(runs.items()):
        if index == 1:
            keep_freed_memory()
        for _ in range(3):
            run()
        timer = Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads())
        taken = float(timer.blocked_autorange(min_run_time=4 * budget).median)
        baseline = rows[0]["seconds"] if rows else taken
        rows.append({"step": name, "seconds": taken, "speedup": baseline / taken})
        print(f"{name:<32} {taken * 1e3:>8.1f} ms a step {baseline / taken:>6.2f}x")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--budget", type=float, default=2.0, help="seconds for each measurement")
    parser.add_argument("--json", type=Path, help="write the results here")
    arguments = parser.parse_args()
    rows = measure_steps(arguments.device, arguments.budget)
    if arguments.json is not None:
        result = {"environment": environment(), "device": arguments.device, "rows": rows}
        write_json(arguments.json, {**result, "threads": torch.get_num_threads()})


if __name__ == "__main__":
    main()
