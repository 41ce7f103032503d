"""Training of the image classifiers behind the Inception Score.

Stochastic gradient descent with Nesterov's momentum along one cycle of the learning rate (Smith and
Topin 2017): up over the first fifth of the steps, down to zero along a half cosine over the rest.
Order and augmentation of the images depend on seed and epoch alone, so that a killed run goes on
where it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from hvae_codec.data import ImageDataset, epoch_batches
from hvae_codec.errors import DatasetError, DivergenceError, SpecError
from hvae_codec.evaluation.image_classifiers import ARCHITECTURES, ClassifierNetwork
from hvae_codec.models.inference import inference
from hvae_codec.models.likelihoods import LIKELIHOODS, dtype_of
from hvae_codec.training.classifier_state import load_state, save_state
from hvae_codec.training.recipe import Precision
from hvae_codec.training.state_file import data_of
from hvae_codec.utils.options import check_options, option
from hvae_codec.utils.progress import Bar, progress

MOMENTUM = 0.9
RISING = 0.2
"""Share of the steps over which the learning rate rises."""

EVALUATION_BATCH = 500

_AUGMENTATION = 1
"""Second part of the augmentation's seed; the order of the images is seeded without one."""


@dataclass(frozen=True)
class ClassifierRecipe:
    """One training run of a classifier.

    `learning_rate` is the highest of the cycle. `crop_padding`: images are moved by up to so many
    pixels, zeros following; `flips`: half of them are mirrored (not for digits). `images`: use only
    so many training images. `label_smoothing` helps accuracy, but adds to the entropy of p(y|x),
    which the Inception Score is to measure: hence none unless asked for.
    """

    arch: str
    dataset: str
    stem: Literal[1, 2, 4] = option(
        1, "stride before the first block: 1 for accuracy, 4 for a machine without a GPU"
    )
    epochs: int = option(30, "passes over the data", least=1)
    batch_size: int = option(128, "images of a minibatch", least=2)
    learning_rate: float = option(0.1, "the highest of its cycle")
    weight_decay: float = option(5e-4, "factor on the penalty of the weights' squares")
    label_smoothing: float = option(0.0, "share of a label spread over all classes")
    crop_padding: int = option(
        0, "move training images by up to so many pixels; default: 4 for colour, else 0", least=0
    )
    flips: bool = option(False, "mirror half of the training images; default: not for digits")
    precision: Precision = option("fp32", "number format of the network")
    channels_last: bool = True
    seed: int = 0
    images: int | None = option(None, "use only this many training images", least=1)

    def __post_init__(self) -> None:
        check_options(self, SpecError)
        if self.seed < 0:
            raise SpecError(f"seed {self.seed}; at least 0 is allowed")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise SpecError(f"learning_rate {self.learning_rate}; must be finite and above 0")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise SpecError(f"weight_decay {self.weight_decay}; must be finite and at least 0")
        if not 0.0 <= self.label_smoothing < 1.0:
            raise SpecError(f"label_smoothing {self.label_smoothing}; must be in [0, 1)")

    def to_json(self) -> dict[str, Any]:
        """JSON-ready fields."""
        return asdict(self)

    def learning_rate_at(self, progress: float) -> float:
        """Learning rate when the fraction `progress` in [0, 1) of all steps is done."""
        if progress < RISING:
            return self.learning_rate * progress / RISING
        falling = (progress - RISING) / (1.0 - RISING)
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * falling))


