"""Images cut to tiles of a model's size, and put together again with the seams softened.

Each tile is coded alone, so its errors stop at its border and show as a step there. Softening is
the decoder's affair: nothing in the bit stream depends on it. At every sample along a seam

    step     what the jump across the seam exceeds the mean slope on its two sides by,
    texture  mean absolute difference of neighbours within 4 pixels of the seam,
    coding   step * clip(1 - 0.7 texture / |step|) * clip(2 - |step| / (3 rmse)),

clipped to 0..1: steps that the texture explains, and steps too large to be the error of a codec of
that root mean square error, belong to the image. The coding step is spread linearly over the two
pixels on either side, of a coarse codec over four. The constants were chosen on BSDS500 with the
CIFAR-10 model family so that no quality level loses more than 0.01 dB by what makes its seams
weaker; wider ramps lose 0.02 dB and more from 24 dB on. What is left
stands in `benchmarks/results/seams.json`.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hvae_codec.errors import ImageError

DEFAULT_CODING_RMSE = 10.0
"""Grey levels; that of a tile at 28 dB."""

COARSE_CODING_RMSE = 16.0
"""That of a tile at 24 dB, from which on seams are softened farther."""

_COARSE_PSNR_DB = 24.0
_SPREAD, _COARSE_SPREAD = 2, 4  # pixels on each side of a seam that are changed
_REACH = 4  # pixels on each side that are looked at
_TEXTURE_FACTOR = 0.7
_LARGEST_STEP_FACTOR = 3.0
_CHUNK_SAMPLES = 2**20  # looked at in one go, so that scratch memory does not grow with the image


def coding_rmse_of(psnr_db: float) -> float:
    """The `coding_rmse` to soften the seams of a codec of this PSNR with: one of two, so that a
    later measurement of it changes no image.
    """
    return COARSE_CODING_RMSE if psnr_db < _COARSE_PSNR_DB else DEFAULT_CODING_RMSE


def tile_grid(height: int, width: int, tile: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of tiles (h, w) that cover an image of height x width pixels."""
    return -(-height // tile[0]), -(-width // tile[1])


def split(image: NDArray[np.uint8], tile: tuple[int, int]) -> NDArray[np.uint8]:
    """Cut an image to tiles, row by row; its last row and column are repeated to fill the grid.

    Args:
        image: uint8 [H, W, C].
        tile: height and width (h, w) of a tile.

    Returns:
        uint8 [T, h, w, C] with T = ceil(H / h) * ceil(W / w).

    Raises:
        ImageError: the image is not uint8 [H, W, C] or has no pixels.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.size == 0:
        raise ImageError(f"expected uint8 [H, W, C], got {image.dtype} {list(image.shape)}")
    (height, width, channels), (h, w) = image.shape, tile
    rows, columns = tile_grid(height, width, tile)
    padding = ((0, rows * h - height), (0, columns * w - width), (0, 0))
    # np.pad costs as much as half a tile's network even where it has nothing to add.
    padded = np.pad(image, padding, mode="edge") if np.any(padding) else image
    return padded.reshape(rows, h, columns, w, channels).swapaxes(1, 2).reshape(-1, h, w, channels)


def split_all(pictures: Sequence[NDArray[np.uint8]], tile: tuple[int, int]) -> NDArray[np.uint8]:
    """`split` of one or more images uint8 [H, W, C] of one C, the tiles of one after another."""
    if all(picture.shape[:2] == tile for picture in pictures):
        return np.stack(pictures)  # nothing to cut
    return np.concatenate([split(picture, tile) for picture in pictures])


def merge(
    tiles: NDArray[np.uint8], height: int, width: int, coding_rmse: float = DEFAULT_CODING_RMSE
) -> NDArray[np.uint8]:
    """Put decoded tiles together and soften the seams; an image of one tile is left as it is.

    The arithmetic is elementwise, the same on every machine. Tiles of fewer than 8 pixels on a
    side are put together without softening across that side.

    Args:
        tiles: uint8 [T, h, w, C] as `split` orders them.
        height, width: of the image, in pixels.
        coding_rmse: expected root mean square error of a decoded tile, in grey levels
            (255 * 10 ** (-PSNR / 20)); 0 leaves the seams as they are.

    Returns:
        uint8 [height, width, C], contiguous.

    Raises:
        ImageError: the tiles are not uint8 [T, h, w, C], or their number does not fit the size.
    """
    if tiles.dtype != np.uint8 or tiles.ndim != 4 or tiles.size == 0:
        raise ImageError(f"expected uint8 [T, h, w, C], got {tiles.dtype} {list(tiles.shape)}")
    count, h, w, channels = tiles.shape
    rows, columns = tile_grid(height, width, (h, w))
    if height < 1 or width < 1 or rows * columns != count:
        raise ImageError(f"{count} tiles of {h}x{w} do not make an image of {height}x{width}")
    grid = tiles.reshape(rows, columns, h, w, channels)
    return assembled(merge_rows(grid, height, width, coding_rmse), height)


def assembled(rows: Iterable[NDArray[np.uint8]], height: int) -> NDArray[np.uint8]:
    """The image uint8 [height, W, C] of its strips."""
    picture: NDArray[np.uint8] | None = None
    top = 0
    for strip in rows:
        if len(strip) == height:
            return np.ascontiguousarray(strip)
        if picture is None:
            picture = np.empty((height, *strip.shape[1:]), np.uint8)
        picture[top : top + len(strip)] = strip
        top += len(strip)
    assert picture is not None
    return picture


def merge_rows(
    rows: Iterable[NDArray[np.uint8]],
    height: int,
    width: int,
    coding_rmse: float = DEFAULT_CODING_RMSE,
) -> Iterator[NDArray[np.uint8]]:
    """`merge`, row of tiles by row of tiles: the image in strips, of which two are held at once.

    Args:
        rows: uint8 [columns, h, w, C], from the top, as many as cover the image.
        height, width, coding_rmse: as of `merge`.

    Yields:
        uint8 [h, width, C], the last one as high as is left.
    """
    above: NDArray[np.uint8] | None = None
    top = 0
    for row in rows:
        h, w = row.shape[1:3]
        strip = np.concatenate(row, axis=1)  # a copy: the tiles are the caller's
        if coding_rmse > 0 and w >= 2 * _REACH:
            _soften(strip, w, coding_rmse)
        if above is not None:
            if coding_rmse > 0 and h >= 2 * _REACH:
                _soften_between(above, strip, coding_rmse)
            yield above[:, :width]
            top += h
        above = strip
    if above is not None:
        yield above[: height - top, :width]


def _soften_between(above: NDArray[np.uint8], below: NDArray[np.uint8], coding_rmse: float) -> None:
    """Soften, in place, the seam between two strips."""
    around = np.concatenate([above[-_REACH:], below[:_REACH]])
    _soften(around.swapaxes(0, 1), _REACH, coding_rmse)
    above[-_REACH:] = around[:_REACH]
    below[:_REACH] = around[_REACH:]


def _soften(lines: NDArray[np.uint8], tile: int, coding_rmse: float) -> None:
    """Soften, in place, the seams that cross the lines [L, M, C] at every multiple of `tile`."""
    seams = np.arange(tile, lines.shape[1], tile)
    if seams.size == 0:
        return
    near = seams[:, None] + np.arange(-_REACH, _REACH)
    largest = np.float32(_LARGEST_STEP_FACTOR * coding_rmse)
    spread = _COARSE_SPREAD if coding_rmse >= COARSE_CODING_RMSE else _SPREAD
    changed = slice(_REACH - spread, _REACH + spread)
    # From half the step at the seam down to nothing, up on the left side and down on the right.
    ramp = (1 - (np.arange(spread, dtype=np.float32) + 0.5) / spread) / 2
    ramp = np.concatenate([ramp[::-1], -ramp])[:, None]
    chunk = max(1, _CHUNK_SAMPLES // (near.size * lines.shape[2]))
    for start in range(0, lines.shape[0], chunk):
        part = lines[start : start + chunk]
        samples = part[:, near].astype(np.float32)
        step = _coding_step(samples, largest)
        softened = samples[:, :, changed] + ramp * step[:, :, None]
        part[:, near[:, changed]] = np.clip(np.rint(softened), 0, 255).astype(np.uint8)


def _coding_step(samples: NDArray[np.float32], largest: np.float32) -> NDArray[np.float32]:
    """The part of the step across each seam that looks like a coding error.

    Args:
        samples: [L, S, 2 * _REACH, C], the seam in the middle of axis 2.
        largest: steps above it fade out, and count as the image's own from twice of it on.

    Returns:
        float32 [L, S, C], positive where the image gets lighter across the seam.
    """
    slopes = np.diff(samples, axis=2)
    jump = slopes[:, :, _REACH - 1]
    step = jump - (slopes[:, :, _REACH - 2] + slopes[:, :, _REACH]) / 2
    changes = np.abs(slopes)
    texture = (changes.sum(axis=2) - np.abs(jump)) / np.float32(2 * _REACH - 2)
    size = np.maximum(np.abs(step), np.float32(0.5))  # the smallest step but none
    unexplained = np.clip(1 - _TEXTURE_FACTOR * texture / size, 0, 1)
    plausible = np.clip(2 - size / largest, 0, 1)
    result: NDArray[np.float32] = step * unexplained * plausible
    return result
