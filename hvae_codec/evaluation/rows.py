"""What one row of an evaluation says of a model, and how each of its figures is measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvae_codec import ops
from hvae_codec.codec.checkpoint import Checkpoint
from hvae_codec.data import ImageDataset
from hvae_codec.errors import EvaluationError
from hvae_codec.evaluation.metrics.mutual_information import (
    accuracy_bound,
    class_entropy_nats,
    gaussian_information,
    uniform_information,
)
from hvae_codec.evaluation.metrics.probes import FAST_PROBES, PROBES, PROTOCOLS, probe_accuracies
from hvae_codec.evaluation.metrics.psnr import PEAK, bounded_psnr_db
from hvae_codec.models.hvae import HierarchicalVAE, noise_seed
from hvae_codec.models.inference import inference
from hvae_codec.models.likelihoods import GaussianLikelihood, dtype_of

PROBE_LEVELS = {"all": PROBES, "fast": FAST_PROBES, "none": ()}
"""Names of how much `--probes` measures."""

_BATCH = 256

Stage = Callable[[str], object]


@dataclass(frozen=True)
class Settings:
    """What, with the model, determines a row, but for the classifiers that are asked.

    images, probe_images: how many of the first test images are used, for all and for the
    classifiers on latents; None for all. samples: those of the Inception Score.
    """

    data: str
    images: int | None = None
    probe_images: int | None = None
    samples: int = 10_000
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """JSON-ready fields."""
        return asdict(self)


@dataclass(frozen=True)
class Posteriors:
    """What passes of N test images through a model give; L layers, top first.

    rates_nats: float64 [L], means of Eq. 7. distortion_nats: mean of -log p(x|z). psnr_*_db: means
    over images. means: float32 [N, D_l] a layer, the modes of the posteriors, each given those
    above. deviation: float32 [N, D_L], of the top posterior; None where posteriors are uniform.
    """

    rates_nats: NDArray[np.float64]
    distortion_nats: float
    psnr_modes_db: float
    psnr_samples_db: float
    means: list[NDArray[np.float32]]
    deviation: NDArray[np.float32] | None


@inference
def run_passes(model: HierarchicalVAE, images: NDArray[np.uint8], *, seed: int = 0) -> Posteriors:
    """Pass test images uint8 [N, H, W, C] through the modes, and through one sample each.

    PSNR is against the model's input, on the scale [0, 1], of the mean of p(x|z): the decoder's
    output cut off at 0 and 1, or the probabilities of binary pixels. It is at most 100 dB. A model
    with uniform posteriors that learned from rounded latents rounds at run time too: its samples,
    and with them its ELBO, say little of it.
    """
    layers = len(model.spec.latents)
    sums, rates = np.zeros(3), np.zeros(layers)
    means: list[list[Tensor]] = [[] for _ in range(layers)]
    deviations = []
    for index, start in enumerate(range(0, len(images), _BATCH)):
        x = model_input(model, images[start : start + _BATCH])
        posteriors = model.posteriors(x)
        modes = [mean for mean, _ in posteriors]
        for layer, mean in zip(means, modes, strict=True):
            layer.append(mean.flatten(1))
        if model.posterior == "gaussian" and posteriors[0][1] is not None:
            deviations.append(ops.sigma(posteriors[0][1]).flatten(1))
        outcome = model(x, seed=noise_seed(seed, index))
        rates += outcome.rates_nats.double().sum(dim=0).numpy()
        sums += (
            float(outcome.distortion_nats.double().sum()),
            _psnr_db(mean_picture(model, model.decode(modes)), x),
            _psnr_db(mean_picture(model, outcome.output), x),
        )
    distortion, through_modes, through_samples = (sums / len(images)).tolist()
    return Posteriors(
        rates_nats=rates / len(images),
        distortion_nats=distortion,
        psnr_modes_db=through_modes,
        psnr_samples_db=through_samples,
        means=[torch.cat(layer).numpy() for layer in means],
        deviation=torch.cat(deviations).numpy() if deviations else None,
    )


def model_input(model: HierarchicalVAE, images: NDArray[np.uint8]) -> Tensor:
    """Images uint8 [N, H, W, C] as the model takes them: fp32 [N, C, H, W] in [0, 1]."""
    pictures = torch.from_numpy(images).permute(0, 3, 1, 2)
    return model.likelihood.pixels(pictures, dtype_of(model))


def mean_picture(model: HierarchicalVAE, output: Tensor) -> Tensor:
    """Mean of p(x|z) in [0, 1] for the decoder's output, of the same shape."""
    if isinstance(model.likelihood, GaussianLikelihood):
        return output.clamp(0.0, 1.0)
    return output.sigmoid()


def bits_per_dim(model: HierarchicalVAE, negative_elbo_nats: float) -> float:
    """Negative ELBO in bits per pixel and channel of the 8-bit image, or of the binary one.

    A Gaussian likelihood is a density on pixels in [0, 1], of 256 levels each: -log2 of what a
    level gets is NELBO / (D ln 2) + 8, D dimensions. That of binary pixels is NELBO / (D ln 2).
    """
    dims = math.prod(model.spec.image_shape)
    level_bits = 8.0 if isinstance(model.likelihood, GaussianLikelihood) else 0.0
    return negative_elbo_nats / (dims * math.log(2.0)) + level_bits


