"""Which recipe learns most of photographs in equal processor time? Variants of one, side by side.

    python -m benchmarks.training.photo_recipes [NAME ...] [--core-seconds 300] [--seed 0]
        [--json FILE]

Every variant differs from the base recipe in one thing. It trains on one thread for the steps that
fill the core-seconds, by its own time per step: a variant that is slower takes fewer. Then its loss
is measured on crops of held-out photographs, at five qualities, in bits per pixel: differences of
it are bits saved at equal distortion. Rows are written to the JSON file as they come, and rows that
it already has are not measured again: a comparison of many variants goes on where it was stopped.
"""

from __future__ import annotations

import math
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.command import Argument, Benchmark
from benchmarks.tables import Result, Table
from benchmarks.training.equal_time import (
    Training,
    rows_measured,
    seconds_per_step,
    trained_for,
)
from hvae_codec.data import RandomCrops
from hvae_codec.data.sources.photographs import Photos, load_photos
from hvae_codec.models.fully_convolutional.model import ConvVAE
from hvae_codec.models.fully_convolutional.spec import ConvLatent, ConvSpec, Resolution
from hvae_codec.models.zoo import SPECS, any_spec
from hvae_codec.training import Recipe

DATA = (
    "photos/bsds500_*,photos/web/deepin-unsplash_*.jpg,photos/web/elementary_*.jpg,"
    "photos/web/metadata_*.jpg"
)
"""All photographs but the sources that are kept apart for the last measurement."""

BASE = "lean6-128x128x3"
QUALITIES = (0.1, 0.3, 0.5, 0.7, 0.9)
HELD_OUT_CROPS = 128


@dataclass(frozen=True)
class Variant:
    """One difference from the base recipe: fields of the recipe, or another architecture."""

    what: str
    changes: dict[str, Any] = field(default_factory=dict)
    spec: ConvSpec | None = None


def variants() -> dict[str, Variant]:
    """The variants by name."""
    lean = SPECS[BASE]
    assert isinstance(lean, ConvSpec)
    wide_16 = replace(
        lean,
        name="lean5-128x128x3",
        resolutions=(
            lean.resolutions[0],
            Resolution(8, 80, 2, 1),
            Resolution(16, 128, 2, 1),
            lean.resolutions[3],
        ),
        latents=(
            ConvLatent(32, 24),
            ConvLatent(16, 32),
            ConvLatent(16, 64),
            ConvLatent(8, 16),
            ConvLatent(8, 32),
        ),
    )
    small_crops, large_crops = (
        replace(lean, name=f"lean6-{side}x{side}x3", image_shape=(3, side, side))
        for side in (64, 256)
    )
    return {
        "base": Variant("lean networks, Muon at 1e-3, minibatches of 8"),
        "adam": Variant("Adam at 1e-3", {"optimiser": "adam"}),
        "adamw": Variant("AdamW at 1e-3", {"optimiser": "adamw"}),
        "soap": Variant("SOAP at 1e-3", {"optimiser": "soap"}),
        "rate-2e-3": Variant("Muon at 2e-3", {"learning_rate": 2e-3}),
        "rate-5e-4": Variant("Muon at 5e-4", {"learning_rate": 5e-4}),
        "batch-4": Variant("minibatches of 4", {"batch_size": 4}),
        "batch-16": Variant("minibatches of 16", {"batch_size": 16}),
        "crops-64": Variant("32 crops of 64x64", {"batch_size": 32}, small_crops),
        "crops-256": Variant("2 crops of 256x256", {"batch_size": 2}, large_crops),
        "upper-betas": Variant(
            "rates of upper layers cost less, of the lowest more",
            {"betas": (0.8, 0.85, 0.9, 0.95, 1.0, 1.05)},
        ),
        "wide": Variant("the networks of the photo model of before", {"spec": "maps6-128x128x3"}),
        "five-layers": Variant("five layers, more at stride 16", spec=wide_16),
    }


def variant_name(text: str) -> str:
    """The name of a variant, for `argparse`."""
    known = variants()
    if text not in known:
        raise ArgumentTypeError(f"no variant {text}; there are {', '.join(known)}")
    return text


def recipe_of(variant: Variant, seed: int, steps: int) -> Recipe:
    """The recipe of a variant, as one epoch of so many steps."""
    spec = BASE
    if variant.spec is not None:
        SPECS[variant.spec.name] = variant.spec
        spec = variant.spec.name
    settings = {"spec": spec, "batch_size": 8, **variant.changes}
    layers = len(SPECS[settings["spec"]].latents)
    common: dict[str, Any] = {
        "dataset": f"photos:{DATA}",
        "betas": (1.0,) * layers,
        "epochs": 1,
        "crops": steps * settings["batch_size"],
        "optimiser": "muon",
        "learning_rate": 1e-3,
        "schedule": "hold",
        "decay": 0.4,
        "average": 0.995,
        "quality_rate": 3.0,
        "gradient_norm": 1.0,
        "seed": seed,
    }
    return Recipe(**{**common, **settings})


