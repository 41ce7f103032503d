"""What comparisons of training runs at equal processor time share; their rows are kept as they
come, and rows that a file already has are not measured again.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import write_json
from benchmarks.tables import Result
from hvae_codec.data import TrainingPictures
from hvae_codec.evaluation.environment import environment
from hvae_codec.models.build import Model
from hvae_codec.training import Recipe, train
from hvae_codec.utils.progress import progress

PROBE_STEPS = 12
"""Steps that the time per step is taken from, the first of them left out."""

PROBES = 3
"""Times that it is taken; the least counts, as other work on the machine only adds to it."""

Training = tuple[Recipe, TrainingPictures]
"""A recipe and its images."""


def timed_training(training: Training) -> tuple[Model, float]:
    """The trained model, and the core-seconds that it took. Raises as `train`."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        model = train(*training, Path(folder))
        return model, time.process_time() - start


def seconds_per_step(training_of: Callable[[int], Training]) -> float:
    """Core-seconds that a step takes.

    training_of: a run of so many steps.
    """
    timed_training(training_of(1))  # whatever is prepared once
    one, all_of_them = (
        min(timed_training(training_of(steps))[1] for _ in range(PROBES))
        for steps in (1, PROBE_STEPS)
    )
    return (all_of_them - one) / (PROBE_STEPS - 1)


def trained_for(
    core_seconds: float, per_step: float, training_of: Callable[[int], Training]
) -> tuple[Model, dict[str, Any]]:
    """The model after the steps that fill the core-seconds; its steps, time and parameters.

    per_step: as `seconds_per_step` has it. training_of: a run of so many steps.

    Raises:
        DivergenceError: as `train`.
    """
    steps = max(1, round(core_seconds / per_step))
    model, spent = timed_training(training_of(steps))
    return model, {
        "steps": steps,
        "cpu_seconds": round(spent, 1),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def rows_measured(
    path: Path | None,
    keys: Iterable[Mapping[str, Any]],
    measured: Callable[[Mapping[str, Any]], dict[str, Any]],
    more: Result,
) -> Result:
    """The result `more` with the rows of the file, and one for each key that had none.

    One thread. The file is written after each row.
    """
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    if path is not None and path.exists():
        rows = json.loads(path.read_text())["rows"]
    result = {"rows": rows, **more}
    for key in progress("runs", list(keys), leave=False):
        if any(key.items() <= row.items() for row in rows):
            continue
        rows.append({**key, **measured(key), "environment": environment()})
        if path is not None:
            write_json(path, result)
    return result
