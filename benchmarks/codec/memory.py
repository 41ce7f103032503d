"""How much memory does an image of 100 megapixels take? Every way in and out, each in a process.

    python -m benchmarks.codec.memory [--side 10000] [--json benchmarks/results/any_size.json]

The image repeats photographs. Per way: seconds, and what the process's peak of memory (VmHWM)
exceeds by that of a process that has coded a small image only. Anonymous memory at the end
(RssAnon) is beside it. The equal files and pixels of all ways are checked.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import hvae_codec
from benchmarks.command import Argument, Benchmark
from benchmarks.common import apart, memory_bytes
from benchmarks.tables import Table
from hvae_codec.cli import main as command
from hvae_codec.codec.images.load import as_uint8
from hvae_codec.codec.images.strips import Strips, write_png, write_ppm
from hvae_codec.data.sources.roots import default_root
from hvae_codec.utils.progress import progress

QUALITY = 3
_MIB = 2**20
_WARM_SIDE = 640  # more tiles than go through the networks at once

Pixels = NDArray[np.uint8]


def photographs() -> list[Pixels]:
    """Kodak's landscapes, or scikit-learn's two photographs where those are not available."""
    folder = default_root() / "photos" / "kodak"
    found = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("*.png"))]
    if not found:
        from sklearn.datasets import load_sample_images

        found = list(load_sample_images().images)
    return [picture for picture in found if picture.shape[1] > picture.shape[0]]


def mosaic_rows(side: int) -> Iterator[Pixels]:
    """Strips of a square image of `side` pixels: photographs, one beside and below another."""
    pictures = photographs()
    height, width = pictures[0].shape[:2]
    for row, top in enumerate(range(0, side, height)):
        beside = range(-(-side // width))
        band = [pictures[(7 * row + column) % len(pictures)][:height, :width] for column in beside]
        yield np.concatenate(band, axis=1)[: side - top, :side]


def _digest(rows: Iterator[Pixels]) -> str:
    total = hashlib.sha256()
    for strip in rows:
        total.update(np.ascontiguousarray(strip).data)
    return total.hexdigest()


def _in_strips(picture: Pixels) -> Iterator[Pixels]:
    return (picture[top : top + 32] for top in range(0, len(picture), 32))


def _command(*words: str | Path) -> str:
    if command([str(word) for word in (*words, "--json")]) != 0:
        raise SystemExit(f"{words} failed")
    return ""


def _encode_array(codec: hvae_codec.Codec, folder: Path) -> str:
    picture = np.fromfile(folder / "picture.raw", np.uint8)
    side = int((picture.size // 3) ** 0.5)
    return hashlib.sha256(codec.encode(picture.reshape(side, side, 3))).hexdigest()


def _encode_path(name: str) -> Callable[[hvae_codec.Codec, Path], str]:
    return lambda codec, folder: hashlib.sha256(codec.encode(folder / name)).hexdigest()


def _decode_whole(codec: hvae_codec.Codec, folder: Path) -> str:
    return _digest(_in_strips(codec.decode((folder / "picture.hvae").read_bytes())))


def _decode_rows(codec: hvae_codec.Codec, folder: Path) -> str:
    return _digest(codec.decode_rows((folder / "picture.hvae").read_bytes()))


def _encode_command(codec: hvae_codec.Codec, folder: Path) -> str:
    target = folder / "again.hvae"
    options = ("--model", "cifar10", "--quality", str(QUALITY), "--psnr")
    _command("encode", folder / "picture.ppm", "-o", target, *options)
    return hashlib.sha256(target.read_bytes()).hexdigest()


def _decode_command(name: str) -> Callable[[hvae_codec.Codec, Path], str]:
    def run(codec: hvae_codec.Codec, folder: Path) -> str:
        return _command("decode", folder / "picture.hvae", "-o", folder / name)

    return run


WAYS: dict[str, Callable[[hvae_codec.Codec, Path], str]] = {
    "encode(array)": _encode_array,
    "encode('x.ppm')": _encode_path("picture.ppm"),
    "encode('x.png')": _encode_path("picture.png"),
    "decode(blob)": _decode_whole,
    "decode_rows(blob)": _decode_rows,
    "hvae-codec encode x.ppm --psnr": _encode_command,
    "hvae-codec decode -o x.png": _decode_command("decoded.png"),
    "hvae-codec decode -o x.ppm": _decode_command("decoded.ppm"),
}


def measure_here(way: str, folder: Path) -> dict[str, Any]:
    """One way, in this process."""
    torch.set_num_threads(1)
    codec = hvae_codec.load("cifar10", quality=QUALITY)
    codec.decode(codec.encode(np.zeros((_WARM_SIDE, _WARM_SIDE, 3), np.uint8)))
    before = memory_bytes("VmHWM") / _MIB
    start = time.perf_counter()
    digest = WAYS[way](codec, folder)
    seconds = time.perf_counter() - start
    return {
        "way": way,
        "seconds": seconds,
        "added_peak_mib": memory_bytes("VmHWM") / _MIB - before,
        "anonymous_mib": memory_bytes("RssAnon") / _MIB,
        "before_mib": before,
        "digest": digest,
    }


def _prepare(folder: Path, side: int) -> None:
    for name, write in (("picture.ppm", write_ppm), ("picture.png", write_png)):
        with (folder / name).open("wb") as file:
            write(file, Strips(side, side, 3, mosaic_rows(side)))
    as_uint8(folder / "picture.ppm").tofile(folder / "picture.raw")
    codec = hvae_codec.load("cifar10", quality=QUALITY)
    (folder / "picture.hvae").write_bytes(codec.encode(folder / "picture.ppm"))


def measure(side: int, ways: Iterable[str] = tuple(WAYS)) -> dict[str, Any]:
    """Ways, some that encode and some that decode, each in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _prepare(folder, side)
        rows = [apart(measure_here, way, folder) for way in progress("ways", ways, leave=False)]
        files = {row["digest"] for row in rows if "encode" in row["way"]}
        pictures = {row.pop("digest") for row in rows if row["way"].startswith("decode")}
        file_bytes = (folder / "picture.hvae").stat().st_size
    if (len(files), len(pictures)) != (1, 1):
        raise SystemExit(f"ways disagree: {len(files)} files, {len(pictures)} images")
    for row in rows:
        row.pop("digest", None)
    return {
        "side": side,
        "raw_mib": side * side * 3 / _MIB,
        "quality": QUALITY,
        "file_bytes": file_bytes,
        "threads": 1,
        "ways": rows,
    }


TABLE = Table(
    "any_size",
    "ways",
    {"call": "`{way}`", "peak of memory added, MiB": "{added_peak_mib:.0f}"},
    more={"seconds": "{seconds:.1f}"},
    note=lambda result: (
        f"{result['side']:,}x{result['side']:,} RGB, {result['raw_mib']:.0f} MiB of pixels; "
        f"quality {result['quality']}, a file of {result['file_bytes'] / _MIB:.1f} MiB; "
        "one thread.\nThe pixels themselves are counted where they are an array or Pillow's."
    ),
)
BENCHMARK = Benchmark(
    __doc__,
    lambda arguments: measure(arguments.side),
    (TABLE,),
    (Argument("--side", type=int, default=10_000, help="pixels on a side"),),
    packages=("pillow",),
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
