"""The main job: a gRPC server with the shipped models, a client, and real images.

    python -m benchmarks.main_job --output out

Encodes, decodes, previews, extracts z2 and samples, prints a table and writes one picture.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_images

from hvae_codec.client import Client
from hvae_codec.codec.format import parse
from hvae_codec.codec.images import encode_png
from hvae_codec.data import load_dataset
from hvae_codec.errors import DatasetError
from hvae_codec.evaluation.quality import psnr_db
from hvae_codec.files import write_atomically

MODEL = "cifar10"
CIFAR_IMAGES = 8
SAMPLES = 12
START_SECONDS = 60.0
CELL = 160
"""Longest side, in pixels, of a picture in the contact sheet."""

Pixels = NDArray[np.uint8]


@dataclass
class Row:
    """One image on its way through the server."""

    name: str
    original: Pixels
    decoded: Pixels
    preview: Pixels
    payload_bytes: int
    file_bytes: int
    milliseconds: float

    def line(self) -> str:
        height, width = self.original.shape[:2]
        bits = 8 * self.file_bytes / (width * height)
        return (
            f"{self.name:<14} {f'{width}x{height}':>9} {self.payload_bytes:>9} {self.file_bytes:>8}"
            f" {bits:>10.3f} {psnr_db(self.original, self.decoded):>8.2f} {self.milliseconds:>8.1f}"
        )


HEADING = (
    f"{'image':<14} {'size':>9} {'payload B':>9} {'file B':>8} {'bits/pixel':>10}"
    f" {'PSNR dB':>8} {'ms':>8}"
)


@contextlib.contextmanager
def running_server() -> Iterator[str]:
    """HOST:PORT of a server process on a free loopback port; stopped at the end.

    Raises:
        RuntimeError: it does not come up, or does not stop with exit code 0.
    """
    with tempfile.TemporaryDirectory() as directory:
        port_file = Path(directory) / "port"
        command = [sys.executable, "-m", "hvae_codec.server", "--port", "0"]
        process = subprocess.Popen(
            [*command, "--port-file", str(port_file)], stdout=subprocess.DEVNULL
        )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not port_file.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the server did not come up (exit code {process.poll()})")
                time.sleep(0.02)
            yield f"127.0.0.1:{port_file.read_text().strip()}"
            process.send_signal(signal.SIGTERM)
            if code := process.wait(timeout=30):
                raise RuntimeError(f"the server stopped with exit code {code}")
        finally:
            process.kill()
            process.wait()


def real_images() -> tuple[list[tuple[str, Pixels]], str]:
    """scikit-learn's photographs and, where at hand, CIFAR-10 test images; and a word on the
    latter.
    """
    bunch = load_sample_images()
    images = [
        (Path(f).stem, np.asarray(i)) for f, i in zip(bunch.filenames, bunch.images, strict=True)
    ]
    try:
        cifar = load_dataset("cifar10", "test")
    except DatasetError:
        return images, "CIFAR-10 is not at hand (set HVAE_DATA to its directory): photographs only"
    images += [(f"cifar-test-{i}", cifar.images[i]) for i in range(CIFAR_IMAGES)]
    return images, f"CIFAR-10 images: {cifar.name} {cifar.split}"


def run_one(client: Client, name: str, image: Pixels, quality: int) -> Row:
    """Encode, decode and preview one image through the server; timed without the preview."""
    start = time.perf_counter()
    blob = client.encode([image], model=MODEL, quality=quality)[0]
    decoded = client.decode([blob])[0]
    elapsed = 1e3 * (time.perf_counter() - start)
    preview = client.preview([blob])[0]
    payload = len(blob) - parse(blob).payload_at
    return Row(name, image, decoded, preview, payload, len(blob), elapsed)


def _cell(pixels: Pixels) -> Image.Image:
    picture = Image.fromarray(pixels)
    factor = CELL / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    kind = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.LANCZOS
    return picture.resize(size, kind)


def contact_sheet(rows: list[Row], samples: Pixels) -> Image.Image:
    """Original | reconstruction | preview from z2 alone, two images side by side; samples below."""
    gap, label = 8, 16
    columns = ("original", "reconstruction", "z2 alone")
    per_line = 2
    lines = -(-len(rows) // per_line)
    block = len(columns) * (CELL + gap) + gap
    small = (per_line * block - gap) // len(samples) - gap
    heights = [
        max(_cell(row.original).height for row in rows[i * per_line : (i + 1) * per_line]) + label
        for i in range(lines)
    ]
    width, height = per_line * block, label + sum(heights) + gap * lines + label + small + gap
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    for i in range(per_line * len(columns)):
        column = i % len(columns)
        draw.text(
            (gap + (i // len(columns)) * block + column * (CELL + gap), 2), columns[column], "black"
        )
    top = label
    for line, line_height in enumerate(heights):
        for place, row in enumerate(rows[line * per_line : (line + 1) * per_line]):
            left = gap + place * block
            for column, pixels in enumerate((row.original, row.decoded, row.preview)):
                sheet.paste(_cell(pixels), (left + column * (CELL + gap), top))
            caption = (
                f"{row.name}: {row.file_bytes} bytes, {psnr_db(row.original, row.decoded):.2f} dB"
            )
            draw.text((left, top + line_height - label + 1), caption, "black")
        top += line_height + gap
    draw.text((gap, top), "samples from the prior", "black")
    for i, pixels in enumerate(samples):
        picture = Image.fromarray(pixels).resize((small, small), Image.Resampling.NEAREST)
        sheet.paste(picture, (gap + i * (small + gap), top + label))
    return sheet


def main() -> None:
    """Run the main job once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=Path("out"), help="directory of the picture")
    parser.add_argument("--quality", type=int, help="rung of the ladder; default: the middle one")
    arguments = parser.parse_args()
    images, note = real_images()
    with running_server() as target, Client(target) as client:
        rungs = [model.quality for model in client.models() if model.name == MODEL]
        quality = sorted(rungs)[len(rungs) // 2]
        if arguments.quality is not None:
            quality = arguments.quality
        client.encode([images[0][1][:32, :32]], model=MODEL, quality=quality)  # loads the model
        print(f"server on {target}, model {MODEL}, quality {quality} of {min(rungs)}..{max(rungs)}")
        print(HEADING)
        rows = []
        for name, image in images:
            rows.append(run_one(client, name, image, quality))
            print(rows[-1].line())
        features = client.features([row.original for row in rows], model=MODEL, quality=quality)
        samples = client.sample(SAMPLES, model=MODEL, quality=quality, seed=1)
    print(note)
    print(
        f"z2 features: {features.mean.shape[0]} x {features.mean.shape[1]}, first image: "
        + " ".join(f"{value:.2f}" for value in features.mean[0][:6])
        + " ..."
    )
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "main_job.png"
    write_atomically(path, encode_png(np.asarray(contact_sheet(rows, samples))))
    print(f"picture: {path}")


if __name__ == "__main__":
    main()
