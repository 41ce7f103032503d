"""`hvae-codec train`: its arguments. What it does with them is in `train_job`."""

from __future__ import annotations

import argparse
import math
import re

from hvae_codec.cli.common import (
    Commands,
    add_command,
    add_renamed,
    device,
    path,
    positive_int,
    seed,
)


def add_commands(commands: Commands) -> None:
    """Add the subcommand."""
    add_command(
        commands,
        "train",
        _train,
        _train_arguments,
        summary="train a model and write a codec checkpoint; run again, it goes on where it was",
        example="hvae-codec train --data cifar10 --betas 0.02,0.02 --epochs 60 --output runs/mine",
    )


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_arguments(parser)
    parser.set_defaults(batch_size=32)
    parser.add_argument(
        "--betas",
        type=betas,
        help="one per layer, top first: 0.02,0.02; with --rate, where they begin; of a model of "
        "maps 1 each unless given",
    )
    parser.add_argument(
        "--rate",
        type=rate,
        action="append",
        metavar="zN=RATE",
        help="rate of a layer to reach, in nats per image, or with bits or B behind it: z2=12, "
        "z1=90B; its beta adapts; may be given for each layer",
    )
    parser.add_argument(
        "--skip-bad-images",
        action="store_true",
        help="of photographs, name and leave out images that cannot be read or are too small",
    )
    parser.add_argument(
        "--snapshot",
        action="store_true",
        help="train no further: write a checkpoint of the run to --output/snapshots",
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="overwrite a checkpoint of another model; files coded with that one need it",
    )
    add_renamed(
        parser,
        "--init-from",
        "--start",
        "start",
        type=path,
        help="checkpoint (.safetensors) to start from",
    )
    parser.add_argument(
        "--fit-effort",
        type=int,
        choices=(1, 2),
        help="fit the tables to the symbols that an encoder of this effort chooses",
    )
    parser.add_argument("--name", default="mine", help="name of the model in its card")
    parser.add_argument(
        "--quality",
        type=positive_int,
        help="quality level in its card, by default 1; of a fully convolutional model its default "
        "quality, 50 of 1 to 100",
    )
    parser.add_argument(
        "-o",
        "--output",
        dest="out",
        type=path,
        required=True,
        help="directory of state and checkpoint",
    )


def add_run_arguments(parser: argparse.ArgumentParser, *, without: tuple[str, ...] = ()) -> None:
    """What a run of one model and one of many have in common."""
    from hvae_codec.data import DATASETS
    from hvae_codec.models import SPECS
    from hvae_codec.training.recipe import Recipe
    from hvae_codec.utils.options import add_flags

    parser.add_argument("--spec", choices=SPECS, default="ghvae-32x32x3", help="the architecture")
    parser.add_argument("--data", default="cifar10", help=f"data set: {', '.join(DATASETS)}")
    parser.add_argument("--root", type=path, help="directory of the data")
    parser.add_argument("--download", action="store_true", help="let torchvision fetch the data")
    add_renamed(
        parser,
        "--beta-groups",
        "--bins",
        "beta_groups",
        type=bins,
        metavar="N,N,...",
        help="layers that share a beta, top first: with 2,2 and two --betas the upper two of four "
        "layers have the first one",
    )
    add_flags(parser, Recipe, without=without)
    parser.add_argument(
        "--memory-format",
        choices=("channels_last", "contiguous"),
        default="channels_last",
        help="of weights and activations in training",
    )
    parser.add_argument(
        "--contiguous",
        dest="memory_format",
        action="store_const",
        const="contiguous",
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument("--device", type=device, default="cpu", help="cpu, cuda, cuda:1, ...")
    parser.add_argument("--threads", type=positive_int, help="CPU threads; default: all cores")


def betas(text: str) -> tuple[float, ...]:
    """Betas, top first, from text such as 0.02,0.02."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not numbers with commas between them, such as 0.02,0.02"
        ) from None


def bins(text: str) -> tuple[int, ...]:
    """Numbers of layers, top first, from text such as 2,2."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not numbers of layers with commas between them, such as 2,2"
        ) from None


def rate(text: str) -> tuple[str, float]:
    """A layer's name and its rate in nats per image, from text such as z1=90B."""
    found = re.fullmatch(r"(z[1-9]\d*)=(\d+(?:\.\d*)?|\.\d+)(nats|bits|B|)", text.strip())
    if found is None or not float(found[2]) > 0:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a layer and a rate above 0, such as z2=12, z2=17.3bits or z1=90B"
        )
    nats = {"": 1.0, "nats": 1.0, "bits": math.log(2.0), "B": 8.0 * math.log(2.0)}
    return found[1], float(found[2]) * nats[found[3]]


def _train(arguments: argparse.Namespace) -> int:
    from hvae_codec.cli.research.train_job import run

    return run(arguments)
