"""What `hvae-codec train` does: train, make a codec of the model, measure it, write a checkpoint.

Apart from the arguments' declaration, because all that it imports it must import at the start: a
run takes hours, and ends with the release that it began with.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hvae_codec.cli.common import print_json, print_warning, require_folder_name
from hvae_codec.codec.checkpoint import (
    Checkpoint,
    check_replaces,
    load_checkpoint,
    make_checkpoint,
    save_checkpoint,
)
from hvae_codec.codec.codec import Codec
from hvae_codec.codec.entropy.context_tables import ContextTables
from hvae_codec.codec.entropy.tables import SymbolTables
from hvae_codec.codec.fully_convolutional.fit_tables import fit_context_tables, round_weights
from hvae_codec.codec.tiled.fit_tables import fit_tables, refit_tables
from hvae_codec.data import ImageDataset, RandomCrops, load_dataset, load_training
from hvae_codec.errors import CheckpointError, SpecError
from hvae_codec.evaluation.calibrate import CALIBRATION_IMAGES, calibrate_codec
from hvae_codec.evaluation.card_figures import measure_codec, measure_qualities
from hvae_codec.models.build import Model
from hvae_codec.models.fully_convolutional.model import ConvVAE
from hvae_codec.models.fully_convolutional.spec import ConvSpec
from hvae_codec.models.zoo import any_spec
from hvae_codec.training import Recipe, load_history, snapshot, train
from hvae_codec.training.recipe import beta_per_layer
from hvae_codec.training.sweep.chunk import described_data
from hvae_codec.utils.atomic_files import locked
from hvae_codec.utils.options import flag_of, given_fields

FIRST_BETA = 0.03
"""Where a beta begins that adapts to a rate, unless --betas says otherwise."""

MAP_QUALITY = 50
"""Default quality of a fully convolutional model, of 1 to 100, unless --quality says otherwise."""

RATE_TOLERANCE = 0.02
"""Share of a target rate that the measured one may be away from it."""

MAP_TABLE_BATCHES = 200
"""Most photographs, or minibatches of small images, that tables of maps are fitted to."""


def run(arguments: argparse.Namespace) -> int:
    """Train as the parsed arguments say; the exit code."""
    require_folder_name(arguments.out, "state and checkpoint are")
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    start = None if arguments.start is None else load_checkpoint(arguments.start)
    betas, rates = _betas_and_rates(arguments)
    recipe = Recipe(
        spec=arguments.spec,
        dataset=arguments.data,
        betas=betas,
        channels_last=arguments.memory_format == "channels_last",
        seed=arguments.seed,
        start=None if start is None else start.model_id.hex(),
        rates=rates,
        **given_fields(Recipe, vars(arguments)),
    )
    if start is not None and start.model.spec.name != recipe.spec:
        raise SpecError(f"--init-from is a {start.model.spec.name}, --spec says {recipe.spec}")
    if arguments.fit_effort is not None and not betas[-1] > 0:
        raise SpecError("--fit-effort needs a last beta above 0: without it bytes weigh nothing")
    if arguments.fit_effort is not None and isinstance(any_spec(recipe.spec), ConvSpec):
        raise SpecError(f"--fit-effort is not for {recipe.spec}: its tables depend on its contexts")
    if arguments.quality is None:
        arguments.quality = MAP_QUALITY if isinstance(any_spec(recipe.spec), ConvSpec) else 1
    training, test = _load_data(arguments, recipe)
    arguments.out.mkdir(parents=True, exist_ok=True)
    # A snapshot is of a run that goes on meanwhile, and is written beside its checkpoint.
    alone = nullcontext() if arguments.snapshot else locked(arguments.out, CheckpointError)
    with alone:
        return _train(arguments, recipe, training, test, start)


def _train(
    arguments: argparse.Namespace,
    recipe: Recipe,
    training: ImageDataset | RandomCrops,
    test: ImageDataset,
    start: Checkpoint | None,
) -> int:
    """Train, measure and write the checkpoint; the exit code."""
    model = _model(arguments, recipe, training, start)
    rates, betas = recipe.rates, recipe.betas
    history = load_history(arguments.out)
    if rates is not None:
        betas = tuple(history[-1]["betas"])
    tables = _fit(model.cpu(), training, recipe, betas[-1], arguments.fit_effort)
    card = {
        "name": arguments.name,
        "quality": arguments.quality,
        "recipe": recipe.to_json(),
        **({} if rates is None else {"betas": list(betas)}),
        "command": _command(arguments),
        "data": _described_data(training, test, recipe),
        "training": {
            "epochs": len(history),
            "cpu_seconds": _cpu_seconds(history),
            "learning_rates": _learning_rates(history),
        },
    }
    path = _checkpoint_path(arguments, len(history))
    checkpoint = make_checkpoint(model, tables, card)
    if not arguments.replace:
        check_replaces(path, checkpoint)
    codec = Codec(checkpoint)
    card["measured"] = measured = measure_codec(codec, test.images)
    if codec.info.continuous:
        card["qualities"] = measure_qualities(codec, test.images[:CALIBRATION_IMAGES])
    if betas[-1] > 0 and not isinstance(model, ConvVAE):  # whose quality is no matter of a trade
        card["calibration"] = calibrate_codec(codec, test.images[:CALIBRATION_IMAGES])
    save_checkpoint(path, model, tables, card, replace=arguments.replace)
    missed = [] if rates is None else _missed(rates, measured["rates_nats"])
    for line in missed:
        print_warning(line)
    if arguments.json:
        result = {"checkpoint": str(path), "model_id": checkpoint.model_id.hex(), **measured}
        adapted = {} if rates is None else {"betas": list(betas), "rates_missed": missed}
        print_json({**result, **adapted})
    else:
        print(
            f"{path}: model {checkpoint.model_id.hex()}, "
            f"{measured['payload_bytes']:.1f} payload bytes, {measured['psnr_db']:.2f} dB "
            f"on {test.name} {test.split}"
        )
    return 0


def _model(
    arguments: argparse.Namespace,
    recipe: Recipe,
    training: ImageDataset | RandomCrops,
    start: Checkpoint | None,
) -> Model:
    """The trained model, or with --snapshot what the run's newest state has."""
    if arguments.snapshot:
        return snapshot(recipe, training, arguments.out)
    return train(
        recipe,
        training,
        arguments.out,
        start=None if start is None else start.model.state_dict(),
        device=arguments.device,
        report=_report,
    )


