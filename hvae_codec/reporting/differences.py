"""How a sweep departs from the paper's experiments (Section 5.1, and the authors' code)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hvae_codec.reporting.results import Sweep
from hvae_codec.reporting.selection import axes, is_grid
from hvae_codec.reporting.table import PAPER_NAMES, dataset_of

EPOCHS, BATCH, LEARNING_RATE, SAMPLES = 500, 256, 3e-4, 10_000
GRID, LOW, HIGH = 21, 0.1, 10.0
WARMUP_SHARE = 5
"""The paper's LVAEs warm up over this part of the epochs: a fifth."""

_SIZES = {"cifar10": (50_000, 10_000), "svhn": (73_257, 26_032), "mnist": (60_000, 10_000)}
_CLASSIFIERS = {
    "svhn": "ResNet-18, accuracy 95.02 %",
    "cifar10": "DenseNet-121, accuracy 94.34 %",
    "mnist": "a small CNN",
}


@dataclass(frozen=True)
class Aspect:
    """One thing of an experiment: what the paper did, what was done here."""

    name: str
    paper: str
    here: str

    @property
    def same(self) -> bool:
        """Whether there is no difference."""
        return self.paper == self.here


def aspects(sweep: Sweep) -> list[Aspect]:
    """Everything that is compared, differences first."""
    found = [*_training(sweep), *_data(sweep), *_evaluation(sweep)]
    return sorted(found, key=lambda aspect: aspect.same)


def sentence(sweep: Sweep) -> str:
    """The differences in one sentence."""
    differ = [f"{a.name}: {a.here} (paper: {a.paper})" for a in aspects(sweep) if not a.same]
    return "; ".join(differ) if differ else "no differences from the paper's runs"


def _training(sweep: Sweep) -> Iterable[Aspect]:
    recipe = sweep.recipe
    epochs = sorted({row.epochs for row in sweep.rows if row.epochs is not None})
    yield Aspect("epochs", str(EPOCHS), " to ".join(map(str, epochs[:1] + epochs[1:][-1:])) or "?")
    yield Aspect("batch", str(BATCH), str(recipe.batch_size))
    rate = f"{recipe.learning_rate:g}"
    rate += "" if recipe.schedule == "constant" else f", falling ({recipe.schedule})"
    yield Aspect("learning rate", f"{LEARNING_RATE:g}", rate)
    yield Aspect("posteriors", "gaussian", sweep.posterior)
    yield Aspect("precision", "fp32", recipe.precision)
    if sweep.is_plane:
        yield Aspect("models", "one for each pair of betas", "one for all betas")
    yield Aspect("betas", f"{GRID}x{GRID} from {LOW:g} to {HIGH:g}", _betas(sweep))
    if sweep.architecture == "LVAE":
        wanted = f"{EPOCHS // WARMUP_SHARE} of {EPOCHS} epochs"
        done = recipe.rate_warmup_epochs
        same = done == round(recipe.epochs / WARMUP_SHARE)
        warm = f"{done} of {recipe.epochs} epochs" + (", a fifth as well" if same else "")
        yield Aspect("warm-up of the rates", wanted, warm if done else "none")
    if sweep.missing:
        yield Aspect("models missing", "none", sweep.missing_text)


def _betas(sweep: Sweep) -> str:
    if sweep.by_rates:
        return f"adapted to rates, {len(sweep.rows)} models"
    tops, bottoms = axes(sweep.rows)
    if not is_grid(sweep):
        return f"{len(sweep.rows)} pairs, no grid"
    low, high = min(tops[0], bottoms[0]), max(tops[-1], bottoms[-1])
    return f"{len(tops)}x{len(bottoms)} from {low:g} to {high:g}"


def _data(sweep: Sweep) -> Iterable[Aspect]:
    kind = dataset_of(sweep)
    name = {**PAPER_NAMES, "mnist": "MNIST"}.get(kind)
    yield Aspect("data", name or "none: the paper has no such data set", sweep.data)
    if kind not in _SIZES:
        return
    train, test = _SIZES[kind]
    if sweep.train_images is not None:
        yield Aspect("training images", f"{train:,}", f"{sweep.train_images:,}")
    yield Aspect("test images", f"{test:,}", f"{sweep.test_images:,}")


def _evaluation(sweep: Sweep) -> Iterable[Aspect]:
    samples = sorted({row.samples for row in sweep.rows if row.samples is not None})
    if samples:
        here = " to ".join(f"{n:,}" for n in samples[:1] + samples[1:][-1:])
        yield Aspect("samples of the Inception Score", f"{SAMPLES:,}", here)
    wanted = _CLASSIFIERS.get(dataset_of(sweep), "none")
    used = {(row.classifier.arch, row.classifier.accuracy) for row in sweep.rows if row.classifier}
    named = " and ".join(f"{arch}, accuracy {100 * share:.2f} %" for arch, share in sorted(used))
    yield Aspect("classifier of the Inception Score", wanted, named or "none given")
