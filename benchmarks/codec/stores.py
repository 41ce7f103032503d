"""How many bytes does a small image take in each store?

    python -m benchmarks.codec.stores [--json benchmarks/results/stores.json]

Images of CIFAR-10's test set, coded by `cifar10`, are written to each store as the guide
docs/guides/stores.md shows it. All bytes of its files count, metadata and indexes among them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hvae_codec
from benchmarks.command import Argument, Benchmark
from benchmarks.tables import Result, Table
from hvae_codec.data import load_dataset

QUALITIES = (1, 3)
CHUNK = 500
"""Images in a chunk of zarr."""


@dataclass(frozen=True)
class Images:
    """What is stored: images uint8 [N, 32, 32, 3], the codec, and the file of each."""

    pixels: NDArray[np.uint8]
    codec: hvae_codec.Codec
    files: Sequence[bytes]


Write = Callable[[Images, Path], object]
"""Writes images into a folder."""


def _archive(images: Images, folder: Path) -> None:
    with hvae_codec.ArchiveWriter(folder / "a.hvaa", images.codec) as archive:
        archive.extend(images.pixels)


def _zarr(chunk: int, **options: Any) -> Write:
    def write(images: Images, folder: Path) -> None:
        import zarr

        from hvae_codec.stores.zarr import HvaeCodec

        info = images.codec.info
        array = zarr.create_array(
            folder / "a.zarr",
            shape=images.pixels.shape,
            chunks=(chunk, *images.pixels.shape[1:]),
            dtype="uint8",
            serializer=HvaeCodec(info.name, info.quality),
            **options,
        )
        with zarr.config.set({"codec_pipeline.batch_size": CHUNK}):
            array[:] = images.pixels

    return write


def _webdataset(**options: Any) -> Write:
    def write(images: Images, folder: Path) -> None:
        import webdataset

        with webdataset.TarWriter(str(folder / "a.tar"), **options) as tar:
            for number, file in enumerate(images.files):
                tar.write({"__key__": f"{number:06d}", "hvae": file})

    return write


def _parquet(**options: Any) -> Write:
    def write(images: Images, folder: Path) -> None:
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.table({"image": list(images.files)})
        pyarrow.parquet.write_table(table, folder / "a.parquet", **options)

    return write


def _lance(images: Images, folder: Path) -> None:
    import lance
    import pyarrow

    lance.write_dataset(pyarrow.table({"image": list(images.files)}), folder / "a.lance")


def _hugging_face(images: Images, folder: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    datasets.Dataset.from_dict({"image": list(images.files)}).save_to_disk(folder / "a")


def _row(file: bytes) -> dict[str, bytes]:
    return {"image": file}


def _litdata(images: Images, folder: Path) -> None:
    import litdata

    for name, own in (("CACHE", "chunks"), ("DATA_CACHE", "data")):  # which it empties
        os.environ[f"DATA_OPTIMIZER_{name}_FOLDER"] = str(folder.parent / f"{folder.name}-{own}")
    options = {"chunk_bytes": "64MB", "num_workers": 1, "verbose": False}
    litdata.optimize(_row, list(images.files), output_dir=str(folder / "a"), **options)


DELTA = {"use_dictionary": False, "column_encoding": {"image": "DELTA_LENGTH_BYTE_ARRAY"}}
STORES: Mapping[str, Write] = {
    "`.hvaa` archive": _archive,
    f"zarr 3, chunks of {CHUNK} images": _zarr(CHUNK, compressors=None),
    "zarr 3, chunks of 1 image": _zarr(1, compressors=None),
    "zarr 3, chunks of 1 image, zarr's default compressor": _zarr(1),
    f"zarr 3, chunks of 1 image in shards of {CHUNK}": _zarr(
        1, compressors=None, shards=(CHUNK, 32, 32, 3)
    ),
    "Parquet, as pyarrow writes it by default": _parquet(),
    "Parquet, plain": _parquet(use_dictionary=False, compression="none"),
    "Parquet, lengths delta-coded": _parquet(compression="none", **DELTA),
    "Parquet, lengths delta-coded, Zstandard": _parquet(compression="zstd", **DELTA),
    "Lance": _lance,
    "Hugging Face datasets": _hugging_face,
    "litData": _litdata,
    "webdataset, `mtime=0`": _webdataset(mtime=0),
    "webdataset": _webdataset(),
}


def stored_bytes(write: Write, images: Images) -> int:
    """Bytes of all files that a store has of these images."""
    with tempfile.TemporaryDirectory() as name:
        write(images, Path(name))
        return sum(path.stat().st_size for path in Path(name).rglob("*") if path.is_file())


def measure(given: argparse.Namespace) -> Result:
    """A row per store, with bytes per image at each quality."""
    dataset = load_dataset("cifar10", "test")
    pixels = dataset.images[: given.images]
    rows: dict[str, dict[str, Any]] = {}
    for quality in QUALITIES:
        codec = hvae_codec.load("cifar10", quality)
        images = Images(pixels, codec, codec.encode_batch(pixels))
        alone = sum(map(len, images.files)) / len(pixels)
        rows.setdefault("`.hvae` files alone", {})[f"q{quality}"] = alone
        for store, write in STORES.items():
            size = stored_bytes(write, images) / len(pixels)
            rows.setdefault(store, {})[f"q{quality}"] = round(size, 2)
    return {
        "images": len(pixels),
        "dataset": dataset.name,
        "rows": [{"store": store, **row} for store, row in rows.items()],
    }


TABLE = Table(
    "stores",
    "rows",
    {
        "store": "{store}",
        **{f"quality {quality}": f"{{q{quality}:.1f}}" for quality in QUALITIES},
    },
    note="Bytes per image of 32x32, {images} images of {dataset}, all files of the store counted.",
)
BENCHMARK = Benchmark(
    __doc__,
    measure,
    (TABLE,),
    (Argument("--images", type=int, default=500, help="of the test set"),),
    packages=("zarr", "pyarrow", "pylance", "datasets", "litdata", "webdataset"),
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
