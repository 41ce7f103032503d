"""What a process that evaluates models holds in memory, and how it makes one model's row."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hvae_codec.codec.checkpoint import load_checkpoint
from hvae_codec.data import ImageDataset, load_dataset
from hvae_codec.errors import CheckpointError, EvaluationError, HvaeCodecError
from hvae_codec.evaluation.jsonl import Row
from hvae_codec.evaluation.rows import INCEPTION_FIELDS, Settings, Stage, measure_row
from hvae_codec.evaluation.strips import write_strip
from hvae_codec.utils.executors.base import Report

if TYPE_CHECKING:
    from hvae_codec.evaluation.image_classifiers import Classifier


@dataclass(frozen=True)
class EvaluationConfig:
    """What to evaluate models with; all of it can be sent to another process.

    probes: a key of `rows.PROBE_LEVELS`. classifier: file of the Inception Score's classifier.
    pictures: folder of the strips; None writes none.
    """

    settings: Settings
    probes: str = "all"
    root: Path | None = None
    classifier: Path | None = None
    pictures: Path | None = None


@dataclass(frozen=True)
class Task:
    """One model to evaluate; `known` is an older row of it whose figures still hold, in part."""

    name: str
    checkpoint: Path
    known: Row | None
    measure: bool
    score: bool


class Evaluator:
    """The test images and the classifier, loaded once for all models of a process.

    Sent to another process, it loads them there, once.
    """

    def __init__(self, order: EvaluationConfig, dataset: ImageDataset | None = None) -> None:
        """
        Raises:
            DatasetError: the images are not there.
            CheckpointError: the classifier's file is not one.
        """
        self.order = order
        self.dataset = dataset or load_dataset(order.settings.data, "test", order.root)
        self.classifier = None if order.classifier is None else _load_classifier(order.classifier)

    def __reduce__(self) -> tuple[Callable[[EvaluationConfig], Evaluator], tuple[EvaluationConfig]]:
        return _loaded, (self.order,)

    def attempt(self, task: Task, report: Report) -> tuple[str, Row | HvaeCodecError]:
        """The name of a model and its row, or why it has none; `report` gets each stage's name."""
        try:
            return task.name, self.row(task, lambda part: report(f"{task.name}: {part}"))
        except (CheckpointError, EvaluationError) as error:
            return task.name, error

    def row(self, task: Task, stage: Stage = lambda name: None) -> Row:
        """The whole row of one model, on one thread.

        Raises:
            CheckpointError: the model cannot be loaded.
            EvaluationError: as `rows.measure_row`, or the classifier is of other images.
            MissingDependencyError: a package that a figure needs is not installed.
        """
        begin = time.perf_counter()
        order, known = self.order, task.known or {}
        with _one_thread():
            checkpoint = load_checkpoint(task.checkpoint)
            model, _ = checkpoint.of_one_size
            scores = {name: known.get(name) for name in INCEPTION_FIELDS}
            row = known
            if task.measure:
                row = measure_row(
                    task.name, checkpoint, self.dataset, order.settings, order.probes, stage
                )
                row["fingerprint"] = self.dataset.fingerprint
                row["settings"] = {**order.settings.to_json(), "probes": order.probes}
                if order.pictures is not None:
                    path = order.pictures / f"{task.name}.webp"
                    write_strip(path, model, self.dataset.images)
            if task.score and self.classifier is not None:
                stage("Inception Score")
                scores = _scores(model, self.classifier, order.settings)
        seconds = (0.0 if task.measure else known["seconds"]) + time.perf_counter() - begin
        return {**row, **scores, "seconds": round(seconds, 2)}


def _load_classifier(path: Path) -> Classifier:
    from hvae_codec.evaluation.image_classifiers import load_classifier

    return load_classifier(path)


def _scores(model: Any, classifier: Classifier, settings: Settings) -> dict[str, Any]:
    from hvae_codec.evaluation.metrics.inception_score import inception_score

    found = inception_score(model, classifier, samples=settings.samples, seed=settings.seed)
    return {
        "inception_score": found.score,
        "diversity": found.diversity,
        "sharpness": found.sharpness,
        "samples": settings.samples,
        "classifier": {
            "arch": classifier.arch,
            "accuracy": classifier.accuracy,
            "sha256": classifier.sha256,
        },
    }


@contextmanager
def _one_thread() -> Iterator[None]:
    """Models are evaluated beside each other, and figures are to be the same on any machine."""
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
    except ImportError:  # it comes with scikit-learn
        limits: Any = nullcontext()
    else:
        limits = threadpool_limits(1)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with limits:
            yield
    finally:
        torch.set_num_threads(before)


@lru_cache(maxsize=1)
def _loaded(order: EvaluationConfig) -> Evaluator:
    """The evaluator of a worker process."""
    return Evaluator(order)
