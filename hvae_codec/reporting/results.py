"""What `hvae-codec sweep` and `hvae-codec evaluate` left in a folder, as checked, typed rows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hvae_codec.errors import EvaluationError
from hvae_codec.training.recipe import Recipe
from hvae_codec.training.sweep.plan import divergence_path, read_plan

PICTURES = 8
"""Images in each row of a strip of SWEEP/pictures."""

Values = dict[str, float]

_POSITIVE = ("psnr_modes_db", "psnr_samples_db", "inception_score", "diversity")
_FREE = (
    "negative_elbo_nats",
    "bits_per_dim",
    "information_nats",
    "information_standard_error_nats",
)
_SHARES = ("sharpness",)


@dataclass(frozen=True)
class Classifier:
    """What the Inception Score was measured with; `accuracy` in [0, 1], of the test set."""

    arch: str
    accuracy: float


@dataclass(frozen=True)
class ModelRow:
    """One evaluated model.

    `betas` and `rates_nats` (nats per image, Eq. 7) are top first. `values` holds every measurement
    that was made, by the name of its field; parts of a field are joined by dots, as in
    "accuracy.paper.z2.rbf_svm" (in [0, 1]) and "bounds.z2.information". `picture` is the model's
    WebP strip of reconstructions above samples, if there is one.
    """

    model: str
    betas: tuple[float, ...]
    target_rates_nats: tuple[float | None, ...] | None
    rates_nats: tuple[float, ...]
    epochs: int | None
    samples: int | None
    classifier: Classifier | None
    values: Values
    picture: Path | None

    @property
    def total_rate_nats(self) -> float:
        """R of Eq. 6."""
        return sum(self.rates_nats)


@dataclass(frozen=True)
class Sweep:
    """The evaluated models of one sweep, and what they share.

    `missing` names models of the sweep without a row, `diverged` those of them that training gave
    up; the others were not evaluated.
    `originals` is the WebP strip of the images that reconstructions are of. `data` is the test
    set's published name. `alone`: where the sweep is of one model for all betas, those of other
    sweeps that were trained for one choice of betas each.
    """

    path: Path
    name: str
    spec: str
    posterior: str
    data: str
    test_images: int
    recipe: Recipe
    train_images: int | None
    rows: tuple[ModelRow, ...]
    missing: tuple[str, ...]
    diverged: tuple[str, ...]
    originals: Path | None
    alone: tuple[ModelRow, ...] = ()

    @property
    def is_plane(self) -> bool:
        """Whether one model was trained for all betas."""
        return self.recipe.beta_ranges is not None

    @property
    def by_rates(self) -> bool:
        """Whether rates were asked for, so that the betas are what adaptation ended with."""
        return any(row.target_rates_nats is not None for row in self.rows)

    @property
    def missing_text(self) -> str:
        """The missing models and why, in words; empty if there are none."""
        rest = [name for name in self.missing if name not in self.diverged]
        parts = [("diverged", self.diverged), ("not evaluated", rest)]
        return "; ".join(f"{why}: {', '.join(names)}" for why, names in parts if names)

    @property
    def architecture(self) -> str:
        """Upper-case name of the spec's family: "GHVAE" or "LVAE"."""
        return self.spec.partition("-")[0].upper()


def read_sweep(folder: Path) -> Sweep:
    """Read SWEEP/sweep.json and SWEEP/evaluation.jsonl.

    Of several rows of one model the last counts.

    Raises:
        SweepError: the folder or its sweep.json is missing, damaged or of another format.
        EvaluationError: evaluation.jsonl is missing, empty or damaged, or its rows are not this
            sweep's; models do not have two layers, whose rates are the figures' axes.
    """
    plan = read_plan(folder)
    betas = {f"{index:04d}": model.betas for index, model in enumerate(plan.models)}
    found = _read_rows(folder, betas)
    first = next(iter(found.values()))
    pictures = folder / "pictures"
    rows = tuple(_row(where, row, pictures) for where, row in found.values())
    missing = [name for name in betas if name not in found]
    return Sweep(
        path=folder,
        name=folder.resolve().name,
        spec=_text(*first, "spec"),
        posterior=_text(*first, "posterior"),
        data=_text(*first, "data"),
        test_images=int(_number(*first, "test_images", least=1)),
        recipe=plan.recipe,
        train_images=plan.data.get("train_images"),
        rows=rows,
        missing=tuple(missing),
        diverged=tuple(name for name in missing if divergence_path(folder, int(name)).exists()),
        originals=_file(pictures / "originals.webp"),
    )


def beside_models_alone(sweeps: Sequence[Sweep]) -> tuple[Sweep, ...]:
    """The sweeps, those of one model for all betas with the models of the others that are alike:
    of their spec, posterior and data.
    """

    def alone(plane: Sweep) -> tuple[ModelRow, ...]:
        kind = (plane.spec, plane.posterior, plane.data)
        others = [s for s in sweeps if not s.is_plane and (s.spec, s.posterior, s.data) == kind]
        return tuple(row for sweep in others for row in sweep.rows)

    return tuple(replace(s, alone=alone(s)) if s.is_plane else s for s in sweeps)


