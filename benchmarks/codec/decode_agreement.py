"""Does a file decode to the same image however it is decoded?

    python -m benchmarks.codec.decode_agreement [--second-torch F.json]
        [--json benchmarks/results/decoding.json]

Decodes the same files one by one and in batches up to 1,024, with 1 and 2 threads, by networks in
float32 (contiguous and channels_last) and in bfloat16 (autocast, channels_last), and on a GPU if
there is one; 64 single tiles, taken again and again in larger batches, and apart from them tiled
photographs. Compared with float32, one by one, on one thread: symbols, which must be equal always,
and images, at most 1 grey level apart in float32 (2 in photographs, where softening a seam may
double it). bfloat16 has 8 bits for a number: what it does to images is reported, not promised.
What benchmarks/second_torch.sh measured with another version of torch is taken in from its JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images
from tqdm import tqdm

import hvae_codec
from benchmarks.codec.codec_speed import photographs_crops
from benchmarks.common import environment, tiled_networks, write_json
from hvae_codec.codec.codec import Codec

BATCHES = (1, 2, 7, 64, 256, 1024)
THREADS = (1, 2)

Decoded = tuple[list[NDArray[np.int32]], list[NDArray[np.uint8]]]


@dataclass(frozen=True)
class Precision:
    """A way to run the networks."""

    name: str
    device: str = "cpu"
    channels_last: bool = False
    bfloat16: bool = False

    def networks(self, codec: hvae_codec.Codec) -> hvae_codec.Codec:
        """The codec with its networks run this way."""
        checkpoint = codec.checkpoint
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        model = deepcopy(checkpoint.model).to(self.device).to(memory_format=layout)
        other = Codec(replace(checkpoint, model=model))
        if self.bfloat16:  # a codec leaves a caller's autocast: here its own networks ask for it
            twin = tiled_networks(other)._direct
            for name in ("dequantise", "decode"):
                half = torch.autocast(self.device, torch.bfloat16)
                setattr(twin, name, half(getattr(twin, name)))
        return other


def precisions() -> list[Precision]:
    """The first one is what the others are compared with."""
    found = [
        Precision("float32"),
        Precision("float32 channels_last", channels_last=True),
        Precision("bfloat16 autocast channels_last", channels_last=True, bfloat16=True),
    ]
    if torch.cuda.is_available():
        found.append(Precision("float32 CUDA", device="cuda"))
    return found


def decode_in_batches(codec: hvae_codec.Codec, files: Sequence[bytes], size: int) -> Decoded:
    """Symbols per layer and images of `files`, decoded `size` at a time."""
    symbols: list[list[NDArray[np.int32]]] = []
    pictures: list[NDArray[np.uint8]] = []
    repeated = list(files) * -(-size // len(files)) if size > len(files) else list(files)
    for start in range(0, len(repeated), size):
        part = repeated[start : start + size]
        symbols.append(codec.symbols(part))
        pictures += list(codec.decode_batch(part))
    return [np.concatenate(layer) for layer in zip(*symbols, strict=True)], pictures


class Comparison:
    """Differences of images and symbols from those of a reference, counted."""

    def __init__(self, reference: Decoded) -> None:
        self._symbols, self._pictures = reference
        self._decodings = self._unequal = self._differing = self._largest = self._samples = 0
        self._squares = 0.0

    def add(self, decoded: Decoded) -> None:
        """Compare another decoding; where it has the files several times, each time."""
        self._decodings += 1
        for expected, found in zip(self._symbols, decoded[0], strict=True):
            copies = found.reshape(-1, *expected.shape)
            self._unequal += int((copies != expected).sum())
        for number, picture in enumerate(decoded[1]):
            expected_picture = self._pictures[number % len(self._pictures)]
            difference = np.abs(picture.astype(np.int16) - expected_picture.astype(np.int16))
            self._differing += int((difference > 0).sum())
            self._largest = max(self._largest, int(difference.max()))
            self._squares += float(np.square(difference.astype(np.float64)).sum())
            self._samples += difference.size

    def report(self) -> dict[str, Any]:
        """All of it."""
        return {
            "decodings": self._decodings,
            "unequal_symbols": self._unequal,
            "largest_difference_grey_levels": self._largest,
            "differing_samples_per_10000": 1e4 * self._differing / self._samples,
            "root_mean_square_difference": (self._squares / self._samples) ** 0.5,
            "samples": self._samples,
        }


def compare(
    codec: hvae_codec.Codec,
    files: Sequence[bytes],
    sizes: Sequence[int],
    progress: Callable[[], object],
) -> dict[str, Any]:
    """For each way to run the networks, differences from float32 one by one on one thread."""
    torch.set_num_threads(1)
    reference = decode_in_batches(codec, files, 1)
    result = {}
    for precision in precisions():
        comparison = Comparison(reference)
        other = precision.networks(codec)
        for threads in THREADS:
            torch.set_num_threads(threads)
            for size in sizes:
                comparison.add(decode_in_batches(other, files, size))
                progress()
        result[precision.name] = comparison.report()
    return result


def main() -> None:
    """Compare for every shipped model, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--second-torch", type=Path, help="JSON of benchmarks/second_torch.sh")
    arguments = parser.parse_args()
    rows = []
    models = hvae_codec.models()
    total = len(models) * len(precisions()) * len(THREADS) * (len(BATCHES) + 2)
    with tqdm(total=total, unit="decoding", disable=None) as bar:
        for info in models:
            codec = hvae_codec.load(info.name, quality=info.quality)
            channels, height, width = info.image_shape
            crops = photographs_crops()[::4, :height, :width, :channels]
            photographs = [image[:, :, :channels] for image in load_sample_images().images]
            tiles = codec.encode_batch(np.ascontiguousarray(crops))
            row: dict[str, Any] = {"model": info.name, "quality": info.quality}
            row["tiles"] = compare(codec, tiles, BATCHES, bar.update)
            tiled = codec.encode_batch(photographs)
            row["photographs"] = compare(codec, tiled, (1, 2), bar.update)
            rows.append(row)
    for row in rows:
        for kind in ("tiles", "photographs"):
            for name, found in row[kind].items():
                print(
                    f"{row['model']} {row['quality']} {kind:<11} {name:<31} "
                    f"{found['unequal_symbols']} symbols differ, samples differ by at most "
                    f"{found['largest_difference_grey_levels']} grey level(s), "
                    f"{found['differing_samples_per_10000']:.4f} of 10,000"
                )
    if arguments.json is not None:
        result: dict[str, Any] = {"batches": BATCHES, "threads": THREADS, "models": rows}
        if arguments.second_torch is not None:
            result["golden_files_with_another_torch"] = json.loads(
                arguments.second_torch.read_text()
            )
        write_json(arguments.json, {**result, "environment": environment()})


if __name__ == "__main__":
    main()