def train_classifier(
    recipe: ClassifierRecipe,
    dataset: ImageDataset,
    state: Path,
    *,
    device: torch.device | str = "cpu",
    report: Callable[[dict[str, Any]], None] | None = None,
) -> ClassifierNetwork:
    """Train the network of `recipe` on `dataset`, keeping the state of the run in the file `state`
    after every epoch.

    If the file holds the state of the same recipe and data, training goes on from there and ends
    with the weights of an uninterrupted run (bit for bit on a CPU with the same number of threads).

    Args:
        recipe: settings of the run.
        dataset: labelled images of the network's size, uint8 [N, H, W, C].
        state: its folder is made if absent.
        device: where to train.
        report: called after each epoch with its mean loss (nats) and accuracy on the training
            images as they were augmented.

    Returns:
        The trained network in evaluation mode.

    Raises:
        SpecError: the network cannot have this stem.
        DatasetError: the images do not fit, have no labels, or do not fill a minibatch.
        CheckpointError: `state` is damaged or another run's.
        DivergenceError: the loss is no longer finite; names the step.
    """
    images, labels = _checked(recipe, dataset)
    state.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    module = ClassifierNetwork(recipe.arch, recipe.stem, int(labels.max()) + 1)
    _measure_pixels(recipe.arch, module, images)
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    module = module.to(device).to(memory_format=layout)
    optimiser, data = _optimiser(recipe, module), data_of(dataset)
    history = load_state(state, recipe.to_json(), data, module, optimiser)
    per_epoch = len(images) // recipe.batch_size * recipe.batch_size
    with progress(
        "training",
        total=recipe.epochs * per_epoch,
        initial=len(history) * per_epoch,
        unit="images",
        in_log=report is None,
    ) as bar:
        while len(history) < recipe.epochs:
            row = _epoch(recipe, module, optimiser, images, labels, len(history), bar)
            history.append(row)
            save_state(state, recipe.to_json(), data, module, optimiser, history)
            if report is not None:
                report(row)
    return module.eval()


@inference
def accuracy(module: ClassifierNetwork, arch: str, dataset: ImageDataset) -> float:
    """Share of the labelled images of `dataset` that are classified rightly, in [0, 1].

    Raises:
        DatasetError: the images do not fit the network `arch`, or have no labels.
    """
    images, labels = _fitting(arch, dataset)
    likelihood = LIKELIHOODS[ARCHITECTURES[arch].likelihood]()
    right = 0
    starts = range(0, len(images), EVALUATION_BATCH)
    for start in progress("testing", starts, unit="batches", leave=False):
        batch = torch.from_numpy(images[start : start + EVALUATION_BATCH]).permute(0, 3, 1, 2)
        logits = module(likelihood.pixels(batch, dtype_of(module)).to(module.mean.device))
        found = logits.argmax(dim=1).cpu().numpy()
        right += int((found == labels[start : start + EVALUATION_BATCH]).sum())
    return right / len(images)


def augmented(
    images: NDArray[np.uint8], padding: int, flips: bool, generator: np.random.Generator
) -> NDArray[np.uint8]:
    """Images uint8 [B, H, W, C], each moved by up to `padding` pixels and, where `flips`,
    mirrored or not; uint8 [B, C, H, W]. Pixels that come in from outside are 0.
    """
    count, height, width, _ = images.shape
    edges = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = np.pad(images, edges)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    down, right = generator.integers(0, 2 * padding + 1, (2, count))
    moved: NDArray[np.uint8] = windows[np.arange(count), down, right]
    if flips:
        mirrored = generator.random(count) < 0.5
        moved[mirrored] = moved[mirrored, :, :, ::-1]
    return moved


def _fitting(arch: str, dataset: ImageDataset) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    if dataset.image_shape != ARCHITECTURES[arch].image_shape:
        raise DatasetError(
            f"{dataset.name} has images of shape (C, H, W) = {dataset.image_shape}; "
            f"the classifier {arch} takes {ARCHITECTURES[arch].image_shape}"
        )
    if dataset.labels is None:
        raise DatasetError(f"{dataset.name} has no labels, which a classifier needs")
    return dataset.images, dataset.labels