def _read_rows(
    folder: Path, betas: Mapping[str, tuple[float, ...]]
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Name of each evaluated model, in the plan's order -> where its row stands, and the row."""
    path = folder / "evaluation.jsonl"
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        raise EvaluationError(
            f"{folder} has no evaluation.jsonl; 'hvae-codec evaluate {folder}' writes it"
        ) from None
    except ValueError as error:
        raise EvaluationError(f"{path} is damaged: {error}") from error
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise EvaluationError(f"{where}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise EvaluationError(f"{where}: not an object")
        name = _text(where, row, "model")
        if name not in betas:
            raise EvaluationError(f"{where}: model {name!r} is not of this sweep")
        _require_betas(where, row, betas[name])
        found[name] = where, row
    if not found:
        raise EvaluationError(f"{path} has no rows; 'hvae-codec evaluate {folder}' writes them")
    for key in ("spec", "posterior", "data", "test_images"):
        if len(given := {json.dumps(row.get(key)) for _, row in found.values()}) > 1:
            raise EvaluationError(f"{path}: rows of several values of {key}: {', '.join(given)}")
    return {name: found[name] for name in betas if name in found}


def _require_betas(where: str, row: dict[str, Any], planned: tuple[float, ...]) -> None:
    given = _numbers(where, row, "betas", least=0.0)
    if row.get("target_rates_nats") is not None:
        return
    close = len(given) == len(planned) and all(
        math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-9) for a, b in zip(given, planned, strict=True)
    )
    if not close:
        raise EvaluationError(f"{where}: betas {given} where sweep.json has {planned}")


def _row(where: str, row: dict[str, Any], pictures: Path) -> ModelRow:
    betas = _numbers(where, row, "betas", least=0.0)
    rates = _numbers(where, row, "rates_nats", least=-1e-6)
    if len(rates) != 2:
        raise EvaluationError(
            f"{where}: {len(rates)} rates; the figures' axes are the rates of two layers"
        )
    if len(betas) != len(rates):
        raise EvaluationError(f"{where}: {len(betas)} betas and {len(rates)} rates")
    if not math.isclose(
        total := _number(where, row, "total_rate_nats"), sum(rates), rel_tol=1e-3, abs_tol=1e-3
    ):
        raise EvaluationError(f"{where}: total_rate_nats {total} is not the sum of {rates}")
    name = _text(where, row, "model")
    return ModelRow(
        model=name,
        betas=betas,
        target_rates_nats=_targets(where, row),
        rates_nats=rates,
        epochs=_whole(where, row, "epochs"),
        samples=_whole(where, row, "samples"),
        classifier=_classifier(where, row),
        values=_values(where, row),
        picture=_file(pictures / f"{name}.webp"),
    )


def _values(where: str, row: dict[str, Any]) -> Values:
    values: Values = {}
    for keys, least, most in (
        (_POSITIVE, 0.0, math.inf),
        (_SHARES, 0.0, 1.0),
        (_FREE, -math.inf, math.inf),
    ):
        for key in keys:
            if row.get(key) is not None:
                values[key] = _number(where, row, key, least, most)
    for key in ("accuracy", "bounds"):
        for name, value in _flat(key, row.get(key)):
            # The margin is for shares written with few digits.
            values[name] = _number(where, {name: value}, name, 0.0, 1.0 + 1e-9)
    return values


def _flat(name: str, value: Any) -> list[tuple[str, Any]]:
    """Nested objects as dotted names, without what is null."""
    if isinstance(value, dict):
        return [pair for key, part in value.items() for pair in _flat(f"{name}.{key}", part)]
    return [] if value is None else [(name, value)]


def _classifier(where: str, row: dict[str, Any]) -> Classifier | None:
    given = row.get("classifier")
    if given is None or (
        isinstance(given, dict) and not any(v is not None for v in given.values())
    ):
        return None
    if not isinstance(given, dict):
        raise EvaluationError(f"{where}: classifier is {given!r}, not an object or null")
    if all(value is None for value in given.values()):
        return None
    return Classifier(_text(where, given, "arch"), _number(where, given, "accuracy", 0.0, 1.0))


def _targets(where: str, row: dict[str, Any]) -> tuple[float | None, ...] | None:
    given = row.get("target_rates_nats")
    if given is None:
        return None
    if not isinstance(given, list):
        raise EvaluationError(f"{where}: target_rates_nats is {given!r}, not a list or null")
    return tuple(
        None if rate is None else _number(where, {"target_rates_nats": rate}, "target_rates_nats")
        for rate in given
    )


def _whole(where: str, row: dict[str, Any], key: str) -> int | None:
    return None if row.get(key) is None else int(_number(where, row, key, least=0))


def _numbers(where: str, row: dict[str, Any], key: str, least: float) -> tuple[float, ...]:
    given = row.get(key)
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise EvaluationError(f"{where}: {key} is {given!r}, not a list of numbers")
    return tuple(_number(where, {key: value}, key, least) for value in given)


def _number(
    where: str,
    row: dict[str, Any],
    key: str,
    least: float = -math.inf,
    most: float = math.inf,
) -> float:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise EvaluationError(f"{where}: {key} is {value!r}, not a finite number")
    if not least <= value <= most:
        limits = f"at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
        raise EvaluationError(f"{where}: {key} is {value}; it must be {limits}")
    return float(value)


def _text(where: str, row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise EvaluationError(f"{where}: {key} is {value!r}, not a name")
    return value


def _file(path: Path) -> Path | None:
    return path if path.is_file() else None
