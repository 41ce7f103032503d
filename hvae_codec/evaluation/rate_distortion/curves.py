"""The curves of a benchmark, and the work of one point of a curve on some of its images.

A curve is a codec in one use: single files, blocks of our files that share a header, or sprite
sheets of a peer, which tile many small images into one file.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version

import numpy as np

import hvae_codec
from hvae_codec.codec.model_choice import AUTO, PHOTO_MODEL, SMALL_MODEL
from hvae_codec.errors import EvaluationError, UnknownModelError
from hvae_codec.evaluation.rate_distortion.image_set import Chunk, ImageSet, read_chunk
from hvae_codec.evaluation.rate_distortion.peers import (
    LeftOut,
    Peer,
    Setting,
    available_peers,
    lossy_peers,
    quick_peers,
    thinned,
    versions,
)
from hvae_codec.evaluation.rate_distortion.points import (
    QUALITIES,
    Coded,
    Pixels,
    Row,
    code_ours,
    code_peer,
    image_rows,
    processor_seconds,
)
from hvae_codec.models.spec import ModelSpec

FORMAT = 1
OURS, BLOCKS, PEER, SHEETS = "ours", "blocks", "peer", "sheets"
SMALL_MODELS = (SMALL_MODEL, "cifar10-maps")
SMALL_EFFORT = 1
"""Encoder search of model families: fewer bytes, as users of small images want them."""
SINGLE_PIXELS, BLOCK_IMAGES, SHEET_IMAGES = 2**18, 256, 1024
"""Most pixels of single files that are coded by a job, and images of a block and of a sheet."""


@dataclass(frozen=True)
class Curve:
    """A codec in one use at several settings.

    kind: OURS, BLOCKS, PEER or SHEETS. codec: name of the model or of the peer. remark: encoder,
    settings and versions. side: which the peer's settings are for, in pixels.
    """

    name: str
    kind: str
    codec: str
    settings: tuple[Setting, ...]
    remark: str
    effort: int = 0
    side: int = 0
    quick: bool = True

    @property
    def ours(self) -> bool:
        """Whether it is of a model of this library."""
        return self.kind in (OURS, BLOCKS)

    def setting_name(self, setting: Setting) -> str:
        """A setting in words."""
        return f"quality {setting}" if self.ours else f"setting {setting}"

    def key(self, setting: Setting, fingerprint: str, measures: Sequence[str]) -> str:
        """Of a point: it changes with everything that the point depends on."""
        of = {**asdict(self), "settings": setting, "format": FORMAT}
        of |= {"images": fingerprint, "measures": list(measures)}
        return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Job:
    """One setting of a curve on some of the images; picklable."""

    curve: Curve
    setting: Setting
    chunk: Chunk
    measures: tuple[str, ...]


def choose_curves(
    images: ImageSet, models: Sequence[str], *, thorough: bool
) -> tuple[list[Curve], list[LeftOut]]:
    """The curves of these images, ours first, and the peers that cannot run here.

    models: names; `AUTO` stands for those that images of this size take. thorough: all settings,
    and the slowest efforts of the peers.

    Raises:
        UnknownModelError: there is no such model.
        EvaluationError: a model cannot code these images.
    """
    names = [name for given in models for name in _models_of(given, images)]
    curves = [
        curve
        for name in dict.fromkeys(names)
        for curve in _our_curves(name, images, thorough=thorough)
    ]
    sides = [(images.shorter_side, PEER)]
    if images.small and images.alike and len(images) > 1:
        sides.append((_sheet_side(images), SHEETS))
    left_out: list[LeftOut] = []
    for side, kind in sides:
        peers, missing = available_peers(_peers(side, quick=not thorough))
        curves += [_peer_curve(peer, side, kind, quick=not thorough) for peer in peers]
        left_out += [peer for peer in missing if peer not in left_out]
    return curves, left_out


def _models_of(given: str, images: ImageSet) -> tuple[str, ...]:
    available = {info.name for info in hvae_codec.models()}
    if given == AUTO:
        found = SMALL_MODELS if images.small else (PHOTO_MODEL,)
        return tuple(name for name in found if name in available)
    if given not in available:
        raise UnknownModelError(f"no model {given!r}; there are {', '.join(sorted(available))}")
    return (given,)


def _our_curves(name: str, images: ImageSet, *, thorough: bool) -> Iterator[Curve]:
    infos = [info for info in hvae_codec.models() if info.name == name]
    spec = hvae_codec.load(name).model.spec
    if isinstance(spec, ModelSpec) and spec.likelihood == "bernoulli":
        raise EvaluationError(
            f"model {name!r} codes black and white images; the benchmark compares lossy codecs"
        )
    if spec.image_shape[0] < max(shape[2] for shape in images.shapes):
        raise EvaluationError(f"model {name!r} codes grey images, and some of these are in colour")
    if infos[0].continuous:
        settings: tuple[Setting, ...] = QUALITIES if thorough else thinned(QUALITIES)
        effort = 0
    else:
        settings = tuple(info.quality for info in infos)
        effort = SMALL_EFFORT
    ids = ", ".join(info.model_id for info in infos)
    remark = f"model {ids}, effort {effort}"
    yield Curve(name, OURS, name, settings, remark, effort)
    if images.small and images.alike and len(images) > 1:
        shared = f"{remark}, blocks of up to {BLOCK_IMAGES} images, which share a header"
        yield Curve(f"{name}, blocks", BLOCKS, name, settings, shared, effort)


def _peer_curve(peer: Peer, side: int, kind: str, *, quick: bool) -> Curve:
    found = versions([peer])
    if peer.kind != "JPEG":
        found.pop("libjpeg_turbo", None)
    if peer.plugin is not None:
        found["pillow-jxl-plugin"] = version("pillow-jxl-plugin")
    remark = "; ".join([peer.remark, *(f"{library} {v}" for library, v in found.items())])
    name = peer.name
    if kind == SHEETS:
        name = f"{peer.name}, sheets"
        remark += f"; sprite sheets of up to {SHEET_IMAGES} images"
    return Curve(name, kind, peer.name, tuple(peer.settings), remark, side=side, quick=quick)


def _peers(side: int, *, quick: bool) -> list[Peer]:
    return quick_peers(side) if quick else lossy_peers(side)


@cache
def peer_of(name: str, side: int, quick: bool) -> Peer:
    """A peer by its name, as a curve has it, ready to code in this process.

    Raises:
        EvaluationError: what it needs is not there (any more).
    """
    peer = next(peer for peer in _peers(side, quick=quick) if peer.name == name)
    if reason := peer.missing():  # it imports the peer's plugin
        raise EvaluationError(f"{name}: {reason}")
    return peer


def chunks_of(images: ImageSet, kind: str) -> list[Chunk]:
    """The images in parts, each the work of one job."""
    if kind in (BLOCKS, SHEETS):
        step = BLOCK_IMAGES if kind == BLOCKS else SHEET_IMAGES
        return [images.chunk(start, start + step) for start in range(0, len(images), step)]
    chunks, start, pixels = [], 0, 0
    for index, (height, width, _) in enumerate(images.shapes):
        if index > start and pixels + height * width > SINGLE_PIXELS:
            chunks.append(images.chunk(start, index))
            start, pixels = index, 0
        pixels += height * width
    return [*chunks, images.chunk(start, len(images))]


def measure(job: Job) -> list[Row]:
    """`image_rows` of the images of a job."""
    pictures = read_chunk(job.chunk)
    curve = job.curve
    if curve.ours:
        codec = _prepared(curve.codec, job.setting)
        if curve.kind == OURS:
            return image_rows(pictures, code_ours(codec, pictures, curve.effort), job.measures)
        coded = code_block(codec, pictures, curve.effort)
    else:
        peer = peer_of(curve.codec, curve.side, curve.quick)
        if curve.kind == PEER:
            return image_rows(pictures, code_peer(peer, pictures, job.setting), job.measures)
        coded = code_sheet(peer, pictures, job.setting)
    return _shared(image_rows(pictures, coded, job.measures))


@cache
def _prepared(model: str, quality: Setting) -> hvae_codec.Codec:
    """A codec that has done, with a small image, whatever is prepared once."""
    codec = hvae_codec.load(model, quality)  # type: ignore[arg-type]
    codec.decode(codec.encode(np.zeros((32, 32, 1), np.uint8)))
    return codec


def code_block(codec: hvae_codec.Codec, pictures: Sequence[Pixels], effort: int) -> Coded:
    """Images of one size in a block: the first file is that of all, the others are empty."""
    start = processor_seconds()
    blob = codec.encode_block(np.stack(pictures), effort=effort)
    middle = processor_seconds()
    decoded = list(codec.decode_block(blob))
    seconds = middle - start, processor_seconds() - middle
    nothing = len(pictures) - 1
    return Coded([blob, *[b""] * nothing], [len(blob), *[0] * nothing], decoded, *seconds)


def code_sheet(peer: Peer, pictures: Sequence[Pixels], setting: Setting) -> Coded:
    """Images of one size in a sprite sheet, as `code_block` gives those of a block."""
    coded = code_peer(peer, [sprite_sheet(pictures)], setting)
    decoded = cut_sheet(coded.decoded[0], pictures[0].shape[:2], len(pictures))
    nothing = len(pictures) - 1
    payloads = [*coded.payloads, *[0] * nothing]
    seconds = coded.encode_seconds, coded.decode_seconds
    return Coded([*coded.blobs, *[b""] * nothing], payloads, decoded, *seconds)


def sprite_sheet(pictures: Sequence[Pixels]) -> Pixels:
    """Images of one size side by side in rows, in a sheet uint8 [H, W, C] that is about square.

    Cells that are left over at the end repeat the last image.
    """
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    cells = np.stack([*pictures, *[pictures[-1]] * (rows * columns - len(pictures))])
    _, height, width, channels = cells.shape
    grid = cells.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return grid.reshape(rows * height, columns * width, channels)


def cut_sheet(sheet: Pixels, size: tuple[int, ...], count: int) -> list[Pixels]:
    """The first images of a size (height, width) of a sheet, in the order of `sprite_sheet`."""
    height, width = size
    columns = sheet.shape[1] // width
    places = (divmod(index, columns) for index in range(count))
    return [
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width]
        for row, column in places
    ]


def _sheet_side(images: ImageSet) -> int:
    count = min(len(images), SHEET_IMAGES)
    columns = math.ceil(math.sqrt(count))
    height, width, _ = images.shapes[0]
    return min(columns * width, math.ceil(count / columns) * height)


def _shared(rows: list[Row]) -> list[Row]:
    """Rows of images that share a file: each has its part of the bytes."""
    for size in ("file_bytes", "payload_bytes"):
        each = sum(row[size] for row in rows) / len(rows)
        for row in rows:
            row[size] = each
    return rows
