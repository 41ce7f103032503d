"""Evaluate a checkpoint or all models of a sweep: a row each, kept as it is made.

A rerun goes on where the last one ended. What is known of a model with the same weights under the
same settings is not measured again: giving a classifier later adds the Inception Score alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvae_codec.codec.checkpoint import read_card
from hvae_codec.errors import CheckpointError, EvaluationError, ExecutorError, HvaeCodecError
from hvae_codec.evaluation.jsonl import Row, RowFile
from hvae_codec.evaluation.rows import PROBE_LEVELS, check_pictures
from hvae_codec.evaluation.worker import EvaluationConfig, Evaluator, Task
from hvae_codec.models.spec import ModelSpec
from hvae_codec.utils.executors.local import LocalExecutor
from hvae_codec.utils.progress import progress

SWEEP_FORMAT = "hvae-codec sweep 1"
ROWS_FILE = "evaluation.jsonl"
PICTURES = "pictures"

_LEVELS = ("none", "fast", "all")  # each measures all that those before it do


@dataclass(frozen=True)
class ModelSet:
    """Models to evaluate. data: the data set that their recipe names, if any. images: whether
    they are a sweep's, of which strips of images are kept.
    """

    models: dict[str, Path]
    data: str | None
    out: Path
    pictures: bool


def find_models(path: Path) -> ModelSet:
    """The checkpoint (.safetensors) at `path`, or the finished models of the sweep in that folder.

    Raises:
        EvaluationError: there is neither, the sweep has no finished model yet, or the checkpoint is
            of a fully convolutional model.
        CheckpointError: the checkpoint's card is missing or damaged.
    """
    if path.is_dir():
        return _models_of_sweep(path)
    if not path.is_file():
        raise EvaluationError(f"{path} is neither a checkpoint nor the folder of a sweep")
    if path.suffix != ".safetensors":
        raise EvaluationError(f"{path} is no checkpoint: their names end in .safetensors")
    card = read_card(path.with_suffix(".json"))
    if card.get("spec", {}).get("kind") == "maps":
        raise EvaluationError(
            f"{path} is a model of maps, for images of any size and quality; this measures "
            "models of images of one size. Its card has figures, and 'hvae-codec benchmark FOLDER "
            "--model NAME' measures one that 'hvae-codec models' lists against other codecs"
        )
    data = card.get("recipe", {}).get("dataset")
    return ModelSet({path.stem: path}, data, path.with_suffix(f".{ROWS_FILE}"), pictures=False)


def _models_of_sweep(path: Path) -> ModelSet:
    plan = path / "sweep.json"
    try:
        sweep: dict[str, Any] = json.loads(plan.read_text())
        found, data = sweep["format"], sweep["recipe"]["dataset"]
    except OSError as error:
        raise EvaluationError(
            f"{path} is not the folder of a sweep: sweep.json cannot be read ({error.strerror}); "
            "to evaluate one checkpoint, name its .safetensors file"
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise EvaluationError(f"{plan} does not describe a sweep: {error!r}") from error
    if found != SWEEP_FORMAT:
        raise EvaluationError(f"{plan} is of format {found!r}; this release reads {SWEEP_FORMAT!r}")
    # A card is written after its weights: with both there, the model is whole.
    models = {
        file.stem: file
        for file in sorted((path / "models").glob("*.safetensors"))
        if file.with_suffix(".json").exists()
    }
    if not models:
        raise EvaluationError(f"{path} holds no finished model yet; 'hvae-codec sweep' trains them")
    return ModelSet(models, data, path / ROWS_FILE, pictures=True)


def evaluate(found: ModelSet, order: EvaluationConfig, out: Path, *, workers: int = 1) -> list[Row]:
    """The rows of all models of `found`, which are then in the file `out`, sorted by name.

    Each row is on the disk when its model is done. A model that fails does not keep the others from
    being evaluated. With `workers` > 1 so many processes share the models.

    Raises:
        EvaluationError: models that could not be evaluated, after all others were; another process
            is at it; or `out` holds rows of other settings.
        DatasetError, CheckpointError, MissingDependencyError: what all models need is not there.
    """
    evaluator = Evaluator(order)
    out.parent.mkdir(parents=True, exist_ok=True)
    failures: dict[str, HvaeCodecError] = {}
    with RowFile(out) as file:
        tasks = _tasks(found, evaluator, file, failures)
        _run(evaluator, tasks, workers, file, failures)
        file.tidy()
        rows = [row for row in file.rows if row["model"] in found.models]
    _report(failures, len(found.models))
    return rows


def _tasks(
    found: ModelSet, evaluator: Evaluator, file: RowFile, failures: dict[str, HvaeCodecError]
) -> list[Task]:
    """What is left to do for each model; models that are complete are none."""
    known = {row["model"]: row for row in file.rows}
    tasks = []
    for name, path in found.models.items():
        try:
            card = read_card(path.with_suffix(".json"))
            check_pictures(card, ModelSpec.from_json(card["spec"]).image_shape, evaluator.dataset)
        except (HvaeCodecError, KeyError) as error:
            failures[name] = error if isinstance(error, HvaeCodecError) else _no_spec(path)
            continue
        row = known.get(name)
        if row is not None and row["sha256"] != card["sha256"]:
            row = None
        task = Task(name, path, row, *_missing(evaluator, row, file.path))
        if task.measure or task.score:
            tasks.append(task)
    return tasks


def _missing(evaluator: Evaluator, row: Row | None, out: Path) -> tuple[bool, bool]:
    """Whether the figures, and whether the Inception Score, are still to be measured.

    Raises:
        EvaluationError: the row is of other settings.
    """
    classifier = evaluator.classifier
    if row is None:
        return True, classifier is not None
    settings = dict(row["settings"])
    probes = settings.pop("probes", "none")
    order = evaluator.order
    wanted = order.settings.to_json()
    if settings != wanted:
        different = [key for key in wanted if settings.get(key) != wanted[key]]
        was = ", ".join(f"{key} {settings.get(key)} (now {wanted[key]})" for key in different)
        raise EvaluationError(
            f"{out} holds rows of other settings: {was}; give another --output, or remove it"
        )
    if row.get("fingerprint", evaluator.dataset.fingerprint) != evaluator.dataset.fingerprint:
        raise EvaluationError(
            f"{out} holds rows of other images or labels of {wanted['data']!r}, which has changed "
            "since; give another --output, or remove it"
        )
    less = probes not in PROBE_LEVELS or _LEVELS.index(probes) < _LEVELS.index(order.probes)
    scored = (row.get("classifier") or {}).get("sha256")
    return less, classifier is not None and scored != classifier.sha256


def _run(
    evaluator: Evaluator,
    tasks: list[Task],
    workers: int,
    file: RowFile,
    failures: dict[str, HvaeCodecError],
) -> None:
    """Evaluate models; add each row to the file when it is made."""
    with (
        LocalExecutor(min(workers, len(tasks))) as executor,
        progress("evaluating", total=len(tasks), unit="models") as bar,
    ):
        rows = executor.map_unordered(evaluator.attempt, tasks, bar.set_postfix_str)
        try:
            for name, row in rows:
                if isinstance(row, HvaeCodecError):
                    failures[name] = row
                else:
                    file.append(row)
                bar.update()
        except ExecutorError as error:
            raise EvaluationError(
                f"{error}; what is done is kept: run the same again, with fewer --workers"
            ) from error


def _no_spec(path: Path) -> CheckpointError:
    return CheckpointError(f"{path.with_suffix('.json')} names no model specification")


def _report(failures: dict[str, HvaeCodecError], models: int) -> None:
    if not failures:
        return
    name, error = next(iter(failures.items()))
    if models == 1:
        raise error
    raise EvaluationError(
        f"{len(failures)} of {models} models could not be evaluated: {', '.join(failures)}; "
        f"{name}: {error}"
    )
