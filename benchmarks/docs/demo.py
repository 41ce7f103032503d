"""The main job: a gRPC server with the shipped models, a client, and real images.

    python -m benchmarks.docs.demo --output out

Encodes, decodes, previews, extracts features and samples, prints a table and writes one image.
Photographs go through the model photo, with WebP at equal bytes beside them, small images through
cifar10.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.docs.demo_sheet import HEADING, Row, WebP, contact_sheet
from benchmarks.sample_photographs import sample_photographs
from benchmarks.service.processes import started
from hvae_codec.client import Client
from hvae_codec.codec.bitstream.header import parse
from hvae_codec.codec.images.load import encode_png
from hvae_codec.codec.model_choice import (
    PHOTO_MODEL,
    SMALL_MODEL,
    SMALL_PIXELS,
    model_by_size,
)
from hvae_codec.data import load_dataset
from hvae_codec.errors import DatasetError
from hvae_codec.evaluation.rate_distortion.budget import finest_within
from hvae_codec.utils.atomic_files import write_atomically

CIFAR_IMAGES = 8
SAMPLES = 12

Pixels = NDArray[np.uint8]


@contextlib.contextmanager
def running_server(log: Path) -> Iterator[str]:
    """HOST:PORT of a server process on a free loopback port; stopped at the end.

    log: file that takes what the server logs, so that the table stays whole.

    Raises:
        RuntimeError: it does not come up, or does not stop with exit code 0.
    """
    command = [sys.executable, "-m", "hvae_codec.server", "--port", "0"]
    with started(command, "--port-file", log=log) as (_, address, _):
        yield address


def real_images() -> tuple[list[tuple[str, Pixels]], str]:
    """scikit-learn's photographs and, where available, CIFAR-10 test images; and a word on the
    latter.
    """
    images = [(path.stem, np.asarray(Image.open(path))) for path in sample_photographs()]
    try:
        cifar = load_dataset("cifar10", "test")
    except DatasetError:
        return images, "CIFAR-10 is not available (set HVAE_DATA to its directory)"
    images += [(f"cifar-test-{i}", cifar.images[i]) for i in range(CIFAR_IMAGES)]
    return images, f"CIFAR-10 images: {cifar.name} {cifar.split}"


def run_one(client: Client, name: str, image: Pixels, model: str, quality: int) -> Row:
    """Encode, decode and preview one image through the server, timed without the preview; beside a
    photograph the WebP file that is as large.
    """
    start = time.perf_counter()
    blob = client.encode([image], model=model, quality=quality)[0]
    decoded = client.decode([blob])[0]
    elapsed = 1e3 * (time.perf_counter() - start)
    preview = client.preview([blob])[0]
    payload = len(blob) - parse(blob).payload_at
    height, width, _ = image.shape
    webp = webp_within(image, len(blob)) if height * width > SMALL_PIXELS else None
    return Row(name, model, image, decoded, preview, payload, len(blob), elapsed, webp)


def webp_within(image: Pixels, most_bytes: int) -> WebP:
    """The WebP file (Pillow, method 6) of the highest quality that has at most so many bytes; if
    none has, that of the lowest quality.
    """

    def encoded(quality: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "WEBP", quality=quality, method=6)
        return buffer.getvalue()

    blob = finest_within(encoded, range(101), most_bytes)
    return WebP(np.asarray(Image.open(io.BytesIO(blob)).convert("RGB")), len(blob))


def main() -> None:
    """Run the main job once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=Path("out"), help="directory of the image")
    parser.add_argument("--quality", type=int, help=f"of {SMALL_MODEL}; default: the middle one")
    parser.add_argument("--photo-quality", type=int, help="1 to 100; default: the model's")
    arguments = parser.parse_args()
    images, note = real_images()
    arguments.output.mkdir(parents=True, exist_ok=True)
    log = arguments.output / "server.log"
    with running_server(log) as target, Client(target) as client:
        qualities = default_qualities(client)
        for model, asked in (
            (SMALL_MODEL, arguments.quality),
            (PHOTO_MODEL, arguments.photo_quality),
        ):
            if asked is not None:
                qualities[model] = asked
        shown = ", ".join(f"{model} quality {quality}" for model, quality in qualities.items())
        print(f"server on {target}, {shown}")
        print(HEADING)
        rows: list[Row] = []
        for name, image in images:
            height, width, _ = image.shape
            model = model_by_size(height, width, qualities)
            quality = qualities[model]
            if model not in {row.model for row in rows}:
                client.encode([image], model=model, quality=quality)  # loads the model
            rows.append(run_one(client, name, image, model, quality))
            print(rows[-1].line())
        print(note)
        for model in dict.fromkeys(row.model for row in rows):
            pictures = [row.original for row in rows if row.model == model]
            found = client.features(pictures, model=model, quality=qualities[model]).mean
            first = " ".join(f"{value:.2f}" for value in found[0][:6])
            print(f"features of {model}'s top layer: {len(found)} x {found.shape[1]}: {first} ...")
        samples = client.sample(SAMPLES, model=SMALL_MODEL, quality=qualities[SMALL_MODEL], seed=1)
    path = arguments.output / "main_job.png"
    write_atomically(path, encode_png(np.asarray(contact_sheet(rows, samples))))
    print(f"image: {path}, log of the server: {log}")


def default_qualities(client: Client) -> dict[str, int]:
    """Of each of the two models: the middle quality level, or the quality that the model itself
    names.
    """
    found = {}
    for name in (PHOTO_MODEL, SMALL_MODEL):
        qualities = sorted(model.quality for model in client.models() if model.name == name)
        if qualities:
            found[name] = qualities[len(qualities) // 2]
    return found


if __name__ == "__main__":
    main()