def measure_row(
    name: str,
    checkpoint: Checkpoint,
    dataset: ImageDataset,
    settings: Settings,
    probes: str,
    stage: Stage = lambda name: None,
) -> dict[str, Any]:
    """The row of one model but for its Inception Score, whose fields are null.

    `probes`: a key of PROBE_LEVELS. Without labels all that needs them is null too. `stage` hears
    of each part before it begins.

    Raises:
        EvaluationError: images of another size, a model that gives no finite figures, or too few
            labelled images.
        MissingDependencyError: a package that a figure needs is not installed.
        CheckpointError: it is a fully convolutional model.
    """
    model, card = checkpoint.of_one_size[0], checkpoint.card
    check_pictures(card, model.spec.image_shape, dataset)
    images = dataset.images[: settings.images]
    stage("passes")
    passes = run_passes(model, images, seed=settings.seed)
    nelbo = passes.distortion_nats + float(passes.rates_nats.sum())
    if not math.isfinite(nelbo):
        raise EvaluationError(f"model {name} has a negative ELBO of {nelbo}; it has diverged")
    recipe = card.get("recipe", {})
    row = {
        "model": name,
        "sha256": card["sha256"],
        "spec": model.spec.name,
        "posterior": model.posterior,
        "betas": card.get("betas") or recipe.get("betas"),
        "target_rates_nats": recipe.get("rates"),
        "epochs": recipe.get("epochs"),
        "data": dataset.name,
        "test_images": len(images),
        "rates_nats": passes.rates_nats.tolist(),
        "total_rate_nats": float(passes.rates_nats.sum()),
        "psnr_modes_db": passes.psnr_modes_db,
        "psnr_samples_db": passes.psnr_samples_db,
        "negative_elbo_nats": nelbo,
        "bits_per_dim": bits_per_dim(model, nelbo),
        **dict.fromkeys(INCEPTION_FIELDS),
        **dict.fromkeys(_LABEL_FIELDS),
    }
    if dataset.labels is not None:
        labels = dataset.labels[: settings.images]
        row |= _label_fields(model, passes, labels, settings, PROBE_LEVELS[probes], stage)
    return row


INCEPTION_FIELDS = ("inception_score", "diversity", "sharpness", "samples", "classifier")
_LABEL_FIELDS = ("information_nats", "information_standard_error_nats", "accuracy", "bounds")


def check_pictures(card: dict[str, Any], image_shape: Sequence[int], dataset: ImageDataset) -> None:
    """Refuse images that a model does not take.

    Raises:
        EvaluationError: their shape is not (C, H, W) = `image_shape`.
    """
    if tuple(image_shape) != dataset.image_shape:
        raise EvaluationError(
            f"{dataset.name} has images of shape (C, H, W) = {dataset.image_shape}; "
            f"model {card.get('name')} takes {tuple(image_shape)}"
        )


def _label_fields(
    model: HierarchicalVAE,
    passes: Posteriors,
    labels: NDArray[np.int64],
    settings: Settings,
    probes: Sequence[str],
    stage: Stage,
) -> dict[str, Any]:
    stage("information")
    if passes.deviation is not None:
        found = gaussian_information(passes.means[0], passes.deviation, labels, seed=settings.seed)
    else:
        step = model.step(0).flatten().numpy()
        found = uniform_information(passes.means[0], step, labels, seed=settings.seed)
    names = [model.spec.layer_name(index) for index in range(len(passes.means))]
    return {
        "information_nats": found.nats,
        "information_standard_error_nats": found.standard_error_nats,
        "accuracy": _accuracies(names, passes, labels, settings, probes, stage) if probes else None,
        "bounds": _bounds(names, passes, labels, found.nats),
    }


def _accuracies(
    names: Sequence[str],
    passes: Posteriors,
    labels: NDArray[np.int64],
    settings: Settings,
    probes: Sequence[str],
    stage: Stage,
) -> dict[str, dict[str, dict[str, float | None]]]:
    used = slice(settings.probe_images)
    accuracies: dict[str, dict[str, dict[str, float | None]]] = {}
    for protocol in PROTOCOLS:
        accuracies[protocol] = {}
        for layer, means in zip(names, passes.means, strict=True):
            stage(f"classifiers on {layer}, {protocol}")
            accuracies[protocol][layer] = probe_accuracies(
                means[used], labels[used], protocol=protocol, probes=probes
            )
    return accuracies


def _bounds(
    names: Sequence[str], passes: Posteriors, labels: NDArray[np.int64], information_nats: float
) -> dict[str, dict[str, float]] | None:
    """Eq. 11's bounds on accuracy: by I_q(y; z_L), and by each layer's accumulated rate."""
    classes = len(np.unique(labels))
    if classes < 2:
        return None
    entropy = class_entropy_nats(labels)
    bounds: dict[str, dict[str, float]] = {
        name: {"rate": accuracy_bound(float(rate), entropy, classes)}
        for name, rate in zip(names, np.cumsum(passes.rates_nats), strict=True)
    }
    informed = accuracy_bound(information_nats, entropy, classes)
    return {**bounds, names[0]: {"information": informed, **bounds[names[0]]}}


def _psnr_db(pictures: Tensor, x: Tensor) -> float:
    """Sum over a batch of PSNRs in dB, as a mean counts them; levels are from 0 to 1."""
    errors = (pictures.double() - x.double()).square().flatten(1).mean(dim=1)
    return float(bounded_psnr_db(PEAK**2 * errors.cpu().numpy(), x[0].numel()).sum())
