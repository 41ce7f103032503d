"""Do the seams between tiles show? The change across them against the change inside tiles.

    python -m benchmarks.codec.tile_seams [--dataset kodak] [--json benchmarks/results/seams.json]

Per quality level, over all photographs: the mean absolute difference of neighbours across the
borders of tiles, over that inside the tiles (8 pixels and more from a border), of the original, of
the decoded tiles put together as they are, and of the softened image that the codec gives; and the
PSNR with and without softening. A ratio within 5 % of the original's own counts as invisible. With
--json, an enlarged crop of the first photograph at all quality levels is written beside it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

import hvae_codec
from benchmarks.common import environment, tiled_networks, write_json
from hvae_codec.codec.tiled.tiling import merge
from hvae_codec.data.sources.roots import default_root
from hvae_codec.evaluation.metrics.psnr import mean_psnr_db, squared_error_each

INVISIBLE = 0.05
"""Share of the original's ratio that the decoded image's may differ by."""

_INSIDE = 8
_CROP, _ENLARGED = 96, 3

Pixels = NDArray[np.uint8]


def photographs(dataset: str) -> list[tuple[str, Pixels]]:
    """Name and pixels of the photographs of a folder of the data directory, or of any folder.

    Raises:
        SystemExit: there are none.
    """
    folder = default_root() / "photos" / dataset
    folder = folder if folder.is_dir() else Path(dataset)
    paths = sorted(path for path in folder.glob("*.*") if path.suffix in (".png", ".jpg"))
    if not paths:
        raise SystemExit(f"no photographs in {folder}")
    return [(path.stem, np.asarray(Image.open(path).convert("RGB"))) for path in paths]


def changes(picture: Pixels, tile: tuple[int, int]) -> NDArray[np.float64]:
    """Sums and numbers of absolute differences of neighbours: [[sum, number] across, inside]."""
    found = np.zeros((2, 2))
    for axis, side in enumerate(tile):
        steps = np.abs(np.diff(picture.astype(np.int16), axis=axis))
        lines = steps.mean(axis=(1 - axis, 2))
        place = np.arange(len(lines)) % side
        across = place == side - 1
        inside = (place >= _INSIDE) & (place < side - 1 - _INSIDE)
        for row, chosen in enumerate((across, inside)):
            found[row] += (
                lines[chosen].sum() * steps.shape[1 - axis],
                chosen.sum() * steps.shape[1 - axis],
            )
    return found


def ratio(found: NDArray[np.float64]) -> float:
    """Mean change across the borders of tiles over that inside them."""
    means = found[:, 0] / found[:, 1]
    return float(means[0] / means[1])


def measure_rung(codec: hvae_codec.Codec, pictures: list[Pixels]) -> dict[str, Any]:
    """Ratios and mean PSNR of one quality level over the images; every image weighs as its pixels
    do.
    """
    _, height, width = codec.info.image_shape
    tile = (height, width)
    names = ("original", "hard", "soft")
    found = {name: np.zeros((2, 2)) for name in names}
    errors: dict[str, list[float]] = {"hard": [], "soft": []}
    size = pixels = 0
    for picture in pictures:
        blob = codec.encode(picture)
        tiles = tiled_networks(codec).tiles(codec.symbols([blob]))
        shown = {
            "original": picture,
            "hard": merge(tiles, picture.shape[0], picture.shape[1], coding_rmse=0),
            "soft": codec.decode(blob),
        }
        for name in names:
            found[name] += changes(shown[name], tile)
        for name, values in errors.items():
            values.append(float(squared_error_each(picture[None], shown[name][None])[0]))
        size += len(blob)
        pixels += picture.shape[0] * picture.shape[1]
    own = ratio(found["original"])
    samples = np.array([picture.size for picture in pictures])
    return {
        "quality": codec.info.quality,
        "bits_per_pixel": 8 * size / pixels,
        "ratio_original": own,
        "ratio_hard": ratio(found["hard"]),
        "ratio_soft": ratio(found["soft"]),
        "psnr_hard_db": mean_psnr_db(np.array(errors["hard"]), samples),
        "psnr_soft_db": mean_psnr_db(np.array(errors["soft"]), samples),
        "invisible": abs(ratio(found["soft"]) / own - 1) <= INVISIBLE,
    }


def enlarged(picture: Pixels, codecs: list[hvae_codec.Codec], path: Path) -> None:
    """The original's middle and each quality level's, hard above softened, without smoothing."""
    top, left = (side // 64 * 32 - _CROP // 2 for side in picture.shape[:2])
    window = (slice(top, top + _CROP), slice(left, left + _CROP))
    columns = [np.concatenate([picture[window]] * 2)]
    for codec in codecs:
        blob = codec.encode(picture)
        tiles = tiled_networks(codec).tiles(codec.symbols([blob]))
        hard = merge(tiles, picture.shape[0], picture.shape[1], coding_rmse=0)
        columns.append(np.concatenate([hard[window], codec.decode(blob)[window]]))
    sheet = np.concatenate(columns, axis=1)
    size = (sheet.shape[1] * _ENLARGED, sheet.shape[0] * _ENLARGED)
    Image.fromarray(sheet).resize(size, Image.Resampling.NEAREST).save(path, optimize=True)
    print(f"written to {path}")


def main() -> None:
    """Measure, print, and write JSON and image if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dataset", default="kodak", help="kodak, bsds500_test, or a folder")
    parser.add_argument("--json", type=Path, help="write the result here, and a picture beside it")
    arguments = parser.parse_args()
    named = photographs(arguments.dataset)
    pictures = [picture for _, picture in named]
    rungs = [model.quality for model in hvae_codec.models() if model.name == "cifar10"]
    codecs = [hvae_codec.load("cifar10", quality=rung) for rung in rungs]
    rows = [measure_rung(codec, pictures) for codec in tqdm(codecs, desc="rungs", disable=None)]
    print(f"{arguments.dataset}, {len(pictures)} photographs; change across / inside tiles")
    print("rung  bits/pixel  original   hard   soft  PSNR hard   soft  invisible")
    for row in rows:
        print(
            f"{row['quality']:>4} {row['bits_per_pixel']:>11.3f} {row['ratio_original']:>9.3f}"
            f" {row['ratio_hard']:>6.3f} {row['ratio_soft']:>6.3f} {row['psnr_hard_db']:>10.2f}"
            f" {row['psnr_soft_db']:>6.2f}  {'yes' if row['invisible'] else 'no'}"
        )
    result = {
        "data": arguments.dataset,
        "photographs": len(pictures),
        "invisible_within": INVISIBLE,
        "rungs": rows,
        "environment": environment("pillow"),
    }
    if arguments.json is not None:
        write_json(arguments.json, result)
        enlarged(pictures[0], codecs, arguments.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