def _checked(
    recipe: ClassifierRecipe, dataset: ImageDataset
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    if recipe.arch not in ARCHITECTURES:
        raise SpecError(f"no classifier {recipe.arch!r}; there are {', '.join(ARCHITECTURES)}")
    images, labels = _fitting(recipe.arch, dataset)
    images, labels = images[: recipe.images], labels[: recipe.images]
    if len(images) < recipe.batch_size:
        raise DatasetError(
            f"{dataset.name}: {len(images)} images do not fill a minibatch of {recipe.batch_size}"
        )
    if labels.min() < 0 or labels.max() < 1:
        raise DatasetError(f"{dataset.name}: labels must be 0, 1, ... of at least two classes")
    return images, labels


def _measure_pixels(arch: str, module: ClassifierNetwork, images: NDArray[np.uint8]) -> None:
    """Set the shift and the scale of each channel to those of the training images."""
    likelihood = LIKELIHOODS[ARCHITECTURES[arch].likelihood]()
    levels = likelihood.pixels(torch.arange(256, dtype=torch.uint8)).double().numpy()
    for channel in range(images.shape[3]):
        share = np.bincount(images[..., channel].reshape(-1), minlength=256) / images[..., 0].size
        mean = float(share @ levels)
        variance = float(share @ np.square(levels - mean))
        module.mean[0, channel] = mean
        module.deviation[0, channel] = max(math.sqrt(variance), 1.0 / 255.0)


def _optimiser(recipe: ClassifierRecipe, module: nn.Module) -> torch.optim.SGD:
    """Weight decay is for weights: scales and shifts, which are vectors, have none."""
    weights = [parameter for parameter in module.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in module.parameters() if parameter.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.SGD(
        groups, lr=recipe.learning_rate, momentum=MOMENTUM, nesterov=True, fused=True
    )


def _epoch(
    recipe: ClassifierRecipe,
    module: ClassifierNetwork,
    optimiser: torch.optim.SGD,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    epoch: int,
    bar: Bar,
) -> dict[str, Any]:
    module.train()
    steps = len(images) // recipe.batch_size
    likelihood = LIKELIHOODS[ARCHITECTURES[recipe.arch].likelihood]()
    seeds = np.random.SeedSequence((recipe.seed, epoch, _AUGMENTATION))
    generator = np.random.Generator(np.random.PCG64(seeds))
    sums = np.zeros(2)
    bar.set_description(f"epoch {epoch + 1}/{recipe.epochs}", refresh=False)
    for index, batch in enumerate(epoch_batches(images, recipe.batch_size, recipe.seed, epoch)):
        step = epoch * steps + index
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate_at(step / (steps * recipe.epochs))
        pictures = augmented(images[batch], recipe.crop_padding, recipe.flips, generator)
        x = likelihood.pixels(torch.from_numpy(pictures))
        sums += _step(recipe, module, optimiser, x, torch.from_numpy(labels[batch]), step)
        bar.update(len(batch))
        loss, share = sums / (index + 1)
        bar.set_postfix_str(f"loss {loss:.3f} nats, {share:.1%} right", refresh=False)
    loss, share = (sums / steps).tolist()
    return {"epoch": epoch + 1, "loss_nats": loss, "training_accuracy": share}


def _step(
    recipe: ClassifierRecipe,
    module: ClassifierNetwork,
    optimiser: torch.optim.SGD,
    x: Tensor,
    y: Tensor,
    step: int,
) -> NDArray[np.float64]:
    """One optimiser step; returns the minibatch's mean loss and share of right answers."""
    device = module.mean.device
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    x, y = x.to(device, memory_format=layout), y.to(device)
    with torch.autocast(device.type, torch.bfloat16, recipe.precision == "bf16"):
        logits = module(x).float()
    loss = F.cross_entropy(logits, y, label_smoothing=recipe.label_smoothing)
    share = (logits.detach().argmax(dim=1) == y).float().mean()
    means = np.array([loss.item(), share.item()])
    if not math.isfinite(means[0]):
        raise DivergenceError(
            f"training diverged at step {step}: the loss is {means[0]}; "
            "a lower learning rate may help"
        )
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return means
