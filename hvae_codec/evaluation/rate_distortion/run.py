"""Measuring curves point by point, on several processes, with results kept for the next run.

The folder of a benchmark holds `benchmark.json`, which says of which images it is, and a file of
each point in `points/`, whose name ends in the key of what it depends on. Every file appears whole
or not at all, so a run that was killed resumes where it was.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hvae_codec.errors import EvaluationError
from hvae_codec.evaluation.rate_distortion.curves import FORMAT, Curve, Job, chunks_of, measure
from hvae_codec.evaluation.rate_distortion.image_set import ImageSet
from hvae_codec.evaluation.rate_distortion.peers import Setting
from hvae_codec.evaluation.rate_distortion.points import SSIMULACRA2, Row, point_of
from hvae_codec.evaluation.rate_distortion.time_left import Progress, TimeLeft
from hvae_codec.utils.atomic_files import write_atomically
from hvae_codec.utils.executors.base import Report
from hvae_codec.utils.executors.local import LocalExecutor

PLAN, POINTS = "benchmark.json", "points"


@dataclass(frozen=True)
class PointFile:
    """Where a point is kept, and what it is of."""

    curve: Curve
    setting: Setting
    path: Path

    def read(self) -> Row | None:
        """The point, if it was measured before; a damaged file is as none."""
        try:
            found = json.loads(self.path.read_text("utf-8"))
        except (OSError, ValueError):
            return None
        point = found.get("point") if isinstance(found, dict) else None
        return point if isinstance(point, dict) and "file_bytes" in point else None

    def write(self, point: Row) -> None:
        """Keep a point; the file appears whole or not at all."""
        held = {"curve": self.curve.name, "setting": self.setting, "point": point}
        write_atomically(self.path, (json.dumps(held, indent=2) + "\n").encode(), durable=False)


def claim(folder: Path, images: ImageSet) -> None:
    """Make the folder of a benchmark of these images, or see that it is one.

    Raises:
        EvaluationError: it holds a benchmark of other images, or something else.
    """
    plan = folder / PLAN
    if plan.exists():
        found = _read_plan(plan)
        if found.get("fingerprint") != images.fingerprint:
            raise EvaluationError(
                f"{folder} holds a benchmark of other images ({found.get('images', '?')} in "
                f"{found.get('data', '?')}), not of these {len(images)} in {images.name}: name "
                "another --output, or remove that folder"
            )
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise EvaluationError(f"{folder} is no folder of a benchmark and not empty: name another")
    (folder / POINTS).mkdir(parents=True, exist_ok=True)
    held = {"format": FORMAT, "data": images.name, "images": len(images)}
    held["fingerprint"] = images.fingerprint
    write_atomically(plan, (json.dumps(held, indent=2) + "\n").encode())


def _read_plan(plan: Path) -> dict[str, Any]:
    try:
        found = json.loads(plan.read_text("utf-8"))
    except ValueError as error:
        raise EvaluationError(f"{plan} is no plan of a benchmark: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise EvaluationError(f"{plan} is no plan of a benchmark that this release reads")
    return found


def measure_curves(
    images: ImageSet,
    curves: Sequence[Curve],
    measures: Sequence[str],
    folder: Path,
    *,
    workers: int,
    say: Callable[[str], object],
    ssimulacra2_step: int = 1,
) -> dict[str, list[Row]]:
    """The points of each curve by its name, those of before from the folder.

    Args:
        measures: perceptual ones, as `points.measures_of` gives them.
        folder: as `claim` left it.
        workers: processes, of one thread each.
        say: is told what was measured before.
        ssimulacra2_step: SSIMULACRA2 is of one in so many of the parts that images go in.

    Raises:
        ExecutorError: a worker was lost.
        subprocess.CalledProcessError: an encoder's program failed.
        OSError: the folder cannot be written.
    """
    files = [
        _file_of(folder, curve, setting, images, measures, ssimulacra2_step)
        for curve in curves
        for setting in curve.settings
    ]
    missing = [file for file in files if file.read() is None]
    _tell(files, missing, folder, say)
    _measure_points(images, missing, tuple(measures), workers, ssimulacra2_step)
    found: dict[str, list[Row]] = {}
    for file in files:
        name = "quality" if file.curve.ours else "setting"
        row = {name: file.setting, **(file.read() or {})}
        found.setdefault(file.curve.name, []).append(row)
    return found


def _file_of(
    folder: Path,
    curve: Curve,
    setting: Setting,
    images: ImageSet,
    measures: Sequence[str],
    ssimulacra2_step: int,
) -> PointFile:
    steps = [f"one in {ssimulacra2_step}"] if ssimulacra2_step > 1 else []
    key = curve.key(setting, images.fingerprint, [*measures, *steps])
    return PointFile(curve, setting, folder / POINTS / f"{_stem(curve, setting)}-{key}.json")


def _stem(curve: Curve, setting: Setting) -> str:
    return re.sub(r"[^a-z0-9]+", "-", f"{curve.name} {setting}".lower())


def _tell(
    files: Sequence[PointFile],
    missing: Sequence[PointFile],
    folder: Path,
    say: Callable[[str], object],
) -> None:
    if len(missing) < len(files):
        say(f"{len(files) - len(missing)} of {len(files)} points were measured before")
    if damaged := sum(file.path.exists() for file in missing):
        say(f"{damaged} points are measured afresh: their files are damaged")
    # The last 17 characters of a stem are those of its key.
    kept = {path.stem[:-17] for path in (folder / POINTS).glob("*.json")}
    stale = [
        file
        for file in missing
        if not file.path.exists() and _stem(file.curve, file.setting) in kept
    ]
    if stale:
        say(f"{len(stale)} points are measured afresh: settings or versions of codecs changed")


def _measure_points(
    images: ImageSet,
    missing: Sequence[PointFile],
    measures: tuple[str, ...],
    workers: int,
    ssimulacra2_step: int,
) -> None:
    """Measure and keep points; of each, the first images go first, to know how long all take."""
    fewer = tuple(name for name in measures if name != SSIMULACRA2)
    jobs = [
        (
            index,
            part,
            Job(file.curve, file.setting, chunk, fewer if part % ssimulacra2_step else measures),
        )
        for index, file in enumerate(missing)
        for part, chunk in enumerate(chunks_of(images, file.curve.kind))
    ]
    if not jobs:
        return
    jobs.sort(key=lambda job: (job[1] > 0, job[0], job[1]))
    parts = [sum(job[0] == index for job in jobs) for index in range(len(missing))]
    left = TimeLeft(dict.fromkeys(range(len(missing)), float(images.pixels)), workers)
    progress = Progress("measuring", len(jobs), left)
    rows: list[dict[int, list[Row]]] = [{} for _ in missing]
    try:
        with LocalExecutor(workers) as executor:
            for index, part, measured, seconds in executor.map_unordered(_run, jobs, _ignore):
                rows[index][part] = measured
                progress.advance(index, sum(row["pixels"] for row in measured), seconds)
                if len(rows[index]) == parts[index]:
                    of_all = [row for one in sorted(rows[index]) for row in rows[index][one]]
                    missing[index].write(point_of(of_all))
                    rows[index] = {}
    finally:
        progress.close()


def _run(item: tuple[int, int, Job], report: Report) -> tuple[int, int, list[Row], float]:
    """Work of a process: a job with one thread, and the seconds that it took."""
    index, part, job = item
    start = time.monotonic()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return index, part, measure(job), time.monotonic() - start
    finally:
        torch.set_num_threads(threads)


def _ignore(value: Any) -> None:
    return
