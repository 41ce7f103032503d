"""Images as each codec gives them back at equal bytes, for a reader to see side by side."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import hvae_codec
from hvae_codec.evaluation.metrics.psnr import psnr_db
from hvae_codec.evaluation.rate_distortion.budget import (
    finest_within,
    ours_within,
    peer_within,
)
from hvae_codec.evaluation.rate_distortion.curves import (
    FORMAT,
    OURS,
    PEER,
    SHEETS,
    Curve,
    cut_sheet,
    peer_of,
    sprite_sheet,
)
from hvae_codec.evaluation.rate_distortion.image_set import Chunk, ImageSet, read_chunk
from hvae_codec.evaluation.rate_distortion.points import Pixels
from hvae_codec.evaluation.rate_distortion.time_left import Progress, TimeLeft
from hvae_codec.utils.atomic_files import write_atomically
from hvae_codec.utils.executors.base import Report
from hvae_codec.utils.executors.local import LocalExecutor

FOLDER = "images"
SHOWN_IMAGES = 3
SHEET_COLUMNS = 8
"""Of small images, a square of so many is shown as one sprite sheet."""
CROP = 400
"""Longest side that is shown, in pixels: the middle of larger images."""
ENLARGED = 384
"""Smaller sheets are enlarged to about this, by whole factors."""

View = dict[str, Any]


@dataclass(frozen=True)
class ViewJob:
    """One codec's view of a scene at some bytes; picklable. quality: of ours, whose bytes are the
    limit of all codecs.
    """

    scene: Chunk
    label: str
    ours: Curve
    quality: float
    curve: Curve
    path: Path


def views(images: ImageSet, curves: Sequence[Curve], folder: Path, *, workers: int) -> list[View]:
    """Views of some images, at the bytes of two settings of the first of our curves, by the codecs
    that code what it codes; those of before from the folder.

    Each has "scene", "codec", "budget", "bytes", "psnr_db" and "webp" (base64, lossless); the
    originals have no bytes.

    Raises:
        ExecutorError: a worker was lost.
        OSError: the folder cannot be written.
    """
    jobs = _jobs(images, curves, folder / FOLDER)
    missing = [job for job in jobs if _read(job.path) is None]
    (folder / FOLDER).mkdir(exist_ok=True)
    work: dict[Any, float] = {}
    for job in missing:
        work[job.curve.name] = work.get(job.curve.name, 0.0) + 1.0
    progress = Progress("images at equal bytes", len(missing), TimeLeft(work, workers))
    try:
        with LocalExecutor(workers) as executor:
            for job, view, seconds in executor.map_unordered(_run, missing, lambda _: None):
                write_atomically(job.path, json.dumps(view).encode(), durable=False)
                progress.advance(job.curve.name, 1.0, seconds)
    finally:
        progress.close()
    found = [kept for job in jobs if (kept := _read(job.path)) is not None]
    return [*_originals(jobs), *found]


def _jobs(images: ImageSet, curves: Sequence[Curve], folder: Path) -> list[ViewJob]:
    ours = next(curve for curve in curves if curve.ours)
    sheets = images.small and images.alike and len(images) > 1
    others = [curve for curve in curves if curve.kind in (OURS, SHEETS if sheets else PEER)]
    qualities = [ours.settings[len(ours.settings) // 4], ours.settings[len(ours.settings) // 2]]
    jobs = []
    for label, chunk in _scenes(images, sheets=sheets):
        for quality in qualities:
            assert isinstance(quality, int | float)
            for curve in others:
                of = [FORMAT, images.fingerprint, label, ours.remark, quality]
                of += [curve.name, curve.remark, curve.side, curve.quick]
                key = hashlib.sha256(json.dumps(of).encode()).hexdigest()[:16]
                path = folder / f"{key}.json"
                jobs.append(ViewJob(chunk, label, ours, quality, curve, path))
    return jobs


def _scenes(images: ImageSet, *, sheets: bool) -> list[tuple[str, Chunk]]:
    """Label and images of what is shown."""
    if sheets:
        count = min(len(images), SHEET_COLUMNS**2)
        return [(f"{count} images in a sheet or block", images.chunk(0, count))]
    count = min(len(images), SHOWN_IMAGES)
    chosen = [round(index * (len(images) - 1) / max(1, count - 1)) for index in range(count)]
    return [(images.label(index), images.chunk(index, index + 1)) for index in chosen]


def _run(job: ViewJob, report: Report) -> tuple[ViewJob, View, float]:
    """Work of a process."""
    start = time.monotonic()
    return job, view_of(job), time.monotonic() - start


def view_of(job: ViewJob) -> View:
    """What a codec makes of a scene within the bytes of ours at the job's quality."""
    pictures = read_chunk(job.scene)
    blob, decoded = _code(job.ours, pictures, job.quality)
    budget = len(blob)
    if job.curve.ours and job.curve != job.ours:
        blob, decoded = _ours_within(job.curve, pictures, budget)
    elif not job.curve.ours:
        peer = peer_of(job.curve.codec, job.curve.side, job.curve.quick)
        whole = sprite_sheet(pictures)
        blob = peer_within(peer, whole, budget)
        decoded = cut_sheet(peer.decode(blob, whole.shape[2]), pictures[0].shape[:2], len(pictures))
    psnrs = [psnr_db(a, b) for a, b in zip(pictures, decoded, strict=True)]
    return {
        "scene": job.label,
        "codec": job.curve.codec,
        "budget": budget,
        "bytes": len(blob),
        "psnr_db": round(mean, 2) if math.isfinite(mean := float(np.mean(psnrs))) else None,
        "webp": _shown(decoded),
    }