def _checkpoint_path(arguments: argparse.Namespace, epochs: int) -> Path:
    """Where the checkpoint goes; a snapshot has a folder of its own, and so keeps its id."""
    folder: Path = arguments.out
    if arguments.snapshot:
        folder = folder / "snapshots" / f"epoch-{epochs:05}"
    return folder / f"{arguments.name}-q{arguments.quality}.safetensors"


def _learning_rates(history: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """First epoch, from 1, and learning rate of each stretch of a run."""
    rates = [row["learning_rate"] for row in history]
    starts = [i for i, rate in enumerate(rates) if i == 0 or rate != rates[i - 1]]
    return [[start + 1, rates[start]] for start in starts]


def _cpu_seconds(history: Sequence[Mapping[str, Any]]) -> float | None:
    """Processor time of all epochs; None of a run that an earlier release began."""
    if any("cpu_seconds" not in row for row in history):
        return None
    seconds: list[float] = [row["cpu_seconds"] for row in history]
    return round(sum(seconds), 1)


def _load_data(
    arguments: argparse.Namespace, recipe: Recipe
) -> tuple[ImageDataset | RandomCrops, ImageDataset]:
    """What to train on and what to measure with, cut to the model's size where it is cut."""
    place = arguments.root, arguments.download
    size = any_spec(recipe.spec).image_shape[1:]
    training = load_training(
        recipe.dataset,
        *place,
        crop=size,
        crops=recipe.crops,
        seed=recipe.seed,
        plain=recipe.plain_crops,
        skip=print_warning if arguments.skip_bad_images else None,
    )
    return training, load_dataset(recipe.dataset, "test", *place, crop=size)


def _table_batches(training: ImageDataset | RandomCrops, recipe: Recipe) -> list[NDArray[np.uint8]]:
    """What the tables of a fully convolutional model are fitted to: photographs, cut to whole
    positions of the top latents, or minibatches of small images.
    """
    if isinstance(training, RandomCrops):
        spec = any_spec(recipe.spec)
        assert isinstance(spec, ConvSpec)
        stride = spec.coarsest
        sizes = [
            (p, len(p) // stride * stride, p.shape[1] // stride * stride)
            for p in training.photos.pictures
        ]
        return [picture[:height, :width] for picture, height, width in sizes]
    images, size = training.images[: recipe.images], recipe.batch_size
    return [images[start : start + size] for start in range(0, len(images), size)]


def _described_data(
    training: ImageDataset | RandomCrops, test: ImageDataset, recipe: Recipe
) -> dict[str, Any]:
    """What the card says of the data."""
    if isinstance(training, ImageDataset):
        return described_data(training, test, recipe.images)
    photos = training.photos
    described = described_data(photos.fixed_crops(), test, None)
    train = f"{training.name} {training.split}"
    return {**described, "train": train, "train_images": len(photos.pictures)}


def _betas_and_rates(
    arguments: argparse.Namespace,
) -> tuple[tuple[float, ...], tuple[float | None, ...] | None]:
    """The betas of the recipe and its target rates, in nats per image, top first."""
    asked = arguments.rate or []
    rates = dict(asked)
    if len(rates) < len(asked):
        arguments.usage_error("--rate was given twice for a layer")
    layers = rates_by_layer(arguments, "--rate", rates)
    if arguments.betas is None and None in layers:
        if (
            isinstance(any_spec(arguments.spec), ConvSpec)
            and arguments.beta_groups is None
            and not rates
        ):
            return (1.0,) * len(layers), None
        arguments.usage_error("give --betas, or a --rate for every layer")
    return _betas_by_layer(arguments, len(layers)), layers if rates else None


def _betas_by_layer(arguments: argparse.Namespace, layers: int) -> tuple[float, ...]:
    """One beta a layer, top first; bins that cannot be are wrong usage."""
    betas: tuple[float, ...] | None = arguments.betas
    if arguments.beta_groups is None:
        return betas or (FIRST_BETA,) * layers
    if betas is None:
        arguments.usage_error(
            "--beta-groups says which layers share one of --betas: give these too"
        )
    try:
        return beta_per_layer(betas or (), arguments.beta_groups, layers)
    except SpecError as error:
        arguments.usage_error(f"--{error}")
        raise


def rates_by_layer(
    arguments: argparse.Namespace, option: str, rates: Mapping[str, float]
) -> tuple[float | None, ...]:
    """Rates by name as rates by layer, top first; a name that the spec lacks is wrong usage."""
    spec = any_spec(arguments.spec)
    names = [spec.layer_name(index) for index in range(len(spec.latents))]
    for name in rates:
        if name not in names:
            arguments.usage_error(f"{option} {name}: {arguments.spec} has {', '.join(names)}")
    return tuple(rates.get(name) for name in names)


def _missed(rates: tuple[float | None, ...], measured: list[float]) -> list[str]:
    """What to say of each layer whose measured rate, in nats, is not near its target."""
    lines = []
    for index, (target, found) in enumerate(zip(rates, measured, strict=True)):
        if target is not None and abs(found - target) > RATE_TOLERANCE * target:
            name = f"z{len(rates) - index}"
            lines.append(f"{name}: {target:g} nats were not reached; the nearest is {found:.2f}")
    return lines


def _fit(
    model: Model,
    training: ImageDataset | RandomCrops,
    recipe: Recipe,
    beta: float,
    effort: int | None,
) -> SymbolTables | ContextTables:
    """The tables of a trained model, of the kind that it takes."""
    if isinstance(model, ConvVAE):
        round_weights(model)
        batches = _table_batches(training, recipe)
        return fit_context_tables(model, batches[:: -(-len(batches) // MAP_TABLE_BATCHES)])
    assert isinstance(training, ImageDataset)
    images = training.images[: recipe.images]
    tables = fit_tables(model, images)
    if effort is None:
        return tables
    return refit_tables(model, tables, images, beta=beta, effort=effort)


def _report(row: dict[str, Any]) -> None:
    """One line an epoch, so that a run whose progress bar nobody sees still says where it is."""
    rates = ", ".join(f"{rate:.1f}" for rate in row["rates_nats"])
    line = f"epoch {row['epoch']}: distortion {row['distortion_nats']:.2f} nats, "
    print(f"{line}rates {rates} nats, {row['psnr_db']:.2f} dB", file=sys.stderr, flush=True)


def _command(arguments: argparse.Namespace) -> str:
    """The command that repeats this run, without what only this machine knows."""
    local = {
        "run",
        "usage_error",
        "json",
        "root",
        "out",
        "threads",
        "device",
        "start",
        "download",
        "rate",
        "replace",
        "snapshot",
    }
    words = ["hvae-codec", "train"]
    for name, value in vars(arguments).items():
        if name in local or value is None or value is False:
            continue
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        words += [flag_of(name)] + ([] if value is True else [text])
    for name, nats in arguments.rate or []:
        words += ["--rate", f"{name}={nats!r}"]
    if arguments.start is not None:
        words += ["--init-from", arguments.start.name]
    return shlex.join([*words, "--output", f"runs/{arguments.name}-q{arguments.quality}"])
