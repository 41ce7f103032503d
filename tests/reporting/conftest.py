"""A sweep's folder as `sweep` and `evaluate` leave it, with smooth made-up metrics."""

import io
import json
import math

import numpy as np
import pytest
from PIL import Image

from hvae_codec.reporting.results import beside_models_alone, read_sweep
from hvae_codec.training.recipe import Recipe

CLASSIFIERS = ("logistic_regression", "linear_svm", "rbf_svm", "knn")


def row_of(name, beta2, beta1, **changes):
    """A row of evaluation.jsonl whose figures follow from the betas by simple formulas."""
    r2 = 24.0 / (1.0 + beta2) * (0.4 + 0.6 * beta1 / (1.0 + beta1)) + 1.0
    r1 = 160.0 / (1.0 + beta1) * (0.6 + 0.4 * beta2 / (1.0 + beta2)) + 4.0
    total = r2 + r1
    diversity = 5.0 + 3.0 * math.exp(-(((r2 - 12.0) / 9.0) ** 2))
    sharpness = 0.3 + 0.3 * math.exp(-(((r2 - 16.0) / 8.0) ** 2) - r1 / 200.0)
    information = 2.0 * (1.0 - math.exp(-r2 / 8.0))
    z2 = 0.2 + 0.32 * (1.0 - math.exp(-r2 / 7.0)) + 0.02 * math.exp(-(((r1 - 60.0) / 40.0) ** 2))
    z1 = 0.2 + 0.25 * (1.0 - math.exp(-total / 60.0))
    gains = dict(zip(CLASSIFIERS, (-0.05, -0.06, 0.0, -0.09), strict=True))
    protocol = {
        "z2": {key: z2 + gain for key, gain in gains.items()},
        "z1": {key: z1 + gain for key, gain in gains.items()},
    }
    row = {
        "model": name,
        "sha256": "ab" * 32,
        "spec": "ghvae-32x32x3",
        "posterior": "gaussian",
        "betas": [beta2, beta1],
        "target_rates_nats": None,
        "epochs": 8,
        "data": "CIFAR-10 minus 971 images",
        "test_images": 9827,
        "rates_nats": [r2, r1],
        "total_rate_nats": total,
        "psnr_modes_db": 14.0 + 2.6 * math.log(1.0 + r1 / 8.0) + 0.8 * math.log(1.0 + r2),
        "psnr_samples_db": 13.5 + 2.5 * math.log(1.0 + r1 / 8.0) + 0.8 * math.log(1.0 + r2),
        "negative_elbo_nats": 1900.0 - 2.0 * total + 0.011 * total**2,
        "bits_per_dim": 0.9,
        "inception_score": diversity * sharpness,
        "diversity": diversity,
        "sharpness": sharpness,
        "samples": 10000,
        "classifier": {"arch": "densenet121", "accuracy": 0.912, "sha256": "cd" * 32},
        "information_nats": information,
        "information_standard_error_nats": 0.004,
        "accuracy": {
            "paper": protocol,
            "standardised": {
                layer: {key: value + 0.01 for key, value in found.items()}
                for layer, found in protocol.items()
            },
        },
        "bounds": {
            "z2": {"information": min(1.0, 0.1 + 0.45 * information), "rate": 1.0},
            "z1": {"rate": 1.0},
        },
        "settings": {},
        "seconds": 1.0,
    }
    return row | changes


def strip(seed, columns=8, rows=2, side=32):
    """A WebP strip of waves, uint8 [rows * side, columns * side, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: rows * side, : columns * side] / side
    turns = rng.uniform(0.5, 3.0, (3, 2))
    waves = [128 + 100 * np.sin(a * x * 2 + b * y * 3) for a, b in turns]
    buffer = io.BytesIO()
    picture = np.stack(waves, axis=-1).astype(np.uint8)
    Image.fromarray(picture).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def write_sweep(
    folder, betas, *, skip=(), pictures=True, change=None, dataset="cifar10", ranges=None, **plan
):
    """Write SWEEP with a model for each pair of betas, but no row for the names in `skip`; `change`
    maps each row to the one that is written. With `ranges` one model was trained for all betas.
    """
    spec = plan.pop("spec", "ghvae-32x32x3")
    recipe = Recipe(
        spec=spec,
        dataset=dataset,
        betas=(1.0, 1.0),
        posterior="gaussian",
        epochs=8,
        batch_size=256,
        learning_rate=3e-4,
        schedule="constant",
        beta_ranges=ranges,
    )
    models = [{"index": i, "betas": list(pair), "rates": None} for i, pair in enumerate(betas)]
    data = {"train": "CIFAR-10 minus 971 images", "train_images": 49202}
    data |= {"test": "CIFAR-10 minus 971 images", "test_images": 9827}
    head = {"format": "hvae-codec sweep 1", "recipe": recipe.to_json(), "models": models}
    head |= {"name": folder.name, "chunk": 16}
    folder.mkdir(parents=True)
    (folder / "sweep.json").write_text(json.dumps(head | {"data": data} | plan))
    rows = [row_of(f"{i:04d}", *pair) | {"spec": spec} for i, pair in enumerate(betas)]
    rows = [row for row in rows if row["model"] not in skip]
    rows = [change(row) if change else row for row in rows]
    (folder / "evaluation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if pictures:
        (folder / "pictures").mkdir()
        (folder / "pictures" / "originals.webp").write_bytes(strip(0, rows=1))
        for row in rows:
            name = f"{row['model']}.webp"
            (folder / "pictures" / name).write_bytes(strip(int(row["model"])))
    return folder


def grid(count, low=0.1, high=10.0):
    """The pairs of a count x count grid of betas, evenly spaced by logarithm; beta_2 is slow."""
    values = [round(float(v), 4) for v in np.geomspace(low, high, count)]
    return [(top, bottom) for top in values for bottom in values]


@pytest.fixture(scope="session")
def sweep_folder(tmp_path_factory):
    """A 5x5 grid of which two models have no row."""
    folder = tmp_path_factory.mktemp("sweeps") / "cifar10-ghvae"
    return write_sweep(folder, grid(5), skip=("0000", "0012"))


@pytest.fixture
def plane_and_alone(tmp_path):
    """A sweep of one model for all betas, and one of models alone that lacks one of its pairs."""
    ranges = ((0.1, 10.0), (0.1, 10.0))

    def better(row):
        return row | {"psnr_modes_db": row["psnr_modes_db"] + 9.0}

    folders = (
        write_sweep(tmp_path / "plane", grid(3), ranges=ranges),
        write_sweep(tmp_path / "alone", grid(3), skip=("0004",), change=better),
    )
    return beside_models_alone([read_sweep(folder) for folder in folders])


@pytest.fixture
def make():
    """`write_sweep`."""
    return write_sweep


@pytest.fixture
def grid_of():
    """`grid`."""
    return grid


@pytest.fixture
def make_row():
    """`row_of`."""
    return row_of
