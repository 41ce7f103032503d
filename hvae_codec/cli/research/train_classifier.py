"""`hvae-codec train-classifier`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from hvae_codec.cli.common import (
    Commands,
    add_command,
    device,
    path,
    positive_int,
    print_json,
    seed,
)


def add_commands(commands: Commands) -> None:
    """Add the subcommand."""
    add_command(
        commands,
        "train-classifier",
        _train_classifier,
        _arguments,
        summary="train an image classifier for the Inception Score; run again, it goes on where it "
        "was",
        example="hvae-codec train-classifier --arch cnn --data mnist --epochs 4 "
        "--output classifiers/mnist.safetensors",
    )


def _arguments(parser: argparse.ArgumentParser) -> None:
    from hvae_codec.data import DATASETS
    from hvae_codec.training.classifier import ClassifierRecipe
    from hvae_codec.utils.options import add_flags

    parser.add_argument(
        "--arch", required=True, choices=("resnet18", "densenet121", "cnn"), help="the network"
    )
    names = ", ".join(name for name in DATASETS if not name.startswith("folder:"))
    parser.add_argument("--data", required=True, help=f"data set: {names}")
    parser.add_argument("--root", type=path, help="directory of the data")
    parser.add_argument("--download", action="store_true", help="let torchvision fetch the data")
    add_flags(parser, ClassifierRecipe)
    parser.set_defaults(crop_padding=None, flips=None)  # as the data is
    parser.add_argument("--contiguous", action="store_true", help="do not train in channels_last")
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument("--device", type=device, default="cpu", help="cpu, cuda, cuda:1, ...")
    parser.add_argument(
        "--replace", action="store_true", help="overwrite another classifier at --output"
    )
    parser.add_argument("--threads", type=positive_int, help="CPU threads; default: all cores")
    parser.add_argument(
        "-o",
        "--output",
        dest="out",
        type=path,
        required=True,
        help="file to write, .safetensors; its card, .json, and the state of an unfinished run, "
        ".state.safetensors, stand beside it",
    )


def _train_classifier(arguments: argparse.Namespace) -> int:
    # All at the start: a run may take hours, and ends with the release that it began with.
    import torch

    from hvae_codec.data import load_dataset
    from hvae_codec.evaluation.image_classifiers import check_replaces, save_classifier
    from hvae_codec.training.classifier import ClassifierRecipe, accuracy, train_classifier
    from hvae_codec.utils.options import given_fields

    if arguments.out.suffix != ".safetensors":
        arguments.usage_error(f"--output {arguments.out}: the name must end in .safetensors")
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    training, test = (
        load_dataset(arguments.data, split, arguments.root, arguments.download)
        for split in ("train", "test")
    )
    given = given_fields(ClassifierRecipe, vars(arguments))
    if given["crop_padding"] is None:
        given["crop_padding"] = 4 if training.image_shape[0] == 3 else 0
    if given["flips"] is None:
        given["flips"] = "cifar10" in arguments.data
    recipe = ClassifierRecipe(
        arch=arguments.arch,
        dataset=training.name,
        channels_last=not arguments.contiguous,
        seed=arguments.seed,
        **given,
    )
    if not arguments.replace:
        check_replaces(arguments.out, recipe=recipe.to_json())
    state = arguments.out.with_suffix(".state.safetensors")
    module = train_classifier(recipe, training, state, device=arguments.device, report=_report)
    card = {
        "arch": recipe.arch,
        "stem": recipe.stem,
        "dataset": training.name,
        "classes": module.classes,
        "accuracy": accuracy(module, recipe.arch, test),
        "epochs": recipe.epochs,
        "recipe": recipe.to_json(),
        "data": {
            "train": f"{training.name} {training.split}",
            "train_images": len(training.images[: recipe.images]),
            "test": f"{test.name} {test.split}",
            "test_images": len(test),
        },
    }
    classifier = save_classifier(arguments.out, module, card, replace=arguments.replace)
    if arguments.json:
        print_json({"classifier": str(arguments.out), **classifier.card})
    else:
        print(
            f"{arguments.out}: {classifier.arch} {classifier.sha256[:8]}, "
            f"{classifier.accuracy:.2%} right on {test.name} {test.split}"
        )
    return 0


def _report(row: dict[str, Any]) -> None:
    """One line an epoch, so that a run whose progress bar nobody sees still says where it is."""
    line = f"epoch {row['epoch']}: loss {row['loss_nats']:.4f} nats, "
    print(f"{line}{row['training_accuracy']:.2%} right", file=sys.stderr, flush=True)