@cache
def photographs(size: tuple[int, int]) -> Photos:
    """The photographs to train on, for crops of this size."""
    return load_photos(DATA, "train", size)


@cache
def held_out_photographs() -> torch.Tensor:
    """The crops to measure on."""
    return held_out_crops(load_photos(DATA, "test", (128, 128)).fixed_crops().images)


def run(variant: Variant, seed: int, core_seconds: float) -> dict[str, Any]:
    """Train a variant for so many core-seconds, and measure it on held-out crops."""

    def training_of(steps: int) -> Training:
        recipe = recipe_of(variant, seed, steps)
        _, height, width = any_spec(recipe.spec).image_shape
        return recipe, RandomCrops(photographs((height, width)), recipe.crops or 0, seed)

    per_step = seconds_per_step(training_of)
    model, spent = trained_for(core_seconds, per_step, training_of)
    assert isinstance(model, ConvVAE)
    return {**spent, **held_out_loss(model, held_out_photographs())}


def held_out_crops(crops: NDArray[np.uint8]) -> torch.Tensor:
    """Some of the crops, evenly spread, as [N, 3, H, W] in [0, 1]."""
    chosen = np.linspace(0, len(crops) - 1, min(HELD_OUT_CROPS, len(crops))).round().astype(int)
    return torch.from_numpy(crops[chosen]).permute(0, 3, 1, 2) / 255.0


@torch.inference_mode()
def held_out_loss(model: ConvVAE, x: torch.Tensor) -> dict[str, Any]:
    """Loss and rate in bits per pixel and PSNR in dB at each quality, and the mean loss."""
    bits = 1.0 / (math.log(2.0) * x.shape[-1] * x.shape[-2])
    rows = []
    for quality in QUALITIES:
        sums = np.zeros(3)
        for part in torch.split(x, 16):
            outcome = model(part, seed=5, qualities=torch.full((len(part),), quality))
            rates = outcome.rates_nats.sum(1)
            error = (model.likelihood.mode(outcome.output) - part).square().flatten(1).mean(1)
            psnr = -10.0 * error.clamp(min=1e-10).log10()
            sums += [
                bits * (outcome.distortion_nats + rates).sum().item(),
                bits * rates.sum().item(),
                psnr.sum().item(),
            ]
        rows.append(sums / len(x))
    loss, rate, psnr_db = (np.round(column, 4).tolist() for column in np.transpose(rows))
    mean = round(float(np.mean(loss)), 4)
    return {"loss": loss, "bits_per_pixel": rate, "psnr_db": psnr_db, "mean_loss": mean}


def measure(arguments: Namespace) -> Result:
    """Variants that have no row yet; rows stand in the file as soon as they are measured."""
    known = variants()

    def measured(key: Mapping[str, Any]) -> dict[str, Any]:
        variant = known[key["variant"]]
        return {"what": variant.what, **run(variant, arguments.seed, arguments.core_seconds)}

    shared = {"seed": arguments.seed, "core_seconds": arguments.core_seconds}
    keys = [{"variant": name, **shared} for name in arguments.names or known]
    more = {"qualities": list(QUALITIES), "data": DATA}
    return rows_measured(arguments.json, keys, measured, more)


def points(row: dict[str, Any]) -> str:
    """Bits per pixel and PSNR at each quality."""
    pairs = zip(row["bits_per_pixel"], row["psnr_db"], strict=True)
    return " ".join(f"{rate:.3f}/{psnr:.2f}" for rate, psnr in pairs)


RECIPES = Table(
    "recipes",
    lambda result: sorted(result["rows"], key=lambda row: float(row["mean_loss"])),
    {
        "variant": "{what}",
        "seed": "{seed}",
        "core-seconds": "{cpu_seconds:.0f}",
        "steps": "{steps:,}",
        "mean loss, bits per pixel": "{mean_loss:.3f}",
        "at quality 0.5": "{bits_per_pixel[2]:.3f} bits, {psnr_db[2]:.2f} dB",
    },
    more={"at all qualities": points},
    result="photo_recipes",
)
BENCHMARK = Benchmark(
    __doc__,
    measure,
    (RECIPES,),
    (
        Argument("names", nargs="*", type=variant_name, metavar="NAME", help="variants; all"),
        Argument("--core-seconds", type=float, default=300.0),
        Argument("--seed", type=int, default=0),
    ),
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
