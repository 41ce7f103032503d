"""Which models a sweep trains, and its folder: the plan of many runs that differ in their betas.

SWEEP/sweep.json            the plan
SWEEP/plane.*               the one model for all betas, where there is one, as a checkpoint
SWEEP/chunks/000/           state and history of the models 0 to M - 1, which train as one stack
SWEEP/models/0000.*         each model as an ordinary checkpoint, or, where it diverged,
SWEEP/models/0000.diverged.json
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msgspec import convert

from hvae_codec.errors import SpecError, SweepError
from hvae_codec.models.plane import check_point
from hvae_codec.training.recipe import Recipe
from hvae_codec.utils.atomic_files import write_atomically

PLAN_FILE = "sweep.json"
PLANE_FILE = "plane.safetensors"
MAX_MODELS = 100_000
_FORMAT = "hvae-codec sweep 1"

Betas = tuple[float, ...]
Rates = tuple[float | None, ...]


@dataclass(frozen=True)
class SweepModel:
    """One model of a sweep: its betas, top first, and, if they adapt, the rates to reach (nats)."""

    betas: Betas
    rates: Rates | None = None


@dataclass(frozen=True)
class SweepPlan:
    """Models of one recipe that differ in betas, first weights and noise.

    `recipe`: the settings that all share; its betas and rates stand for those of `models`.
    `chunk`: how many train as one stack. `name`: of the models, in their cards.
    `data`: where images come from, as cards say it. `fingerprint`: SHA-256, in hex, of all images;
    None in plans of earlier releases.
    """

    recipe: Recipe
    models: tuple[SweepModel, ...]
    chunk: int
    name: str
    data: dict[str, Any]
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.models) <= MAX_MODELS:
            raise SweepError(f"{len(self.models)} models; a sweep has 1 to {MAX_MODELS}")
        if self.chunk < 1:
            raise SweepError(f"chunks of {self.chunk} models; at least 1 is allowed")
        for index, model in enumerate(self.models):
            self.recipe_of(index)
            if self.recipe.beta_ranges is not None:
                self._check_point(model)

    def recipe_of(self, index: int) -> Recipe:
        """The recipe with which `train` alone makes the model at `index`.

        Where one model is trained for all betas, it is the plan's.
        """
        if self.recipe.beta_ranges is not None:
            return self.recipe
        model = self.models[index]
        return replace(self.recipe, betas=model.betas, rates=model.rates, noise_index=index)

    def _check_point(self, model: SweepModel) -> None:
        """Raise SpecError or SweepError unless the one model of all betas can be taken there."""
        if model.rates is not None:
            raise SweepError("one model for a range of betas adapts none of them to rates")
        assert self.recipe.beta_ranges is not None
        check_point(model.betas, self.recipe.beta_ranges)

    @property
    def epoch_images(self) -> int:
        """Images of an epoch: whole minibatches."""
        batch = self.recipe.batch_size
        return int(self.data["train_images"]) // batch * batch

    def chunks(self) -> list[range]:
        """Indices of the models of each chunk."""
        count = len(self.models)
        return [
            range(first, min(first + self.chunk, count)) for first in range(0, count, self.chunk)
        ]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready fields."""
        return {
            "format": _FORMAT,
            "name": self.name,
            "recipe": self.recipe.to_json(),
            "chunk": self.chunk,
            "data": self.data,
            "fingerprint": self.fingerprint,
            "models": [
                {
                    "index": index,
                    "betas": list(model.betas),
                    "rates": None if model.rates is None else list(model.rates),
                }
                for index, model in enumerate(self.models)
            ],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> SweepPlan:
        """The plan that `to_json` described.

        Raises:
            SweepError: it is of another format, or a field is missing or wrong.
        """
        try:
            if data["format"] != _FORMAT:
                raise SweepError(
                    f"a sweep of format {data['format']!r}; this release reads {_FORMAT!r}"
                )
            return cls(
                Recipe.from_json(data["recipe"]),
                convert(data["models"], tuple[SweepModel, ...]),
                convert(data["chunk"], int),
                convert(data["name"], str),
                convert(data["data"], dict[str, Any]),
                convert(data.get("fingerprint"), str | None),
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, SweepError | SpecError):
                raise
            raise SweepError(f"not a sweep's plan: {error!r}") from error


def grid(sizes: Sequence[int], low: float, high: float) -> list[SweepModel]:
    """Betas on a grid of `sizes` points a layer, top first, log-spaced from `low` to `high`.

    The top layer's beta changes slowest.

    Raises:
        SweepError: a size below 1, too many models, or bounds that are not 0 < low <= high.
    """
    if any(size < 1 for size in sizes) or math.prod(sizes) > MAX_MODELS:
        raise SweepError(
            f"a grid of {'x'.join(map(str, sizes))}; each side is at least 1, and there are at "
            f"most {MAX_MODELS} models"
        )
    if not (0 < low <= high < math.inf):
        raise SweepError(f"betas from {low} to {high}; allowed: 0 < first <= last, both finite")
    betas: list[Betas] = [()]
    for size in sizes:
        points = [_log_spaced(low, high, index, size) for index in range(size)]
        betas = [(*chosen, point) for chosen in betas for point in points]
    return [SweepModel(chosen) for chosen in betas]


def _log_spaced(low: float, high: float, index: int, size: int) -> float:
    if index == 0 or size == 1:
        return low
    if index == size - 1:
        return high
    value = low * (high / low) ** (index / (size - 1))
    return float(f"{value:.6g}")  # what a table and a command can repeat


def write_plan(directory: Path, plan: SweepPlan) -> None:
    """Make the folder of a sweep, or check that it is the one of this very plan.

    Raises:
        SweepError: the folder belongs to another sweep or to something else.
    """
    path = directory / PLAN_FILE
    if path.exists():
        found = read_plan(directory).to_json()
        wanted = json.loads(json.dumps(plan.to_json()))
        differing = [key for key in wanted if found[key] != wanted[key]]
        if found["fingerprint"] is None and "fingerprint" in differing:
            differing.remove("fingerprint")
        if differing:
            named = ", ".join(map(_in_words, differing))
            raise SweepError(
                f"{directory} is a sweep with other settings ({named}); "
                "use the same settings to go on with it, or another --output"
            )
        return
    if directory.exists() and any(directory.iterdir()):
        raise SweepError(f"{directory} is not empty and not a sweep; use another --output")
    directory.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(plan.to_json(), indent=1) + "\n").encode())


