"""What `hvae-codec sweep` does: plan, run the chunks with an engine, say what came out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from hvae_codec.cli.common import print_json, print_warning, require_folder_name
from hvae_codec.cli.research.train_job import FIRST_BETA, rates_by_layer
from hvae_codec.data import load_dataset
from hvae_codec.errors import SweepError
from hvae_codec.models.zoo import get_spec
from hvae_codec.training.recipe import Recipe, beta_per_layer
from hvae_codec.training.sweep.chunk import described_data, fingerprint_of, pending_chunks
from hvae_codec.training.sweep.job import SweepJob, run_sweep
from hvae_codec.training.sweep.memory import fitting_chunk
from hvae_codec.training.sweep.plan import (
    PLAN_FILE,
    SweepModel,
    SweepPlan,
    divergence_path,
    grid,
    model_path,
    read_plan,
    write_plan,
)
from hvae_codec.training.sweep.plane import check_plane, keep_plane, recipe_of
from hvae_codec.training.sweep.plane_checkpoint import PlaneCheckpoint, load_plane
from hvae_codec.utils.atomic_files import locked
from hvae_codec.utils.executors.base import Executor
from hvae_codec.utils.executors.local import LocalExecutor
from hvae_codec.utils.executors.ray import RayExecutor
from hvae_codec.utils.options import flag_of, given_fields
from hvae_codec.utils.progress import progress

RAY_RETRIES = 5
"""Lost workers that a chunk survives."""


def run(arguments: argparse.Namespace) -> int:
    """Sweep as the parsed arguments say; the exit code."""
    require_folder_name(arguments.out, "a sweep is")
    plane = _plane_checkpoint(arguments)
    models = _models(arguments)
    if arguments.plane:
        _check_plane(arguments, models)
    training, test = (
        load_dataset(arguments.data, split, arguments.root, arguments.download)
        for split in ("train", "test")
    )
    recipe = (
        _recipe(arguments, models)
        if plane is None
        else recipe_of(arguments.plane_checkpoint, plane)
    )
    chunk = _chunk(arguments, recipe, len(models))
    data = described_data(training, test, recipe.images)
    images = fingerprint_of(training, test)
    plan = SweepPlan(recipe, tuple(models), chunk, arguments.name, data, images)
    if plane is not None:
        check_plane(arguments.plane_checkpoint, plane, plan)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with locked(arguments.out, SweepError):
        write_plan(arguments.out, plan)
        if plane is not None:
            keep_plane(arguments.out, plane)
        threads, workers = arguments.threads, _workers(arguments)
        if threads is None and workers > 1:
            threads = max(1, torch.get_num_threads() // workers)
        work = SweepJob(arguments.out, arguments.root, arguments.device, threads)
        for line in _run(work, plan, arguments):
            print_warning(line)
    _report(arguments, plan)
    return 0


def _plane_checkpoint(arguments: argparse.Namespace) -> PlaneCheckpoint | None:
    """The model of --plane-checkpoint, if it was given: the arguments then say what it is of.

    A flag of training that says something else is wrong usage.
    """
    if arguments.plane_checkpoint is None:
        return None
    _check_one_model(arguments, "--plane-checkpoint")
    plane = load_plane(arguments.plane_checkpoint)
    recipe = recipe_of(arguments.plane_checkpoint, plane)
    layout = "channels_last" if recipe.channels_last else "contiguous"
    trained = {"spec": recipe.spec, "data": recipe.dataset, "seed": recipe.seed}
    given, default = (
        {
            **{name: values[name] for name in (*trained, "memory_format")},
            **given_fields(Recipe, values),
        }
        for values in (vars(arguments), {n: arguments.default_of(n) for n in vars(arguments)})
    )
    for name, value in given.items():
        found = {**trained, "memory_format": layout}.get(name, getattr(recipe, name, None))
        if value not in (found, default[name]):
            arguments.usage_error(
                f"{arguments.plane_checkpoint} was trained with {flag_of(name)} {found}, "
                f"not {value}"
            )
    vars(arguments).update(trained)
    return plane


def _check_one_model(arguments: argparse.Namespace, flag: str) -> None:
    """Wrong usage where one model for all betas has no use for a flag."""
    if arguments.rates:
        arguments.usage_error(f"{flag} adapts no betas to --rates")
    for name, other in (("chunk", "--models-per-stack"), ("workers", "--workers")):
        if getattr(arguments, name) is not None:
            arguments.usage_error(f"{flag} is of one model: it does not go with {other}")


def _check_plane(arguments: argparse.Namespace, models: Sequence[SweepModel]) -> None:
    """Wrong usage where one model for all betas has no use for a flag, or a layer one beta."""
    _check_one_model(arguments, "--plane")
    by_layer = list(zip(*(model.betas for model in models), strict=True))
    for index, of_layer in enumerate(by_layer):
        if min(of_layer) == max(of_layer):
            arguments.usage_error(
                f"--plane needs at least two betas for each layer; z{len(by_layer) - index} has "
                f"{of_layer[0]:g} alone"
            )


def _models(arguments: argparse.Namespace) -> list[SweepModel]:
    layers = len(get_spec(arguments.spec).latents)
    bins = arguments.beta_groups or (1,) * layers
    found: list[SweepModel] = []
    if arguments.grid is not None:
        if len(arguments.grid) != len(bins):
            arguments.usage_error(
                f"--grid has {len(arguments.grid)} sides; {arguments.spec} has {layers} layers"
                + (f" in {len(bins)} bins" if arguments.beta_groups else "")
            )
        found += grid(arguments.grid, *arguments.beta)
    found += [SweepModel(betas) for betas in arguments.betas or []]
    models = [SweepModel(beta_per_layer(model.betas, bins, layers)) for model in found]
    for rates in arguments.rates or []:
        by_layer = rates_by_layer(arguments, "--rates", rates)
        if None in by_layer:
            arguments.usage_error(f"--rates needs a rate for each of the {layers} layers")
        models.append(SweepModel((FIRST_BETA,) * layers, by_layer))
    if not models:
        arguments.usage_error("give --grid, --betas or --rates")
    return models


def _recipe(arguments: argparse.Namespace, models: Sequence[SweepModel]) -> Recipe:
    betas, ranges = models[0].betas, None
    if arguments.plane:
        ranges = tuple((min(of), max(of)) for of in zip(*(m.betas for m in models), strict=True))
        betas = (1.0,) * len(betas)
    return Recipe(
        spec=arguments.spec,
        dataset=arguments.data,
        betas=betas,
        beta_ranges=ranges,
        channels_last=arguments.memory_format == "channels_last",
        seed=arguments.seed,
        **given_fields(Recipe, vars(arguments)),
    )


def _chunk(arguments: argparse.Namespace, recipe: Recipe, models: int) -> int:
    """As it was when the sweep began, or what fits now; all models where one stands for them."""
    if recipe.beta_ranges is not None:
        return models
    if arguments.chunk is not None:
        return int(arguments.chunk)
    if (arguments.out / PLAN_FILE).exists():
        return read_plan(arguments.out).chunk
    return fitting_chunk(recipe, models, arguments.device, _workers(arguments))


def _workers(arguments: argparse.Namespace) -> int:
    """Stacks at a time."""
    return 1 if arguments.workers is None else int(arguments.workers)


def _run(work: SweepJob, plan: SweepPlan, arguments: argparse.Namespace) -> list[str]:
    chunks = plan.chunks()
    pending = pending_chunks(work.directory)
    models = sum(len(chunks[number]) for number in pending)
    if plan.recipe.beta_ranges is None:
        trained, what = models, f"{models} models in {len(pending)} stacks"
    else:
        trained, what = len(pending), f"one model for {models} choices of betas"
    with (
        _executor(work, arguments) as executor,
        progress(
            what,
            total=trained * plan.recipe.epochs * plan.epoch_images,
            unit="model images",
            scaled=True,
        ) as bar,
    ):
        return run_sweep(work, executor, bar.update)


def _executor(work: SweepJob, arguments: argparse.Namespace) -> Executor:
    if arguments.engine == "local":
        return LocalExecutor(_workers(arguments))
    if work.device.startswith("cuda"):
        return RayExecutor(gpus=1, retries=RAY_RETRIES)
    return RayExecutor(cpus=work.threads or 1, retries=RAY_RETRIES)


def _report(arguments: argparse.Namespace, plan: SweepPlan) -> None:
    out: Path = arguments.out
    every = range(len(plan.models))
    diverged = [index for index in every if divergence_path(out, index).exists()]
    trained = [index for index in every if index not in diverged]
    if arguments.json:
        names = {"trained": trained, "diverged": diverged}
        listed = {key: [model_path(out, i).stem for i in value] for key, value in names.items()}
        print_json({"sweep": str(out), **listed})
        return
    print(f"{out}: {len(trained)} models trained, {len(diverged)} diverged; next:")
    print(f"  hvae-codec evaluate {out}")
