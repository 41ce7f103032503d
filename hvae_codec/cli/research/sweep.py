"""`hvae-codec sweep`: its arguments. What it does with them is in `sweep_job`."""

from __future__ import annotations

import argparse
import re

from hvae_codec.cli.common import Commands, add_command, add_renamed, path, positive_int
from hvae_codec.cli.research.train import add_run_arguments, betas, rate

ONE_MODEL = ("noise_index", "average", "quality_rate", "crops", "plain_crops")
"""Fields of a recipe that a sweep does not take."""


def add_commands(commands: Commands) -> None:
    """Add the subcommand."""
    add_command(
        commands,
        "sweep",
        _sweep,
        _sweep_arguments,
        summary="train many models that differ in their betas, as stacks; run again, it goes on",
        example="hvae-codec sweep --data cifar10 --grid 5x5 --beta 0.1:10 --output runs/grid",
    )


def _sweep_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_arguments(parser, without=ONE_MODEL)
    which = parser.add_argument_group("models; each of these may be given with the others")
    which.add_argument(
        "--grid", type=_grid, metavar="RxC", help="so many betas a layer, top first: 21x21"
    )
    which.add_argument(
        "--beta",
        type=_range,
        metavar="LOW:HIGH",
        default=(0.1, 10.0),
        help="range of the grid, log-spaced (default: 0.1:10, as in the paper)",
    )
    which.add_argument(
        "--betas", type=betas, action="append", help="one model more, with these betas: 1,1"
    )
    which.add_argument(
        "--rates",
        type=_rates,
        action="append",
        metavar="zN=RATE,...",
        help="one model more, whose betas adapt to these rates (nats, bits or B): z2=12,z1=180",
    )
    one = which.add_mutually_exclusive_group()
    one.add_argument(
        "--plane",
        action="store_true",
        help="train one model for all these betas, and take it at each: by --optimiser muon in a "
        "few epochs; --output/plane.safetensors keeps it",
    )
    one.add_argument(
        "--plane-checkpoint",
        type=path,
        metavar="FILE",
        help="train nothing: take the model that a sweep with --plane kept at these betas",
    )
    parser.set_defaults(posterior="gaussian", batch_size=256, learning_rate=3e-4, epochs=500)
    parser.set_defaults(schedule="constant", default_of=parser.get_default)
    add_renamed(
        parser,
        "--models-per-stack",
        "--chunk",
        "chunk",
        type=positive_int,
        help="models of a stack; default: what fits in memory",
    )
    parser.add_argument(
        "--workers",
        type=positive_int,
        help="stacks at a time, each in a process with its share of the cores (default: 1)",
    )
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="where stacks train: on this machine, or on the Ray cluster of RAY_ADDRESS, whose "
        "machines share --output",
    )
    parser.add_argument("--name", default="sweep", help="name of the models in their cards")
    parser.add_argument(
        "-o", "--output", dest="out", type=path, required=True, help="folder of the sweep"
    )


def _grid(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[1-9]\d{0,3}(x[1-9]\d{0,3})*", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a grid: a number of betas for each layer with x between, such as 9x9"
        )
    return tuple(int(part) for part in text.split("x"))


def _range(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not two numbers with a colon between them, such as 0.1:10"
        ) from None
    return low, high


def _rates(text: str) -> dict[str, float]:
    pairs = [rate(part) for part in text.split(",")]
    rates = dict(pairs)
    if len(rates) < len(pairs):
        raise argparse.ArgumentTypeError(f"{text!r} names a layer twice")
    return rates


def _sweep(arguments: argparse.Namespace) -> int:
    from hvae_codec.cli.research.sweep_job import run

    return run(arguments)