def _in_words(field: str) -> str:
    return "content of the images" if field == "fingerprint" else field


def read_plan(directory: Path) -> SweepPlan:
    """The plan of the sweep in `directory`.

    Raises:
        SweepError: there is none, or it is damaged.
    """
    path = directory / PLAN_FILE
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise SweepError(f"{directory} is not a sweep: it has no {PLAN_FILE}") from None
    except (OSError, ValueError) as error:
        raise SweepError(f"{path} cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise SweepError(f"{path} is not a sweep's plan")
    return SweepPlan.from_json(data)


def model_path(directory: Path, index: int) -> Path:
    """Where the checkpoint of the model at `index` is."""
    return directory / "models" / f"{index:04}.safetensors"


def divergence_path(directory: Path, index: int) -> Path:
    """Where it says that, and how, the model at `index` diverged."""
    return directory / "models" / f"{index:04}.diverged.json"


def chunk_directory(directory: Path, chunk: int) -> Path:
    """Where the state of the chunk of this number is."""
    return directory / "chunks" / f"{chunk:03}"


def is_done(directory: Path, index: int) -> bool:
    """Whether the model at `index` is there, or is known to have diverged."""
    # The card is written after the weights.
    card = model_path(directory, index).with_suffix(".json")
    return card.exists() or divergence_path(directory, index).exists()