def _code(curve: Curve, pictures: list[Pixels], quality: float) -> tuple[bytes, list[Pixels]]:
    """A file of one image, or a block of several."""
    codec = hvae_codec.load(curve.codec, quality)
    if len(pictures) == 1:
        blob = codec.encode(pictures[0], effort=curve.effort)
        return blob, [codec.decode(blob)]
    blob = codec.encode_block(np.stack(pictures), effort=curve.effort)
    return blob, list(codec.decode_block(blob))


def _ours_within(curve: Curve, pictures: list[Pixels], budget: int) -> tuple[bytes, list[Pixels]]:
    """Another model of ours within a budget."""
    if len(pictures) == 1:
        blob = ours_within(curve.codec, pictures[0], budget, curve.effort)
        return blob, [hvae_codec.decode(blob)]
    # All whole qualities between the first and the last: a model family has no others.
    settings = range(int(curve.settings[0] or 1), int(curve.settings[-1] or 1) + 1)
    decoded: dict[bytes, list[Pixels]] = {}

    def encode(quality: int) -> bytes:
        blob, images = _code(curve, pictures, quality)
        decoded[blob] = images
        return blob

    blob = finest_within(encode, settings, budget)
    return blob, decoded[blob]


def _originals(jobs: Sequence[ViewJob]) -> list[View]:
    scenes = {job.label: job.scene for job in jobs}
    return [
        {"scene": label, "codec": "original", "webp": _shown(read_chunk(scene))}
        for label, scene in scenes.items()
    ]


def _shown(pictures: Sequence[Pixels]) -> str:
    """Images as one lossless WebP file, in base64: enlarged, or the middle of a large one."""
    whole = sprite_sheet(pictures)
    height, width, channels = whole.shape
    top, left = max(0, (height - CROP) // 2), max(0, (width - CROP) // 2)
    part = whole[top : top + CROP, left : left + CROP]
    picture = Image.fromarray(np.ascontiguousarray(part[:, :, 0] if channels == 1 else part))
    if (factor := ENLARGED // max(height, width)) > 1:
        size = picture.width * factor, picture.height * factor
        picture = picture.resize(size, Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", lossless=True, quality=50, method=3)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _read(path: Path) -> View | None:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "webp" in found else None
