#!/usr/bin/env bash
# zarr gives the values of a version 2 array with order="F" back in wrong places where the compressor
# keeps the shape of what it codes, as image codecs do.
#
# zarr hands the compressor a chunk of the right shape, in Fortran's order. It takes what `decode`
# returns as a flat run of values in the memory's order and lays them out as if they were in Fortran's.
# A codec that returns an array [H, W, C] in C order, as every image codec does, so has its pixels
# permuted: the array has the right shape, dtype and histogram, no error is raised, and a lossless codec
# gives nearly all pixels wrong. The codec itself gives the same chunk back unchanged. With order="C"
# all is well.
#
# Seen with zarr 3.1.6, numcodecs 0.16.6, imagecodecs 2026.3.6 (lossless JPEG XL, 16x16 pixels in colour):
#   order C: all values right; order F: 99 % of the values wrong, no error; codec alone: all values right
#
# Exit status 0: as described. 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet zarr==3.1.6 numcodecs==0.16.6 imagecodecs==2026.3.6 numpy==2.3.4
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import zarr
from imagecodecs.numcodecs import Jpegxl, register_codecs

register_codecs(verbose=False)
print(*(f"{name} {version(name)}" for name in ("zarr", "numcodecs", "imagecodecs")))
image = np.arange(16 * 16 * 3, dtype=np.uint32).astype(np.uint8).reshape(16, 16, 3)
codec = Jpegxl(lossless=True)


def wrong(order):
    """The share of values that are wrong."""
    array = zarr.create_array(
        {},
        shape=image.shape,
        chunks=image.shape,
        dtype="uint8",
        compressors=codec,
        zarr_format=2,
        order=order,
    )
    array[:] = image
    return float((array[:] != image).mean())


found = {order: wrong(order) for order in "CF"}
for order, share in found.items():
    print(f'order "{order}": {share:.0%} of the values wrong')
alone = np.array_equal(codec.decode(codec.encode(np.asfortranarray(image))), image)
print("the codec alone, given an array in Fortran's order:", "right" if alone else "wrong")
described = found["C"] == 0 and found["F"] > 0.5 and alone
print("as described" if described else "the behaviour has changed")
sys.exit(not described)
PYTHON
